"""`k2 demo`: compile the examples with k2-clang, say what was gained, and write a page about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from k2_tools.subject import Subject


@dataclass(frozen=True, slots=True)
class Plan:
    """How the demo compiles: folders, clang's -O level, and the gate that this machine permits."""

    examples: Path
    output: Path
    level: str
    gate: str
    compiler: str

    @property
    def wrapper(self) -> Path:
        """The k2-clang beside this Python."""
        return Path(sys.executable).with_name("k2-clang")

    def command(self, source: Path) -> list[str]:
        flags = [f"-O{self.level}", "-g", "--target=bpf", "-mcpu=v3", "-I", str(self.examples / "include")]
        return [str(self.wrapper), *flags, "-c", str(source), "-o", str(self.object_file(source))]

    def object_file(self, source: Path) -> Path:
        return self.output / (source.name.removesuffix(".c") + ".o")

    def memory(self, source: Path) -> Path:
        """Where the record of the last run stands, with the fingerprint of what it was made from."""
        return self.output / (source.name.removesuffix(".c") + ".json")


@click.command()
@click.option("--examples", default="examples", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", default="demo-out", type=click.Path(file_okay=False, path_type=Path), help="where to write")
@click.option("-O", "level", default="2", help="clang's -O level", show_default=True)
@click.option("--fresh", is_flag=True, help="compile what has not changed since the last run too")
def demo(examples: Path, output: Path, level: str, fresh: bool) -> None:
    """Compile every *.bpf.c of the examples, print the table, write OUTPUT/index.html."""
    from k2_tools.page import render
    from k2_tools.tables import console, summary
    from verifier_model.kernel.libbpf import is_available

    sources = sorted(examples.glob("*.bpf.c"))
    if not sources:
        raise click.ClickException(f"no *.bpf.c in {examples}")
    output.mkdir(parents=True, exist_ok=True)
    gate = "kernel" if is_available() else "none"
    plan = Plan(examples, output, level, gate, _introduction())
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        subjects = list(pool.map(lambda source: _remembered_or_compiled(plan, source, fresh), sources))
    page = output / "index.html"
    page.write_text(render(subjects), encoding="utf-8")
    out = console()
    out.print(summary(subjects))
    if gate == "none":
        out.print("The kernel was not asked: that takes root and libbpf (Debian package libbpf1).")
    if any(subject.is_remembered for subject in subjects):
        out.print(
            "* unchanged since the last run, the time is that run's; `k2 demo --fresh` compiles everything again."
        )
    out.print(f"Side by side: {page}")


def _introduction() -> str:
    """What k2-clang says of itself: the compiler behind it, its version and settings."""
    done = subprocess.run([Path(sys.executable).with_name("k2-clang"), "--version"], capture_output=True, text=True)
    if done.returncode != 0:
        raise click.ClickException(done.stderr.strip())
    return done.stdout


def _remembered_or_compiled(plan: Plan, source: Path, fresh: bool) -> Subject:
    from k2_tools.freshness import fingerprint
    from synth.record import from_json

    headers = (plan.examples / "include").rglob("*.h")
    mark = fingerprint([*plan.command(source), plan.gate], [source, *headers], plan.compiler)
    memory = plan.memory(source)
    if not fresh and memory.exists() and plan.object_file(source).exists():
        told = json.loads(memory.read_text())
        if told["fingerprint"] == mark:
            return Subject(source.name, from_json(told["record"]), told["seconds"], is_remembered=True)
    subject = compile_example(plan, source)
    told = {"fingerprint": mark, "seconds": subject.seconds, "record": subject.record.to_json()}
    memory.write_text(json.dumps(told))
    return subject


def compile_example(plan: Plan, source: Path) -> Subject:
    """Compile one source as a user would; the compiler's words end a failing demo."""
    from synth.record import from_json

    command = plan.command(source)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        environment = {**os.environ, "K2_REPORT": report.name, "K2_GATE": plan.gate}
        start = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - start
        line = report.read()
    if done.returncode != 0 or not line:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr}")
    if done.stderr:
        click.echo(done.stderr, err=True, nl=False)
    return Subject(source.name, from_json(json.dumps(json.loads(line)["record"])), seconds)

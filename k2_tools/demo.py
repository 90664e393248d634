"""`k2 demo`: compile the examples with k2-clang, say what was gained, and write a page about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from k2_tools.subject import Subject

EXAMPLES = "examples"


@click.command()
@click.option("--examples", default=EXAMPLES, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", default="demo-out", type=click.Path(file_okay=False, path_type=Path), help="where to write")
@click.option("-O", "level", default="2", help="clang's -O level", show_default=True)
def demo(examples: Path, output: Path, level: str) -> None:
    """Compile every *.bpf.c of the examples, print the table, write OUTPUT/index.html."""
    from k2_tools.page import render
    from k2_tools.tables import console, summary

    sources = sorted(examples.glob("*.bpf.c"))
    if not sources:
        raise click.ClickException(f"no *.bpf.c in {examples}")
    output.mkdir(parents=True, exist_ok=True)
    gate = _gate()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        subjects = list(pool.map(lambda source: compile_example(source, output, level, gate), sources))
    page = output / "index.html"
    page.write_text(render(subjects), encoding="utf-8")
    out = console()
    out.print(summary(subjects))
    if gate == "none":
        out.print("The kernel was not asked: that takes root and libbpf (Debian package libbpf1).")
    out.print(f"Side by side: {page}")


def compile_example(source: Path, output: Path, level: str, gate: str) -> Subject:
    """Compile one source with the k2-clang beside this Python, as a user would; its words end a failing demo."""
    from synth.record import from_json

    name = source.name.removesuffix(".c") + ".o"
    wrapper = Path(sys.executable).with_name("k2-clang")
    flags = [f"-O{level}", "-g", "--target=bpf", "-mcpu=v3", "-I", str(source.parent / "include")]
    command = [str(wrapper), *flags, "-c", str(source), "-o", str(output / name)]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        environment = {**os.environ, "K2_REPORT": report.name, "K2_GATE": gate}
        start = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - start
        line = report.read()
    if done.returncode != 0 or not line:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr}")
    if done.stderr:
        click.echo(done.stderr, err=True, nl=False)
    return Subject(source.name, from_json(json.dumps(json.loads(line)["record"])), seconds)


def _gate() -> str:
    from verifier_model.kernel.libbpf import is_available

    return "kernel" if is_available() else "none"

"""`make corpus`: compile the corpus, two objects at a time, going on where the last run stopped.

    python -m benchmarks.corpus.build [--sample N --seed S] [--series 6.1]

The manifest (manifest.json in the cache folder) says what compiled, and of the rest why it did not.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

import click
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.corpus.jobs import SERIES, Job, Material, command_of, jobs, material, newest_jobs, objects_folder
from benchmarks.provenance import first_line
from verifier_model.kernel.packages import cache_folder

COMPILE_SECONDS: Final = 120
WORKERS: Final = 2
LONGEST_REASON: Final = 160
TOO_LONG: Final = "takes longer than"


def manifest_path() -> Path:
    return cache_folder() / "manifest.json"


def failures_path() -> Path:
    """One JSON line [key, reason] per source that does not compile, appended at once: what makes a run resumable."""
    return cache_folder() / "failures.jsonl"


def known_failures() -> dict[str, str]:
    """Why each source does not compile; those that only took too long, on a busy machine perhaps, are tried again."""
    path = failures_path()
    lines = path.read_text().splitlines() if path.exists() else []
    failed = dict(json.loads(line) for line in lines if line.endswith("]"))
    return {key: reason for key, reason in failed.items() if TOO_LONG not in reason}


def select(everything: Sequence[Job], sample: int, seed: int) -> list[Job]:
    """`sample` jobs drawn by `seed`, in order; all of them for 0."""
    if not sample or sample >= len(everything):
        return list(everything)
    return [everything[at] for at in sorted(random.Random(seed).sample(range(len(everything)), sample))]


def build(job: Job) -> str:
    """Make one object; "" or why it cannot be made (the compiler's first error).  The object appears in one step."""
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.output.parent) as folder:
        out = Path(folder) / "x.o"
        for step in job.steps:
            command = [word.replace("{out}", str(out)) for word in step]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=COMPILE_SECONDS
                )
            except subprocess.TimeoutExpired:
                return f"{step[0]} {TOO_LONG} {COMPILE_SECONDS} s"
            except OSError as error:
                return f"{step[0]}: {error.strerror}"
            if done.returncode != 0:
                return _reason(step[0], done.stderr, done.returncode)
        out.rename(job.output)
    return ""


def _reason(program: str, stderr: str, code: int) -> str:
    lines = stderr.splitlines()
    for mark in ("fatal error: ", "error: ", "Error: "):
        for line in lines:
            if mark in line:
                return re.sub(r"0x[0-9a-f]{8,}", "0x...", line.partition(mark)[2])[:LONGEST_REASON]
    return f"{program} ends with {code}: {(lines or [''])[-1]}"[:LONGEST_REASON]


def run(chosen: Sequence[Job]) -> None:
    """Build what is neither there nor known to fail."""
    failed = known_failures()
    left = [job for job in chosen if job.key not in failed and not job.output.exists()]
    columns = (TextColumn("compiling"), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with (
        Progress(*columns) as progress,
        failures_path().open("a") as failures,
        ThreadPoolExecutor(max_workers=WORKERS) as pool,
    ):
        task = progress.add_task("", total=len(left))
        waiting = {pool.submit(build, job): job for job in left}
        for future in as_completed(waiting):
            job, reason = waiting[future], future.result()
            if reason:
                failures.write(json.dumps([job.key, reason]) + "\n")
                failures.flush()
            progress.update(task, advance=1, description=job.key)


def _tried(sampled: Sequence[Job]) -> list[Job]:
    failed = known_failures()
    return [job for job in sampled if job.output.exists() or job.key in failed]


def write_manifest(whole: Sequence[Job], sampled: Sequence[Job], materials: Sequence[Material]) -> dict[str, object]:
    """What is there, what is not and why, and what everything was made from; `sampled` are jobs beside the whole."""
    failed = known_failures()
    everything = [*whole, *sampled]
    compiled = [job.key for job in everything if job.output.exists()]
    reasons = {job.key: failed[job.key] for job in everything if job.key in failed}
    manifest: dict[str, object] = {
        "sources": {one.tree.package: one.tree.version for one in materials},
        "types": {one.tree.series: one.types.origin for one in materials},
        "kernel headers": {one.tree.series: one.headers_origin for one in materials},
        "compilers": {name: first_line([*command_of(name), "--version"]) for name in _used(everything)},
        "jobs": len(everything),
        "compiled": compiled,
        "failed": reasons,
        "not tried": len(everything) - len(compiled) - len(reasons),
    }
    manifest_path().write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _used(everything: Sequence[Job]) -> list[str]:
    """The compilers of the jobs, by their place in the keys."""
    return sorted({job.key.split("/")[2] for job in everything})


@click.command()
@click.option("--sample", default=0, help="compile only so many objects, drawn at random (0: all)")
@click.option("--seed", default=1, help="start of the random draw")
@click.option("--newest", default=0, help="beside them, so many objects by LLVM 22 (the package ziglang), at random")
@click.option("--series", multiple=True, type=click.Choice(SERIES), help="kernel series (default: all)")
def main(sample: int, seed: int, newest: int, series: tuple[str, ...]) -> None:
    """Download, unpack, compile, keep the manifest."""
    objects_folder().mkdir(parents=True, exist_ok=True)
    materials = [material(name) for name in series or SERIES]
    everything = jobs(materials)
    chosen = select(everything, sample, seed)
    if newest:
        chosen += select(newest_jobs(materials), newest, seed)
    try:
        run(chosen)
    finally:
        write_manifest(everything, _tried(newest_jobs(materials)), materials)
    failed = known_failures()
    reasons = Counter(failed[job.key] for job in chosen if job.key in failed)
    present = sum(job.output.exists() for job in chosen)
    click.echo(f"{present} of {len(chosen)} objects are there ({len(everything)} in the whole corpus)")
    for reason, count in reasons.most_common(20):
        click.echo(f"{count:6d}  {reason}")
    click.echo(f"manifest: {manifest_path()}")


if __name__ == "__main__":
    main()

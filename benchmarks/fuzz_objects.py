"""`make fuzz`: damaged objects against the reader, the writer and the lint.

    python -m benchmarks.fuzz_objects [--runs 100000] [--seed 1] [--folder F] [--replay X.o]

Real objects are compiled on the spot from the tests' programs and the examples; a fuzzer damages them, shard by shard,
each in a process of its own (benchmarks/hostile).  A run goes on behind the last finished shard of its folder; objects
with findings stay there.  The status is 1 when there are findings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.provenance import first_line, replace_section

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs" / "corpus.md"
SHARD_SECONDS: Final = 3600
MOST_REASONS: Final = 12
LARGEST_SEED: Final = 16_000  # bytes: many small objects a second find more than few large ones
# compiler, target, CPU level, debug option.
VARIANTS: Final = (
    ("clang-19", "bpf", "v3", "-g"),
    ("clang-19", "bpf", "v4", "-gdwarf-4"),
    ("clang-19", "bpfeb", "v3", "-g"),
    ("clang-19", "bpf", "v2", "-g0"),
    ("clang-14", "bpf", "v3", "-g"),
)
# What the programs do not have: a section that claims to be our plugin's record, and the old form of maps.
CLAIMS: Final = """
const char record[] __attribute__((section(".k2.facts"), used)) = "k2 facts 2\\n7entry";
struct { unsigned type, key, value, entries, flags; } old __attribute__((section("maps"), used)) = {2, 4, 8, 1, 0};
static void *(*lookup)(void *, const void *) = (void *)1;
int seen;
__attribute__((noinline)) static int other(int n) { return n * seen; }
__attribute__((section("xdp"), used)) int entry(void *ctx)
{
    int key = 0;
    int *found = lookup(&old, &key);
    return found ? *found + other(key) : seen;
}
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


def make_seeds(folder: Path) -> list[str]:
    """Compile everything that compiles; the compilers used.  Programs that need what a variant lacks are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    claims = folder.parent / "claims.c"
    claims.write_text(CLAIMS)
    sources = [*sorted((ROOT / "tests" / "llvm_bridge" / "programs").glob("*.c")), *sorted(ROOT.glob("examples/*.c"))]
    used = []
    for compiler, target, cpu, debug in VARIANTS:
        if shutil.which(compiler) is None:
            continue
        used.append(compiler)
        for source in [*sources, claims]:
            name = f"{source.name.partition('.')[0]}-{compiler}-{target}-{cpu}{debug}.o"
            command = [compiler, "-target", target, f"-mcpu={cpu}", "-O2", debug]
            command.append("-I/usr/include/x86_64-linux-gnu")
            if source.parent.name == "examples":
                command.append(f"-I{ROOT / 'examples' / 'include'}")
            made = folder / name
            subprocess.run([*command, "-c", source, "-o", made], stderr=subprocess.DEVNULL, timeout=60)
            if made.exists() and made.stat().st_size > LARGEST_SEED:
                made.unlink()
    return sorted(set(used))


@dataclass(frozen=True, slots=True)
class Result:
    """A shard's objects by (outcome, reason), and the most memory above that at its start, in bytes."""

    runs: int
    memory: int
    counts: Counter[tuple[str, str]]


def run_shard(folder: Path, number: int, runs: int, seed: int) -> Result:
    """The results of one shard; a process that dies or hangs is a finding of its own."""
    result = folder / f"shard-{number}.json"
    if result.exists():
        found = json.loads(result.read_text())
        counts = Counter({(kind, reason): count for kind, reason, count in found["counts"]})
        return Result(found["runs"], found["memory"], counts)
    command = [sys.executable, "-m", "benchmarks.hostile.shard"]
    command += ["--runs", str(runs), "--seed", str(seed * 1000 + number + 1)]
    for name in ("seeds", "findings"):
        (folder / name).mkdir(exist_ok=True)
        command += [f"--{name}", str(folder / name)]
    log = folder / f"shard-{number}.log"
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                [*command, "--result", str(result)],
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, "PYTHONHASHSEED": "0"},
                timeout=SHARD_SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    if result.exists():
        return run_shard(folder, number, runs, seed)
    return Result(0, 0, Counter({("finding", f"the process ended with status {status}: {log.name}"): 1}))


def table(counts: Counter[tuple[str, str]]) -> str:
    lines = ["| outcome | reason | objects |", "|---|---|--:|"]
    for kind in ("edited", "unchanged", "untouched", "finding"):
        rows = Counter({reason: n for (found, reason), n in counts.items() if found == kind}).most_common()
        lines.append(f"| **{kind}** | | **{sum(n for _, n in rows)}** |")
        lines += [f"| {kind} | {reason or 'debug sections and all'} | {n} |" for reason, n in rows[:MOST_REASONS]]
        if rest := rows[MOST_REASONS:]:
            lines.append(f"| {kind} | {len(rest)} other reasons | {sum(n for _, n in rest)} |")
    return "\n".join(lines)


def replay(path: Path) -> bool:
    """Show the outcome of one object; is it a finding?"""
    from benchmarks.hostile.exercise import bounded

    outcome = bounded(path.read_bytes())
    click.echo(f"{path}: {outcome.kind} {outcome.reason}\n{outcome.trace}".rstrip())
    return outcome.kind == "finding"


@click.command()
@click.option("--runs", default=100_000, help="damaged objects to try in all")
@click.option("--shard", "shard_runs", default=5_000, help="how many of them per process")
@click.option("--workers", default=1, help="how many processes at a time; the outcome does not depend on it")
@click.option("--seed", default=1, help="start of the random choices")
@click.option("--folder", type=click.Path(path_type=Path), default=None, help="where to work and to go on")
@click.option("--date", default="", help="record the figures in docs/corpus.md under this date")
@click.option("--replay", "replays", multiple=True, type=click.Path(exists=True, path_type=Path), help="try these only")
def main(
    runs: int, shard_runs: int, workers: int, seed: int, folder: Path | None, date: str, replays: tuple[Path, ...]
) -> None:
    """Fuzz, count, keep what fails."""
    if replays:
        found_again = [replay(path) for path in replays]
        sys.exit(any(found_again))
    folder = folder or Path(tempfile.gettempdir()) / f"k2-fuzz-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    compilers = make_seeds(folder / "seeds")
    seeds = len(list((folder / "seeds").iterdir()))
    if not seeds:
        sys.exit("fuzz: no compiler: install the Debian package clang-19")
    counts, done, memory = Counter[tuple[str, str]](), 0, 0
    sizes = [min(shard_runs, runs - start) for start in range(0, runs, shard_runs)]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = [pool.submit(run_shard, folder, number, size, seed) for number, size in enumerate(sizes)]
        for future in as_completed(waiting):
            found = future.result()
            done += found.runs
            memory = max(memory, found.memory)
            counts += found.counts
            findings = sum(n for (kind, _), n in counts.items() if kind == "finding")
            click.echo(f"{done} of {runs} damaged objects, {findings} findings", err=True)
    commit = first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    text = (
        f"{done} damaged objects with seed {seed} from {seeds} real ones ({', '.join(compilers)}), commit {commit}; "
        f"at most {memory / (1 << 20):.0f} MiB above the memory at the start.\n\n{table(counts)}"
    )
    click.echo(f"{text}\n\nfolder: {folder}")
    if date:
        replace_section(DOCUMENT, "hostile", f"On {date}: {text}")
    sys.exit(any(kind == "finding" for kind, _ in counts))


if __name__ == "__main__":
    main()

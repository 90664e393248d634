"""A fuzzer's share of the runs, in a process of its own with a bound on memory: `python -m benchmarks.hostile.shard`.

atheris (libFuzzer for Python) steers by coverage of `llvm_bridge` and chooses which object to damage next; the damage
is ours (damage.py).  The counts appear in the file `--result` when all runs are done.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Final

import atheris
import click

with atheris.instrument_imports(include=["llvm_bridge"]):
    from benchmarks.hostile.exercise import bounded
from benchmarks.hostile.damage import damaged

MEMORY_BYTES: Final = 512 << 20
LARGEST_INPUT: Final = 1 << 17


class Shard:
    """Counts of outcomes over the runs of one process."""

    def __init__(self, runs: int, seeds: Path, findings: Path, result: Path) -> None:
        self.runs, self.findings, self.result = runs, findings, result
        self.known = {path.read_bytes() for path in seeds.iterdir()}
        self.counts = Counter[tuple[str, str]]()
        self.done = 0
        self.memory_at_start = _peak()

    def run(self, data: bytes) -> None:
        """One input; libFuzzer's own empty one and the seeds themselves are tried but not counted."""
        outcome = bounded(data)
        if outcome.kind == "finding":
            self._keep(data, outcome.reason, outcome.trace)
        if data in self.known or len(data) < 2:
            return
        self.counts[outcome.kind, outcome.reason] += 1
        self.done += 1
        if self.done == self.runs:
            self._finish()

    def _keep(self, data: bytes, reason: str, trace: str) -> None:
        """The input and its tale, the first few of each kind."""
        if self.counts["finding", reason] < 3:
            path = self.findings / sha256(data).hexdigest()[:16]
            path.with_suffix(".o").write_bytes(data)
            path.with_suffix(".txt").write_text(f"{reason}\n{trace}")

    def _finish(self) -> None:
        counts = [[kind, reason, count] for (kind, reason), count in sorted(self.counts.items())]
        found = {"runs": self.done, "counts": counts, "memory": _peak() - self.memory_at_start}
        partial = self.result.with_suffix(".partial")
        partial.write_text(json.dumps(found))
        partial.rename(self.result)
        shutil.rmtree(self.result.with_suffix(".corpus"), ignore_errors=True)
        sys.stdout.flush()
        os._exit(0)  # libFuzzer has no way to be told that it is enough


def _peak() -> int:
    """The most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    changed = damaged(data, random.Random(seed))
    return changed[:max_size]


@click.command()
@click.option("--runs", type=int, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--seeds", type=click.Path(path_type=Path), required=True)
@click.option("--findings", type=click.Path(path_type=Path), required=True)
@click.option("--result", type=click.Path(path_type=Path), required=True)
def main(runs: int, seed: int, seeds: Path, findings: Path, result: Path) -> None:
    """Fuzz until so many damaged objects have been tried."""
    shard = Shard(runs, seeds, findings, result)
    options = [
        f"-seed={seed}",
        f"-max_len={LARGEST_INPUT}",
        "-len_control=0",
        "-mutate_depth=1",
        "-timeout=30",
        "-rss_limit_mb=0",
        "-print_final_stats=0",
        "-reload=0",
        "-verbosity=0",
        f"-artifact_prefix={findings}/stopped-",
    ]
    # What is worth damaging further is written to the first folder; it is this shard's alone, so that nothing but the
    # seed decides what is tried.
    corpus = result.with_suffix(".corpus")
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    atheris.Setup([sys.argv[0], *options, str(corpus), str(seeds)], shard.run, custom_mutator=mutate)
    _bound_memory()
    atheris.Fuzz()


if __name__ == "__main__":
    main()

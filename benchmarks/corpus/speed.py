"""How long reading and writing an object takes, and that it grows linearly with the object's size.

    python -m benchmarks.corpus.speed [--count N] [--date 2026-01-31]

Takes objects of the corpus from the largest down, each about half the size of the one before.  CPU seconds, the best
of five: reading, writing with every section assembled anew, the lint of the result, and writing with every function
changed, so that debug information has to be made true again.  The status is 1 when reading and writing the largest
takes a second or more, or when time grows faster than size.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import fmean
from typing import Final, TypeVar

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.corpus.shake import shake
from benchmarks.kernel_word import ROOT
from benchmarks.provenance import replace_section
from llvm_bridge import slots, type_graph, writer
from llvm_bridge.dwarf_units import read_units
from llvm_bridge.lint import lint
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object

DOCUMENT: Final = ROOT / "docs" / "corpus.md"
ROUNDS: Final = 5
CHANCE: Final = 0.3
SEED: Final = 1
MOST_SECONDS: Final = 1.0
# time ~ size to the power of this; 1 is linear, and caches and allocation make it a little more
STEEPEST: Final = 1.15
FEWEST_SLOTS: Final = 1000  # below, what an object costs has little to do with its code
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Timing:
    """One object: its size in bytes, its code in slots, and CPU seconds."""

    name: str
    size: int
    slots: int
    read: float
    write: float
    lint: float
    change: float


def ladder(paths: Sequence[Path], count: int) -> list[Path]:
    """The largest file, then each time the largest of at most half the size, `count` in all if there are so many."""
    chosen: list[Path] = []
    for path in sorted(paths, key=lambda p: (-p.stat().st_size, str(p))):
        if len(chosen) < count and (not chosen or path.stat().st_size * 2 <= chosen[-1].stat().st_size):
            chosen.append(path)
    return chosen


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """(CPU seconds of the best round, the result); nothing is remembered from one round to the next."""
    best = float("inf")
    for _ in range(ROUNDS):
        for remembered in (slots._decoded, type_graph._parsed, read_units, lint):
            remembered.cache_clear()
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def measure(path: Path) -> Timing | None:
    """None for an object that the reader leaves alone."""
    data = path.read_bytes()
    read, source = timed(lambda: read_object(data))
    if not isinstance(source, Object):
        return None
    object_ = source
    write, written = timed(lambda: writer._write(object_, object_.unit))
    size = sum(function.slots for function in source.unit.functions)
    judge = timed(lambda: lint(written))[0]
    change = timed(lambda: shake(object_, CHANCE, random.Random(SEED)))[0]
    return Timing(path.stem, len(data), size, read, write, judge, change)


def growth(found: Sequence[Timing]) -> float:
    """The exponent of reading and writing time over slots, by least squares of the logarithms of larger objects."""
    large = [one for one in found if one.slots >= FEWEST_SLOTS]
    xs, ys = [log(one.slots) for one in large], [log(one.read + one.write) for one in large]
    x, y = fmean(xs), fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def table(found: Sequence[Timing]) -> str:
    lines = [
        "| object | bytes | slots | read | write | read and write per slot | lint | write with no-ops everywhere |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one.name} | {one.size} | {one.slots} | {one.read:.3f} s | {one.write:.3f} s | "
        f"{1e6 * (one.read + one.write) / max(one.slots, 1):.1f} µs | {one.lint:.3f} s | {one.change:.2f} s |"
        for one in found
    ]
    return "\n".join(lines)


@click.command()
@click.option("--count", default=8, help="how many objects")
@click.option("--date", default="", help="record the figures in docs/corpus.md under this date")
def main(count: int, date: str) -> None:
    """Print one line per object, and judge."""
    measured = [measure(path) for path in ladder(sorted(objects_folder().glob("*/*/*/*/*.o")), count)]
    found = [one for one in measured if one is not None and one.slots]
    if sum(one.slots >= FEWEST_SLOTS for one in found) < 3:
        sys.exit("speed: the corpus is not there: make corpus")
    exponent = growth(found)
    grows = f"Reading and writing grow with slots to the power of {exponent:.2f} (from {FEWEST_SLOTS} slots on)."
    text = f"{table(found)}\n\n{grows}"
    click.echo(text)
    if date:
        replace_section(DOCUMENT, "speed", f"CPU seconds on {date}, the best of {ROUNDS}:\n\n{text}")
    sys.exit(found[0].read + found[0].write >= MOST_SECONDS or exponent > STEEPEST)


if __name__ == "__main__":
    main()

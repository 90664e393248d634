"""How long reading and writing an object takes, and that it grows linearly with the object's size.

    python -m benchmarks.corpus.speed [--count N]

Takes objects of the corpus from the largest down, each about half the size of the one before.  CPU seconds, the best
of three: reading, writing with every section assembled anew, and the lint of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from benchmarks.corpus.jobs import objects_folder
from llvm_bridge import writer
from llvm_bridge.lint import lint
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object

ROUNDS: Final = 3
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


def ladder(paths: Sequence[Path], count: int) -> list[Path]:
    """The largest file, then each time the largest of at most half the size, `count` in all if there are so many."""
    chosen: list[Path] = []
    for path in sorted(paths, key=lambda p: (-p.stat().st_size, str(p))):
        if len(chosen) < count and (not chosen or path.stat().st_size * 2 <= chosen[-1].stat().st_size):
            chosen.append(path)
    return chosen


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """(CPU seconds of the best round, the result)."""
    best = float("inf")
    for _ in range(ROUNDS):
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
    slots = sum(function.slots for function in source.unit.functions)
    return Timing(path.stem, len(data), slots, read, write, timed(lambda: lint(written))[0])


@click.command()
@click.option("--count", default=8, help="how many objects")
def main(count: int) -> None:
    """Print one line per object."""
    click.echo(f"{'object':32} {'bytes':>9} {'slots':>7} {'read s':>7} {'write s':>7} {'lint s':>7} {'us/slot':>8}")
    for path in ladder(list(objects_folder().rglob("*.o")), count):
        one = measure(path)
        if one is not None:
            each = 1e6 * (one.read + one.write) / max(one.slots, 1)
            click.echo(
                f"{one.name:32} {one.size:9} {one.slots:7} {one.read:7.3f} {one.write:7.3f} {one.lint:7.3f} {each:8.1f}"
            )


if __name__ == "__main__":
    main()

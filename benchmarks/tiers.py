"""What each tier of proposals brings beyond the cheaper ones, and how the enumeration of each window ended.

    python -m benchmarks.tiers [--cpu v3] [--effort 1] [--goal balanced] [--windows] FILE...

C sources are compiled with clang-19 -O2; objects are taken as they are.  The passes run first; each further tier then
starts from what they and the cheaper tiers left.  Seconds are CPU time of this process.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from synth.door import Door
from synth.enumerate import EnumerateSession
from synth.pipeline import optimise
from synth.session import Outcome
from synth.settings import TIERS, Settings
from verifier_model.bpf.unit import Function, Unit
from verifier_model.facts import analyse

INCLUDES: Final = Path(__file__).parents[1] / "examples" / "include"


@dataclass(frozen=True, slots=True)
class Stage:
    """Slots and CPU seconds when the tiers up to and with `tier` are done, one after the other."""

    tier: str
    slots: int
    seconds: float


def unit_of(path: Path, cpu: str) -> Unit:
    """The programs of a C source or of an object; raises ClickException when they cannot be read."""
    data = path.read_bytes()
    if path.suffix == ".c":
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "x.o"
            options = ["-target", "bpf", "-O2", "-g", f"-mcpu={cpu}", "-I", str(INCLUDES)]
            subprocess.run(["clang-19", *options, "-c", str(path), "-o", str(output)], check=True, timeout=120)
            data = output.read_bytes()
    read = read_object(data, int(cpu[1:]))
    if isinstance(read, Untouched):
        raise click.ClickException(f"{path.name}: {read.reason}")
    return read.unit


def slots(unit: Unit) -> int:
    return sum(function.slots for function in unit.functions)


def stages(unit: Unit, settings: Settings) -> tuple[list[Stage], Unit]:
    """The tiers one after the other, and what they made."""
    found, seconds = [Stage("clang", slots(unit), 0.0)], 0.0
    for tier in TIERS:
        start = time.process_time()
        unit, _ = optimise(unit, replace(settings, tiers=(tier,)))
        seconds += time.process_time() - start
        found.append(Stage(tier, slots(unit), seconds))
    return found, unit


def last_words(unit: Unit, function: Function, settings: Settings) -> Iterator[Outcome]:
    """How the enumeration of each window of a function ends; what is proved on the way is not applied."""
    facts, door = analyse(unit, function), Door(unit, settings)
    session = EnumerateSession(function, facts, unit, settings)
    for rewrite in session:
        answer = door.ask(function, facts, rewrite)
        if answer.verdict is not None and answer.verdict.counterexample is not None:
            session.feed(rewrite, answer.verdict.counterexample)
    yield from session.outcomes


@click.command(help="What each tier brings beyond the cheaper ones.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--cpu", default="v3", type=click.Choice(["v1", "v2", "v3", "v4"]))
@click.option("--effort", default=1, type=click.IntRange(0, 3))
@click.option("--goal", default="balanced", type=click.Choice(["balanced", "latency", "size"]))
@click.option("--windows", is_flag=True, help="a row for each enumerated window of the final code")
def main(files: tuple[Path, ...], cpu: str, effort: int, goal: str, windows: bool) -> None:
    settings = Settings(effort=effort, goal=goal)
    sums: dict[str, list[float]] = {}
    for path in files:
        found, unit = stages(unit_of(path, cpu), settings)
        for stage in found:
            total = sums.setdefault(stage.tier, [0, 0.0])
            total[0] += stage.slots
            total[1] += stage.seconds
        click.echo(f"{path.name:28}" + "".join(f"  {s.tier} {s.slots} ({s.seconds:.1f} s)" for s in found))
        for function in unit.functions if windows else ():
            for outcome in last_words(unit, function, settings):
                place = f"{outcome.place.label}:{outcome.place.start}-{outcome.place.stop}"
                click.echo(f"    {function.name:24} {place:16} {outcome.slots:>2} slots  {outcome.result}")
    click.echo(f"{'total':28}" + "".join(f"  {tier} {n:.0f} ({s:.1f} s)" for tier, (n, s) in sums.items()))


if __name__ == "__main__":
    main()

"""Random whole programs, with memory, atomics, loops and calls: all engines and the running kernel agree.

    python -m benchmarks.agreement.programs --programs 20000 --seed 1

A program that the kernel refuses does not count.  Any disagreement ends the run with status 1.
"""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.agreement.engine_windows import window_trouble
from benchmarks.agreement.ledger import Ledger, from_value, to_value
from benchmarks.agreement.program_engines import Beside, Output, RunError, on_kernel, on_native, random_input
from benchmarks.agreement.random_programs import random_unit
from benchmarks.agreement.world import ARENA_BYTES, MAP_HELPERS, World
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.native import Arena, compile_functions
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.unit import Unit
from verifier_model.kernel.loading import load_function
from verifier_model.kernel.syscall import Refused

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "semantics.md"
_INPUTS: Final = 2
_BATCH: Final = 100
_MOST_SHOWN: Final = 20


@dataclass
class Tally:
    """What was run, and what disagreed (the first few, in words)."""

    seed: int
    programs: int = 0
    refused: int = 0
    runs: int = 0
    insns: int = 0
    executed: int = 0
    windows: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def differ(self, number: int, what: str, unit: Unit | None = None) -> None:
        if len(self.wrong) < _MOST_SHOWN:
            code = "" if unit is None else "\n" + "\n".join(print_function(function) for function in unit.functions)
            self.wrong.append(f"seed {self.seed}, number {number}: {what}{code}")


def _difference(ours: Output, theirs: Output) -> str:
    if ours.result != theirs.result:
        return f"r0 {ours.result:#x} and {theirs.result:#x}"
    for at, (one, other) in enumerate(zip(ours.packet, theirs.packet, strict=True)):
        if one != other:
            return f"packet byte {at}: {one:#x} and {other:#x}"
    for name, entries in theirs.maps.items():
        if ours.maps[name] != entries:
            return f"map {name}: {ours.maps[name]} and {entries}"
    return ""


def one_program(seed: int, number: int, arena: Arena, tally: Tally) -> None:
    """Make, load and run program `number`, then a window of its kind in the C++ engine."""
    rng = random.Random(f"{seed} {number}")
    unit = random_unit(rng)
    loaded = load_function(unit, "f")
    if isinstance(loaded, Refused):
        tally.refused += 1
        return
    world = World(unit, MAP_HELPERS)
    compiled = compile_functions(unit, ["f"], address=world.address)
    with loaded:
        for _ in range(_INPUTS):
            given = random_input(rng)
            try:
                theirs = on_kernel(loaded, given)
                native = on_native(compiled, World(unit, MAP_HELPERS, tokens=world.tokens), given, arena)
                beside = Beside(unit, given)
                machine = beside.run()
            except RunError as error:
                tally.differ(number, str(error), unit)
                continue
            what = _difference(native, theirs) and f"native and kernel: {_difference(native, theirs)}"
            what = what or (_difference(machine, theirs) and f"Python and kernel: {_difference(machine, theirs)}")
            what = what or (beside.solved() and f"z3 and Python: {beside.solved()}")
            if what:
                tally.differ(number, what, unit)
            tally.runs += 1
            tally.executed += beside.steps
    trouble = window_trouble(rng)
    if trouble:
        tally.differ(number, f"C++ engine: {trouble}")
    tally.windows += 1
    tally.programs += 1
    for function in unit.functions:
        for _, insn in function.insns():
            tally.rows[insn.row.name] += 1
            tally.insns += 1


@contextmanager
def rare_collection() -> Iterator[None]:
    """Garbage is collected at the end alone: building IR makes so many objects that half the time would go there."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.collect()


def campaign(programs: int, seed: int, ledger: Ledger | None = None) -> Tally:
    """Accepted programs until there are `programs` of them, from where the ledger ends."""
    kept = ledger.read() if ledger is not None else {}
    tally = from_value(Tally, kept["tally"]) if kept else Tally(seed)
    arena = Arena(ARENA_BYTES)
    while tally.programs < programs:
        with rare_collection():
            for _ in range(min(_BATCH, programs - tally.programs)):
                one_program(seed, tally.programs + tally.refused, arena, tally)
        if ledger is not None:
            ledger.save({"tally": to_value(tally)})
            click.echo(f"{tally.programs} programs, {len(tally.wrong)} disagreements", err=True)
    return tally


def markdown(tally: Tally, source: dict[str, object]) -> str:
    return "\n".join(
        [
            f"{tally.programs:,} accepted programs of {tally.insns / tally.programs:.0f} instructions on average, "
            f"{tally.runs:,} runs, {tally.executed:,} executed instructions on {source['date']} (seed {tally.seed}, "
            f"kernel {source['kernel']}, z3 {source['z3']}, commit {source['commit']}): "
            f"**{len(tally.wrong)} disagreements**. The kernel refused {tally.refused} more.",
            "",
            f"{len(tally.rows)} rows occur, the rarest {min(tally.rows.values())} times "
            f"(`{min(tally.rows, key=lambda name: tally.rows[name])}`). The C++ engine ran {tally.windows:,} windows.",
        ]
    )


@click.command()
@click.option("--programs", default=20_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--fresh", is_flag=True, help="start anew instead of where the last run of this seed stopped")
@click.option("--date", default="", help="the day; with it the figures are kept in docs/semantics.md")
def main(programs: int, seed: int, fresh: bool, date: str) -> None:
    """Compare, print, keep the figures; exit 1 on any disagreement."""
    ledger = Ledger.of("programs", seed, fresh=fresh)
    tally = campaign(programs, seed, ledger)
    text = markdown(tally, {**provenance(date, []), "commit": ledger.commits})
    click.echo(text)
    for line in tally.wrong:
        click.echo(line, err=True)
    if date:
        replace_section(DOCUMENT, "programs", text)
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()

"""Every row on random operands: Python integers, z3, native code, the C++ engine and the running kernel agree.

    python -m benchmarks.agreement.operands --cases 1000000 --seed 1

A case is one row with its fields filled in on two operands.  Any disagreement ends the run with status 1.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.agreement import engines
from benchmarks.agreement.operand_programs import OperandProgram, covered_rows, operand_pair, operand_programs
from benchmarks.provenance import provenance, replace_section
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.isa import ROWS, Kind
from verifier_model.kernel.syscall import is_permitted

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "semantics.md"
_MOST_SHOWN: Final = 20


@dataclass
class Tally:
    """Cases by engine, rows seen, and what disagreed (the first few, in words)."""

    seed: int
    cases: int = 0
    by_engine: Counter[str] = field(default_factory=Counter)
    rows: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def differ(self, what: str) -> None:
        if len(self.wrong) < _MOST_SHOWN:
            self.wrong.append(f"seed {self.seed}: {what}")


def compare(program: OperandProgram, pairs: Sequence[tuple[int, int]], order: ByteOrder, tally: Tally) -> None:
    """Run the program on every pair in every engine that knows it, and hold all results to native code's."""
    others: dict[str, engines.Runner] = {}
    close = None
    if program.family != "legacy":
        others = {"Python": engines.python(program, order), "z3": engines.smt(program, order)}
    if order == engines.HOST and is_permitted():
        others["kernel"], close = engines.kernel(program)
    compiled = engines.native(program, order)
    results = [compiled(a, b) for a, b in pairs]
    try:
        for name, run in others.items():
            for (a, b), ours in zip(pairs, results, strict=True):
                theirs = run(a, b)
                tally.by_engine[name] += len(theirs)
                if tuple(theirs) != tuple(ours):
                    _explain(program, name, (a, b), ours, theirs, tally)
    finally:
        if close is not None:
            close()
    for at, instance in enumerate(program.instances):
        found = engines.engine_results(instance, pairs, order)
        if found is not None:
            tally.by_engine["C++ engine"] += len(found)
            for pair, ours, value in zip(pairs, results, found, strict=True):
                if value != ours[at]:
                    tally.differ(_case(program, "C++ engine", at, pair, ours[at], value))
    if program.family != "legacy":  # a case counts where all four read the row's meaning
        tally.cases += len(pairs) * len(program.instances)
    tally.by_engine["native"] += len(pairs) * len(program.instances)
    tally.rows |= {instance.row.name for instance in program.instances} | {"exit"}


def _explain(
    program: OperandProgram,
    name: str,
    pair: tuple[int, int],
    ours: Sequence[int],
    theirs: Sequence[int],
    tally: Tally,
) -> None:
    for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            tally.differ(_case(program, name, at, pair, one, other))


def _case(program: OperandProgram, name: str, at: int, pair: tuple[int, int], ours: int, theirs: int) -> str:
    code = "; ".join(print_insn(insn) for insn in program.instances[at].insns)
    return f"`{code}` on {pair[0]:#x}, {pair[1]:#x}: native {ours:#x}, {name} {theirs:#x}"


def campaign(cases: int, seed: int, order: ByteOrder, pairs_per_program: int = 64) -> Tally:
    """At least `cases` cases; the programs' immediates are drawn anew after every `pairs_per_program` pairs."""
    tally, turn = Tally(seed), 0
    while tally.cases < cases:
        rng = random.Random(f"{seed} {order} {turn}")
        for program in operand_programs(rng):
            compare(program, [operand_pair(rng) for _ in range(pairs_per_program)], order, tally)
        turn += 1
    return tally


def uncovered() -> dict[str, str]:
    """Rows that have no operand cases, and why."""
    reasons = {
        Kind.LOAD_WIDE: "an address that the kernel chooses; whole programs use it",
        Kind.CALL: "whole programs call",
        Kind.MAY_GOTO: "its outcome is free",
        Kind.CAST: "arena addresses: not modelled, such programs stay clang's",
    }
    return {row.name: reasons[row.kind] for row in ROWS if row.name not in covered_rows()}


def markdown(tallies: dict[ByteOrder, Tally], source: dict[str, object], seconds: float) -> str:
    total = sum(tally.cases for tally in tallies.values())
    rows = frozenset[str]().union(*(tally.rows for tally in tallies.values()))
    wrong = sum(len(tally.wrong) for tally in tallies.values())
    lines = [
        f"{total:,} operand cases over {len(rows)} of {len(ROWS)} rows on {source['date']} (seed "
        f"{next(iter(tallies.values())).seed}, kernel {source['kernel']}, z3 {source['z3']}, commit "
        f"{source['commit']}, {seconds:.0f} s): **{wrong} disagreements**.",
        "",
        "| byte order | native | Python | z3 | kernel's JIT | C++ engine |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    names = ("native", "Python", "z3", "kernel", "C++ engine")
    lines += [
        f"| {order} | "
        + " | ".join(f"{tally.by_engine[name]:,}" if tally.by_engine[name] else "" for name in names)
        + " |"
        for order, tally in tallies.items()
    ]
    reasons: dict[str, list[str]] = {}
    for name, reason in uncovered().items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    lines += ["", "Rows without operand cases:", ""]
    lines += [f"* {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return "\n".join(lines)


@click.command()
@click.option("--cases", default=2_200_000, show_default=True, help="cases in the kernel's byte order")
@click.option("--foreign", default=100_000, show_default=True, help="cases in the other byte order, without the kernel")
@click.option("--seed", default=1, show_default=True)
@click.option("--date", default="", help="the day; with it the figures are kept in docs/semantics.md")
def main(cases: int, foreign: int, seed: int, date: str) -> None:
    """Compare, print, keep the figures; exit 1 on any disagreement."""
    start = time.monotonic()
    other: ByteOrder = "big" if engines.HOST == "little" else "little"
    tallies = {engines.HOST: campaign(cases, seed, engines.HOST), other: campaign(foreign, seed, other)}
    text = markdown(tallies, provenance(date, []), time.monotonic() - start)
    click.echo(text)
    wrong = [line for tally in tallies.values() for line in tally.wrong]
    for line in wrong:
        click.echo(line, err=True)
    if date:
        replace_section(DOCUMENT, "operands", text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Can the prover be fooled?  Every single-bit and single-field mutant of proved rewrites is put to it.

    python -m benchmarks.agreement.fool --rewrites 2000 --mutants 50000 --seed 1

No mutant that concrete execution can tell from the original may be PROVED.  And no proof may be vacuous: of every
rewrite, the original proves equal to itself, and the solver finds a state that its assumptions allow.  The campaign
goes on where it stopped; it takes the mutants of every rewrite in turn, so that it may end anywhere.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click
import z3

from benchmarks.agreement.ledger import Ledger, from_value, to_value
from benchmarks.agreement.mutants import Program, mutants
from benchmarks.agreement.proven import collect
from benchmarks.agreement.states import distinguishing_state
from benchmarks.provenance import provenance, replace_section
from verifier_model.bpf.asm import print_insn
from verifier_model.prover import Limits, prove
from verifier_model.prover.refinement import scripts
from verifier_model.verdict import Obligation, Status

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "prover.md"
STATES: Final = range(48)
LIMITS: Final = Limits(solver_steps=300_000)
_PER_TURN: Final = 10  # mutants of one rewrite before the next one has its turn
_CONTROL: Final = 20  # of so many refuted mutants one is run, to see what running can tell
_SATISFIABLE_STEPS: Final = 5_000_000
_MOST_SHOWN: Final = 20
_BATCH: Final = 100  # rewrites between two looks at the ledger


@dataclass
class Tally:
    """Verdicts about mutants; what running said about those that were proved; what was wrong."""

    rewrites: int = 0
    mutants: int = 0
    turn: int = 0
    at: int = 0  # the rewrite whose turn is next
    exhausted: int = 0  # rewrites that have no mutant left
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    proved: Counter[str] = field(default_factory=Counter)
    control: Counter[str] = field(default_factory=Counter)
    vacuity: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def shown(obligation: Obligation) -> str:
    """The question in one line."""
    before, after = ("; ".join(map(print_insn, insns)) or "nothing" for insns in (obligation.before, obligation.after))
    facts = ", ".join(
        f"r{n} {r.region.value}" for n, r in enumerate(obligation.entry.regs) if r.is_pointer or r.is_scalar
    )
    return f"`{before}` -> `{after}` where {facts}, demand {obligation.demand.regs}"


def try_mutant(question: Obligation, tally: Tally, count_control: bool) -> None:
    """Put one mutant to the prover, and what it proves to the concrete machine."""
    verdict = prove(question, LIMITS)
    tally.mutants += 1
    tally.verdicts[verdict.status.value] += 1
    if verdict.status is Status.UNKNOWN:
        tally.reasons[re.sub(r"\d+", "N", verdict.reason)] += 1
    elif verdict.is_proved:
        state, compared = distinguishing_state(question, STATES)
        if state is not None:
            tally.wrong.append(f"PROVED ({verdict.method}), but differs in state {state}: {shown(question)}")
        tally.proved["equal in every state" if compared else "could not be run"] += state is None
    elif count_control:
        state, compared = distinguishing_state(question, STATES)
        word = "seen" if state is not None else "not seen" if compared else "could not be run"
        tally.control[word] += 1


def vacuity(question: Obligation) -> str:
    """Is the original equal to itself under assumptions that can be met?  "fine", or what is not."""
    same = prove(replace(question, after=question.before))
    if not same.is_proved:
        return f"not equal to itself: {same.status.value} {same.reason}"
    try:
        _, assumptions = scripts(question)
    except ValueError as error:
        return f"no query: {error}"
    solver = z3.Solver(ctx=z3.Context())
    solver.set("rlimit", _SATISFIABLE_STEPS)
    solver.from_string(assumptions)
    answer = solver.check()
    return "fine" if answer == z3.sat else f"assumptions are {answer}"


def shuffled_mutants(question: Obligation, seed: int, number: int) -> list[Program]:
    """All mutants of the replacement, in an order drawn by seed and rewrite."""
    found = list(mutants(question.after, question.function))
    random.Random(f"{seed} {number}").shuffle(found)
    return found


def campaign(questions: Sequence[Obligation], seed: int, wanted: int, ledger: Ledger | None = None) -> Tally:
    """At least `wanted` mutants, or all there are."""
    kept = ledger.read() if ledger is not None else {}
    tally = from_value(Tally, kept["tally"]) if kept else Tally()

    def save(number: int) -> None:
        if ledger is not None and number % _BATCH == 0:
            ledger.save({"tally": to_value(tally)})
            click.echo(f"{tally.rewrites} rewrites, {tally.mutants} mutants, {len(tally.wrong)} wrong", err=True)

    for question in questions[tally.rewrites :]:
        word = vacuity(question)
        tally.vacuity[word] += 1
        if word != "fine":
            tally.wrong.append(f"{word}: {shown(question)}")
        tally.rewrites += 1
        save(tally.rewrites)
    while tally.mutants < wanted and tally.exhausted < len(questions):
        number, start = tally.at, tally.turn * _PER_TURN
        found = shuffled_mutants(questions[number], seed, number)
        tally.exhausted += start <= max(len(found) - 1, 0) and len(found) <= start + _PER_TURN
        for at, program in enumerate(found[start : start + _PER_TURN], start):
            try_mutant(replace(questions[number], after=program), tally, (number + at) % _CONTROL == 0)
        tally.turn, tally.at = (tally.turn + 1, 0) if number + 1 == len(questions) else (tally.turn, number + 1)
        save(tally.at)
    save(0)
    return tally


def markdown(tally: Tally, seed: int, source: dict[str, object]) -> str:
    run = tally.control["seen"] + tally.control["not seen"]
    lines = [
        f"{tally.mutants:,} mutants of {tally.rewrites:,} proved rewrites on {source['date']} (seed {seed}, z3 "
        f"{source['z3']}, commit {source['commit']}; all mutants of {tally.exhausted:,} rewrites): "
        f"**{len(tally.wrong)} wrong**.",
        "",
        "| verdict | mutants |",
        "|---|--:|",
        *(f"| {word} | {count:,} |" for word, count in tally.verdicts.most_common()),
        "",
        f"Mutants that were PROVED, run from {len(STATES)} states: "
        + ", ".join(f"{count:,} {word}" for word, count in tally.proved.most_common() if count)
        + f". Of {run:,} refuted ones run as a control, {tally.control['seen']:,} showed a difference.",
        "",
        "Proofs that are not vacuous: "
        + ", ".join(f"{count:,} {word}" for word, count in tally.vacuity.most_common())
        + ".",
    ]
    if tally.reasons:
        lines += [
            "",
            "Why UNKNOWN: " + ", ".join(f"{word} ({count:,})" for word, count in tally.reasons.most_common(8)),
        ]
    return "\n".join(lines)


@click.command()
@click.option("--rewrites", default=2000, show_default=True)
@click.option("--skip", default=0, show_default=True, help="so many proved rewrites before these are left out")
@click.option("--mutants", "wanted", default=50_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--fresh", is_flag=True, help="start anew instead of where the last run of this seed stopped")
@click.option("--date", default="", help="the day; with it the figures are kept in docs/prover.md")
def main(rewrites: int, skip: int, wanted: int, seed: int, fresh: bool, date: str) -> None:
    """Try to fool the prover, print, keep the figures; exit 1 where that succeeds."""
    questions = collect(skip + rewrites, seed)[skip:]
    click.echo(f"{len(questions)} proved rewrites", err=True)
    ledger = Ledger.of("fool", seed, rewrites, fresh=fresh) if not skip else None
    tally = campaign(questions, seed, wanted, ledger)
    text = markdown(tally, seed, {**provenance(date, []), **({"commit": ledger.commits} if ledger is not None else {})})
    click.echo(text)
    for line in tally.wrong[:_MOST_SHOWN]:
        click.echo(line, err=True)
    if date:
        replace_section(DOCUMENT, "fool", text)
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()

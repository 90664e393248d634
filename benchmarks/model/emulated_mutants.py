"""`make model-mutants-emulated`: mutants put to the model as the profile of an emulated kernel, and to that kernel.

    python -m benchmarks.model.emulated_mutants [--series 6.1] [--count N] [--seed S]

Like `benchmarks.model.mutants`, for Debian's 5.10, 6.1 and 6.12 in the emulator (`verifier_model.kernel.oracle`): all
questions of a run go in one boot.  Of the mutants that the model refuses, one in ten is asked about.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from benchmarks.model.corpus import DOCUMENT, reason_class
from benchmarks.model.emulated import raw_of
from benchmarks.model.mutants import SHARE_OF_LOADED, SHARE_OF_OTHERS, bases, verdict
from benchmarks.model.mutation import mutant
from benchmarks.model.slots import SlotProgram
from benchmarks.provenance import provenance, replace_section
from verifier_model.checker.knowledge import EVERY_KERNEL, knowledge
from verifier_model.kernel.oracle import SERIES, Oracle, oracle
from verifier_model.kernel.questions import Answer, Outcome


@dataclass(frozen=True, slots=True)
class Put:
    """One mutant: why the model refuses it ("" for not), as this kernel and as all of them; the kernel's answer."""

    program: SlotProgram
    reason: str
    every: str
    answer: Answer

    @property
    def is_false_accept(self) -> bool:
        return self.answer.outcome is Outcome.REFUSED and not (self.reason and self.every)


def put(kernel: Oracle, seed: int, count: int) -> list[Put]:
    """`count` mutants; the answers of those that were asked about."""
    rng = random.Random(f"{kernel.name}:{seed}")
    numbers = [int(word) for word in kernel.release.partition("-")[0].split(".")]
    major, minor, point = (*numbers, 0, 0)[:3]
    knows, loaded, refused = knowledge((major, minor, point)), *bases(seed)
    # What all kernels know, with the instructions and helpers of this one.
    common = replace(EVERY_KERNEL, release=knows.release)
    chosen: list[tuple[SlotProgram, str, str]] = []
    for _ in range(count):
        programs = loaded if rng.random() < SHARE_OF_LOADED else refused
        program = mutant(rng, rng.choice(programs), rng.choice((1, 2)))
        is_asked = rng.random() < SHARE_OF_OTHERS
        reason, every = verdict(program, knows), verdict(program, common)
        if not (reason and every) or is_asked:
            chosen.append((program, reason, every))
    answers = kernel.verdicts([raw_of(program) for program, _, _ in chosen])
    return [Put(*row, answer) for row, answer in zip(chosen, answers, strict=True)]


def line_of(kernel: Oracle, found: Sequence[Put], count: int) -> str:
    asked = [one for one in found if one.answer.outcome is not Outcome.UNASKED]
    taken = [one for one in asked if not one.reason]
    lost = sum(one.answer.accepted for one in asked if one.reason)
    refused = sum(1 for one in asked if one.reason)
    agreed = sum(one.answer.accepted for one in taken)
    whole = lost * (count - len(taken)) / refused if refused else 0.0
    share = 100 * agreed / (agreed + whole) if agreed else 0.0
    wrong = sum(one.is_false_accept for one in found)
    return f"| {kernel.release} | {count} | {len(asked)} | {len(taken)} | {share:.1f} % | {wrong} |"


@click.command()
@click.option("--series", "names", multiple=True, type=click.Choice(SERIES), help="which kernels (default: all)")
@click.option("--count", default=3000, help="mutants for each kernel")
@click.option("--seed", default=1, help="start of all random choices")
@click.option("--write", "date", default="", help="write docs/model.md, with this day beside the figures")
def main(names: tuple[str, ...], count: int, seed: int, date: str) -> None:
    """Ask, print; exit 1 at a false accept."""
    rows, is_wrong = [], False
    for name in names or SERIES:
        kernel = oracle(name)
        found = put(kernel, seed, count)
        rows.append(line_of(kernel, found, count))
        wrong = [one for one in found if one.is_false_accept]
        is_wrong = is_wrong or bool(wrong)
        print(rows[-1], flush=True)
        for one in wrong:
            which = "as every kernel" if not one.every else "as this kernel"
            print(f"  {which}: {one.program.name}: {one.answer.reason}\n    {one.program.insns.hex()}")
        for reason, lost in Counter(
            reason_class(one.reason) for one in found if one.reason and one.answer.accepted
        ).most_common(12):
            print(f"{lost:5d}  {reason}")
    if date:
        source = provenance(date, ())
        head = (
            f"On {source['date']}, commit {source['commit']}, seed {seed}. An acceptance counts as false also "
            "where only the model that knows no more than every kernel accepts."
        )
        table = ["| kernel | mutants | asked | accepted by the model | of the kernel's acceptances | false accepts |"]
        table += ["|---|--:|--:|--:|--:|--:|", *rows]
        replace_section(DOCUMENT, "emulated", "\n".join([head, "", *table]))
    sys.exit(1 if is_wrong else 0)


if __name__ == "__main__":
    main()

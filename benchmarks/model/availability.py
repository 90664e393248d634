"""Which helpers each kernel gives to each kind of program, asked of the kernels: `make availability`.

For every place of attachment and every helper a program of two instructions (call, exit) is loaded.  What the verifier
says tells whether it knows the helper there; it never comes to judging arguments otherwise.  As `bpftool feature probe`
does it, with attach types and sleepable programs.
"""

from __future__ import annotations

import csv
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from verifier_model.contracts import availability
from verifier_model.contracts.places import PLACES, Place
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.oracle import SERIES, Oracle, oracle
from verifier_model.kernel.questions import Answer, Outcome, RawProgram

LAST_HELPER: Final = 220
_EXIT: Final = bytes.fromhex("b7000000000000009500000000000000")
_ABSENT: Final = re.compile(
    r"unknown func|program of this type cannot use helper|helper call is not allowed in probe|"
    r"helper call might sleep in a non-sleepable prog|invalid func"
)
_RESULT: Final = "At program exit the register R0"
# The place exists, but this kernel's build has nothing there to attach the probe to.
_POOR_PROBE: Final = re.compile(r"is not sleepable|is not modifiable")
_GPL: Final = "cannot call GPL-restricted function"


def call(place: Place, helper: int | None, license: str = "GPL") -> RawProgram:
    """A program that does nothing but call the helper; None: only returns 0."""
    insns = _EXIT if helper is None else struct.pack("<BBhi", 0x85, 0, 0, helper) + _EXIT
    number = PROGRAM_TYPES[place.program_type].number
    return RawProgram(insns, number, place.attach_type, place.flags, license, attach=place.hook)


def known(answer: Answer) -> bool:
    """Does this answer to a bare call show that the helper exists there?"""
    if answer.outcome is Outcome.UNASKED:
        raise RuntimeError(f"not asked: {answer.log}")
    return answer.accepted or (answer.reason != "" and _ABSENT.search(answer.log) is None)


def loadable(answer: Answer) -> bool | None:
    """Does the kernel take programs of this kind at all, going by one that returns 0?  None: the probe was no good."""
    if answer.outcome is Outcome.UNASKED or _POOR_PROBE.search(answer.log):
        return None
    return answer.accepted or _RESULT in answer.log


def rows(kernel: Oracle, places: Iterable[Place] = PLACES) -> list[availability.Row]:
    """What `kernel` gives to each place, and a row for the helpers that need a GPL-compatible licence."""
    chosen = list(places)
    found, first_place = [], dict[int, Place]()
    numbers = range(1, LAST_HELPER + 1)
    plain = kernel.verdicts([call(place, None) for place in chosen])
    takes = [loadable(answer) for answer in plain]
    bare = iter(
        kernel.verdicts([call(place, n) for place, yes in zip(chosen, takes, strict=True) if yes for n in numbers])
    )
    for place, yes in zip(chosen, takes, strict=True):
        helpers = [number for number in numbers if known(next(bare))] if yes else []
        for helper in helpers:
            first_place.setdefault(helper, place)
        if yes is not None:
            found.append(availability.Row(kernel.name, kernel.release, place.name, yes, frozenset(helpers)))
    asked = sorted(first_place)
    answers = kernel.verdicts([call(first_place[helper], helper, "Proprietary") for helper in asked])
    restricted = [helper for helper, answer in zip(asked, answers, strict=True) if _GPL in answer.log]
    found.append(availability.Row(kernel.name, kernel.release, availability.GPL_ONLY, True, frozenset(restricted)))
    return found


@click.command()
@click.argument("names", nargs=-1)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=availability.TABLE)
def main(names: tuple[str, ...], output: Path) -> None:
    """Ask the kernels NAMES (all of the emulator, when none is given) and write the table."""
    lines: list[tuple[str, ...]] = [availability.COLUMNS]
    for name in names or SERIES:
        lines += [row.words() for row in rows(oracle(name))]
        click.echo(f"{name}: done")
    partial = output.with_name(output.name + ".partial")  # others read the table meanwhile
    with partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    partial.rename(output)


if __name__ == "__main__":
    main()

"""What kernels say of an object before and after: which accept its programs, and how much work that is for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import click

from benchmarks.size.measure import Plan, Result
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from verifier_model.kernel.loader_binary import OracleMissingError
from verifier_model.kernel.oracle import RUNNING, Oracle, oracle
from verifier_model.kernel.questions import Answer, ObjectProgram

# The oldest kernel that knows the instructions of each level, and what is asked beyond it.
KERNELS: Final = ("5.10", "6.1", "6.12", RUNNING)
_KNOWS: Final = {"5.10": 3, "6.1": 3, "6.12": 4, RUNNING: 4}


@dataclass(frozen=True, slots=True)
class Words:
    """One program: kernels that accept clang's and ours, and the instructions that each processed for them."""

    before: Mapping[str, int | None] = field(default_factory=dict)
    after: Mapping[str, int | None] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)


def open_kernels(names: Sequence[str]) -> list[Oracle]:
    """The kernels that can be asked here; the others are said on stderr."""
    found = []
    for name in names:
        try:
            found.append(oracle(name))
        except OracleMissingError as error:
            click.echo(f"{name}: {error}", err=True)
    return found


def main_programs(data: bytes, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the functions that a kernel is asked about: subprograms are verified with their callers."""
    source = read_object(data)
    if isinstance(source, Untouched):
        return tuple(names)
    return tuple(f.name for f in source.unit.functions if not f.is_subprogram and f.name in names)


def ask(kernels: Sequence[Oracle], found: Sequence[tuple[Plan, Result]]) -> dict[tuple[str, str], Words]:
    """The words on every main program, by (key of the result, function)."""
    words: dict[tuple[str, str], Words] = {}
    for kernel in kernels:
        questions: list[ObjectProgram] = []
        places: list[tuple[str, str, bool]] = []
        for plan, result in found:
            level = plan.subject.cpu_level or 1
            if level > _KNOWS[kernel.name]:
                continue
            ours = bytes.fromhex(result.data)
            for name in main_programs(plan.subject.data, plan.subject.functions):
                for data, is_ours in ((plan.subject.data, False), (ours or plan.subject.data, True)):
                    questions.append(ObjectProgram(data, name, plan.types))
                    places.append((result.key, name, is_ours))
        for (key, name, is_ours), answer in zip(places, kernel.verdicts(questions), strict=True):
            one = words.setdefault((key, name), Words({}, {}, {}))
            _note(one, kernel.name, answer, is_ours)
    return words


def _note(one: Words, kernel: str, answer: Answer, is_ours: bool) -> None:
    side = one.after if is_ours else one.before
    assert isinstance(side, dict)
    assert isinstance(one.refusals, dict)
    if answer.accepted:
        side[kernel] = answer.processed
    elif is_ours:
        one.refusals[kernel] = answer.reason or answer.log.strip()[-200:]

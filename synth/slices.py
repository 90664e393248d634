"""Def-use slices as windows: instructions that belong together though others stand between them.

The members of a slice can all be moved down behind the others of their run, so the slice is searched as if it stood
there in one piece.  That they can be moved is a guess by registers and kinds of access; the proof is about the whole
run, from the first member to the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synth.rewrite import Window
from synth.window import (
    ACCESS_KINDS,
    EVENT_REGIONS,
    SearchWindow,
    base_register,
    loaded_facts,
    narrowed,
    reads,
    runs,
    scratch_registers,
    writes,
)
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.domains.state import State

if TYPE_CHECKING:
    from verifier_model.facts import Facts

LONGEST_RUN: Final = 12  # instructions from the first member to the last
MOST_MEMBERS: Final = 5


@dataclass(frozen=True, slots=True)
class Slice:
    """The run that a slice lies in, and its members' indices in the block, in order; the last ends the run."""

    run: Window
    members: tuple[int, ...]

    def rewritten(self, insns: Sequence[Insn], program: Sequence[Insn]) -> tuple[Insn, ...]:
        """The run's instructions when `program` stands for the slice; `insns` are the block's."""
        others = [insns[at] for at in range(self.run.start, self.run.stop) if at not in self.members]
        return (*others, *program)


def slices(function: Function, facts: Facts) -> Iterator[Slice]:
    """Slices with something between their members that these can be moved over, in the order of their ends."""
    for label, start, stop in runs(function):
        insns = function.block(label).insns
        for last in range(start + 2, stop):
            chain = _chain(insns, max(start, last + 1 - LONGEST_RUN), last)
            for members in (chain[cut:] for cut in range(len(chain) - 1)):
                if members[0] + len(members) <= last and _moves(facts, label, insns, members):
                    yield Slice(Window(label, members[0], last + 1), members)
                    break


def _chain(insns: Sequence[Insn], first: int, last: int) -> tuple[int, ...]:
    """The instruction at `last` and those whose results lead to it, the nearest first, down to `first`."""
    members, wanted = [last], set(reads(insns[last]))
    for at in range(last - 1, first - 1, -1):
        written = writes(insns[at])
        if written not in wanted:
            continue
        if len(members) == MOST_MEMBERS:
            break
        members.append(at)
        wanted = (wanted - {written}) | reads(insns[at])
    return tuple(sorted(members))


def _moves(facts: Facts, label: str, insns: Sequence[Insn], members: tuple[int, ...]) -> bool:
    """May every member go behind the others that follow it?"""
    for at in members:
        for other in range(at + 1, members[-1]):
            if other not in members and not _commute(facts, label, insns, at, other):
                return False
    return True


def _commute(facts: Facts, label: str, insns: Sequence[Insn], at: int, other: int) -> bool:
    one, two = insns[at], insns[other]
    result, theirs = writes(one), writes(two)
    if result is not None and (result in reads(two) or result == theirs):
        return False
    if theirs is not None and theirs in reads(one):
        return False
    if one.kind not in ACCESS_KINDS or two.kind not in ACCESS_KINDS:
        return True
    if {one.kind, two.kind} & STORE_KINDS:
        return False
    shared = [
        facts.before(Point(label, index)).regs[base_register(insns[index])].region in EVENT_REGIONS
        for index in (at, other)
    ]
    return not all(shared)


def slice_window(function: Function, facts: Facts, unit: Unit, piece: Slice) -> SearchWindow | None:
    """The slice as it would stand at its run's end; None when a fact that the search needs is missing."""
    label, insns = piece.run.label, function.block(piece.run.label).insns
    if not facts.is_reachable(Point(label, piece.run.start)):
        return None
    members = tuple(insns[at] for at in piece.members)
    entry = facts.before(Point(label, piece.members[0]))
    regs, written, results = list(entry.regs), set[int](), []
    for at, insn in zip(piece.members, members, strict=True):
        found = loaded_facts(facts, label, at, (insn,))
        if found is None or (insn.kind in LOAD_KINDS and found[0] is None):
            return None
        results += found
        for reg in sorted(reads(insn) - written):
            regs[reg] = facts.before(Point(label, at)).regs[reg]
            written.add(reg)
        if (result := writes(insn)) is not None:
            written.add(result)
    plain = tuple(insn.without_origin() for insn in members)
    demand = facts.demand_after(Point(label, piece.members[-1]))
    level = max([unit.cpu_level, *(insn.row.level for insn in members)])
    scratch = scratch_registers(function, plain, demand)
    state = State(tuple(regs), entry.stack)
    window = SearchWindow(plain, state, tuple(results), demand, scratch, level, unit.byte_order)
    return narrowed(window)

"""The enumerating tier: every replacement of up to three instructions for every short window, cheapest first.

Complete over the space that `synth.space` states.  Programs that the tests cannot tell apart are one class, of which
the cheapest is proposed; where the prover refutes it, its counterexample joins the tests, which splits the class, and
the window is enumerated again.  So what is left when no proposal remains is the shortest there is over that space,
wherever the budget was not exhausted and nothing stayed undecided: `Outcome` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from synth.cost import slots
from synth.rewrite import Window
from synth.search import WindowSearch
from synth.session import NONE_SO_SHORT, OPTIMAL, Program, SearchSession
from synth.slices import Slice, slices
from synth.window import SearchWindow, least_instructions, reads, runs, writes
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind

LONGEST_REPLACEMENT: Final = 3
# By effort: the longest window, and instructions run on 32 tests each for replacements of up to two, and of three.
_LONGEST: Final = (0, 6, 8, 8)
_BUDGETS: Final = ((0, 0), (40_000, 30_000), (3_000_000, 2_000_000), (10_000_000, 60_000_000))
_KEPT: Final = 8


class EnumerateSession(SearchSession):
    tier: ClassVar[str] = "enumerate"
    most_windows: ClassVar[tuple[int, ...]] = (0, 40, 400, 10_000)

    def windows(self) -> Iterator[Window]:
        """Short windows before long ones; a single instruction only where it takes two slots."""
        found = list(runs(self.function))
        for size in range(1, _LONGEST[self.settings.effort] + 1):
            for label, start, stop in found:
                insns = self.function.block(label).insns
                for at in range(start, stop - size + 1):
                    if size > 1 or insns[at].slots > 1:
                        yield Window(label, at, at + size)

    def slices(self) -> Iterator[Slice]:
        return slices(self.function, self.facts)

    def is_worth_it(self, window: SearchWindow) -> bool:
        """Are there fewer results than slots, and no more than the longest replacement gives?"""
        first = window.insns[0]
        if len(window.insns) == 1 and (first.kind is not Kind.LOAD_WIDE or first.ref is not None):
            return False
        least = least_instructions(window)
        return least < window.slots and least <= longest_replacement(window)

    def may_be_worth_it(self, insns: Program) -> bool:
        return is_connected(insns)

    def candidates(self, search: WindowSearch) -> list[Program]:
        never_slower = self.settings.goal != "size"
        for longest in range(1, longest_replacement(search.window) + 1):
            budget = _BUDGETS[self.settings.effort][longest > 2]
            found = search.enumerate(longest, budget, _KEPT, never_slower)
            if not search.is_complete:
                return found
            if found:
                # Equally many slots in less time: then there is nothing with fewer.
                self.ended = OPTIMAL if slots(found[0]) >= search.window.slots else self.ended
                return found
        self.ended = OPTIMAL if longest_replacement(search.window) >= search.window.slots - 1 else NONE_SO_SHORT
        return []

    def why(self, window: SearchWindow, after: Program) -> str:
        return f"{len(window.insns)} instructions do what {len(after)} can"


def longest_replacement(window: SearchWindow) -> int:
    """The most instructions of a replacement that is tried: two may save time, three must save a slot."""
    return min(LONGEST_REPLACEMENT, max(2, window.slots - 1))


def is_connected(insns: Program) -> bool:
    """Do all instructions touch a register or a memory object of another one, directly or through others?

    What falls apart is two windows, each of which has a turn of its own.
    """
    touched = [_touches(insn) for insn in insns]
    group, rest = touched[0], touched[1:]
    while rest:
        near = [one for one in rest if one & group]
        if not near:
            return False
        rest = [one for one in rest if not one & group]
        group = group.union(*near)
    return True


def _touches(insn: Insn) -> frozenset[int]:
    """Registers that the instruction writes, or that it reads and another one may write: r10 counts for the frame."""
    written = writes(insn)
    return reads(insn) | (frozenset() if written is None else frozenset({written}))

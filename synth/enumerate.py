"""The enumerating tier: every replacement of up to three instructions for every short window, cheapest first.

Complete over the space that `synth.space` states.  Programs that the tests cannot tell apart are one class, of which
the cheapest is proposed; where the prover refutes it, its counterexample joins the tests, which splits the class, and
the window is enumerated again.  So what is left when no proposal remains is the shortest there is over that space,
wherever the budget was not exhausted and nothing stayed undecided: `Outcome` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from synth.rewrite import Window
from synth.search import WindowSearch
from synth.session import Program, SearchSession
from synth.window import EVENT_REGIONS, SearchWindow, base_register, reads, runs, writes
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind

LONGEST_REPLACEMENT: Final = 3
LONGEST_WINDOW: Final = 8
# Instructions run on 32 tests each, by effort: for replacements of up to two, and of three.
_BUDGETS: Final = ((0, 0), (300_000, 60_000), (3_000_000, 2_000_000), (10_000_000, 60_000_000))
_KEPT: Final = 8


class EnumerateSession(SearchSession):
    tier: ClassVar[str] = "enumerate"

    def windows(self) -> Iterator[Window]:
        """Short windows before long ones; a single instruction only where it takes two slots."""
        found = list(runs(self.function))
        for size in range(1, LONGEST_WINDOW + 1):
            for label, start, stop in found:
                insns = self.function.block(label).insns
                for at in range(start, stop - size + 1):
                    if size > 1 or insns[at].slots > 1:
                        yield Window(label, at, at + size)

    def is_worth_it(self, window: SearchWindow) -> bool:
        """Are there fewer results than slots, no more than the longest replacement gives, and all of one piece?"""
        first = window.insns[0]
        if len(window.insns) == 1 and (first.kind is not Kind.LOAD_WIDE or first.ref is not None):
            return False
        least = least_instructions(window)
        return least < window.slots and least <= longest_replacement(window) and is_connected(window)

    def candidates(self, search: WindowSearch) -> list[Program]:
        never_slower = self.settings.goal != "size"
        for longest in range(1, longest_replacement(search.window) + 1):
            budget = _BUDGETS[self.settings.effort][longest > 2]
            found = search.enumerate(longest, budget, _KEPT, never_slower)
            if found or not search.is_complete:
                return found
        return []

    def why(self, window: SearchWindow, after: Program) -> str:
        return f"{len(window.insns)} instructions do what {len(after)} can"


def longest_replacement(window: SearchWindow) -> int:
    """The most instructions of a replacement that is tried: two may save time, three must save a slot."""
    return min(LONGEST_REPLACEMENT, max(2, window.slots - 1))


def is_connected(window: SearchWindow) -> bool:
    """Do all instructions touch a register or a memory object of another one, directly or through others?

    What falls apart is two windows, each of which has a turn of its own.
    """
    touched = [_touches(insn) for insn in window.insns]
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


def least_instructions(window: SearchWindow) -> int:
    """A lower bound on the instructions that give the window's results and make its shared accesses."""
    results = {reg for insn in window.insns if (reg := writes(insn)) is not None and window.demand.is_live(reg)}
    stores = [insn for insn in window.insns if insn.kind in STORE_KINDS]
    events = [
        insn
        for insn in window.insns
        if insn.kind in LOAD_KINDS | STORE_KINDS and window.entry.regs[base_register(insn)].region in EVENT_REGIONS
    ]
    shared_loads = [insn for insn in events if insn.kind in LOAD_KINDS]
    return max(len(results) + bool(stores), len(events), len(shared_loads) + bool(stores))

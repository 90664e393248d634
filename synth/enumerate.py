"""The enumerating tier: every replacement of up to two instructions for every short window, cheapest first.

Complete over the space that `synth.space` states.  Candidates are told apart by the tests alone; one that the prover
refutes adds the test that splits its class, and the window is enumerated again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from synth.rewrite import Window
from synth.search import WindowSearch
from synth.session import Program, SearchSession
from synth.window import EVENT_REGIONS, SearchWindow, base_register, runs, writes
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind

LONGEST_REPLACEMENT: Final = 2
LONGEST_WINDOW: Final = 6
_BUDGET: Final = 3_000_000  # instructions run on 32 tests each
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
        """Are there no more results than the longest replacement can give?"""
        results = {reg for insn in window.insns if (reg := writes(insn)) is not None and window.demand.is_live(reg)}
        stores = [insn for insn in window.insns if insn.kind in STORE_KINDS]
        events = [
            insn
            for insn in window.insns
            if insn.kind in LOAD_KINDS | STORE_KINDS and window.entry.regs[base_register(insn)].region in EVENT_REGIONS
        ]
        shared_loads = [insn for insn in events if insn.kind in LOAD_KINDS]
        least = max(len(results) + bool(stores), len(events), len(shared_loads) + bool(stores))
        first = window.insns[0]
        if len(window.insns) == 1 and (first.kind is not Kind.LOAD_WIDE or first.ref is not None):
            return False
        return least <= LONGEST_REPLACEMENT

    def candidates(self, search: WindowSearch) -> list[Program]:
        never_slower = self.settings.goal != "size"
        return search.enumerate(LONGEST_REPLACEMENT, _BUDGET, _KEPT, never_slower)

    def why(self, window: SearchWindow, after: Program) -> str:
        return f"{len(window.insns)} instructions do what {len(after)} can"

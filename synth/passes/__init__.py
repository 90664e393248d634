"""Passes: whole-function proposals that need no search.  They are outside the trust wall; the door proves each one."""

from __future__ import annotations

from typing import Final

from synth.passes import dead, memory
from synth.passes.table import Pass

PASSES: Final = (
    Pass("dead-code", "dead", "r1 = x; <r1 never read>  ==  <nothing>", dead.dead_code),
    Pass("merge-stores", "memory", "u32[p] = a; u32[p+4] = b  ==  u64[p] = a | b << 32", memory.merge_stores),
    Pass("store-immediate", "memory", "r1 = 7; u32[p] = r1  ==  u32[p] = 7", memory.store_immediate),
)

__all__ = ["PASSES", "Pass"]

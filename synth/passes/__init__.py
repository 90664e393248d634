"""Passes: whole-function proposals that need no search.  They are outside the trust wall; the door proves each one."""

from __future__ import annotations

from typing import Final

from synth.passes import (
    addresses,
    atomics,
    branches,
    dead,
    legacy,
    masks,
    memory,
    numbers,
    rearrange,
    registers,
    rotate,
    values,
)
from synth.passes.table import Pass

PASSES: Final = (
    Pass("dead-code", "dead", "r1 = x; <r1 never read>  ==  <nothing>", dead.dead_code),
    Pass("recompute", "values", "r1 = u8[p]; r2 = u8[p+1]; r2 <<= 8; r2 |= r1  ==  r2 = u16[p]", values.recompute),
    Pass("rearrange", "memory", "swap of 6 and 6 bytes by u16  ==  by u64, u32 and u16", rearrange.rearrange),
    Pass("merge-stores", "memory", "u32[p] = a; u32[p+4] = b  ==  u64[p] = a | b << 32", memory.merge_stores),
    Pass(
        "shifts-for-mask",
        "values",
        "r2 = 0xf0000000 ll; r1 &= r2; r1 >>= 28  ==  r1 <<= 32; r1 >>= 60",
        masks.shifts_for_mask,
    ),
    Pass("test-bits", "branches", "r1 &= 5; if r1 != 0 goto L  ==  if r1 & 5 goto L", branches.test_bits),
    Pass("rotate", "values", "w2 = w4 << 7 | w4 >> 25  ==  r2 = (r4 << 32 | r4) >> 25", rotate.rotate),
    Pass("store-immediate", "memory", "r1 = 7; u32[p] = r1  ==  u32[p] = 7", memory.store_immediate),
    Pass("substitute", "registers", "r2 = r10; r2 += -8; r1 = u64[r2]  ==  r1 = u64[r10-8]", registers.substitute),
    Pass(
        "keep-address",
        "registers",
        "r1 = &d ll; r1 = u8[r1]; r2 = &d+8 ll  ==  r2 = &d ll; r1 = u8[r2]",
        addresses.keep_address,
    ),
    Pass("coalesce", "registers", "r1 = u64[p]; r2 = r1; r2 += 1  ==  r2 = u64[p]; r2 += 1", registers.coalesce),
    Pass("commute", "registers", "r1 = r6; r1 += r7; <r7 dead>  ==  r7 += r6; <r1 is r7>", registers.commute),
    Pass("commute-into", "registers", "r1 = r7; r2 = x; r1 += r2  ==  r1 = x; r1 += r7", registers.commute_into),
    Pass("fold-offset", "registers", "r1 += 4; r1 = u8[r1]  ==  r1 = u8[r1+4]", registers.fold_offset),
    Pass(
        "packet-offset",
        "registers",
        "r1 = r8; r1 += 12; r0 = u32 skb[r1+0]  ==  r0 = u32 skb[r8+12]",
        legacy.fold_into_packet_load,
    ),
    Pass("test-of-mask", "values", "r1 = 0x80000000 ll; r1 &= r0; if r1 != 0  ==  if w0 s< 0", numbers.branch_on_mask),
    Pass("short-constant", "values", "r2 = 0xffffffff ll  ==  w2 = -1", numbers.short_constant),
    Pass("low-ones", "values", "r3 <<= 32; r3 |= 0xffffffff  ==  r3 += 1; r3 <<= 32; r3 += -1", numbers.low_ones),
    Pass("relieve", "registers", "r1 = u8[r2] with r2 == r6 + 14, r6 living on  ==  r1 = u8[r6+14]", registers.relieve),
    Pass(
        "update-at-once", "memory", "r1 = u64[p]; r1 += r2; u64[p] = r1  ==  lock u64[p] += r2", atomics.update_at_once
    ),
    Pass("immediate-operand", "registers", "r2 = 7; r1 += r2  ==  r2 = 7; r1 += 7", registers.immediate_operand),
)

__all__ = ["PASSES", "Pass"]

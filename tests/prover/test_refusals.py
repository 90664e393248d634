"""Rewrites that must not pass: unsound corners of other optimisers, shared memory, and whatever is not modelled.

A row: name | entry facts | before | after | demand | REFUTED's difference or UNKNOWN's reason, exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.prover.obligations import obligation
from verifier_model.bpf.insn import NO_ORIGIN, Origin
from verifier_model.prover import DEFAULT, Limits, prove
from verifier_model.verdict import Obligation, Status


class Row(NamedTuple):
    name: str
    entry: str
    before: str
    after: str
    demand: str
    difference: str
    program_type: str | None = "xdp"


OTHER = "r2 packet base=1; r3 packet base=2; r7 scalar; r8 scalar"
VALUE = "r6 map_value base=3 size=64; r7 scalar; r8 scalar"
VALUES = "r6 map_value base=3 symbol=hits; r9 map_value base=4 symbol=flows; r7 scalar; r8 scalar"
GATHER = "r3 = *(u8 *)(r6 + 0); r4 = *(u8 *)(r6 + 1); r4 <<= 8; r4 |= r3"

REFUTED = [
    # ---- aliasing of private memory ----
    Row(
        "stores through bases that may be one",
        OTHER,
        "*(u32 *)(r2 + 0) = r7; *(u32 *)(r3 + 0) = r8",
        "*(u32 *)(r3 + 0) = r8; *(u32 *)(r2 + 0) = r7",
        "",
        "packet byte +0 at the end",
    ),
    Row(
        "load over a store that may hit it",
        OTHER,
        "*(u32 *)(r2 + 0) = r7; r4 = *(u32 *)(r3 + 0)",
        "r4 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 0) = r7",
        "r4",
        "r4",
    ),
    Row(
        "metadata lies before the packet in one buffer",
        "r2 packet base=1; r3 packet_meta base=2; r7 scalar",
        "*(u32 *)(r2 + 0) = r7; r4 = *(u32 *)(r3 + 0)",
        "r4 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 0) = r7",
        "r4",
        "r4",
    ),
    Row(
        "variable stack store",
        "r3 scalar range=0..7; r7 scalar",
        "*(u64 *)(r10 - 8) = 0; r4 = r10; r4 += r3; *(u8 *)(r4 - 8) = r7; r5 = *(u64 *)(r10 - 8)",
        "*(u64 *)(r10 - 8) = 0; r4 = r10; r4 += r3; *(u8 *)(r4 - 8) = r7; r5 = 0",
        "r5",
        "r5",
    ),
    Row(
        "a variable stack store is not dropped",
        "r3 scalar range=0..7",
        "r4 = r10; r4 += r3; *(u8 *)(r4 - 8) = 1; r4 = 0",
        "r4 = 0",
        "r4 -8",
        "stack byte -8 at the end",
    ),
    Row(
        "demanded stack byte",
        "r7 scalar",
        "*(u64 *)(r10 - 8) = r7",
        "*(u32 *)(r10 - 8) = r7",
        "-8..-1",
        "stack byte -4 at the end",
    ),
    Row("no new packet store", OTHER, "", "*(u8 *)(r2 + 0) = 1", "", "packet byte +0 at the end"),
    Row("no packet store less", OTHER, "*(u8 *)(r2 + 0) = 1", "", "", "packet byte +0 at the end"),
    # ---- shared memory ----
    Row(
        "shared loads are not merged",
        VALUE,
        GATHER,
        "r4 = *(u16 *)(r6 + 0)",
        "r4",
        "event 0: 8-bit load of shared memory before, 16-bit load of shared memory after",
    ),
    Row(
        "shared stores are not merged",
        VALUE,
        "*(u8 *)(r6 + 0) = 0; *(u8 *)(r6 + 1) = 0",
        "*(u16 *)(r6 + 0) = 0",
        "",
        "event 0: 8-bit store to shared memory before, 16-bit store to shared memory after",
    ),
    Row(
        "shared stores stay in order",
        VALUE,
        "*(u32 *)(r6 + 0) = 1; *(u32 *)(r6 + 4) = 2",
        "*(u32 *)(r6 + 4) = 2; *(u32 *)(r6 + 0) = 1",
        "",
        "address of 32-bit store to shared memory",
    ),
    Row(
        "a shared load is not dropped",
        VALUE,
        "r3 = *(u32 *)(r6 + 0); r3 = 1",
        "r3 = 1",
        "r3",
        "event 0: 32-bit load of shared memory before, nothing after",
    ),
    Row(
        "a shared load is not forwarded",
        VALUE,
        "r3 = *(u32 *)(r6 + 0); r4 = *(u32 *)(r6 + 0)",
        "r3 = *(u32 *)(r6 + 0); r4 = r3",
        "r4",
        "event 1: 32-bit load of shared memory before, nothing after",
    ),
    Row(
        "two loads of one word may differ",
        VALUE,
        "r3 = *(u32 *)(r6 + 0); r4 = *(u32 *)(r6 + 0)",
        "r4 = *(u32 *)(r6 + 0); r3 = *(u32 *)(r6 + 0)",
        "r3 r4",
        "r3",
    ),
    Row(
        "no new shared store",
        VALUE,
        "r3 = 1",
        "r3 = 1; *(u32 *)(r6 + 0) = r3",
        "r3",
        "event 0: nothing before, 32-bit store to shared memory after",
    ),
    Row(
        "two maps may be one",
        VALUES,
        "*(u32 *)(r6 + 0) = 1; *(u32 *)(r9 + 0) = 2",
        "*(u32 *)(r9 + 0) = 2; *(u32 *)(r6 + 0) = 1",
        "",
        "address of 32-bit store to shared memory",
    ),
    Row(
        "data sections are shared",
        "r7 scalar",
        "r1 = data[.data] ll; *(u32 *)(r1 + 0) = 1; *(u32 *)(r1 + 0) = 2",
        "r1 = data[.data] ll; *(u32 *)(r1 + 0) = 2",
        "",
        "event 1: 32-bit store to shared memory before, nothing after",
    ),
    Row(
        "constants are loaded again by the loader",
        "",
        "r1 = data[.rodata] ll; r3 = *(u32 *)(r1 + 0)",
        "r1 = data[.rodata] ll; r3 = 0",
        "r3",
        "event 0: 32-bit load of shared memory before, nothing after",
    ),
    Row(
        "plain operations do not become atomic",
        VALUE,
        "r3 = *(u64 *)(r6 + 0); r3 += r7; *(u64 *)(r6 + 0) = r3",
        "lock *(u64 *)(r6 + 0) += r7",
        "",
        "event 0: 64-bit load of shared memory before, atomic_add_dw on shared memory after",
    ),
    Row(
        "atomics do not become plain",
        VALUE,
        "lock *(u64 *)(r6 + 0) += r7",
        "r3 = *(u64 *)(r6 + 0); r3 += r7; *(u64 *)(r6 + 0) = r3",
        "",
        "event 0: atomic_add_dw on shared memory before, 64-bit load of shared memory after",
    ),
    Row(
        "a fetching atomic is another instruction",
        VALUE,
        "r7 = atomic64_fetch_add((u64 *)(r6 + 0), r7)",
        "lock *(u64 *)(r6 + 0) += r7",
        "",
        "event 0: atomic_add_fetch_dw on shared memory before, atomic_add_dw on shared memory after",
    ),
    Row(
        "the expected value of a compare-and-exchange",
        VALUE,
        "r0 = 1; r0 = atomic64_cmpxchg((u64 *)(r6 + 0), r0, r7)",
        "r0 = 2; r0 = atomic64_cmpxchg((u64 *)(r6 + 0), r0, r7)",
        "r0",
        "expected value of atomic_cmpxchg_dw on shared memory",
    ),
    Row(
        "acquire stays acquire",
        VALUE,
        "r3 = load_acquire((u32 *)(r6 + 0))",
        "r3 = *(u32 *)(r6 + 0)",
        "r3",
        "event 0: 32-bit load-acquire of shared memory before, 32-bit load of shared memory after",
    ),
    # ---- context ----
    Row(
        "context stores are seen",
        "r1 ctx",
        "*(u32 *)(r1 + 8) = 1; r3 = *(u32 *)(r1 + 8)",
        "*(u32 *)(r1 + 8) = 2; r3 = *(u32 *)(r1 + 8)",
        "r3",
        "value of 32-bit context store to shared memory",
        "sched_cls",
    ),
    Row(
        "a context load does not cross a context store",
        "r1 ctx",
        "r3 = *(u32 *)(r1 + 8); *(u32 *)(r1 + 8) = 1",
        "*(u32 *)(r1 + 8) = 1; r3 = *(u32 *)(r1 + 8)",
        "r3",
        "r3",
        "sched_cls",
    ),
    Row(
        "a context load does not cross a call",
        "r6 ctx",
        "r7 = *(u32 *)(r6 + 12); call 5",
        "call 5; r7 = *(u32 *)(r6 + 12)",
        "r7",
        "r7",
    ),
    Row(
        "pointers out of the context have 64 bits",
        "r1 ctx",
        "r2 = *(u32 *)(r1 + 0)",
        "r2 = *(u32 *)(r1 + 0); w2 = w2",
        "r2",
        "r2",
    ),
    # ---- calls ----
    Row(
        "a call is not dropped",
        "",
        "call 5; r0 = 1",
        "r0 = 1",
        "r0",
        "event 0: the call of bpf_ktime_get_ns before, nothing after",
    ),
    Row(
        "another callee",
        "",
        "call 5",
        "call 7",
        "r0",
        "event 0: the call of bpf_ktime_get_ns before, the call of bpf_get_prandom_u32 after",
    ),
    Row("results of two calls differ", "", "call 5; r6 = r0; call 5", "call 5; call 5; r6 = r0", "r6", "r6"),
    Row("caller-saved registers are garbage", "r3 scalar", "call 5; r6 = 0", "call 5; r6 = r3", "r6", "r6"),
    Row("garbage is not the same garbage", "r3 scalar", "call 5; r6 = r3", "r3 = 1; call 5; r6 = r3", "r6", "r6"),
    Row("garbage is not kept over a call", "r3 scalar", "r6 = r3; call 5", "call 5; r6 = r3", "r6", "r6"),
    Row(
        "arguments of a helper without a row",
        "r7 scalar",
        "r1 = 1; r2 = 2; call 9999",
        "r1 = 1; call 9999",
        "r0",
        "r2 of the call of call_helper 9999",
    ),
    Row(
        "arguments of a kfunc",
        "r7 scalar",
        "r1 = 1; r2 = 2; r3 = 3; r4 = 4; r5 = 5; call kfunc[work]",
        "r1 = 1; r2 = 2; r3 = 3; r4 = 4; call kfunc[work]",
        "r0",
        "r5 of the call of work",
    ),
    Row(
        "an unknown callee reads the stack",
        "r7 scalar",
        "*(u32 *)(r10 - 4) = r7; r1 = r10; call kfunc[work]",
        "r1 = r10; call kfunc[work]",
        "",
        "stack byte -4 at the call of work",
    ),
    Row(
        "an unknown callee reads the packet",
        "r2 packet base=1; r7 scalar; r6 scalar",
        "*(u8 *)(r2 + 0) = 1; r1 = r6; r2 = r6; r3 = r6; r4 = r6; r5 = r6; call 9999",
        "r9 = r2; r1 = r6; r2 = r6; r3 = r6; r4 = r6; r5 = r6; call 9999; *(u8 *)(r9 + 0) = 1",
        "",
        "packet byte +0 at the call of call_helper 9999",
    ),
    Row(
        "padding of a key is read",
        "r7 scalar",
        "*(u32 *)(r10 - 4) = 0; *(u16 *)(r10 - 4) = r7; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1",
        "*(u16 *)(r10 - 4) = r7; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1",
        "r0",
        "stack byte -2 at the call of bpf_map_lookup_elem",
    ),
    Row(
        "a written buffer may keep what it held",
        "r6 ctx",
        "*(u64 *)(r10 - 8) = 0; r1 = r10; r1 += -8; r2 = 8; call 16; r7 = *(u64 *)(r10 - 8)",
        "r1 = r10; r1 += -8; r2 = 8; call 16; r7 = *(u64 *)(r10 - 8)",
        "r7",
        "r7",
    ),
    Row(
        "the packet after a call that moves it",
        "r6 ctx; r7 packet base=1",
        "*(u8 *)(r7 + 0) = 1; r1 = r6; r2 = 0; call 44",
        "r1 = r6; r2 = 0; call 44",
        "",
        "packet byte +0 at the call of bpf_xdp_adjust_head",
    ),
    Row(
        "the packet under a helper that changes its context",
        "r6 ctx; r7 packet base=1",
        "r8 = *(u8 *)(r7 + 0); r1 = r6; r2 = 0; call 32",
        "r1 = r6; r2 = 0; call 32; r8 = *(u8 *)(r7 + 0)",
        "r8",
        "r8",
        "sched_cls",
    ),
    Row("another map", "", "r1 = map[hits] ll", "r1 = map[flows] ll", "r1", "r1"),
    Row("a map is no number", "", "r1 = map[hits] ll", "r1 = 0", "r1", "r1"),
    Row(
        "symbols do not lie in one piece",
        "",
        "r1 = extern[jiffies] ll; r2 = extern[jiffies+8] ll; r2 -= r1",
        "r1 = extern[jiffies] ll; r2 = 8",
        "r2",
        "r2",
    ),
    Row("a symbol's other address", "", "r1 = extern[jiffies] ll", "r1 = extern[jiffies+8] ll", "r1", "r1"),
    # ---- K2's silent miscompiles ----
    Row("64-bit division is unsigned", "r7 scalar; r8 scalar", "r7 /= r8", "r7 s/= r8", "r7", "r7"),
    Row("64-bit modulo is unsigned", "r7 scalar; r8 scalar", "r7 %= r8", "r7 s%= r8", "r7", "r7"),
    Row("32-bit xor is not dropped", "r7 scalar; r8 scalar", "w7 ^= w8", "", "r7", "r7"),
    Row("32-bit modulo is not dropped", "r7 scalar", "w7 %= 10", "", "r7", "r7"),
    Row("sign-extending move is not dropped", "r7 scalar", "r7 = (s32)r7", "", "r7", "r7"),
    Row("sign-extending move is no move", "r7 scalar; r8 scalar", "r7 = (s8)r8", "r7 = r8", "r7", "r7"),
    Row("byte swap is no operation", "r7 scalar", "r7 = bswap64 r7", "", "r7", "r7"),
    Row("32-bit moves zero the upper half", "r7 scalar; r8 scalar", "w7 = w8", "r7 = r8", "r7", "r7"),
    Row("32-bit arithmetic shift", "r7 scalar", "w7 s>>= 4", "w7 >>= 4", "r7", "r7"),
    # ---- Merlin's unsound corners ----
    Row("shifts of two registers", "r7 scalar; r8 scalar", "r7 <<= 32; r8 >>= 32", "w7 = w7", "r7 r8", "r7"),
    Row(
        "shift that does not fit the mask",
        "r8 scalar",
        "r3 = 0xf0000000 ll; r8 &= r3; r8 >>= 24",
        "r8 <<= 32; r8 >>= 60",
        "r8",
        "r8",
    ),
    Row("mask with a hole", "r8 scalar", "r3 = 0xf0f00000 ll; r8 &= r3; r8 >>= 20", "r8 <<= 32; r8 >>= 52", "r8", "r8"),
    Row(
        "aligned merge is not equal in the other byte order",
        "r2 packet base=1",
        "r3 = *(u8 *)(r2 + 0); r4 = *(u8 *)(r2 + 1); r3 <<= 8; r4 |= r3",
        "r4 = *(u16 *)(r2 + 0)",
        "r4",
        "r4",
    ),
    # ---- facts ----
    Row("an assumed fact is none", "r7 scalar max=255 assumed_safe", "r7 &= 255", "", "r7", "r7"),
    Row(
        "a null pointer has no offset",
        "r6 map_value base=3 off=4 nullable; r7 map_value base=3",
        "r6 -= r7",
        "r6 = 4",
        "r6",
        "r6",
    ),
    Row("a pointer is no number", "r2 packet base=1", "r3 = r2; r3 -= 14", "r3 = -14", "r3", "r3"),
    Row("two pointers of one region differ", "r2 packet base=1; r3 packet base=2", "r3 = r2", "", "r3", "r3"),
    Row("pointers of other ids", "r6 map_value id=1; r7 map_value id=2", "r6 -= r7", "r6 = 0", "r6", "r6"),
    Row("pointers without identity", "r6 map_value; r7 map_value", "r6 -= r7", "r6 = 0", "r6", "r6"),
    Row(
        "variable parts of other ids",
        "r2 packet base=1 id=2 range=0..9; r3 packet base=1 id=3 range=0..9",
        "r2 -= r3",
        "r2 = 0",
        "r2",
        "r2",
    ),
    Row("equal offsets, other ids", "r7 scalar id=1; r8 scalar id=2", "r7 = r8", "", "r7", "r7"),
    # ---- control ----
    Row("another label", "r7 scalar", "if r7 > 3 goto L", "if r7 > 3 goto M", "", "jump to M"),
    Row("signed is not unsigned", "r7 scalar", "if r7 > 3 goto L", "if r7 s> 3 goto L", "", "jump to L"),
    Row("narrow compare of a wide value", "r7 scalar", "if r7 == 9 goto L", "if w7 == 9 goto L", "", "jump to L"),
    Row("bit test", "r7 scalar", "if r7 & 1 goto L", "if r7 == 1 goto L", "", "jump to L"),
    Row("exit is kept", "", "r0 = 0; exit", "r0 = 0", "r0", "the window exits before, falls after"),
]


@pytest.mark.parametrize("row", REFUTED, ids=lambda row: row.name)
def test_refuted(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.after, row.demand, row.program_type))
    assert verdict.status is Status.REFUTED, verdict
    assert verdict.counterexample is not None
    difference = verdict.counterexample.difference
    assert difference.split(": 0x")[0] == row.difference


UNKNOWN = [
    Row(
        "a number is no address",
        "r7 scalar",
        "r3 = *(u8 *)(r7 + 0)",
        "r3 = *(u8 *)(r7 + 0); r4 = 1",
        "r3",
        "an access through a pointer of kind scalar",
    ),
    Row(
        "outside of the frame",
        "",
        "*(u64 *)(r10 - 520) = 0",
        "*(u32 *)(r10 - 520) = 0",
        "",
        "a stack access outside of the frame",
    ),
    Row(
        "above the frame",
        "",
        "r3 = *(u8 *)(r10 + 0)",
        "r3 = *(u8 *)(r10 + 0); r4 = 0",
        "r3",
        "a stack access outside of the frame",
    ),
    Row(
        "barrier",
        "r7 scalar",
        "r7 = r7; r7 += 1",
        "r7 += 1",
        "r7",
        "event 0: the mov64_reg that must stay before, nothing after",
    ),
    Row(
        "contradiction",
        "r7 scalar bits=1/0xfe; r8 scalar range=5..3",
        "r7 = 1",
        "r7 = 1; r3 = 0",
        "r7",
        "assumptions contradict each other",
    ),
    Row(
        "contradiction of two facts",
        "r7 scalar id=1 max=5; r8 scalar id=1 range=7..9",
        "r7 = 1",
        "r7 = 1; r3 = 0",
        "r7",
        "assumptions contradict each other",
    ),
    Row(
        "contradiction without a change",
        "r8 scalar range=5..3",
        "r7 = 1",
        "r7 = 1",
        "r7",
        "assumptions contradict each other",
    ),
    Row(
        "half a context field",
        "r1 ctx",
        "r2 = *(u32 *)(r1 + 12)",
        "r2 = *(u16 *)(r1 + 12)",
        "r2",
        "context loads of different widths are not related to each other",
    ),
    Row("code behind a jump", "", "goto L; r3 = 0", "goto L; r3 = 1", "", "control leaves the window before its end"),
    Row("may_goto moves", "", "may_goto L", "may_goto M", "", "the target of may_goto changed"),
    Row("may_goto vanishes", "", "may_goto L", "", "", "the window may_goto before, falls after"),
]


@pytest.mark.parametrize("row", UNKNOWN, ids=lambda row: row.name)
def test_unknown(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.after, row.demand, row.program_type))
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, row.difference)


def _with_core(question: Obligation, side: str) -> Obligation:
    """The same question with a CO-RE record on the first instruction of one program."""
    first, *rest = question.before if side == "before" else question.after
    patched = (replace(first, origin=Origin(core=((4, 12, 0),))), *rest)
    return replace(question, before=patched) if side == "before" else replace(question, after=patched)


def test_core_rider_stays_and_its_result_is_unknown() -> None:
    entry = "r6 object base=1"
    same = obligation(entry, "r3 = *(u32 *)(r6 + 8); r4 = 0; r4 += 1", "r3 = *(u32 *)(r6 + 8); r4 = 1", "r3 r4")
    both = _with_core(_with_core(same, "before"), "after")
    assert prove(both).status is Status.PROVED
    one = _with_core(same, "before")
    assert prove(one).status is Status.UNKNOWN
    moved = obligation(entry, "r3 = *(u32 *)(r6 + 8); r4 = 0; r4 += 1", "r3 = *(u32 *)(r6 + 12); r4 = 1", "r3 r4")
    assert prove(_with_core(_with_core(moved, "before"), "after")).status is Status.UNKNOWN


def test_core_immediate_is_no_constant() -> None:
    same = obligation("", "r3 = 8; r3 += 1", "r3 = 8; r3 = 9", "r3")
    assert prove(same).status is Status.PROVED
    patched = _with_core(_with_core(same, "before"), "after")
    assert prove(patched).status is Status.REFUTED


def test_core_result_is_not_what_the_register_held() -> None:
    question = obligation("r3 scalar id=1; r6 scalar id=1", "r3 = 8; r4 = r3", "r3 = 8; r4 = r6", "r4")
    patched = _with_core(_with_core(question, "before"), "after")
    assert prove(patched).status is Status.REFUTED


def test_identical_needs_no_model() -> None:
    text = "r0 = *(u8 *)skb[14]; lock *(u64 *)(r10 - 8) += r7"
    verdict = prove(obligation("r6 ctx; r7 scalar", text, text, "r0"))
    assert (verdict.status, verdict.method) == (Status.PROVED, "identical")
    marked = obligation("r6 ctx; r7 scalar", text, text, "r0")
    moved = replace(marked, after=tuple(replace(i, origin=Origin(line=(1, 2, 3))) for i in marked.after))
    assert prove(moved).method == "identical"
    assert marked.before[0].origin == NO_ORIGIN


def test_limits_end_in_unknown() -> None:
    hard = obligation("r7 scalar; r8 scalar", "r3 = r7; r3 *= r8", "r3 = r8; r3 += 1; r3 *= r7; r3 -= r7", "r3")
    assert prove(hard, Limits(solver_steps=1)).status is Status.UNKNOWN
    other = obligation(
        "r2 packet base=1; r3 packet base=2", "*(u64 *)(r2 + 0) = 1; r4 = *(u64 *)(r3 + 0)", "r4 = 0", "r4"
    )
    assert prove(other, Limits(alias_tests=3)).reason == "too many addresses may alias"
    assert prove(other, DEFAULT).status is Status.REFUTED


BOUNDS = [
    ("umin=5", "if r7 < 5 goto L", "if r7 < 6 goto L"),
    ("umax=9", "if r7 > 9 goto L", "if r7 > 8 goto L"),
    ("smin=-5", "if r7 s< -5 goto L", "if r7 s< -4 goto L"),
    ("smax=5", "if r7 s> 5 goto L", "if r7 s> 4 goto L"),
    ("u32min=5", "if w7 < 5 goto L", "if w7 < 6 goto L"),
    ("u32max=9", "if w7 > 9 goto L", "if w7 > 8 goto L"),
    ("s32min=-5", "if w7 s< -5 goto L", "if w7 s< -4 goto L"),
    ("s32max=5", "if w7 s> 5 goto L", "if w7 s> 4 goto L"),
    ("bits=0/0xfd", "if r7 & 0x102 goto L", "if r7 & 0x103 goto L"),
    ("bits=1/0xfe", "if r7 == 0 goto L", "if r7 == 3 goto L"),
]


@pytest.mark.parametrize("id", ["", "id=4"])
@pytest.mark.parametrize(("bound", "never", "sometimes"), BOUNDS)
def test_a_bound_means_what_it_says(bound: str, never: str, sometimes: str, id: str) -> None:
    entry = f"r7 scalar {bound} {id}; r8 scalar {id}"
    assert prove(obligation(entry, never, "", "")).status is Status.PROVED
    assert prove(obligation(entry, sometimes, "", "")).status is Status.REFUTED

"""What other optimisers got wrong without noticing, each as a rewrite that ends in REFUTED.

Sources: K2's source and its measured outputs, Merlin's and EPSO's sources as described in the project's notes on prior
work.  A row: who, what | entry facts | before | what they make of it | demand | a right rewrite of the same, or the
reason why there is none.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.prover.obligations import obligation
from verifier_model.checker.local import local_safety
from verifier_model.prover import prove
from verifier_model.verdict import Status


class Row(NamedTuple):
    who: str
    what: str
    entry: str
    before: str
    wrong: str
    demand: str
    right: str
    program_type: str = "xdp"


NUMBERS = "r1 scalar; r2 scalar; r3 scalar; r7 scalar; r8 scalar"
PACKET = "r2 packet base=1; r3 packet base=2; r7 scalar; r8 scalar"
VALUE = "r6 map_value base=3 size=64; r7 scalar; r8 scalar"
CALLS = "r1 ctx; r6 ctx; r7 scalar; r8 scalar"

# Instructions that K2's tables lack act as no-ops there, so that a window around them is "equal" without them.
DROPPED = [
    ("signed division", "r7 s/= r8", "r7"),
    ("signed remainder", "r7 s%= r8", "r7"),
    ("32-bit remainder by a register", "w7 %= w8", "r7"),
    ("32-bit remainder by a number", "w7 %= 10", "r7"),
    ("32-bit signed remainder", "w7 s%= w8", "r7"),
    ("32-bit exclusive or by a register", "w7 ^= w8", "r7"),
    ("32-bit exclusive or by a number", "w7 ^= 5", "r7"),
    ("32-bit exclusive or with 0 cuts the register", "w7 ^= 0", "r7"),
    ("64-bit multiplication by a register", "r7 *= r8", "r7"),
    ("64-bit division by a register", "r7 /= r8", "r7"),
    ("byte swap", "r7 = bswap32 r7", "r7"),
    ("sign-extending move of 8 bits", "r7 = (s8)r7", "r7"),
    ("sign-extending move of 16 bits", "r7 = (s16)r7", "r7"),
    ("sign-extending move of 32 bits", "r7 = (s32)r7", "r7"),
    ("sign-extending move into 32 bits", "w7 = (s8)w7", "r7"),
    ("sign-extending load", "r7 = *(s16 *)(r2 + 0)", "r7"),
    ("atomic or", "lock *(u64 *)(r6 + 0) |= r7", ""),
    ("atomic and", "lock *(u64 *)(r6 + 0) &= r7", ""),
    ("atomic exclusive or", "lock *(u32 *)(r6 + 0) ^= r7", ""),
    ("atomic fetch", "r7 = atomic64_fetch_add((u64 *)(r6 + 0), r7)", "r7"),
    ("atomic exchange", "r7 = atomic64_xchg((u64 *)(r6 + 0), r7)", "r7"),
    ("atomic compare and exchange", "r0 = atomic64_cmpxchg((u64 *)(r6 + 0), r0, r7)", "r0"),
]

K2 = [
    Row("K2", "64-bit unsigned division modelled as signed", NUMBERS, "r7 /= 2", "r7 s>>= 1", "r7", "r7 >>= 1"),
    Row(
        "K2",
        "64-bit unsigned division by a register modelled as signed",
        "r7 scalar; r8 scalar const=8",
        "r7 /= r8",
        "r7 s/= r8",
        "r7",
        "r7 >>= 3",
    ),
    Row(
        "K2",
        "unsigned remainder modelled as signed",
        "r7 scalar; r8 scalar const=8",
        "r7 %= r8",
        "r7 s%= r8",
        "r7",
        "r7 &= 7",
    ),
    Row(
        "K2",
        "whole programs assume that r1 is within 1024 of zero",
        NUMBERS,
        "r0 = r1; r0 <<= 48; r0 s>>= 48",
        "r0 = r1",
        "r0",
        "r0 = (s16)r1",
    ),
    Row(
        "K2",
        "within 1024 of zero, as a comparison",
        NUMBERS,
        "r0 = r1; r0 s>>= 11",
        "r0 = r1; r0 s>>= 63",
        "r0",
        "r0 = r1; r0 s>>= 5; r0 s>>= 6",
    ),
    Row(
        "K2",
        "the packet's size is a hand-written constant",
        "r2 packet base=1; r3 packet_end base=2",
        "r0 = r3; r0 -= r2",
        "r0 = 64",
        "r0",
        "r0 = r3; r0 -= r2",
    ),
    Row(
        "K2",
        "a helper that it does not list reads no memory",
        CALLS,
        "*(u64 *)(r10 - 8) = r7; r1 = r10; r1 += -8; r2 = 8; r3 = 0; r4 = 0; r5 = 0; call 6",
        "r1 = r10; r1 += -8; r2 = 8; r3 = 0; r4 = 0; r5 = 0; call 6",
        "r0",
        "*(u64 *)(r10 - 8) = r7; r1 = r10; r1 += -8; r2 = 8; r5 = 0; r4 = 0; r3 = 0; call 6",
        "kprobe",
    ),
    Row(
        "K2",
        "an unknown helper reads no registers",
        CALLS,
        "r1 = 1; r2 = 2; r3 = 3; r4 = 4; r5 = 5; call 9999",
        "r1 = 1; r2 = 2; r3 = 3; r4 = 4; call 9999",
        "r0",
        "r5 = 5; r4 = 4; r3 = 3; r2 = 2; r1 = 1; call 9999",
        "kprobe",
    ),
    Row(
        "K2",
        "an unknown helper reads no memory",
        CALLS,
        "*(u64 *)(r10 - 8) = r7; r1 = r10; r1 += -8; r2 = 0; r3 = 0; r4 = 0; r5 = 0; call 9999",
        "r1 = r10; r1 += -8; r2 = 0; r3 = 0; r4 = 0; r5 = 0; call 9999",
        "r0",
        "*(u64 *)(r10 - 8) = r7; r1 = r10; r1 += -8; r5 = 0; r4 = 0; r3 = 0; r2 = 0; call 9999",
        "kprobe",
    ),
    Row(
        "K2",
        "a kfunc's arguments are deleted",
        CALLS,
        "r1 = r7; r2 = 1; r3 = 2; r4 = 3; r5 = 4; call kfunc[bpf_made_up]",
        "r1 = r7; r3 = 2; r4 = 3; r5 = 4; call kfunc[bpf_made_up]",
        "r0",
        "r2 = 1; r1 = r7; r3 = 2; r4 = 3; r5 = 4; call kfunc[bpf_made_up]",
        "kprobe",
    ),
    Row(
        "K2",
        "r1 to r5 stay readable after a call",
        "r7 scalar; r1 scalar; r2 scalar; r3 scalar; r4 scalar; r5 scalar",
        "r1 = r7; call 5; r0 = r7",
        "r1 = r7; call 5; r0 = r1",
        "r0",
        "call 5; r0 = r7",
    ),
    Row(
        "K2",
        "an atomic addition becomes load, add, store",
        VALUE,
        "lock *(u64 *)(r6 + 0) += r7",
        "r8 = *(u64 *)(r6 + 0); r8 += r7; *(u64 *)(r6 + 0) = r8",
        "",
        "lock *(u64 *)(r6 + 0) += r7",
    ),
    Row(
        "K2",
        "a relocated number is a constant",
        "",
        "r1 = data[.bss] ll",
        "r1 = 0",
        "r1",
        "r1 = 5; r1 = data[.bss] ll",
    ),
    Row(
        "K2",
        "two maps have two different addresses",
        NUMBERS,
        "r1 = map[hits] ll; r2 = map[flows] ll; r0 = 1; r1 -= r2; r0 = r1",
        "r1 = map[hits] ll; r2 = map[flows] ll; r1 -= r2; r0 = 4096",
        "r0",
        "r1 = map[hits] ll; r2 = map[flows] ll; r1 -= r2; r0 = r1",
    ),
]

EPSO = [
    Row(
        "EPSO",
        "two bases never alias",
        PACKET,
        "*(u32 *)(r2 + 0) = r7; r4 = *(u32 *)(r3 + 0)",
        "r4 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 0) = r7",
        "r4",
        "*(u32 *)(r2 + 0) = r7; r4 = 1; r4 = *(u32 *)(r3 + 0)",
    ),
    Row(
        "EPSO",
        "another offset or size is another place",
        PACKET,
        "*(u32 *)(r2 + 0) = r7; r4 = *(u8 *)(r2 + 1)",
        "r4 = *(u8 *)(r2 + 1); *(u32 *)(r2 + 0) = r7",
        "r4",
        "*(u32 *)(r2 + 0) = r7; r4 = r7; r4 >>= 8; r4 &= 255",
    ),
    Row(
        "EPSO",
        "overlapping stores are not ordered by the slices",
        PACKET,
        "*(u64 *)(r10 - 8) = r7; *(u16 *)(r10 - 6) = r8; r4 = *(u64 *)(r10 - 8)",
        "*(u16 *)(r10 - 6) = r8; *(u64 *)(r10 - 8) = r7; r4 = *(u64 *)(r10 - 8)",
        "r4",
        "*(u64 *)(r10 - 8) = r7; *(u16 *)(r10 - 6) = r8; r4 = 0; r4 = *(u64 *)(r10 - 8)",
    ),
    Row(
        "EPSO",
        "memory liveness: a place that is read later counts as dead",
        PACKET,
        "*(u64 *)(r10 - 8) = r7; r4 = *(u64 *)(r10 - 8)",
        "r4 = *(u64 *)(r10 - 8)",
        "r4",
        "r4 = r7",
    ),
    Row(
        "EPSO",
        "equal instructions are merged across a store",
        PACKET,
        "r4 = *(u32 *)(r2 + 0); *(u32 *)(r2 + 0) = r8; r0 = *(u32 *)(r2 + 0)",
        "r4 = *(u32 *)(r2 + 0); *(u32 *)(r2 + 0) = r8; r0 = r4",
        "r0 r4",
        "r4 = *(u32 *)(r2 + 0); *(u32 *)(r2 + 0) = r8; w0 = w8",
    ),
    Row(
        "EPSO",
        "equal loads of shared memory are merged",
        VALUE,
        "r4 = *(u32 *)(r6 + 0); r0 = *(u32 *)(r6 + 0)",
        "r4 = *(u32 *)(r6 + 0); r0 = r4",
        "r0 r4",
        "r0 = 0; r4 = *(u32 *)(r6 + 0); r0 = *(u32 *)(r6 + 0)",
    ),
    Row(
        "EPSO",
        "slices put together in an order that breaks a register's use",
        PACKET,
        "r4 = r7; r7 = r8; r0 = r4",
        "r7 = r8; r4 = r7; r0 = r4",
        "r0 r7",
        "r0 = r7; r7 = r8",
    ),
    Row(
        "EPSO",
        "a proved small window used where a register is live that it clobbers",
        PACKET,
        "r4 = r7; r4 += r8",
        "r7 += r8; r4 = r7",
        "r4 r7",
        "r4 = r8; r4 += r7",
    ),
    Row(
        "EPSO",
        "stores that lie apart are grouped",
        PACKET,
        "*(u8 *)(r2 + 0) = 1; *(u8 *)(r2 + 2) = 2",
        "*(u32 *)(r2 + 0) = 0x20001",
        "",
        "*(u8 *)(r2 + 2) = 2; *(u8 *)(r2 + 0) = 1",
    ),
]

MERLIN = [
    Row(
        "Merlin",
        "compaction: the two shifts are of two registers",
        NUMBERS,
        "r7 <<= 32; r8 >>= 32",
        "w7 = w7",
        "r7 r8",
        "r8 >>= 32; r7 <<= 32",
    ),
    Row("Merlin", "compaction: the right one", NUMBERS, "r7 <<= 32; r7 >>= 32", "w7 = w8", "r7", "w7 = w7"),
    Row(
        "Merlin",
        "compaction: a jump lands between the shifts, where the second stands alone",
        NUMBERS,
        "r7 >>= 32",
        "",
        "r7",
        "r7 >>= 16; r7 >>= 16",
    ),
    Row(
        "Merlin",
        "peephole: the shift is shorter than the mask is wide",
        NUMBERS,
        "r3 = 0xf0000000 ll; r8 &= r3; r8 >>= 24",
        "r8 <<= 32; r8 >>= 56",
        "r8",
        "r8 >>= 28; r8 <<= 4; r8 &= 0xf0",
    ),
    Row(
        "Merlin",
        "peephole: the shift reaches over the mask",
        NUMBERS,
        "r3 = 0xf0000000 ll; r8 &= r3; r8 >>= 32",
        "r8 <<= 32; r8 >>= 63",
        "r8",
        "r8 = 0",
    ),
    Row(
        "Merlin",
        "peephole: the mask's register is still wanted",
        NUMBERS,
        "r3 = 0xf0000000 ll; r8 &= r3; r8 >>= 28",
        "r8 <<= 32; r8 >>= 60",
        "r3 r8",
        "r8 <<= 32; r8 >>= 60; r3 = 0xf0000000 ll",
    ),
    Row(
        "Merlin",
        "fusion: the store stores something else",
        VALUE,
        "r1 = *(u64 *)(r6 + 0); r1 += r7; *(u64 *)(r6 + 0) = r8",
        "lock *(u64 *)(r6 + 0) += r7",
        "",
        "r1 = *(u64 *)(r6 + 0); *(u64 *)(r6 + 0) = r8",
    ),
    Row(
        "Merlin",
        "fusion: load and store of two places",
        VALUE,
        "r1 = *(u64 *)(r6 + 0); r1 += r7; *(u64 *)(r6 + 8) = r1",
        "lock *(u64 *)(r6 + 0) += r7",
        "",
        "r1 = *(u64 *)(r6 + 0); r7 += r1; *(u64 *)(r6 + 8) = r7",
    ),
    Row(
        "Merlin",
        "fusion: the sum is still wanted",
        VALUE,
        "r1 = *(u64 *)(r6 + 0); r1 += r7; *(u64 *)(r6 + 0) = r1",
        "lock *(u64 *)(r6 + 0) += r7",
        "r1",
        "r1 = *(u64 *)(r6 + 0); r1 -= -1; r1 += -1; r1 += r7; *(u64 *)(r6 + 0) = r1",
    ),
    Row(
        "Merlin",
        "alignment: narrow loads of a map value become a wide one",
        VALUE,
        "r3 = *(u8 *)(r6 + 0); r4 = *(u8 *)(r6 + 1); r4 <<= 8; r4 |= r3",
        "r4 = *(u16 *)(r6 + 0)",
        "r4",
        "r3 = *(u8 *)(r6 + 0); r4 = *(u8 *)(r6 + 1); r4 *= 256; r4 |= r3",
    ),
    Row(
        "Merlin",
        "superword: constant stores are merged past a load between them",
        PACKET,
        "*(u32 *)(r2 + 0) = 1; r4 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 4) = 2",
        "r4 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 0) = 1; *(u32 *)(r2 + 4) = 2",
        "r4",
        "*(u32 *)(r2 + 0) = 1; r4 = 0; r4 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 4) = 2",
    ),
    Row(
        "Merlin",
        "superword: the upper half's sign spreads",
        PACKET,
        "*(u32 *)(r2 + 0) = -1; *(u32 *)(r2 + 4) = 0",
        "*(u64 *)(r2 + 0) = -1",
        "",
        "*(u32 *)(r2 + 4) = 0; *(u32 *)(r2 + 0) = -1",
    ),
    Row(
        "Merlin",
        "constant propagation: a register that another path set",
        "r7 scalar range=4..5; r2 packet base=1",
        "*(u32 *)(r2 + 0) = r7",
        "*(u32 *)(r2 + 0) = 4",
        "",
        "r7 += 0; *(u32 *)(r2 + 0) = r7",
    ),
]
ROWS = [*K2, *EPSO, *MERLIN]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.who}: {row.what}")
def test_the_wrong_rewrite_is_refuted(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.wrong, row.demand, row.program_type))
    assert verdict.status is Status.REFUTED, verdict
    assert verdict.counterexample is not None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.who}: {row.what}")
def test_a_right_rewrite_is_proved(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.right, row.demand, row.program_type))
    assert verdict.is_proved, verdict


@pytest.mark.parametrize(("what", "insn", "demand"), DROPPED, ids=[what for what, _, _ in DROPPED])
def test_no_instruction_may_be_dropped_as_unknown(what: str, insn: str, demand: str) -> None:
    entry = "r0 scalar; r7 scalar; r8 scalar; r2 packet base=1; r6 map_value base=3 size=64"
    verdict = prove(obligation(entry, insn, "", demand))
    assert verdict.status is Status.REFUTED, verdict
    assert prove(obligation(entry, f"{insn}; r4 = 1", insn, demand)).is_proved


@pytest.mark.parametrize(
    ("entry", "before", "after"),
    [
        # An earlier rewrite of K2's read the XDP context at a place and width that its rows do not have.
        ("r1 ctx", "r0 = *(u32 *)(r1 + 0); r2 = *(u32 *)(r1 + 4)", "r0 = *(u64 *)(r1 + 0); r2 = 0"),
        ("r1 ctx", "r0 = *(u32 *)(r1 + 12)", "r0 = *(u16 *)(r1 + 12)"),
        ("r1 ctx", "r0 = *(u32 *)(r1 + 12)", "*(u32 *)(r1 + 12) = 0; r0 = 0"),
    ],
)
def test_an_access_that_the_context_does_not_allow_is_unsafe(entry: str, before: str, after: str) -> None:
    assert local_safety(obligation(entry, before, after, "r0")) is not None
    assert local_safety(obligation(entry, before, before, "r0")) is None

"""What the prover accepts, each beside a twin that differs in one bit of one field and must be refuted.

A row: name | entry facts | before | after | twin of after | demand | first difference that the twin shows.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.prover.obligations import obligation
from verifier_model.prover import prove
from verifier_model.verdict import Status


class Row(NamedTuple):
    name: str
    entry: str
    before: str
    after: str
    twin: str
    demand: str
    difference: str
    order: str = "little"
    program_type: str | None = "xdp"


PACKET = "r1 ctx; r2 packet base=1 packet_range=64; r7 scalar; r8 scalar"
OTHER = "r2 packet base=1; r3 packet base=2; r7 scalar"
VALUE = "r6 map_value base=3 size=64; r7 scalar; r8 scalar"
SMALL = "r3 scalar max=255; r4 scalar range=1..100; r7 scalar"

ROWS = [
    # ---- arithmetic ----
    Row("zero-extension", "r0 scalar", "r0 <<= 32; r0 >>= 32", "w0 = w0", "r0 = r0; w1 = w0", "r0", "event 0"),
    Row("zero-extension by mask", "r8 scalar", "r3 = 0xffffffff ll; r8 &= r3", "w8 = w8", "w8 = w9", "r8", "r8"),
    Row(
        "mask and shift",
        "r8 scalar",
        "r3 = 0xf0000000 ll; r8 &= r3; r8 >>= 28",
        "r8 <<= 32; r8 >>= 60",
        "r8 <<= 32; r8 >>= 61",
        "r8",
        "r8",
    ),
    Row("32-bit result zero-extends", "r7 scalar", "w7 += 1", "r7 += 1; w7 = w7", "r7 += 1", "r7", "r7"),
    Row("32-bit result, low half", "r7 scalar", "w7 += 1", "r7 += 1", "r7 += 2", "r7:ffffffff", "r7"),
    Row("negation", "r7 scalar; r8 scalar", "r7 = -r7; r7 += r8", "r8 -= r7; r7 = r8", "r8 += r7; r7 = r8", "r7", "r7"),
    Row("multiply by power", "r7 scalar", "r7 *= 8", "r7 <<= 3", "r7 <<= 2", "r7", "r7"),
    Row("divide by power", "r7 scalar", "r7 /= 8", "r7 >>= 3", "r7 s>>= 3", "r7", "r7"),
    Row("modulo power", "r7 scalar", "r7 %= 8", "r7 &= 7", "r7 &= 15", "r7", "r7"),
    Row("known bounds", SMALL, "r3 &= 255", "r3 += 0", "r3 += 1", "r3", "r3"),
    Row("division by zero is zero", "r7 scalar", "r5 = 0; r7 /= r5", "r7 = 0", "r7 = 1", "r7", "r7"),
    Row("signed division by zero is zero", "r7 scalar", "r5 = 0; r7 s/= r5", "r7 = 0", "r7 = 1", "r7", "r7"),
    Row("modulo zero changes nothing", "r7 scalar", "r5 = 0; r7 %= r5", "r5 = 0", "r7 = 0", "r7", "r7"),
    Row("32-bit modulo zero cuts", "r7 scalar", "r5 = 0; w7 %= w5", "w7 = w7", "r5 = 0", "r7", "r7"),
    Row("equal ids", "r7 scalar id=5; r8 scalar id=5", "r7 -= r8", "r7 = 0", "r7 = 1", "r7", "r7"),
    Row(
        "equal ids of pointers",
        "r6 map_value id=4; r7 map_value id=4 off=8",
        "r7 -= r6",
        "r7 = 8",
        "r7 = 9",
        "r7",
        "r7",
    ),
    Row(
        "a variable part",
        "r2 packet base=1 id=2 range=0..9; r3 packet base=1 id=2 off=4 range=0..9",
        "r3 -= r2",
        "r3 = 4",
        "r3 = 5",
        "r3",
        "r3",
    ),
    Row("constant fact", "r7 scalar const=8", "r8 += r7", "r8 += 8", "r8 += 9", "r8", "r8"),
    Row("sign extension", "r7 scalar", "r7 <<= 56; r7 s>>= 56", "r7 = (s8)r7", "r7 = (s16)r7", "r7", "r7"),
    Row("byte swap", "r7 scalar", "r7 = be16 r7", "r7 &= 0xffff; r7 = bswap16 r7", "r7 = bswap32 r7", "r7", "r7"),
    Row("byte swap, big endian", "r7 scalar", "r7 = be16 r7", "r7 &= 0xffff", "r7 = bswap16 r7", "r7", "r7", "big"),
    Row("le swaps on big endian", "r7 scalar", "r7 = le32 r7", "r7 = bswap32 r7", "w7 = w7", "r7", "r7", "big"),
    Row("dead register", "", "r3 = 5; r4 = 6", "r4 = 6", "r4 = 7", "r4", "r4"),
    Row("demanded bits only", "r7 scalar", "r3 = r7; r3 &= 0xff", "r3 = r7", "r3 = r7; r3 += 1", "r3:ff", "r3"),
    # ---- packet ----
    Row(
        "byte gather",
        PACKET,
        "r3 = *(u8 *)(r2 + 12); r4 = *(u8 *)(r2 + 13); r4 <<= 8; r4 |= r3",
        "r4 = *(u16 *)(r2 + 12)",
        "r4 = *(u16 *)(r2 + 13)",
        "r4",
        "r4",
    ),
    Row(
        "byte gather, big endian",
        PACKET,
        "r3 = *(u8 *)(r2 + 12); r4 = *(u8 *)(r2 + 13); r3 <<= 8; r4 |= r3",
        "r4 = *(u16 *)(r2 + 12)",
        "r4 = *(u8 *)(r2 + 12)",
        "r4",
        "r4",
        "big",
    ),
    Row(
        "four bytes",
        PACKET,
        "r3 = *(u8 *)(r2 + 0); r4 = *(u8 *)(r2 + 1); r4 <<= 8; r4 |= r3; r5 = *(u8 *)(r2 + 2); r5 <<= 16;"
        "r3 = *(u8 *)(r2 + 3); r3 <<= 24; r3 |= r5; r3 |= r4",
        "r3 = *(u32 *)(r2 + 0)",
        "r3 = *(u32 *)(r2 + 1)",
        "r3",
        "r3",
    ),
    Row(
        "scatter",
        PACKET,
        "*(u8 *)(r2 + 0) = r7; r7 >>= 8; *(u8 *)(r2 + 1) = r7",
        "*(u16 *)(r2 + 0) = r7",
        "*(u16 *)(r2 + 1) = r7",
        "",
        "packet byte +0 at the end",
    ),
    Row(
        "scatter, big endian",
        PACKET,
        "*(u8 *)(r2 + 1) = r7; r7 >>= 8; *(u8 *)(r2 + 0) = r7",
        "*(u16 *)(r2 + 0) = r7",
        "*(u8 *)(r2 + 0) = r7",
        "",
        "packet byte +1 at the end",
        "big",
    ),
    Row(
        "overshoot then repair",
        PACKET,
        "r3 = *(u16 *)(r2 + 4); *(u16 *)(r2 + 10) = r3; r3 = *(u32 *)(r2 + 0); *(u32 *)(r2 + 6) = r3;"
        "*(u16 *)(r2 + 12) = 8",
        "r3 = *(u64 *)(r2 + 0); *(u64 *)(r2 + 6) = r3; *(u16 *)(r2 + 12) = 8",
        "r3 = *(u64 *)(r2 + 0); *(u64 *)(r2 + 6) = r3; *(u8 *)(r2 + 12) = 8",
        "",
        "packet byte +13 at the end",
    ),
    Row(
        "store immediate",
        PACKET,
        "r3 = 64; *(u8 *)(r2 + 3) = r3",
        "*(u8 *)(r2 + 3) = 64",
        "*(u8 *)(r2 + 3) = 65",
        "",
        "packet byte +3 at the end",
    ),
    Row(
        "store forwarded to load",
        PACKET,
        "*(u32 *)(r2 + 8) = r7; r3 = *(u32 *)(r2 + 8)",
        "*(u32 *)(r2 + 8) = r7; w3 = w7",
        "*(u32 *)(r2 + 8) = r7; r3 = r7",
        "r3",
        "r3",
    ),
    Row(
        "reorder through bases that may alias: loads",
        OTHER,
        "r4 = *(u32 *)(r2 + 0); r5 = *(u32 *)(r3 + 0)",
        "r5 = *(u32 *)(r3 + 0); r4 = *(u32 *)(r2 + 0)",
        "r5 = *(u32 *)(r3 + 0); r4 = *(u32 *)(r2 + 4)",
        "r4 r5",
        "r4",
    ),
    Row(
        "the same store through bases that may alias",
        OTHER,
        "*(u8 *)(r3 + 0) = r7; r4 = *(u8 *)(r2 + 0); *(u8 *)(r2 + 0) = r4",
        "*(u8 *)(r3 + 0) = r7",
        "*(u8 *)(r3 + 1) = r7",
        "",
        "packet byte +0 at the end",
    ),
    Row(
        "variable offset",
        "r2 packet base=1; r3 scalar max=63",
        "r4 = r2; r4 += r3; r5 = *(u8 *)(r4 + 0); r6 = *(u8 *)(r4 + 1); r6 <<= 8; r5 |= r6",
        "r4 = r3; r4 += r2; r5 = *(u16 *)(r4 + 0)",
        "r4 = r3; r4 += r2; r5 = *(u16 *)(r4 + 1)",
        "r5",
        "r5",
    ),
    Row(
        "one base in two registers",
        "r2 packet base=1; r3 packet base=1 off=4",
        "*(u32 *)(r2 + 4) = 7; r4 = *(u32 *)(r3 + 0)",
        "*(u32 *)(r2 + 4) = 7; r4 = 7",
        "*(u32 *)(r2 + 4) = 7; r4 = *(u32 *)(r3 + 1)",
        "r4",
        "r4",
    ),
    Row(
        "bytes at equal addresses are equal",
        OTHER,
        "r4 = *(u8 *)(r2 + 0); r5 = *(u8 *)(r3 + 0); r4 ^= r5; r6 = r2; r6 -= r3; r7 = r6; r6 = -r6; r7 |= r6;"
        "r7 >>= 63; r7 ^= 1; r4 *= r7",
        "r4 = 0",
        "r4 = 1",
        "r4",
        "r4",
    ),
    # ---- stack ----
    Row(
        "store merging",
        "",
        "r1 = 0; *(u32 *)(r10 - 4) = r1; *(u32 *)(r10 - 8) = r1",
        "*(u64 *)(r10 - 8) = 0",
        "*(u64 *)(r10 - 8) = 1",
        "-8..-1",
        "stack byte -8 at the end",
    ),
    Row(
        "don't-care bytes",
        "",
        "r4 = 0; *(u32 *)(r10 - 4) = r4; *(u64 *)(r10 - 16) = r4; *(u64 *)(r10 - 24) = r4; *(u8 *)(r10 - 24) = 5",
        "*(u32 *)(r10 - 4) = 0; *(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 24) = 5",
        "*(u32 *)(r10 - 4) = 0; *(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 24) = 4",
        "-4..-1 -24..-9",
        "stack byte -24 at the end",
    ),
    Row(
        "dead store",
        "r7 scalar",
        "*(u64 *)(r10 - 8) = r7; *(u64 *)(r10 - 16) = r7",
        "*(u64 *)(r10 - 16) = r7",
        "*(u64 *)(r10 - 8) = r7",
        "-16..-9",
        "stack byte -16 at the end",
    ),
    Row(
        "zero bytes known",
        "-8 zero",
        "*(u32 *)(r10 - 8) = 0; r3 = *(u64 *)(r10 - 8)",
        "r3 = 0",
        "r3 = 0; *(u32 *)(r10 - 8) = 1",
        "r3 -8..-1",
        "stack byte -8 at the end",
    ),
    Row(
        "reload of a spill",
        "r7 scalar id=3; -16 spill r7",
        "r3 = *(u64 *)(r10 - 16)",
        "r3 = r7",
        "r3 = *(u32 *)(r10 - 16)",
        "r3",
        "r3",
    ),
    Row(
        "pointer through a spill",
        "r2 packet base=1",
        "*(u64 *)(r10 - 8) = r2; r3 = *(u64 *)(r10 - 8); r4 = *(u8 *)(r3 + 1)",
        "*(u64 *)(r10 - 8) = r2; r4 = *(u8 *)(r2 + 1)",
        "*(u64 *)(r10 - 8) = r2; r4 = *(u8 *)(r2 + 2)",
        "r4 -8..-1",
        "r4",
    ),
    Row(
        "stack and packet are apart",
        PACKET,
        "*(u64 *)(r10 - 8) = r7; *(u64 *)(r2 + 0) = r8; r3 = *(u64 *)(r10 - 8)",
        "*(u64 *)(r2 + 0) = r8; r3 = r7; *(u64 *)(r10 - 8) = r7",
        "*(u64 *)(r2 + 0) = r8; r3 = r8; *(u64 *)(r10 - 8) = r7",
        "r3 -8..-1",
        "r3",
    ),
    Row(
        "variable stack offset",
        "r3 scalar range=0..7",
        "r4 = r10; r4 += r3; *(u8 *)(r4 - 8) = 0; *(u64 *)(r10 - 8) = 0",
        "*(u64 *)(r10 - 8) = 0",
        "*(u32 *)(r10 - 8) = 0; *(u32 *)(r10 - 4) = 16",
        "-8..-1",
        "stack byte -4 at the end",
    ),
    # ---- shared memory ----
    Row(
        "arithmetic between shared accesses",
        VALUE,
        "r3 = *(u32 *)(r6 + 0); r3 += 1; r3 += 2; *(u32 *)(r6 + 0) = r3",
        "r3 = *(u32 *)(r6 + 0); r3 += 3; *(u32 *)(r6 + 0) = r3",
        "r3 = *(u32 *)(r6 + 0); r3 += 2; *(u32 *)(r6 + 0) = r3",
        "",
        "value of 32-bit store to shared memory",
    ),
    Row(
        "store immediate to a map value",
        VALUE,
        "r3 = 7; *(u16 *)(r6 + 2) = r3",
        "*(u16 *)(r6 + 2) = 7",
        "*(u16 *)(r6 + 3) = 7",
        "",
        "address of 16-bit store to shared memory",
    ),
    Row(
        "sign-extending load",
        VALUE,
        "r3 = *(u8 *)(r6 + 2); r3 <<= 56; r3 s>>= 56",
        "r3 = *(s8 *)(r6 + 2)",
        "r3 = *(u8 *)(r6 + 2)",
        "r3",
        "r3",
    ),
    Row(
        "private accesses move across shared ones",
        f"{VALUE}; r2 packet base=1",
        "*(u32 *)(r6 + 0) = r7; *(u32 *)(r2 + 0) = r8",
        "*(u32 *)(r2 + 0) = r8; *(u32 *)(r6 + 0) = r7",
        "*(u32 *)(r2 + 0) = r7; *(u32 *)(r6 + 0) = r7",
        "",
        "packet byte +0 at the end",
    ),
    Row(
        "atomic operand",
        VALUE,
        "r3 = 2; r3 += -1; lock *(u64 *)(r6 + 8) += r3",
        "r3 = 1; lock *(u64 *)(r6 + 8) += r3",
        "r3 = 3; lock *(u64 *)(r6 + 8) += r3",
        "",
        "operand of atomic_add_dw on shared memory",
    ),
    Row(
        "fetched value",
        VALUE,
        "r3 = 1; r3 = atomic_fetch_add((u32 *)(r6 + 8), r3); r3 <<= 32; r3 >>= 32",
        "r3 = 1; r3 = atomic_fetch_add((u32 *)(r6 + 8), r3)",
        "r3 = 1; r3 = atomic_fetch_add((u32 *)(r6 + 8), r3); r3 += 1",
        "r3",
        "r3",
    ),
    Row(
        "data section",
        "r7 scalar",
        "r1 = data[.bss] ll; r1 += 8; *(u32 *)(r1 + 0) = r7",
        "r1 = data[.bss] ll; *(u32 *)(r1 + 8) = r7",
        "r1 = data[.bss] ll; *(u32 *)(r1 + 12) = r7",
        "",
        "address of 32-bit store to shared memory",
    ),
    Row(
        "addend of a data section",
        "r7 scalar",
        "r1 = data[.bss] ll; *(u32 *)(r1 + 8) = r7",
        "r1 = data[.bss+8] ll; *(u32 *)(r1 + 0) = r7",
        "r1 = data[.data+8] ll; *(u32 *)(r1 + 0) = r7",
        "",
        "address of 32-bit store to shared memory",
    ),
    # ---- context ----
    Row(
        "context loads may be dropped and doubled",
        "r1 ctx",
        "r2 = *(u32 *)(r1 + 12); r3 = *(u32 *)(r1 + 12)",
        "r2 = *(u32 *)(r1 + 12); r3 = r2",
        "r2 = *(u32 *)(r1 + 12); r3 = *(u32 *)(r1 + 16)",
        "r2 r3",
        "r3",
    ),
    Row(
        "context numbers are zero-extended",
        "r1 ctx",
        "r2 = *(u32 *)(r1 + 12); w2 = w2",
        "r2 = *(u32 *)(r1 + 12)",
        "r2 = *(u32 *)(r1 + 12); r2 += 1",
        "r2",
        "r2",
    ),
    Row(
        "packet pointer from the context",
        "r1 ctx",
        "r2 = *(u32 *)(r1 + 0); r3 = *(u8 *)(r2 + 0); r4 = *(u8 *)(r2 + 1); r4 <<= 8; r4 |= r3",
        "r2 = *(u32 *)(r1 + 0); r4 = *(u16 *)(r2 + 0)",
        "r2 = *(u32 *)(r1 + 0); r4 = *(u16 *)(r2 + 1)",
        "r4",
        "r4",
    ),
    # ---- calls ----
    Row(
        "dead argument",
        "",
        "r1 = 1; r2 = 3; call 5; r0 += 1",
        "call 5; r0 += 1",
        "call 5; r0 += 3",
        "r0",
        "r0",
    ),
    Row(
        "key on the stack",
        "",
        "r3 = 7; *(u32 *)(r10 - 4) = r3; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1",
        "*(u32 *)(r10 - 4) = 7; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1",
        "*(u32 *)(r10 - 4) = 6; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1",
        "r0",
        "stack byte -4 at the call of bpf_map_lookup_elem",
    ),
    Row(
        "stack bytes beyond the key are free",
        "",
        "*(u64 *)(r10 - 8) = 7; r2 = r10; r2 += -8; r1 = map[hits] ll; call 1",
        "*(u32 *)(r10 - 8) = 7; r2 = r10; r2 += -8; r1 = map[hits] ll; call 1",
        "*(u16 *)(r10 - 8) = 7; r2 = r10; r2 += -8; r1 = map[hits] ll; call 1",
        "r0",
        "stack byte -6 at the call of bpf_map_lookup_elem",
    ),
    Row(
        "written memory is the callee's",
        "r6 ctx",
        "*(u64 *)(r10 - 8) = 0; r1 = r6; r2 = 14; r3 = r10; r3 += -8; r4 = 8; call 26; r7 = *(u64 *)(r10 - 8)",
        "r1 = r6; r2 = 14; r3 = r10; r3 += -8; r4 = 8; call 26; r7 = *(u64 *)(r10 - 8)",
        "r1 = r6; r2 = 14; r3 = r10; r3 += -8; r4 = 4; call 26; r7 = *(u64 *)(r10 - 8)",
        "r7 -8..-1",
        "r4 of the call of bpf_skb_load_bytes",
        program_type="sched_cls",
    ),
    Row(
        "callee-saved registers survive",
        "r6 scalar",
        "r6 += 1; call 5; r6 += 1",
        "r6 += 2; call 5",
        "r6 += 3; call 5",
        "r6 r0",
        "r6",
    ),
    # ---- control ----
    Row("another form", "r7 scalar", "if r7 > 3 goto L", "if r7 >= 4 goto L", "if r7 >= 5 goto L", "", "jump to L"),
    Row("swapped operands", "", "if r7 > r8 goto L", "if r8 < r7 goto L", "if r8 <= r7 goto L", "", "jump to L"),
    Row("narrow", "r7 scalar max=100", "if r7 == 9 goto L", "if w7 == 9 goto L", "if w7 == 8 goto L", "", "jump to L"),
    Row("always taken", "r7 scalar max=100", "if r7 < 101 goto L", "goto L", "goto M", "", "jump to M"),
    Row("never taken", "r7 scalar max=100", "if r7 > 100 goto L", "", "goto L", "", "jump to L"),
    Row("exit value", "r7 scalar", "r0 = r7; r3 = 1; exit", "r0 = r7; exit", "r0 = r8; exit", "", "r0"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_proved(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.after, row.demand, row.program_type, row.order))
    assert verdict.status is Status.PROVED, verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_twin_is_refuted(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.twin, row.demand, row.program_type, row.order))
    if row.difference == "event 0":  # a self-move appeared: such instructions must stay as they are
        assert (verdict.status, verdict.reason[:7]) == (Status.UNKNOWN, "event 0")
        return
    assert verdict.status is Status.REFUTED, verdict
    assert verdict.counterexample is not None
    assert verdict.counterexample.difference.split(":")[0] == row.difference

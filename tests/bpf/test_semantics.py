"""What the rows compute, against values worked out by hand and against C arithmetic through ctypes."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable

import pytest

from verifier_model.bpf.concrete import INTEGERS, alu, swapped, taken, to_signed
from verifier_model.bpf.isa import BY_NAME, ROWS, Kind, Row

SEED = 2503
M64 = (1 << 64) - 1
MIN64, MIN32 = 1 << 63, 1 << 31
HIGH = 0xAAAA_AAAA_0000_0000  # what 32-bit rows must ignore and clear

# row, dst, src, new dst: worked out by hand from RFC 9669.
BY_HAND = (
    ("add64_reg", M64, 1, 0),
    ("add32_reg", HIGH | 0xFFFFFFFF, 1, 0),
    ("add32_imm", 0xFFFFFFFF, -1, 0xFFFFFFFE),
    ("add64_imm", 5, -1, 4),
    ("sub64_reg", 0, 1, M64),
    ("sub32_reg", 0, 1, 0xFFFFFFFF),
    ("mul64_reg", 1 << 63, 2, 0),
    ("mul32_reg", 0x10000, 0x10000, 0),
    ("div64_reg", 100, 7, 14),
    ("div64_reg", 100, 0, 0),
    ("div64_imm", 100, -1, 0),
    ("div32_reg", HIGH | 100, HIGH, 0),
    ("div32_imm", 0xFFFFFFFF, -1, 1),
    ("mod64_reg", 100, 7, 2),
    ("mod64_reg", HIGH | 100, 0, HIGH | 100),
    ("mod32_reg", HIGH | 100, 0, 100),
    ("sdiv64_reg", MIN64, M64, MIN64),
    ("sdiv64_reg", -7 & M64, 2, -3 & M64),
    ("sdiv64_reg", 7, -2 & M64, -3 & M64),
    ("sdiv64_reg", -7 & M64, -2 & M64, 3),
    ("sdiv64_reg", 7, 0, 0),
    ("sdiv32_reg", MIN32, 0xFFFFFFFF, MIN32),
    ("sdiv32_reg", HIGH | 0xFFFFFFF9, 2, 0xFFFFFFFD),
    ("smod64_reg", MIN64, M64, 0),
    ("smod64_reg", -7 & M64, 2, M64),
    ("smod64_reg", 7, -2 & M64, 1),
    ("smod64_reg", -7 & M64, 0, -7 & M64),
    ("smod32_reg", MIN32, 0xFFFFFFFF, 0),
    ("smod32_reg", HIGH | 0xFFFFFFF9, 0, 0xFFFFFFF9),
    ("or32_reg", HIGH | 1, HIGH | 2, 3),
    ("and64_imm", M64, -256, M64 - 255),
    ("and32_imm", M64, -256, 0xFFFFFF00),
    ("xor64_reg", M64, M64, 0),
    ("lsh64_reg", 1, 63, MIN64),
    ("lsh64_reg", 1, 64, 1),
    ("lsh64_reg", 1, 65, 2),
    ("lsh32_reg", 1, 31, MIN32),
    ("lsh32_reg", 1, 32, 1),
    ("lsh32_reg", HIGH | 3, HIGH | 31, MIN32),
    ("rsh64_reg", MIN64, 63, 1),
    ("rsh64_reg", MIN64, 64, MIN64),
    ("rsh32_reg", HIGH | MIN32, 31, 1),
    ("arsh64_reg", MIN64, 63, M64),
    ("arsh32_reg", MIN32, 31, 0xFFFFFFFF),
    ("arsh32_reg", HIGH | 0x7FFFFFFF, 4, 0x07FFFFFF),
    ("arsh32_reg", MIN32, 33, 0xC0000000),
    ("neg64", 1, 0, M64),
    ("neg64", MIN64, 0, MIN64),
    ("neg32", HIGH | 1, 0, 0xFFFFFFFF),
    ("mov64_imm", 0, -1, M64),
    ("mov32_imm", M64, -1, 0xFFFFFFFF),
    ("mov32_reg", 0, HIGH | 5, 5),
    ("mov64_reg", 0, HIGH | 5, HIGH | 5),
    ("movsx8_64", 0, 0x80, M64 - 0x7F),
    ("movsx8_64", 0, 0x17F, 0x7F),
    ("movsx8_32", M64, 0x80, 0xFFFFFF80),
    ("movsx16_64", 0, 0x8000, M64 - 0x7FFF),
    ("movsx16_32", 0, 0x18000, 0xFFFF8000),
    ("movsx32_64", 0, MIN32, M64 - 0x7FFFFFFF),
    ("movsx32_64", 0, HIGH | 0x7FFFFFFF, 0x7FFFFFFF),
)


@pytest.mark.parametrize(("name", "dst", "src", "expected"), BY_HAND)
def test_by_hand(name: str, dst: int, src: int, expected: int) -> None:
    assert alu(BY_NAME[name], dst, src) == expected


SWAPS = (
    ("le16", 0x1122334455667788, "little", 0x7788),
    ("le16", 0x1122334455667788, "big", 0x8877),
    ("be16", 0x1122334455667788, "little", 0x8877),
    ("be16", 0x1122334455667788, "big", 0x7788),
    ("be32", 0x1122334455667788, "little", 0x88776655),
    ("le32", 0x1122334455667788, "little", 0x55667788),
    ("be64", 0x1122334455667788, "little", 0x8877665544332211),
    ("le64", 0x1122334455667788, "little", 0x1122334455667788),
    ("bswap16", 0x1122334455667788, "big", 0x8877),
    ("bswap32", 0x1122334455667788, "little", 0x88776655),
    ("bswap64", 0x1122334455667788, "big", 0x8877665544332211),
)


@pytest.mark.parametrize(("name", "value", "order", "expected"), SWAPS)
def test_byte_order(name: str, value: int, order: str, expected: int) -> None:
    assert swapped(BY_NAME[name], value, "little" if order == "little" else "big") == expected


# op, dst, src, jumps at 64 bits, jumps at 32 bits
COMPARISONS = (
    ("jeq", HIGH | 5, 5, False, True),
    ("jne", HIGH | 5, 5, True, False),
    ("jgt", HIGH | 5, 6, True, False),
    ("jgt", 5, 5, False, False),
    ("jge", 5, 5, True, True),
    ("jlt", 5, HIGH | 4, True, False),
    ("jle", 5, 5, True, True),
    ("jle", 6, 5, False, False),
    ("jset", HIGH, HIGH, True, False),
    ("jset", 6, 1, False, False),
    ("jsgt", 0, M64, True, True),
    ("jsgt", MIN32, 0, True, False),
    ("jsge", M64, M64, True, True),
    ("jsge", MIN64, 0, False, True),
    ("jslt", M64, 0, True, True),
    ("jslt", 0x7FFFFFFF, MIN32, True, False),
    ("jsle", 1, M64, False, False),
    ("jsle", M64, M64, True, True),
)


@pytest.mark.parametrize(("op", "dst", "src", "wide", "narrow"), COMPARISONS)
def test_comparisons(op: str, dst: int, src: int, wide: bool, narrow: bool) -> None:
    assert taken(BY_NAME[f"{op}64_reg"], dst, src) is wide
    assert taken(BY_NAME[f"{op}32_reg"], dst, src) is narrow


def test_immediates_are_sign_extended_before_an_unsigned_comparison() -> None:
    assert taken(BY_NAME["jeq64_imm"], M64, -1)
    assert not taken(BY_NAME["jeq64_imm"], 0xFFFFFFFF, -1)
    assert taken(BY_NAME["jeq32_imm"], 0xFFFFFFFF, -1)


C_TYPES = {
    (32, False): ctypes.c_uint32,
    (64, False): ctypes.c_uint64,
    (32, True): ctypes.c_int32,
    (64, True): ctypes.c_int64,
}


def _c(value: int, width: int, signed: bool = False) -> int:
    return int(C_TYPES[width, signed](value).value)


def _c_divide(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a >= 0) == (b >= 0) else -1)


# The same operations once more, over C integers: (width, signed operands, a, b) -> result before wrapping.
REFERENCE: dict[str, tuple[bool, Callable[[int, int, int], int]]] = {
    "add": (False, lambda w, a, b: a + b),
    "sub": (False, lambda w, a, b: a - b),
    "mul": (False, lambda w, a, b: a * b),
    "div": (False, lambda w, a, b: a // b if b else 0),
    "mod": (False, lambda w, a, b: a % b if b else a),
    "sdiv": (True, lambda w, a, b: _c_divide(a, b) if b else 0),
    "smod": (True, lambda w, a, b: a - b * _c_divide(a, b) if b else a),
    "or": (False, lambda w, a, b: a | b),
    "and": (False, lambda w, a, b: a & b),
    "xor": (False, lambda w, a, b: a ^ b),
    "lsh": (False, lambda w, a, b: a << b % w),
    "rsh": (False, lambda w, a, b: a >> b % w),
    "arsh": (True, lambda w, a, b: a >> b % w),
    "mov": (False, lambda w, a, b: b),
    "neg": (False, lambda w, a, b: -a),
    "movsx8": (False, lambda w, a, b: ctypes.c_int8(b).value),
    "movsx16": (False, lambda w, a, b: ctypes.c_int16(b).value),
    "movsx32": (False, lambda w, a, b: ctypes.c_int32(b).value),
}
ALU_ROWS = [row for row in ROWS if row.kind is Kind.ALU]
EDGES = (0, 1, 2, 7, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, MIN32, 0xFFFFFFFF)
WIDE_EDGES = (*EDGES, 1 << 32, MIN64 - 1, MIN64, MIN64 + 1, M64 - 1, M64, HIGH, HIGH | 1)


def operands(rng: random.Random, count: int) -> list[tuple[int, int]]:
    edges = [(a, b) for a in WIDE_EDGES for b in WIDE_EDGES]
    return edges + [(rng.getrandbits(64), rng.getrandbits(rng.choice((5, 8, 32, 64)))) for _ in range(count)]


@pytest.mark.parametrize("row", ALU_ROWS, ids=[row.name for row in ALU_ROWS])
def test_alu_against_c_arithmetic(row: Row) -> None:
    signed, reference = REFERENCE[row.op]
    for dst, src in operands(random.Random(f"{SEED} {row.name}"), 200):
        a, b = _c(dst, row.width, signed), _c(src, row.width, signed)
        expected = _c(reference(row.width, a, b), row.width)
        assert alu(row, dst, src) == expected, f"seed {SEED}: {row.name} {dst:#x} {src:#x}"


WIDTH = 4


@pytest.mark.parametrize("row", [row for row in ALU_ROWS if not row.op.startswith("movsx")], ids=lambda row: row.name)
def test_every_pair_of_four_bit_operands(row: Row) -> None:
    """The meanings do not depend on the width, so at four bits they can be tried out completely."""
    signed, reference = REFERENCE[row.op]
    assert row.meaning is not None
    for dst in range(1 << WIDTH):
        for src in range(1 << WIDTH):
            a, b = (to_signed(dst, WIDTH), to_signed(src, WIDTH)) if signed else (dst, src)
            expected = reference(WIDTH, a, b) % (1 << WIDTH)
            assert row.meaning(INTEGERS, WIDTH, (dst, WIDTH), (src, WIDTH)) == (expected, WIDTH), (row.name, dst, src)


ORDERINGS: dict[str, Callable[[int, int], bool]] = {
    "jeq": lambda a, b: a == b,
    "jne": lambda a, b: a != b,
    "jset": lambda a, b: a & b != 0,
    "jgt": lambda a, b: a > b,
    "jge": lambda a, b: a >= b,
    "jlt": lambda a, b: a < b,
    "jle": lambda a, b: a <= b,
}
BRANCH_ROWS = [row for row in ROWS if row.kind is Kind.BRANCH]


@pytest.mark.parametrize("row", BRANCH_ROWS, ids=[row.name for row in BRANCH_ROWS])
def test_every_comparison_of_four_bit_operands(row: Row) -> None:
    signed = row.op.startswith("js") and row.op != "jset"
    holds = ORDERINGS[row.op.replace("js", "j") if signed else row.op]
    assert row.condition is not None
    for dst in range(1 << WIDTH):
        for src in range(1 << WIDTH):
            a, b = (to_signed(dst, WIDTH), to_signed(src, WIDTH)) if signed else (dst, src)
            assert row.condition(INTEGERS, WIDTH, (dst, WIDTH), (src, WIDTH)) == holds(a, b), (row.name, dst, src)

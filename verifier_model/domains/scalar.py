"""Known bits and ranges of a 64-bit number, kept consistent with each other (as kernel/bpf/verifier.c syncs bounds)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.isa import Row
from verifier_model.domains import ranges, tnum
from verifier_model.domains.ranges import Word

U64_MAX: Final = (1 << 64) - 1
U32_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Scalar:
    """A set of 64-bit values: those that agree with `bits_value` outside `bits_mask` and lie in all four ranges.

    (`bits_value`, `bits_mask`) is the kernel's tnum: a mask bit of 1 means unknown.  Ranges are inclusive; signed ones
    are Python's negative numbers; the 32-bit ones bound the low half.  `a <= b`: every value of a is one of b;
    `a | b` holds the values of both and may hold more; `a & b` holds at least the values common to both.
    """

    bits_value: int = 0
    bits_mask: int = U64_MAX
    umin: int = 0
    umax: int = U64_MAX
    smin: int = -(1 << 63)
    smax: int = (1 << 63) - 1
    u32min: int = 0
    u32max: int = U32_MAX
    s32min: int = -(1 << 31)
    s32max: int = (1 << 31) - 1

    @staticmethod
    def top() -> Scalar:
        return _TOP

    @staticmethod
    def bottom() -> Scalar:
        """The empty set."""
        return _BOTTOM

    @staticmethod
    def const(value: int) -> Scalar:
        """The one number `value` modulo 2**64."""
        return _constant(value & U64_MAX)

    @staticmethod
    def of_width(bits: int) -> Scalar:
        """Any number of `bits` bits, zero-extended."""
        return _of_range(0, (1 << bits) - 1)

    @staticmethod
    def between(low: int, high: int) -> Scalar:
        """Any number of the inclusive range: unsigned, or signed when `low` is negative."""
        return _of_range(low, high)

    @property
    def constant(self) -> int | None:
        """The single unsigned value, or None."""
        return self.bits_value if self.bits_mask == 0 else None

    @property
    def is_bottom(self) -> bool:
        return self.umin > self.umax

    def contains(self, value: int) -> bool:
        """Is `value` (taken modulo 2**64) one of the set?"""
        return contains(64, 32, self, value)

    def __le__(self, other: Scalar) -> bool:
        if self is other or self.is_bottom:
            return True
        return (
            other.umin <= self.umin
            and self.umax <= other.umax
            and other.smin <= self.smin
            and self.smax <= other.smax
            and other.u32min <= self.u32min
            and self.u32max <= other.u32max
            and other.s32min <= self.s32min
            and self.s32max <= other.s32max
            and tnum.is_subset((self.bits_value, self.bits_mask), (other.bits_value, other.bits_mask))
        )

    def __or__(self, other: Scalar) -> Scalar:
        if self is other or other.is_bottom:
            return self
        if self.is_bottom:
            return other
        bits = tnum.join((self.bits_value, self.bits_mask), (other.bits_value, other.bits_mask))
        return Scalar(
            *bits,
            min(self.umin, other.umin),
            max(self.umax, other.umax),
            min(self.smin, other.smin),
            max(self.smax, other.smax),
            min(self.u32min, other.u32min),
            max(self.u32max, other.u32max),
            min(self.s32min, other.s32min),
            max(self.s32max, other.s32max),
        )

    def __and__(self, other: Scalar) -> Scalar:
        if self is other or self is _BOTTOM or other is _BOTTOM:
            return self if other is not _BOTTOM else other
        full = ranges.meet(64, full_word(self), full_word(other))
        low = ranges.meet(32, half_word(32, self), half_word(32, other))
        return combine(64, 32, full, low)


_TOP: Final = Scalar()
_BOTTOM: Final = Scalar(umin=1, umax=0)


@lru_cache(maxsize=4096)
def _constant(value: int) -> Scalar:
    return combine(64, 32, ranges.constant(64, value), ranges.constant(32, value))


@lru_cache(maxsize=4096)
def _of_range(low: int, high: int) -> Scalar:
    half = 1 << 63
    signs = (low, high) if high < half else (-half, half - 1)
    unsigned = (low, high) if low >= 0 else (0, U64_MAX)
    return combine(64, 32, ranges.sync(64, (0, U64_MAX, *unsigned, *signs)), ranges.top(32))


def full_word(scalar: Scalar) -> Word:
    return scalar.bits_value, scalar.bits_mask, scalar.umin, scalar.umax, scalar.smin, scalar.smax


def half_word(half: int, scalar: Scalar) -> Word:
    ones = (1 << half) - 1
    low_bits = (scalar.bits_value & ones, scalar.bits_mask & ones)
    return (*low_bits, scalar.u32min, scalar.u32max, scalar.s32min, scalar.s32max)


def contains(full: int, half: int, scalar: Scalar, value: int) -> bool:
    """Membership for any pair of widths; 64 and 32 outside tests."""
    value &= (1 << full) - 1
    low = value & (1 << half) - 1
    return (
        (value ^ scalar.bits_value) & ~scalar.bits_mask == 0
        and scalar.umin <= value <= scalar.umax
        and scalar.smin <= ranges.signed(full, value) <= scalar.smax
        and scalar.u32min <= low <= scalar.u32max
        and scalar.s32min <= ranges.signed(half, low) <= scalar.s32max
    )


def combine(full: int, half: int, word: Word | None, low: Word | None) -> Scalar:
    """The numbers that `word` describes and whose low half `low` describes; bottom when there are none."""
    ones, limit = (1 << half) - 1, 1 << half - 1
    for _ in range(3):
        if word is None or low is None:
            return _BOTTOM
        before = word, low
        umin, umax = low[2], low[3]
        if word[2] >> half == word[3] >> half:
            umin, umax = max(umin, word[2] & ones), min(umax, word[3] & ones)
        bits = tnum.meet((word[0] & ones, word[1] & ones), (low[0], low[1]))
        if bits is None:
            return _BOTTOM
        low = ranges.sync(half, (*bits, umin, umax, low[4], low[5]))
        if low is None:
            return _BOTTOM
        value, mask, umin, umax, smin, smax = word
        value, mask = value & ~ones | low[0], mask & ~ones | low[1]
        if umin >> half == umax >> half:
            high = umin & ~ones
            umin, umax = max(umin, high | low[2]), min(umax, high | low[3])
        if smin >= -limit and smax < limit:
            smin, smax = max(smin, low[4]), min(smax, low[5])
        word = ranges.sync(full, (value, mask, umin, umax, smin, smax))
        if (word, low) == before:
            break
    return _BOTTOM if word is None or low is None else Scalar(*word, *low[2:])


def alu(op: str, width: int, dst: Scalar, src: Scalar) -> Scalar:
    """What an ALU operation of `width` bits (64 or 32) leaves in its destination; a 32-bit result is zero-extended."""
    return _cached_alu(op, width, dst, src)


@lru_cache(maxsize=1 << 16)
def _cached_alu(op: str, width: int, dst: Scalar, src: Scalar) -> Scalar:
    return transfer(64, 32, op, width == 32, dst, src)


def transfer(full: int, half: int, op: str, is_half: bool, dst: Scalar, src: Scalar) -> Scalar:
    """`alu` for any pair of widths, so that tests can be exhaustive; the operation comes from the table of `ranges`."""
    if dst.is_bottom or src.is_bottom:
        return _BOTTOM
    run = ranges.TRANSFER[op]
    low_dst, low_src = half_word(half, dst), half_word(half, src)
    if is_half:
        low = run(half, low_dst, low_src)
        if low is None:
            return _BOTTOM
        sign = 1 << full - 1
        word = ranges.sync(full, (low[0], low[1], low[2], low[3], -sign, sign - 1))
        return combine(full, half, word, low)
    if op == "mov":
        return src
    word = run(full, full_word(dst), full_word(src))
    shifts_low = op == "lsh" and src.bits_mask == 0 and src.bits_value < half
    low = run(half, low_dst, low_src) if op in ranges.LOW_CLOSED or shifts_low else ranges.top(half)
    return combine(full, half, word, low)


def shifted(value: Scalar, off: int) -> Scalar:
    """The set with the signed constant `off` added to each number."""
    return _cached_alu("add", 64, value, Scalar.const(off)) if off else value


def alu_row(row: Row, dst: Scalar, src: Scalar) -> Scalar:
    """`alu` for a row of the instruction table (kind ALU)."""
    return _cached_alu(row.op, row.width, dst, src)


def swap_bytes(bits: int, value: Scalar) -> Scalar:
    """The low `bits` bits with their bytes reversed, zero-extended; only known bits survive."""
    count = bits // 8

    def reverse(number: int) -> int:
        return int.from_bytes((number & (1 << bits) - 1).to_bytes(count, "little"), "big")

    return _from_bits(reverse(value.bits_value), reverse(value.bits_mask))


def keep_low(bits: int, value: Scalar) -> Scalar:
    """The low `bits` bits, zero-extended."""
    if bits == 64 or value.umax < 1 << bits:
        return value
    if bits == 32:
        return alu("mov", 32, value, value)
    return alu("and", 64, value, Scalar.const((1 << bits) - 1))


def sign_extend(bits: int, value: Scalar) -> Scalar:
    """The low `bits` bits, sign-extended to 64."""
    return value if bits == 64 else alu(f"movsx{bits}", 64, value, value)


def endian(row: Row, value: Scalar, order: ByteOrder) -> Scalar:
    """Byte-order conversions: `bswap` always swaps, `le`/`be` swap on a machine of the other order."""
    swaps = row.op == "bswap" or (row.op == "be") == (order == "little")
    return swap_bytes(row.width, value) if swaps else keep_low(row.width, value)


def _from_bits(value: int, mask: int) -> Scalar:
    return combine(64, 32, ranges.sync(64, (value, mask, *ranges.top(64)[2:])), ranges.top(32))


def refine(row: Row, dst: Scalar, src: Scalar, taken: bool) -> tuple[Scalar, Scalar] | None:
    """Both operands of a branch row after it was taken or not; None when it cannot have gone that way."""
    return _cached_refine(row.op, row.width, dst, src, taken)


@lru_cache(maxsize=1 << 15)
def _cached_refine(op: str, width: int, dst: Scalar, src: Scalar, taken: bool) -> tuple[Scalar, Scalar] | None:
    return refine_at(64, 32, op, width == 32, dst, src, taken)


def refine_at(
    full: int, half: int, op: str, is_half: bool, dst: Scalar, src: Scalar, taken: bool
) -> tuple[Scalar, Scalar] | None:
    """`refine` for any pair of widths."""
    if dst.is_bottom or src.is_bottom:
        return None
    run = ranges.REFINE[op][0 if taken else 1]
    words = (full_word(dst), full_word(src))
    halves = (half_word(half, dst), half_word(half, src))
    pair = run(half, *halves) if is_half else run(full, *words)
    if pair is None:
        return None
    if is_half:
        new = combine(full, half, words[0], pair[0]), combine(full, half, words[1], pair[1])
    else:
        new = combine(full, half, pair[0], halves[0]), combine(full, half, pair[1], halves[1])
    return None if new[0].is_bottom or new[1].is_bottom else new

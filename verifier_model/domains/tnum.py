"""Tracked numbers: which bits of a w-bit value are known (kernel/bpf/tnum.c; here the width is a parameter).

A tnum is a pair (value, mask): a mask bit of 1 means that the bit is unknown, and then the value's bit is 0.
"""

from __future__ import annotations

Tnum = tuple[int, int]


def all_ones(width: int) -> int:
    return (1 << width) - 1


def unknown(width: int) -> Tnum:
    return 0, all_ones(width)


def from_range(width: int, low: int, high: int) -> Tnum:
    """The bits that all numbers of [low, high] share (unsigned): the common prefix of both ends."""
    spread = (1 << (low ^ high).bit_length()) - 1
    return low & ~spread & all_ones(width), spread


def add(width: int, a: Tnum, b: Tnum) -> Tnum:
    known = a[0] + b[0]
    # A sum bit is uncertain where either operand is, and where the uncertain parts can change the carry into it.
    unsure = ((known + a[1] + b[1]) ^ known) | a[1] | b[1]
    ones = all_ones(width)
    return known & ~unsure & ones, unsure & ones


def sub(width: int, a: Tnum, b: Tnum) -> Tnum:
    known = a[0] - b[0]
    unsure = ((known + a[1]) ^ (known - b[1])) | a[1] | b[1]
    ones = all_ones(width)
    return known & ~unsure & ones, unsure & ones


def and_(width: int, a: Tnum, b: Tnum) -> Tnum:
    sure = a[0] & b[0]
    return sure, (a[0] | a[1]) & (b[0] | b[1]) & ~sure


def or_(width: int, a: Tnum, b: Tnum) -> Tnum:
    sure = a[0] | b[0]
    return sure, (a[1] | b[1]) & ~sure


def xor(width: int, a: Tnum, b: Tnum) -> Tnum:
    unsure = a[1] | b[1]
    return (a[0] ^ b[0]) & ~unsure, unsure


def mul(width: int, a: Tnum, b: Tnum) -> Tnum:
    """Schoolbook product over the bits of `a`; the known parts multiply exactly, the unsure parts add up apart."""
    ones = all_ones(width)
    unsure: Tnum = (0, 0)
    value, mask = a
    partial_value, partial_mask = b
    while value or mask:
        if value & 1:
            unsure = add(width, unsure, (0, partial_mask))
        elif mask & 1:
            unsure = add(width, unsure, (0, partial_value | partial_mask))
        value, mask = value >> 1, mask >> 1
        partial_value, partial_mask = partial_value << 1 & ones, partial_mask << 1 & ones
    return add(width, (a[0] * b[0] & ones, 0), unsure)


def shl(width: int, a: Tnum, count: int) -> Tnum:
    ones = all_ones(width)
    return a[0] << count & ones, a[1] << count & ones


def lshr(width: int, a: Tnum, count: int) -> Tnum:
    return a[0] >> count, a[1] >> count


def ashr(width: int, a: Tnum, count: int) -> Tnum:
    ones = all_ones(width)
    return (_signed(width, a[0]) >> count) & ones, (_signed(width, a[1]) >> count) & ones


def sext(width: int, bits: int, a: Tnum) -> Tnum:
    """The low `bits` bits of `a`, sign-extended to `width`; an unknown sign bit makes every copy of it unknown."""
    low, ones = all_ones(bits), all_ones(width)
    return _signed(bits, a[0] & low) & ones, _signed(bits, a[1] & low) & ones


def meet(a: Tnum, b: Tnum) -> Tnum | None:
    """Values that both describe; None when they contradict each other."""
    if (a[0] ^ b[0]) & ~a[1] & ~b[1]:
        return None
    mask = a[1] & b[1]
    return (a[0] | b[0]) & ~mask, mask


def join(a: Tnum, b: Tnum) -> Tnum:
    mask = a[1] | b[1] | (a[0] ^ b[0])
    return a[0] & ~mask, mask


def is_subset(a: Tnum, b: Tnum) -> bool:
    return not (a[1] & ~b[1]) and not ((a[0] ^ b[0]) & ~b[1])


def _signed(width: int, value: int) -> int:
    sign = 1 << width - 1
    return (value ^ sign) - sign

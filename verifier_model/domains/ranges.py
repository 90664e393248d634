"""Known bits with unsigned and signed ranges of a w-bit word, kept consistent, and what each operation does to them.

A `Word` is (bits value, bits mask, umin, umax, smin, smax); ranges are inclusive, signed ones are Python's negative
numbers.  The width is a parameter so that the tests can compare every operation with brute force at four bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from verifier_model.domains import tnum
from verifier_model.domains.tnum import Tnum, all_ones

Word = tuple[int, int, int, int, int, int]
Transfer = Callable[[int, Word, Word], Word | None]


def signed(width: int, value: int) -> int:
    sign = 1 << width - 1
    return (value ^ sign) - sign


def top(width: int) -> Word:
    half = 1 << width - 1
    return 0, all_ones(width), 0, all_ones(width), -half, half - 1


def constant(width: int, value: int) -> Word:
    value &= all_ones(width)
    as_signed = signed(width, value)
    return value, 0, value, value, as_signed, as_signed


def sync(width: int, word: Word) -> Word | None:
    """The same set with each part tightened by the others; None when it is empty."""
    sign, ones = 1 << width - 1, all_ones(width)
    value, mask, umin, umax, smin, smax = word
    for _ in range(3):
        umin, umax = max(umin, value), min(umax, value | mask)
        smin = max(smin, signed(width, value | mask & sign))
        smax = min(smax, signed(width, value | mask & ~sign))
        # The members without and with the sign bit, as two unsigned runs; either may be empty.
        low, low_end = max(umin, smin), min(umax, smax)
        high = max(umin, smin & ones if -sign < smin < 0 else sign)
        high_end = min(umax, smax & ones if smax < 0 else ones)
        has_low, has_high = low <= low_end, smin < 0 and high <= high_end
        if not (has_low or has_high):
            return None
        umin, smax = (low, low_end) if has_low else (high, high_end - 2 * sign)
        umax, smin = (high_end, high - 2 * sign) if has_high else (low_end, low)
        bits = tnum.meet((value, mask), tnum.from_range(width, umin, umax))
        if bits is None:
            return None
        if bits == (value, mask) and umin >= value and umax <= value | mask:
            break
        value, mask = bits
    return value, mask, umin, umax, smin, smax


def _build(
    width: int, bits: Tnum, unsigned: tuple[int, int] | None = None, signs: tuple[int, int] | None = None
) -> Word | None:
    """A word from its known bits and from the ranges that are known not to wrap."""
    half = 1 << width - 1
    umin, umax = unsigned or (0, all_ones(width))
    smin, smax = signs or (-half, half - 1)
    return sync(width, (*bits, umin, umax, smin, smax))


def _if_unsigned(width: int, low: int, high: int) -> tuple[int, int] | None:
    return (low, high) if low >= 0 and high <= all_ones(width) else None


def _if_signed(width: int, low: int, high: int) -> tuple[int, int] | None:
    half = 1 << width - 1
    return (low, high) if low >= -half and high < half else None


def _bits(word: Word) -> Tnum:
    return word[0], word[1]


def add(width: int, a: Word, b: Word) -> Word | None:
    unsigned = _if_unsigned(width, a[2] + b[2], a[3] + b[3])
    return _build(width, tnum.add(width, _bits(a), _bits(b)), unsigned, _if_signed(width, a[4] + b[4], a[5] + b[5]))


def sub(width: int, a: Word, b: Word) -> Word | None:
    unsigned = _if_unsigned(width, a[2] - b[3], a[3] - b[2])
    return _build(width, tnum.sub(width, _bits(a), _bits(b)), unsigned, _if_signed(width, a[4] - b[5], a[5] - b[4]))


def mul(width: int, a: Word, b: Word) -> Word | None:
    corners = (a[4] * b[4], a[4] * b[5], a[5] * b[4], a[5] * b[5])
    unsigned = _if_unsigned(width, a[2] * b[2], a[3] * b[3])
    return _build(width, tnum.mul(width, _bits(a), _bits(b)), unsigned, _if_signed(width, min(corners), max(corners)))


def div(width: int, a: Word, b: Word) -> Word | None:
    """Unsigned quotient; a zero divisor gives 0."""
    low = 0 if b[2] == 0 else a[2] // b[3]
    return _build(width, tnum.unknown(width), (low, a[3] // max(1, b[2])))


def mod(width: int, a: Word, b: Word) -> Word | None:
    """Unsigned remainder; a zero divisor gives the dividend."""
    if a[3] < b[2]:
        return a
    high = a[3] if b[2] == 0 else min(a[3], b[3] - 1)
    return _build(width, tnum.unknown(width), (0, high))


def _truncating_div(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def sdiv(width: int, a: Word, b: Word) -> Word | None:
    """Signed quotient toward zero; a zero divisor gives 0, the minimum by -1 wraps to itself."""
    half = 1 << width - 1
    if b[4] < 0 and (a[4] == -half and b[4] <= -1 <= b[5]):
        return top(width)
    # The quotient is monotone in each operand between the divisors nearest to and farthest from zero.
    divisors = [d for d in (b[4], b[5], -1, 1) if b[4] <= d <= b[5] and d]
    corners = [_truncating_div(n, d) for n in (a[4], a[5], 0) if a[4] <= n <= a[5] for d in divisors]
    if b[4] <= 0 <= b[5]:
        corners.append(0)
    return _build(width, tnum.unknown(width), None, (min(corners), max(corners)))


def smod(width: int, a: Word, b: Word) -> Word | None:
    """Signed remainder with the dividend's sign; a zero divisor gives the dividend."""
    low, high = min(a[4], 0), max(a[5], 0)
    if not b[4] <= 0 <= b[5]:
        largest = max(abs(b[4]), abs(b[5])) - 1
        low, high = max(low, -largest), min(high, largest)
    return _build(width, tnum.unknown(width), None, (low, high))


def and_(width: int, a: Word, b: Word) -> Word | None:
    return _build(width, tnum.and_(width, _bits(a), _bits(b)), (0, min(a[3], b[3])))


def or_(width: int, a: Word, b: Word) -> Word | None:
    return _build(width, tnum.or_(width, _bits(a), _bits(b)), (max(a[2], b[2]), all_ones(width)))


def xor(width: int, a: Word, b: Word) -> Word | None:
    return _build(width, tnum.xor(width, _bits(a), _bits(b)))


def _counts(width: int, b: Word) -> tuple[int, int]:
    """The least and greatest shift count that `b` can mean, after the masking that the semantics does."""
    return (b[2], b[3]) if b[3] < width else (0, width - 1)


def _count(width: int, b: Word) -> int | None:
    return b[0] & width - 1 if b[1] & width - 1 == 0 else None


def lsh(width: int, a: Word, b: Word) -> Word | None:
    count = _count(width, b)
    low, high = (count, count) if count is not None else _counts(width, b)
    bits = tnum.shl(width, _bits(a), low) if low == high else (0, all_ones(width) & ~all_ones(low))
    unsigned = _if_unsigned(width, a[2] << low, a[3] << high)
    signs = _if_signed(width, min(a[4] << low, a[4] << high), max(a[5] << low, a[5] << high))
    return _build(width, bits, unsigned, signs)


def rsh(width: int, a: Word, b: Word) -> Word | None:
    count = _count(width, b)
    low, high = (count, count) if count is not None else _counts(width, b)
    bits = tnum.lshr(width, _bits(a), low) if low == high else tnum.unknown(width)
    return _build(width, bits, (a[2] >> high, a[3] >> low))


def arsh(width: int, a: Word, b: Word) -> Word | None:
    count = _count(width, b)
    low, high = (count, count) if count is not None else _counts(width, b)
    bits = tnum.ashr(width, _bits(a), low) if low == high else tnum.unknown(width)
    return _build(width, bits, None, (min(a[4] >> low, a[4] >> high), max(a[5] >> low, a[5] >> high)))


def neg(width: int, a: Word, b: Word) -> Word | None:
    return sub(width, constant(width, 0), a)


def mov(width: int, a: Word, b: Word) -> Word | None:
    return b


def sign_extend(bits: int) -> Transfer:
    """The transfer of a sign-extending move from `bits` bits."""

    def transfer(width: int, a: Word, b: Word) -> Word | None:
        signs = _if_signed(bits, b[4], b[5]) or (-(1 << bits - 1), (1 << bits - 1) - 1)
        return _build(width, tnum.sext(width, bits, _bits(b)), None, signs)

    return transfer


TRANSFER: Final[Mapping[str, Transfer]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "mod": mod,
    "sdiv": sdiv,
    "smod": smod,
    "and": and_,
    "or": or_,
    "xor": xor,
    "lsh": lsh,
    "rsh": rsh,
    "arsh": arsh,
    "neg": neg,
    "mov": mov,
    "movsx8": sign_extend(8),
    "movsx16": sign_extend(16),
    "movsx32": sign_extend(32),
}

# The low half of the result depends on the low halves of the operands alone.
LOW_CLOSED: Final = frozenset({"add", "sub", "mul", "and", "or", "xor", "neg", "mov", "movsx8", "movsx16"})

Pair = tuple[Word, Word]


def meet(width: int, a: Word, b: Word) -> Word | None:
    bits = tnum.meet(_bits(a), _bits(b))
    if bits is None:
        return None
    return sync(width, (*bits, max(a[2], b[2]), min(a[3], b[3]), max(a[4], b[4]), min(a[5], b[5])))


def _both(a: Word | None, b: Word | None) -> Pair | None:
    return None if a is None or b is None else (a, b)


def refine_eq(width: int, a: Word, b: Word) -> Pair | None:
    both = meet(width, a, b)
    return None if both is None else (both, both)


def _without(width: int, a: Word, b: Word) -> Word | None:
    """`a` without the value of `b` where that is a constant at an end of a range."""
    if b[1]:
        return a
    value, as_signed = b[0], signed(width, b[0])
    umin, umax, smin, smax = a[2:]
    umin, umax = umin + (umin == value), umax - (umax == value)
    smin, smax = smin + (smin == as_signed), smax - (smax == as_signed)
    return None if umin > umax or smin > smax else sync(width, (a[0], a[1], umin, umax, smin, smax))


def refine_ne(width: int, a: Word, b: Word) -> Pair | None:
    return _both(_without(width, a, b), _without(width, b, a))


def refine_ult(width: int, a: Word, b: Word) -> Pair | None:
    return _both(
        sync(width, (a[0], a[1], a[2], min(a[3], b[3] - 1), a[4], a[5])),
        sync(width, (b[0], b[1], max(b[2], a[2] + 1), b[3], b[4], b[5])),
    )


def refine_ule(width: int, a: Word, b: Word) -> Pair | None:
    return _both(
        sync(width, (a[0], a[1], a[2], min(a[3], b[3]), a[4], a[5])),
        sync(width, (b[0], b[1], max(b[2], a[2]), b[3], b[4], b[5])),
    )


def refine_slt(width: int, a: Word, b: Word) -> Pair | None:
    return _both(
        sync(width, (a[0], a[1], a[2], a[3], a[4], min(a[5], b[5] - 1))),
        sync(width, (b[0], b[1], b[2], b[3], max(b[4], a[4] + 1), b[5])),
    )


def refine_sle(width: int, a: Word, b: Word) -> Pair | None:
    return _both(
        sync(width, (a[0], a[1], a[2], a[3], a[4], min(a[5], b[5]))),
        sync(width, (b[0], b[1], b[2], b[3], max(b[4], a[4]), b[5])),
    )


def _with_bits(width: int, a: Word, bits: Tnum) -> Word | None:
    both = tnum.meet(_bits(a), bits)
    return None if both is None else sync(width, (*both, *a[2:]))


def refine_any_set(width: int, a: Word, b: Word) -> Pair | None:
    """a & b is not zero: where only one bit is possible in common, both have it."""
    common = (a[0] | a[1]) & (b[0] | b[1])
    if common == 0:
        return None
    if common & common - 1:
        return a, b
    one: Tnum = (common, all_ones(width) & ~common)
    return _both(_with_bits(width, a, one), _with_bits(width, b, one))


def refine_none_set(width: int, a: Word, b: Word) -> Pair | None:
    ones = all_ones(width)
    return _both(_with_bits(width, a, (0, ones & ~b[0])), _with_bits(width, b, (0, ones & ~a[0])))


def _swapped(refine: Callable[[int, Word, Word], Pair | None]) -> Callable[[int, Word, Word], Pair | None]:
    def swapped(width: int, a: Word, b: Word) -> Pair | None:
        pair = refine(width, b, a)
        return None if pair is None else (pair[1], pair[0])

    return swapped


Refinement = Callable[[int, Word, Word], Pair | None]
_UGT, _UGE = _swapped(refine_ult), _swapped(refine_ule)
_SGT, _SGE = _swapped(refine_slt), _swapped(refine_sle)
# op -> (what holds when the jump is taken, what holds when it is not)
REFINE: Final[Mapping[str, tuple[Refinement, Refinement]]] = {
    "jeq": (refine_eq, refine_ne),
    "jne": (refine_ne, refine_eq),
    "jgt": (_UGT, refine_ule),
    "jge": (_UGE, refine_ult),
    "jlt": (refine_ult, _UGE),
    "jle": (refine_ule, _UGT),
    "jsgt": (_SGT, refine_sle),
    "jsge": (_SGE, refine_slt),
    "jslt": (refine_slt, _SGE),
    "jsle": (refine_sle, _SGT),
    "jset": (refine_any_set, refine_none_set),
}

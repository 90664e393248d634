"""What the kernel works out about numbers, where that is less than follows from the instruction's meaning.

Each rule names the function of kernel/bpf/verifier.c whose modesty it repeats.  Nothing here may know more than the
domain does: every result includes the domain's.
"""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.isa import Row
from verifier_model.domains import ranges
from verifier_model.domains.scalar import U32_MAX, Scalar, alu_row, combine, full_word, half_word, refine

# Marked unknown whatever the operands (check_alu_op, adjust_scalar_min_max_vals).
_UNKNOWN: Final = frozenset({"div", "mod", "sdiv", "smod", "neg"})
_SHIFTS: Final = frozenset({"lsh", "rsh", "arsh"})
_U16_MAX: Final = 0xFFFF
_S32_MIN, _S64_MIN = -(1 << 31), -(1 << 63)
_UNSIGNED: Final = frozenset({"jgt", "jge", "jlt", "jle"})
_NO_SIGNS: Final = ranges.top(64)[4:], ranges.top(32)[4:]


def _unknown(row: Row) -> Scalar:
    return Scalar.of_width(32) if row.width == 32 else Scalar.top()


def kernel_alu(row: Row, dst: Scalar, src: Scalar) -> Scalar:
    """The result of an ALU row on two numbers as every kernel from 5.10 on knows it."""
    op = row.op
    if op.startswith("movsx"):
        return _sign_extended(row, src)
    if op in _UNKNOWN or (op in _SHIFTS and (src.umax if row.width == 64 else src.u32max) >= row.width):
        # Not even cut to 32 bits: the kernel gives up before (is_safe_to_compute_dst_reg_range).
        return Scalar.top()
    if op in _SHIFTS and src.constant is None:
        return _unknown(row)
    if op == "mul" and (dst.constant is None or src.constant is None):
        # scalar_min_max_mul and scalar32_min_max_mul before 6.14: small and not negative, or unknown.
        limit = U32_MAX if row.width == 64 else _U16_MAX
        largest = max(dst.umax, src.umax) if row.width == 64 else max(dst.u32max, src.u32max)
        if largest > limit:
            return _unknown(row)
    result = alu_row(row, dst, src)
    return _without_signs(result) if op == "lsh" and result.constant is None else result


def _without_signs(value: Scalar) -> Scalar:
    """Signed bounds only as the unsigned ones give them (scalar_min_max_lsh keeps no others)."""
    full, low = full_word(value), half_word(32, value)
    return combine(64, 32, ranges.sync(64, (*full[:4], *_NO_SIGNS[0])), ranges.sync(32, (*low[:4], *_NO_SIGNS[1])))


def _sign_extended(row: Row, src: Scalar) -> Scalar:
    """coerce_reg_to_size_sx: bounds where both ends have one sign and equal upper parts, else just the width."""
    if src.constant is not None:
        return alu_row(row, src, src)
    bits = int(row.op.removeprefix("movsx"))
    low, high = (src.smin, src.smax) if row.width == 64 else (src.s32min, src.s32max)
    half = 1 << bits - 1
    if low >> bits == high >> bits:
        ends = sorted(((low & 2 * half - 1 ^ half) - half, (high & 2 * half - 1 ^ half) - half))
        if (ends[0] < 0) == (ends[1] < 0):
            return _narrowed(row, ends[0], ends[1])
    return _narrowed(row, -half, half - 1)


def _narrowed(row: Row, low: int, high: int) -> Scalar:
    if row.width == 64:
        return Scalar.between(low, high)
    return Scalar.of_width(32) if low < 0 else Scalar.between(low, high)


def _holds(op: str, low: int, high: int, value: int) -> bool | None:
    """Is `x op value` known for every x of [low, high]?"""
    if op in ("jgt", "jsgt"):
        return True if low > value else False if high <= value else None
    if op in ("jge", "jsge"):
        return True if low >= value else False if high < value else None
    if op in ("jlt", "jslt"):
        return True if high < value else False if low >= value else None
    return True if high <= value else False if low > value else None


def old_decision(row: Row, dst: Scalar, src: Scalar) -> bool | None:
    """Which way a branch goes, as kernels before 6.8 decide (is_branch64_taken, is_branch32_taken): None for both.

    They look at a constant on the right side only, and at "equal" only where the left side is constant, too.
    """
    is_half = row.width == 32
    left = half_word(32, dst) if is_half else full_word(dst)
    right = half_word(32, src) if is_half else full_word(src)
    if right[1]:
        return None
    value, op = right[0], row.op
    if op in ("jeq", "jne"):
        return None if left[1] else (left[0] == value) == (op == "jeq")
    if op == "jset":
        return True if left[0] & value else False if not (left[0] | left[1]) & value else None
    if op.startswith("js"):
        return _holds(op, left[4], left[5], right[4])
    return _holds(op, left[2], left[3], value)


def old_lesson(row: Row, dst: Scalar, src: Scalar, taken: bool) -> tuple[Scalar, Scalar]:
    """Both operands behind a branch that kernels before 6.8 could not decide (reg_set_min_max).

    Only a constant teaches, and "differs" teaches nothing; where the side is impossible, nothing is learned.
    """
    op, constant = row.op, src.constant if row.width == 64 else _low_constant(src)
    other = dst.constant if row.width == 64 else _low_constant(dst)
    if constant is None and other is None:
        return dst, src
    teaches = op != ("jne" if taken else "jeq")
    if op == "jset":
        teaches = constant is not None and (not taken or constant & constant - 1 == 0)
    # The other half is forgotten before it could teach anything.
    left, right = (_other_half(row.width, _compared(row, value)) for value in (dst, src))
    pair = refine(row, left, right, taken) if teaches else (dst, src)
    if pair is None:
        # The kernel follows the impossible side with the number that it was compared with.
        pair = (src, src) if op in ("jeq", "jne") and constant is not None else (dst, src)
    return _other_half(row.width, pair[0]), _other_half(row.width, pair[1])


def new_lesson(row: Row, dst: Scalar, src: Scalar, taken: bool) -> tuple[Scalar, Scalar] | None:
    """Both operands behind a branch as kernels from 6.8 on know them; None where it cannot have gone that way."""
    pair = refine(row, _compared(row, dst), _compared(row, src), taken)
    return None if pair is None else (_learned(row, dst, pair[0]), _learned(row, src, pair[1]))


def _compared(row: Row, value: Scalar) -> Scalar:
    """What takes part in a comparison: of numbers without a least one, an unsigned comparison forgets signed bounds."""
    least = value.smin == _S64_MIN if row.width == 64 else value.s32min == _S32_MIN
    if row.op not in _UNSIGNED or not least:
        return value
    full, low = full_word(value), half_word(32, value)
    if row.width == 64:
        full = (*full[:4], *_NO_SIGNS[0])
    return combine(64, 32, ranges.sync(64, full), ranges.sync(32, (*low[:4], *_NO_SIGNS[1])))


def _learned(row: Row, old: Scalar, new: Scalar) -> Scalar:
    """The signs of a half and of the whole are one only where the half is not negative (__reg_deduce_mixed_bounds)."""
    is_mixed = row.width == 32 and _S32_MIN <= old.smin < 0 and old.smax < -_S32_MIN and new.s32min < 0
    return old if is_mixed and new.constant is None else new


def _low_constant(value: Scalar) -> int | None:
    return value.u32min if value.u32min == value.u32max else None


def _other_half(width: int, value: Scalar) -> Scalar:
    """Bounds of the half that was not compared, worked out anew (__reg_combine_32_into_64 and its twin)."""
    if value.constant is not None:
        return value
    full, low = full_word(value), half_word(32, value)
    if width == 64:
        return combine(64, 32, full, ranges.sync(32, (*low[:2], *ranges.top(32)[2:])))
    if value.bits_value >> 32 == 0 and value.bits_mask >> 32 == 0:
        return value
    return combine(64, 32, ranges.sync(64, (*full[:2], *ranges.top(64)[2:])), low)

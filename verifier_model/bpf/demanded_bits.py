"""Which bits of its operands an instruction needs, given which bits of its result are wanted.

A bit that is not demanded may change freely without changing any demanded bit of the result.  Everything here may
demand too much, never too little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from verifier_model.bpf.demand import ALL_BITS
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Operand, Row

Masks = tuple[int, int]  # demanded bits of dst and of src
# (width, wanted bits of the result below that width, the immediate or None for a register operand) -> masks
Rule = Callable[[int, int, int | None], Masks]


def low_bits(count: int) -> int:
    return (1 << count) - 1


def _up_to_highest(wanted: int) -> int:
    return low_bits(wanted.bit_length())


def _from_lowest(width: int, wanted: int) -> int:
    return low_bits(width) & -(wanted & -wanted) if wanted else 0


def _carry(width: int, wanted: int, imm: int | None) -> Masks:
    # Carries run upward only: bits above the highest wanted one do not matter.
    mask = _up_to_highest(wanted)
    return mask, mask


def _same(width: int, wanted: int, imm: int | None) -> Masks:
    return wanted, wanted


def _every(width: int, wanted: int, imm: int | None) -> Masks:
    return low_bits(width), low_bits(width)


def _and(width: int, wanted: int, imm: int | None) -> Masks:
    return wanted if imm is None else wanted & imm, wanted


def _or(width: int, wanted: int, imm: int | None) -> Masks:
    return wanted if imm is None else wanted & ~imm, wanted


def _mov(width: int, wanted: int, imm: int | None) -> Masks:
    return 0, wanted


def _lsh(width: int, wanted: int, imm: int | None) -> Masks:
    if imm is None:
        return _up_to_highest(wanted), width - 1
    return wanted >> (imm & width - 1), 0


def _rsh(width: int, wanted: int, imm: int | None) -> Masks:
    if imm is None:
        return _from_lowest(width, wanted), width - 1
    return wanted << (imm & width - 1) & low_bits(width), 0


def _arsh(width: int, wanted: int, imm: int | None) -> Masks:
    sign = 1 << width - 1
    if imm is None:
        return _from_lowest(width, wanted) | (sign if wanted else 0), width - 1
    count = imm & width - 1
    copies = low_bits(width) & ~low_bits(width - 1 - count)
    return wanted << count & low_bits(width) | (sign if wanted & copies else 0), 0


def _sign_move(bits: int) -> Rule:
    def rule(width: int, wanted: int, imm: int | None) -> Masks:
        sign = 1 << bits - 1
        return 0, wanted & low_bits(bits) | (sign if wanted & ~low_bits(bits) else 0)

    return rule


_RULES: Final[dict[str, Rule]] = {
    "add": _carry,
    "sub": _carry,
    "mul": _carry,
    "neg": _carry,
    "div": _every,
    "sdiv": _every,
    "mod": _every,
    "smod": _every,
    "or": _or,
    "and": _and,
    "xor": _same,
    "lsh": _lsh,
    "rsh": _rsh,
    "arsh": _arsh,
    "mov": _mov,
    "movsx8": _sign_move(8),
    "movsx16": _sign_move(16),
    "movsx32": _sign_move(32),
}


def alu_demand(insn: Insn, wanted: int) -> Masks:
    """The demanded bits of dst and src (0 where the row does not read them) for the `wanted` bits of the new dst.

    The immediate of an instruction with a CO-RE record is rewritten by the loader and so is not looked at.
    """
    row = insn.row
    if insn.origin.core:
        dst = 0 if row.op.startswith("mov") else low_bits(row.width)
        return dst, low_bits(row.width) if row.operand is Operand.REG else 0
    imm = insn.imm if row.operand is Operand.IMM else None
    dst, src = _RULES[row.op](row.width, wanted & low_bits(row.width), imm)
    return dst, src if row.operand is Operand.REG else 0


def reads_dst(row: Row) -> bool:
    """Does an ALU row read the old value of its dst?"""
    return not row.op.startswith("mov")


def endian_demand(row: Row, wanted: int) -> int:
    """The demanded bits of a byte swap's register.  The machine's byte order is not known here, so whole bytes of
    both orders are demanded for `le` and `be`."""
    swapped = sum(0xFF << row.width - 8 - at for at in range(0, row.width, 8) if wanted >> at & 0xFF)
    if row.op == "bswap":
        return swapped
    return swapped | wanted & low_bits(row.width)


def branch_demand(insn: Insn) -> Masks:
    """The bits of dst and src that decide a branch.

    x < C does not depend on the bits below the lowest set bit of C, and x > C means x >= C + 1.
    """
    row, every = insn.row, low_bits(insn.row.width)
    if row.operand is Operand.REG:
        return every, every
    if insn.origin.core:
        return every, 0
    if row.op == "jset":
        return every & insn.imm, 0
    if row.op in ("jeq", "jne"):
        return every, 0
    bound = insn.imm + 1 if row.op in ("jgt", "jle", "jsgt", "jsle") else insn.imm
    return every & ~low_bits(_trailing_zeros(bound & every, row.width)), 0


def _trailing_zeros(value: int, width: int) -> int:
    # A bound of zero (x s< 0, or one that never or always holds) leaves the top bit.
    return (value & -value).bit_length() - 1 if value else width - 1


def stored_bits(insn: Insn) -> int:
    """The bits of src that a store puts into memory; a CO-RE record may widen the store."""
    return low_bits(insn.row.width) if not insn.origin.core else ALL_BITS

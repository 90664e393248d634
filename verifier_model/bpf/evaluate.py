"""From a row's meaning to 64-bit register values: the cutting and extending that every engine needs, once.

All registers are 64-bit values of the algebra.  Sources: RFC 9669 sections 4 and 5, kernel/bpf/core.c.
"""

from __future__ import annotations

from typing import Any

from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.isa import Row
from verifier_model.bpf.semantics import AnyAlgebra, add, and_, byte_swap, keep_low, or_, xor

_ATOMIC_MEANINGS = {"add": add, "or": or_, "and": and_, "xor": xor}


def immediate(alg: AnyAlgebra, imm: int) -> Any:
    """A 32-bit immediate as the 64-bit operand it stands for: sign-extended (RFC 9669 section 4.1)."""
    return alg.const(64, imm)


def alu_result(alg: AnyAlgebra, row: Row, dst: Any, src: Any) -> Any:
    """The new 64-bit dst of an ALU row, from 64-bit operands; 32-bit rows zero the upper half."""
    assert row.meaning is not None, row.name
    if row.width == 64:
        return row.meaning(alg, 64, dst, src)
    result = row.meaning(alg, row.width, alg.trunc(row.width, dst), alg.trunc(row.width, src))
    return alg.zext(64, result)


def branch_taken(alg: AnyAlgebra, row: Row, dst: Any, src: Any) -> Any:
    """Whether a branch row jumps, from 64-bit operands; 32-bit rows compare the low halves."""
    assert row.condition is not None, row.name
    if row.width == 64:
        return row.condition(alg, 64, dst, src)
    return row.condition(alg, row.width, alg.trunc(row.width, dst), alg.trunc(row.width, src))


def endian_result(alg: AnyAlgebra, row: Row, dst: Any, order: ByteOrder) -> Any:
    """The new 64-bit dst of `leN`, `beN` or `bswapN` on a machine of that byte order."""
    own = {"le": "little", "be": "big"}.get(row.op)
    if own == order:
        return keep_low(alg, row.width, dst)
    return byte_swap(alg, row.width, dst)


def loaded(alg: AnyAlgebra, row: Row, value: Any) -> Any:
    """The 64-bit register value of a load whose memory content, `row.width` bits, is `value`."""
    return alg.sext(64, value) if row.sign else alg.zext(64, value)


def stored(alg: AnyAlgebra, row: Row, register: Any) -> Any:
    """The `row.width` bits that a store of the 64-bit `register` (or extended immediate) puts into memory."""
    return alg.trunc(row.width, register)


def atomic_memory(alg: AnyAlgebra, row: Row, old: Any, src: Any, r0: Any) -> Any:
    """The new memory content of an atomic; `old` has the row's width, the registers `src` and r0 have 64 bits."""
    operand = alg.trunc(row.width, src)
    if row.op == "xchg":
        return operand
    if row.op == "cmpxchg":
        return alg.ite(alg.eq(old, alg.trunc(row.width, r0)), operand, old)
    return _ATOMIC_MEANINGS[row.op](alg, row.width, old, operand)


def atomic_destination(row: Row, src: int) -> int | None:
    """The register that receives the old memory content, zero-extended: r0 for cmpxchg, `src` for other fetches."""
    if not row.fetch:
        return None
    return 0 if row.op == "cmpxchg" else src

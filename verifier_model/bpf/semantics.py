"""What each operation computes, once, over any `Algebra`.

Sources: RFC 9669 sections 4.1 to 4.3 and 5.2; kernel/bpf/core.c (`___bpf_prog_run`) where the RFC is silent.
An ALU meaning takes the two operands already cut to the row's width and returns a value of that width;
`alu_result` does the cutting and the zero extension that every 32-bit ALU instruction implies.
"""

from __future__ import annotations

from typing import Any, Protocol

from verifier_model.bpf.algebra import Algebra

AnyAlgebra = Algebra[Any, Any]


class AluMeaning(Protocol):
    """(algebra, width in bits, dst, src) -> the new dst, all of that width."""

    def __call__(self, alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any: ...


class Condition(Protocol):
    """(algebra, width in bits, dst, src) -> is the jump taken?"""

    def __call__(self, alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any: ...


def add(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.add(dst, src)


def sub(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.sub(dst, src)


def mul(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.mul(dst, src)


def _safe_divisor(alg: AnyAlgebra, width: int, src: Any) -> tuple[Any, Any]:
    is_zero = alg.eq(src, alg.const(width, 0))
    return is_zero, alg.ite(is_zero, alg.const(width, 1), src)


def udiv(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    """dst / src, and 0 when src is 0 (RFC 9669 section 4.1)."""
    is_zero, divisor = _safe_divisor(alg, width, src)
    return alg.ite(is_zero, alg.const(width, 0), alg.udiv(dst, divisor))


def umod(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    """dst % src, and dst when src is 0 (RFC 9669 section 4.1)."""
    is_zero, divisor = _safe_divisor(alg, width, src)
    return alg.ite(is_zero, dst, alg.urem(dst, divisor))


def sdiv(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    is_zero, divisor = _safe_divisor(alg, width, src)
    return alg.ite(is_zero, alg.const(width, 0), alg.sdiv(dst, divisor))


def smod(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    is_zero, divisor = _safe_divisor(alg, width, src)
    return alg.ite(is_zero, dst, alg.srem(dst, divisor))


def or_(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.or_(dst, src)


def and_(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.and_(dst, src)


def xor(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.xor(dst, src)


def _shift_count(alg: AnyAlgebra, width: int, src: Any) -> Any:
    # Register shifts take the count modulo the width (RFC 9669 section 4.1); the verifier refuses larger immediates.
    return alg.and_(src, alg.const(width, width - 1))


def lsh(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.shl(dst, _shift_count(alg, width, src))


def rsh(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.lshr(dst, _shift_count(alg, width, src))


def arsh(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.ashr(dst, _shift_count(alg, width, src))


def neg(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.sub(alg.const(width, 0), dst)


def mov(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return src


def movsx8(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.sext(width, alg.trunc(8, src))


def movsx16(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.sext(width, alg.trunc(16, src))


def movsx32(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.sext(width, alg.trunc(32, src))


def byte_swap(alg: AnyAlgebra, bits: int, value: Any) -> Any:
    """The low `bits` bits of a 64-bit value with their bytes reversed, zero-extended to 64 bits."""
    result = alg.const(64, 0)
    for byte in range(bits // 8):
        moved = alg.and_(alg.lshr(value, alg.const(64, 8 * byte)), alg.const(64, 0xFF))
        result = alg.or_(result, alg.shl(moved, alg.const(64, bits - 8 - 8 * byte)))
    return result


def keep_low(alg: AnyAlgebra, bits: int, value: Any) -> Any:
    """What `le16` and friends do on a machine that already has that byte order."""
    return alg.zext(64, alg.trunc(bits, value))


def jeq(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.eq(dst, src)


def jne(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.not_(alg.eq(dst, src))


def jset(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.not_(alg.eq(alg.and_(dst, src), alg.const(width, 0)))


def jgt(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.ult(src, dst)


def jge(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.not_(alg.ult(dst, src))


def jlt(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.ult(dst, src)


def jle(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.not_(alg.ult(src, dst))


def jsgt(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.slt(src, dst)


def jsge(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.not_(alg.slt(dst, src))


def jslt(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.slt(dst, src)


def jsle(alg: AnyAlgebra, width: int, dst: Any, src: Any) -> Any:
    return alg.not_(alg.slt(src, dst))

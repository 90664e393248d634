"""The algebra of LLVM IR: a value is an IR integer of its width, a truth value an `i1`.

LLVM leaves shifts by the width or more, division by zero and the overflowing signed division undefined.  The semantics
asks for the first two only on paths that do not count, but IR has no such paths: every operand is made defined here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

Value = Any  # llvmlite has no types to offer


@dataclass(frozen=True, slots=True)
class IrAlgebra:
    """`Algebra[Value, Value]` that appends to where `builder` stands."""

    builder: Any

    def const(self, width: int, value: int) -> Value:
        return ir.Constant(ir.IntType(width), value & ((1 << width) - 1))

    def add(self, a: Value, b: Value) -> Value:
        return self.builder.add(a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self.builder.sub(a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.builder.mul(a, b)

    def udiv(self, a: Value, b: Value) -> Value:
        return self.builder.udiv(a, self._nonzero(b))

    def urem(self, a: Value, b: Value) -> Value:
        return self.builder.urem(a, self._nonzero(b))

    def sdiv(self, a: Value, b: Value) -> Value:
        by_minus_one = self._is_minus_one(b)
        divided = self.builder.sdiv(a, self._neither(b, by_minus_one))
        return self.ite(by_minus_one, self.sub(self.const(a.type.width, 0), a), divided)

    def srem(self, a: Value, b: Value) -> Value:
        by_minus_one = self._is_minus_one(b)
        rest = self.builder.srem(a, self._neither(b, by_minus_one))
        return self.ite(by_minus_one, self.const(a.type.width, 0), rest)

    def _nonzero(self, b: Value) -> Value:
        return self.ite(self.eq(b, self.const(b.type.width, 0)), self.const(b.type.width, 1), b)

    def _is_minus_one(self, b: Value) -> Value:
        return self.eq(b, self.const(b.type.width, -1))

    def _neither(self, b: Value, by_minus_one: Value) -> Value:
        return self._nonzero(self.ite(by_minus_one, self.const(b.type.width, 1), b))

    def and_(self, a: Value, b: Value) -> Value:
        return self.builder.and_(a, b)

    def or_(self, a: Value, b: Value) -> Value:
        return self.builder.or_(a, b)

    def xor(self, a: Value, b: Value) -> Value:
        return self.builder.xor(a, b)

    def shl(self, a: Value, b: Value) -> Value:
        return self.builder.shl(a, b)

    def lshr(self, a: Value, b: Value) -> Value:
        return self.builder.lshr(a, b)

    def ashr(self, a: Value, b: Value) -> Value:
        return self.builder.ashr(a, b)

    def zext(self, width: int, a: Value) -> Value:
        return a if a.type.width == width else self.builder.zext(a, ir.IntType(width))

    def sext(self, width: int, a: Value) -> Value:
        return a if a.type.width == width else self.builder.sext(a, ir.IntType(width))

    def trunc(self, width: int, a: Value) -> Value:
        return a if a.type.width == width else self.builder.trunc(a, ir.IntType(width))

    def eq(self, a: Value, b: Value) -> Value:
        return self.builder.icmp_unsigned("==", a, b)

    def ult(self, a: Value, b: Value) -> Value:
        return self.builder.icmp_unsigned("<", a, b)

    def slt(self, a: Value, b: Value) -> Value:
        return self.builder.icmp_signed("<", a, b)

    def not_(self, a: Value) -> Value:
        return self.builder.not_(a)

    def ite(self, condition: Value, a: Value, b: Value) -> Value:
        return self.builder.select(condition, a, b)

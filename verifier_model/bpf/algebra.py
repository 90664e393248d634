"""The abstract bit-vector algebra over which the meaning of every instruction is written once.

`V` is a value of a fixed width in bits, `B` a truth value.  Python integers, z3 terms, the abstract
domains and LLVM IR each implement `Algebra`; `semantics` never looks inside a `V` or a `B`.

Operators take operands of one width and return that width.  Signedness is in the operator's name.
Division and remainder are only asked for with a divisor that the caller has made non-zero on the path
where the result counts (RFC 9669 section 4.1 defines the zero case, and `semantics` selects it).
"""

from __future__ import annotations

from typing import Protocol, TypeVar

V = TypeVar("V")
B = TypeVar("B")


class Algebra(Protocol[V, B]):
    """What an engine must offer to run the semantics.  Widths are in bits, 1 to 64."""

    def const(self, width: int, value: int) -> V:
        """The constant `value` modulo 2**width."""

    def add(self, a: V, b: V) -> V: ...
    def sub(self, a: V, b: V) -> V: ...
    def mul(self, a: V, b: V) -> V: ...
    def udiv(self, a: V, b: V) -> V: ...
    def urem(self, a: V, b: V) -> V: ...
    def sdiv(self, a: V, b: V) -> V:
        """Signed division truncated toward zero; the minimum divided by -1 is the minimum."""

    def srem(self, a: V, b: V) -> V:
        """Remainder of `sdiv`: it has the sign of the dividend; anything modulo -1 is 0."""

    def and_(self, a: V, b: V) -> V: ...
    def or_(self, a: V, b: V) -> V: ...
    def xor(self, a: V, b: V) -> V: ...
    def shl(self, a: V, b: V) -> V:
        """Left shift; `b` is below the width (the semantics masks it first)."""

    def lshr(self, a: V, b: V) -> V: ...
    def ashr(self, a: V, b: V) -> V: ...
    def zext(self, width: int, a: V) -> V:
        """`a` zero-extended to `width` bits; the same value when it already has that width."""

    def sext(self, width: int, a: V) -> V: ...
    def trunc(self, width: int, a: V) -> V:
        """The low `width` bits of `a`."""

    def eq(self, a: V, b: V) -> B: ...
    def ult(self, a: V, b: V) -> B: ...
    def slt(self, a: V, b: V) -> B: ...
    def not_(self, a: B) -> B: ...
    def ite(self, condition: B, a: V, b: V) -> V: ...

"""Term constructors that rewrite as they build, so that most proofs end with two identical terms and no solver call.

The normal form is a row of segments: a term is a concatenation of constants, slices of opaque terms, and copies of a
sign bit.  Masks, shifts by constants, byte swaps and extensions only move segments about, and neighbours that belong
together join again; so a 16-bit load and two byte loads glued with shift and or become one and the same term.  Sums are
kept as linear forms.  Each rule is an identity of bit-vector arithmetic; tests/prover checks them all against z3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

from verifier_model.prover.terms import Term, Terms, mask

Pair = tuple[Term, Term]
_TRUNC_DEPTH: Final = 12


class SimplifyingTerms(Terms):
    """`Terms` whose every constructor returns an equal, usually smaller term."""

    def __init__(self) -> None:
        super().__init__()
        self._narrow: dict[tuple[int, int], Term] = {}

    # ---- segments ----

    def slice(self, a: Term, low: int, width: int) -> Term:
        if width == a.width:
            return a
        if a.constant is not None:
            return self.const(width, a.constant >> low)
        if a.op == "slice":
            assert isinstance(a.data, int)
            return self.slice(a.args[0], a.data + low, width)
        if a.op == "concat":
            return self.concat(self._cut(a.args, low, width))
        if a.op == "sext" and a.args[0].width == 1:
            return self._copies(a.args[0], width)
        return self.node("slice", width, (a,), low)

    def _cut(self, parts: Iterable[Term], low: int, width: int) -> list[Term]:
        kept = []
        position = 0
        for part in parts:
            start, stop = max(low, position), min(low + width, position + part.width)
            if start < stop:
                kept.append(self.slice(part, start - position, stop - start))
            position += part.width
        return kept

    def concat(self, parts: Iterable[Term]) -> Term:
        joined: list[Term] = []
        for part in parts:
            for piece in segments(part):
                merged = self._join(joined[-1], piece) if joined else None
                if merged is None:
                    joined.append(piece)
                else:
                    joined[-1] = merged
        return super().concat(joined)

    def _join(self, low: Term, high: Term) -> Term | None:
        """One segment for two neighbours, if they belong together."""
        if low.constant is not None and high.constant is not None:
            return self.const(low.width + high.width, low.constant | high.constant << low.width)
        if high.op == "slice" and low.op == "slice" and low.args[0] is high.args[0]:
            assert isinstance(low.data, int)
            if high.data == low.data + low.width:
                return self.slice(low.args[0], low.data, low.width + high.width)
        if _is_copies(low) and _is_copies(high) and low.args[0] is high.args[0]:
            return self._copies(low.args[0], low.width + high.width)
        return None

    def _copies(self, bit: Term, count: int) -> Term:
        """One bit, `count` times."""
        if bit.constant is not None:
            return self.const(count, -bit.constant)
        return bit if count == 1 else self.node("sext", count, (bit,))

    def sext(self, width: int, a: Term) -> Term:
        if width == a.width:
            return a
        sign = self.slice(a, a.width - 1, 1)
        return self.concat((a, self._copies(sign, width - a.width)))

    def trunc(self, width: int, a: Term) -> Term:
        return self._trunc(width, a, _TRUNC_DEPTH)

    def _trunc(self, width: int, a: Term, depth: int) -> Term:
        """Like slice, but works on narrow operands: the low bits of a sum depend on the low bits of its terms only.

        Goes down `depth` levels at most, and does no node twice: terms share their parts.
        """
        key = (a.id, width)
        if key not in self._narrow:
            self._narrow[key] = self._narrowed(width, a, depth)
        return self._narrow[key]

    def _narrowed(self, width: int, a: Term, depth: int) -> Term:
        if width == a.width or depth == 0:
            return self.slice(a, 0, width)
        deeper = depth - 1
        if a.op == "concat" and a.args[0].width >= width:
            return self._trunc(width, a.args[0], deeper)
        if a.op == "linear":
            constant, parts = self.linear_form(a)
            total = self.const(width, constant)
            for coefficient, part in parts.values():
                total = self.add(total, self.mul(self.const(width, coefficient), self._trunc(width, part, deeper)))
            return total
        if a.op in ("mul", "and", "or", "xor", "not"):
            build: Callable[..., Term] = getattr(self, _BUILDERS[a.op])
            return build(*[self._trunc(width, arg, deeper) for arg in a.args])
        if a.op == "ite":
            return self.ite(a.args[0], self._trunc(width, a.args[1], deeper), self._trunc(width, a.args[2], deeper))
        return self.slice(a, 0, width)

    def _aligned(self, a: Term, b: Term) -> list[Pair]:
        """Both operands cut where either begins or ends a constant: each pair is constant or not throughout."""
        cuts = sorted({0, a.width, *_constant_edges(a), *_constant_edges(b)})
        return [(self.slice(a, low, high - low), self.slice(b, low, high - low)) for low, high in pairwise(cuts)]

    # ---- bitwise ----

    def and_(self, a: Term, b: Term) -> Term:
        return self._bitwise(a, b, self._and_part)

    def or_(self, a: Term, b: Term) -> Term:
        return self._bitwise(a, b, self._or_part)

    def xor(self, a: Term, b: Term) -> Term:
        return self._bitwise(a, b, self._xor_part)

    def invert(self, a: Term) -> Term:
        return self.xor(a, self.const(a.width, -1))

    def _bitwise(self, a: Term, b: Term, part: Callable[[Term, Term], Term]) -> Term:
        if a.id > b.id:
            a, b = b, a
        return self.concat(part(x, y) for x, y in self._aligned(a, b))

    def _and_part(self, a: Term, b: Term) -> Term:
        if a.constant is not None or b.constant is not None:
            return self._with_constant(a, b, lambda x, bit: x if bit else self.const(x.width, 0))
        return a if a is b else self.node("and", a.width, (a, b))

    def _or_part(self, a: Term, b: Term) -> Term:
        if a.constant is not None or b.constant is not None:
            return self._with_constant(a, b, lambda x, bit: self.const(x.width, -1) if bit else x)
        return a if a is b else self.node("or", a.width, (a, b))

    def _xor_part(self, a: Term, b: Term) -> Term:
        if a.constant is not None or b.constant is not None:
            return self._with_constant(a, b, lambda x, bit: self._inverted(x) if bit else x)
        return self.const(a.width, 0) if a is b else self.node("xor", a.width, (a, b))

    def _inverted(self, a: Term) -> Term:
        if a.constant is not None:
            return self.const(a.width, ~a.constant)
        return a.args[0] if a.op == "not" else self.node("not", a.width, (a,))

    def _with_constant(self, a: Term, b: Term, on_bit: Callable[[Term, int], Term]) -> Term:
        """Apply `on_bit` to the runs of equal bits of the constant operand."""
        value, other = (a.constant, b) if a.constant is not None else (b.constant, a)
        assert value is not None
        pieces = []
        low = 0
        while low < other.width:
            bit = value >> low & 1
            high = low + 1
            while high < other.width and value >> high & 1 == bit:
                high += 1
            pieces.append(on_bit(self.slice(other, low, high - low), bit))
            low = high
        return self.concat(pieces)

    # ---- arithmetic ----

    def scaled(self, a: Term) -> tuple[int, Term]:
        zeros = segments(a)[0]
        if a.op == "concat" and len(a.args) == 2 and zeros.constant == 0 and a.args[1].data == 0:
            whole = a.args[1].args[0] if a.args[1].op == "slice" else a
            if whole.width == a.width and whole is not a:
                return 1 << zeros.width, whole
        return 1, a

    def add(self, a: Term, b: Term) -> Term:
        if not maximum(a) & maximum(b):  # no carries: the operands occupy different bits
            return self.or_(a, b)
        return self._weighted(a, b, 1)

    def sub(self, a: Term, b: Term) -> Term:
        return self._weighted(a, b, mask(a.width))

    def _weighted(self, a: Term, b: Term, weight: int) -> Term:
        """a + weight * b."""
        constant, parts = self.linear_form(a)
        other_constant, other_parts = self.linear_form(b)
        limit = mask(a.width)
        for key, (coefficient, term) in other_parts.items():
            total = (parts.get(key, (0, term))[0] + weight * coefficient) & limit
            if total:
                parts[key] = (total, term)
            else:
                parts.pop(key, None)
        return self._from_linear(a.width, (constant + weight * other_constant) & limit, parts)

    def _from_linear(self, width: int, constant: int, parts: dict[int, tuple[int, Term]]) -> Term:
        if len(parts) == 1 and constant == 0:
            ((coefficient, term),) = parts.values()
            if coefficient & (coefficient - 1) == 0:
                return self._shifted_left(term, coefficient.bit_length() - 1)
        return super()._from_linear(width, constant, parts)

    def mul(self, a: Term, b: Term) -> Term:
        if a.constant is not None:
            return self._weighted(self.const(a.width, 0), b, a.constant)
        if b.constant is not None:
            return self._weighted(self.const(a.width, 0), a, b.constant)
        return self.node("mul", a.width, (a, b) if a.id <= b.id else (b, a))

    def udiv(self, a: Term, b: Term) -> Term:
        return self._unsigned_division(a, b, "udiv", _power_quotient)

    def urem(self, a: Term, b: Term) -> Term:
        return self._unsigned_division(a, b, "urem", _power_remainder)

    def _unsigned_division(
        self, a: Term, b: Term, op: str, by_power: Callable[[SimplifyingTerms, Term, int], Term]
    ) -> Term:
        divisor = b.constant
        if divisor:
            if a.constant is not None:
                return self.const(a.width, a.constant // divisor if op == "udiv" else a.constant % divisor)
            if divisor & (divisor - 1) == 0:
                return by_power(self, a, divisor.bit_length() - 1)
            used = max(maximum(a), divisor).bit_length()
            if used < a.width:  # both fit into fewer bits, and then so does the result
                narrow = self.node(op, used, (self.trunc(used, a), self.trunc(used, b)))
                return self.zext(a.width, narrow)
        return self.node(op, a.width, (a, b))

    def sdiv(self, a: Term, b: Term) -> Term:
        if b.constant == 1:
            return a
        return super().sdiv(a, b)

    # ---- shifts ----

    def _shifted_left(self, a: Term, count: int) -> Term:
        return self.concat((self.const(count, 0), self.slice(a, 0, a.width - count))) if count else a

    def _shifted_right(self, a: Term, count: int) -> Term:
        return self.zext(a.width, self.slice(a, count, a.width - count))

    def shl(self, a: Term, b: Term) -> Term:
        if b.constant is None or b.constant >= a.width:
            return super().shl(a, b)
        return self._shifted_left(a, b.constant)

    def lshr(self, a: Term, b: Term) -> Term:
        if b.constant is None or b.constant >= a.width:
            return super().lshr(a, b)
        return self._shifted_right(a, b.constant)

    def ashr(self, a: Term, b: Term) -> Term:
        if b.constant is None or b.constant >= a.width:
            return super().ashr(a, b)
        return self.sext(a.width, self.slice(a, b.constant, a.width - b.constant))

    # ---- truth values ----

    def eq(self, a: Term, b: Term) -> Term:
        if a is b:
            return self.const(1, 1)
        left, right = [], []
        for x, y in self._aligned(a, b):
            if x is y:
                continue
            if x.constant is not None and y.constant is not None:
                return self.const(1, 0)
            left.append(x)
            right.append(y)
        if not left:
            return self.const(1, 1)
        return self._eq_parts(self.concat(left), self.concat(right))

    def _eq_parts(self, a: Term, b: Term) -> Term:
        if a.width == 1:
            return self.invert(self.xor(a, b))
        if "linear" in (a.op, b.op):
            constant, parts = self.linear_form(self.sub(a, b))
            if not parts:
                return self.const(1, constant == 0)
            first = parts[min(parts)][0]
            if first > mask(a.width) >> 1:  # of x - y and y - x take the one whose first coefficient is positive
                limit = mask(a.width)
                constant, parts = -constant & limit, {k: (-c & limit, t) for k, (c, t) in parts.items()}
            a, b = self._from_linear(a.width, 0, parts), self.const(a.width, -constant)
        return self.node("eq", 1, (a, b) if a.id <= b.id else (b, a))

    def ult(self, a: Term, b: Term) -> Term:
        if a is b or minimum(a) >= maximum(b):
            return self.const(1, 0)
        if maximum(a) < minimum(b):
            return self.const(1, 1)
        high_a, high_b = segments(a)[-1], segments(b)[-1]
        shared = min(high_a.width, high_b.width)
        rest = a.width - shared
        if rest and self.slice(a, rest, shared) is self.slice(b, rest, shared):
            return self.ult(self.slice(a, 0, rest), self.slice(b, 0, rest))
        if b.constant == 1:
            return self.eq(a, self.const(a.width, 0))
        if a.constant is not None:  # c < x is not (x < c + 1); c is not the maximum, or the first rule had decided
            return self.invert(self.ult(b, self.const(a.width, a.constant + 1)))
        return self.node("ult", 1, (a, b))

    def slt(self, a: Term, b: Term) -> Term:
        if a is b:
            return self.const(1, 0)
        sign_a, sign_b = self.slice(a, a.width - 1, 1), self.slice(b, b.width - 1, 1)
        if sign_a.constant is not None and sign_b.constant is not None:
            return self.ult(a, b) if sign_a is sign_b else sign_a
        lowest = 1 << a.width - 1
        if b.constant == lowest or a.constant == lowest - 1:
            return self.const(1, 0)
        if a.constant is not None:
            return self.invert(self.slt(b, self.const(a.width, a.constant + 1)))
        return self.node("slt", 1, (a, b))

    def ite(self, condition: Term, a: Term, b: Term) -> Term:
        if condition.constant is not None:
            return a if condition.constant else b
        if a is b:
            return a
        if a.width == 1 and a.constant == 1 and b.constant == 0:
            return condition
        if condition.op == "not":
            return self.ite(condition.args[0], b, a)
        return super().ite(condition, a, b)


def _power_quotient(terms: SimplifyingTerms, a: Term, log: int) -> Term:
    return terms.lshr(a, terms.const(a.width, log))


def _power_remainder(terms: SimplifyingTerms, a: Term, log: int) -> Term:
    return terms.zext(a.width, terms.trunc(log, a)) if log else terms.const(a.width, 0)


_BUILDERS = {"mul": "mul", "and": "and_", "or": "or_", "xor": "xor", "not": "invert"}


def segments(a: Term) -> tuple[Term, ...]:
    """The parts of a concatenation from the lowest bits up; any other term is its own single part."""
    return a.args if a.op == "concat" else (a,)


def _is_copies(a: Term) -> bool:
    return a.op == "sext" and a.args[0].width == 1


def _constant_edges(a: Term) -> list[int]:
    edges = []
    position = 0
    for part in segments(a):
        if part.constant is not None:
            edges += [position, position + part.width]
        position += part.width
    return edges


def maximum(a: Term) -> int:
    """The value with every unknown segment all ones."""
    value = position = 0
    for part in segments(a):
        value |= (mask(part.width) if part.constant is None else part.constant) << position
        position += part.width
    return value


def minimum(a: Term) -> int:
    """The value with every unknown segment zero."""
    value = position = 0
    for part in segments(a):
        value |= (part.constant or 0) << position
        position += part.width
    return value

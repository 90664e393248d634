"""Bit-vector terms of the prover: hash-consed nodes, built here exactly as asked, without any rewriting.

A term is a value of 1 to 64 bits; truth values are terms of one bit.  `Terms` implements `Algebra`, so the ground's
semantics run over it.  `simplify.SimplifyingTerms` builds equal but smaller terms; `smt_algebra` hands terms to z3 and
`evaluate` computes them, and both give every operator the meaning that this table states:

    const     data = the value                       var     data = a name (any hashable)
    slice     data = lowest bit; args = (a,)         concat  args from the lowest bits to the highest
    init      data = region; args = (address,)       the byte that a region holds at an address when the window starts
    linear    data = (constant, coefficients)        constant + sum of coefficient * argument, modulo 2**width
    mul and or xor not shl lshr ashr sext ite eq ult slt     as in SMT-LIB's theory of bit vectors
    udiv urem sdiv srem                              SMT-LIB's, by zero too (the semantics never divide by zero)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from heapq import heappop, heappush


class Term:
    """One node.  `id` counts the nodes of one `Terms` in order of creation: arguments have smaller ids than users."""

    __slots__ = ("args", "data", "id", "op", "width")

    def __init__(self, id: int, op: str, width: int, args: tuple[Term, ...], data: Hashable) -> None:
        self.id = id
        self.op = op
        self.width = width
        self.args = args
        self.data = data

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.args))
        return f"{self.op}{self.width}({'' if self.data is None else self.data}{', ' if self.args else ''}{inner})"

    @property
    def constant(self) -> int | None:
        """The value of a constant, else None."""
        return self.data if self.op == "const" and isinstance(self.data, int) else None


def mask(width: int) -> int:
    return (1 << width) - 1


class Terms:
    """The nodes of one proof.  Equal nodes are one object, so `is` decides syntactic equality."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Term] = {}

    def node(self, op: str, width: int, args: tuple[Term, ...] = (), data: Hashable = None) -> Term:
        key = (op, width, data, *[arg.id for arg in args])
        found = self._nodes.get(key)
        if found is None:
            found = Term(len(self._nodes), op, width, args, data)
            self._nodes[key] = found
        return found

    def const(self, width: int, value: int) -> Term:
        return self.node("const", width, (), value & mask(width))

    def var(self, name: Hashable, width: int) -> Term:
        return self.node("var", width, (), name)

    def init(self, region: Hashable, address: Term) -> Term:
        return self.node("init", 8, (address,), region)

    def slice(self, a: Term, low: int, width: int) -> Term:
        """Bits `low` to `low + width - 1` of `a`."""
        return a if width == a.width else self.node("slice", width, (a,), low)

    def concat(self, parts: Iterable[Term]) -> Term:
        """The parts beside each other, the first in the lowest bits."""
        all_parts = tuple(parts)
        if len(all_parts) == 1:
            return all_parts[0]
        return self.node("concat", sum(part.width for part in all_parts), all_parts)

    def add(self, a: Term, b: Term) -> Term:
        return self.node("linear", a.width, (a, b), (0, (1, 1)))

    def sub(self, a: Term, b: Term) -> Term:
        return self.node("linear", a.width, (a, b), (0, (1, mask(a.width))))

    def mul(self, a: Term, b: Term) -> Term:
        return self.node("mul", a.width, (a, b))

    def udiv(self, a: Term, b: Term) -> Term:
        return self.node("udiv", a.width, (a, b))

    def urem(self, a: Term, b: Term) -> Term:
        return self.node("urem", a.width, (a, b))

    def sdiv(self, a: Term, b: Term) -> Term:
        return self.node("sdiv", a.width, (a, b))

    def srem(self, a: Term, b: Term) -> Term:
        return self.node("srem", a.width, (a, b))

    def and_(self, a: Term, b: Term) -> Term:
        return self.node("and", a.width, (a, b))

    def or_(self, a: Term, b: Term) -> Term:
        return self.node("or", a.width, (a, b))

    def xor(self, a: Term, b: Term) -> Term:
        return self.node("xor", a.width, (a, b))

    def invert(self, a: Term) -> Term:
        return self.node("not", a.width, (a,))

    def shl(self, a: Term, b: Term) -> Term:
        return self.node("shl", a.width, (a, b))

    def lshr(self, a: Term, b: Term) -> Term:
        return self.node("lshr", a.width, (a, b))

    def ashr(self, a: Term, b: Term) -> Term:
        return self.node("ashr", a.width, (a, b))

    def zext(self, width: int, a: Term) -> Term:
        return a if width == a.width else self.concat((a, self.const(width - a.width, 0)))

    def sext(self, width: int, a: Term) -> Term:
        return a if width == a.width else self.node("sext", width, (a,))

    def trunc(self, width: int, a: Term) -> Term:
        return self.slice(a, 0, width)

    def eq(self, a: Term, b: Term) -> Term:
        return self.node("eq", 1, (a, b))

    def ult(self, a: Term, b: Term) -> Term:
        return self.node("ult", 1, (a, b))

    def slt(self, a: Term, b: Term) -> Term:
        return self.node("slt", 1, (a, b))

    def not_(self, a: Term) -> Term:
        return self.invert(a)

    def ite(self, condition: Term, a: Term, b: Term) -> Term:
        return self.node("ite", a.width, (condition, a, b))

    def offset(self, a: Term, constant: int) -> Term:
        """`a` plus a constant number."""
        return self.add(a, self.const(a.width, constant))

    def split(self, address: Term) -> tuple[Term, int]:
        """(base, constant) whose sum is the address; equal bases make the distance of two addresses a constant.

        The base of a constant address is the constant 0.
        """
        constant, parts = self.linear_form(address)
        base = self._from_linear(address.width, 0, parts)
        return base, constant

    def linear_form(self, a: Term) -> tuple[int, dict[int, tuple[int, Term]]]:
        """(constant, {id of a part: (coefficient, part)}) whose weighted sum is `a`; no coefficient is zero."""
        total = 0
        parts: dict[int, tuple[int, Term]] = {}
        limit = mask(a.width)
        weights = {a.id: (1, a)}
        heap = [-a.id]
        while heap:  # users have larger ids than their arguments, so a weight is complete when its turn comes
            weight, term = weights[-heappop(heap)]
            if term.constant is not None:
                total += weight * term.constant
            elif term.op == "linear":
                constant, coefficients = linear_data(term)
                total += weight * constant
                for coefficient, arg in zip(coefficients, term.args, strict=True):
                    if arg.id not in weights:
                        heappush(heap, -arg.id)
                    known = weights.get(arg.id, (0, arg))[0]
                    weights[arg.id] = ((known + weight * coefficient) & limit, arg)
            elif weight:
                factor, whole = self.scaled(term)
                known = parts.get(whole.id, (0, whole))[0]
                parts[whole.id] = ((known + factor * weight) & limit, whole)
        return total & limit, {key: part for key, part in parts.items() if part[0]}

    def scaled(self, a: Term) -> tuple[int, Term]:
        """(factor, term) whose product is `a`, a term that is no sum."""
        return 1, a

    def _from_linear(self, width: int, constant: int, parts: dict[int, tuple[int, Term]]) -> Term:
        """The canonical node of a linear form."""
        if not parts:
            return self.const(width, constant)
        ordered = [parts[key] for key in sorted(parts)]
        if constant == 0 and len(ordered) == 1 and ordered[0][0] == 1:
            return ordered[0][1]
        data = (constant, tuple(c for c, _ in ordered))
        return self.node("linear", width, tuple(term for _, term in ordered), data)


def linear_data(term: Term) -> tuple[int, tuple[int, ...]]:
    """(constant, coefficients) of a linear node."""
    data = term.data
    assert isinstance(data, tuple)
    return data[0], data[1]


def reachable(roots: Iterable[Term]) -> list[Term]:
    """Every node below the roots, arguments before their users."""
    seen: dict[int, Term] = {}
    pending = list(roots)
    while pending:
        term = pending.pop()
        if term.id not in seen:
            seen[term.id] = term
            pending.extend(term.args)
    return [seen[key] for key in sorted(seen)]

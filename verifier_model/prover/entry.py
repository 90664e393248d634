"""The initial states that an obligation speaks of: facts become terms, shared variables and assumptions.

A fact is used only if it holds for every state: `assumed_safe` registers count as unknown.  What is not known is a
fresh variable, one and the same for both programs, so "unknown" can be preserved but never be relied on.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from verifier_model.bpf.insn import FRAME_POINTER, Ref, RefKind
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import SLOT_SIZE, STACK_BYTES, State
from verifier_model.prover.terms import Term, Terms, mask

WORD = 64
FRAME_NAME = ("frame pointer",)
CONTEXT_NAME = ("context",)
_PACKETS = frozenset({Region.PACKET, Region.PACKET_META})


@dataclass(frozen=True, slots=True)
class Value:
    """A register's content: its number, and what is known of its type (no value facts: the term has them)."""

    term: Term
    fact: Register


SCALAR_FACT = Register(Region.SCALAR)
UNKNOWN_FACT = Register(Region.UNKNOWN)


@dataclass
class Entry:
    """The initial state.  `bounds`: for each variable that facts constrain, the scalars that must all contain it."""

    terms: Terms
    state: State
    registers: list[Value] = field(default_factory=list)
    slots: dict[int, Value] = field(default_factory=dict)
    bounds: dict[int, tuple[Term, list[Scalar]]] = field(default_factory=dict)
    _merged: dict[Hashable, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for fact in self._facts():
            key = _number_key(fact)
            if key is not None:
                self._merged[key] = _both(self._merged.get(key, Scalar.top()), fact.value)
        frame = Value(self.frame_pointer, Register(Region.STACK))
        for number in range(len(self.state.regs)):
            fact = self.state.regs[number]
            own = frame if number == FRAME_POINTER else self._value(fact, ("register", number))
            self.registers.append(own)
        for off in sorted(self.state.stack):
            spill = self.state.stack[off].spill
            if spill is not None:
                self.slots[off] = self._value(spill, ("slot", off))

    def _facts(self) -> list[Register]:
        spills = [self.state.stack[off].spill for off in sorted(self.state.stack)]
        return [fact for fact in (*self.state.regs, *spills) if fact is not None and not fact.assumed_safe]

    @property
    def frame_pointer(self) -> Term:
        return self.terms.var(FRAME_NAME, WORD)

    def assumptions(self) -> list[Term]:
        """What holds in every initial state, beyond the shape of the terms."""
        terms, top = self.terms, self.frame_pointer
        result = [
            terms.eq(terms.trunc(3, top), terms.const(3, 0)),
            terms.not_(terms.ult(top, terms.const(WORD, STACK_BYTES))),
        ]
        for variable, scalars in self.bounds.values():
            for scalar in scalars:
                result += _within(terms, variable, scalar)
        return [term for term in result if term.constant != 1]

    def _value(self, fact: Register, place: Hashable) -> Value:
        if fact.assumed_safe or fact.region in (Region.UNINIT, Region.UNKNOWN):
            return Value(self.terms.var(("anything", place), WORD), UNKNOWN_FACT)
        if fact.region is Region.SCALAR:
            if fact.exact is not None:
                return Value(reference(self.terms, fact.exact), SCALAR_FACT)
            return Value(self._number(fact, place), SCALAR_FACT)
        return Value(self._pointer(fact, place), type_of(fact))

    def _number(self, fact: Register, place: Hashable) -> Term:
        """The scalar, or the variable part of a pointer."""
        key = _number_key(fact)
        if key is None:
            return self._bounded(("number", place), fact.value)
        return self._bounded(("number", key), self._merged[key])

    def _bounded(self, name: Hashable, scalar: Scalar) -> Term:
        """A variable of which `scalar` holds, with its known bits as constants."""
        if scalar.constant is not None and scalar.contains(scalar.constant):
            return self.terms.const(WORD, scalar.constant)
        variable = self.terms.var(name, WORD)
        if scalar == Scalar.top():
            return variable
        known = self.terms.and_(variable, self.terms.const(WORD, scalar.bits_mask))
        term = self.terms.or_(known, self.terms.const(WORD, scalar.bits_value))
        scalars = self.bounds.setdefault(variable.id, (variable, []))[1]
        if scalar not in scalars:
            scalars.append(scalar)
        return term

    def _pointer(self, fact: Register, place: Hashable) -> Term:
        terms = self.terms
        if fact.exact is not None:
            return reference(terms, fact.exact)
        is_plain = fact.off == 0 and fact.value.constant == 0
        if fact.nullable and not is_plain:
            return terms.var(("anything", place), WORD)
        off = terms.const(WORD, fact.off)
        if fact.value.constant != 0:
            off = terms.add(off, self._number(fact, place))
        return terms.add(self._base(fact, place), off)

    def _base(self, fact: Register, place: Hashable) -> Term:
        """The start of the object: one variable per identity."""
        terms = self.terms
        if fact.region is Region.STACK and fact.frame == 0:
            return self.frame_pointer
        if fact.region is Region.CTX:
            return terms.var(CONTEXT_NAME, WORD)  # a program has one context, however often it is copied
        if fact.region is Region.DATA and fact.symbol and not fact.nullable:
            return reference(terms, Ref(RefKind.DATA, fact.symbol))
        kind = (fact.region, fact.symbol, fact.frame)
        if fact.region is Region.STACK:
            return terms.var(("base", kind), WORD)
        if fact.base:
            return terms.var(("base", kind, "base", fact.base), WORD)
        if fact.id:
            return terms.var(("base", kind, "id", fact.id), WORD)
        return terms.var(("base", kind, "at", place), WORD)


def is_start(term: Term, fact: Register) -> bool:
    """Is the term the start of the object that a pointer with these facts leads to, as `Entry` names it?"""
    name = term.data
    return term.op == "var" and isinstance(name, tuple) and name[:2] == ("base", (fact.region, fact.symbol, fact.frame))


def _number_key(fact: Register) -> Hashable | None:
    if not fact.id:
        return None
    if fact.region is Region.SCALAR:
        return ("scalar", fact.id)
    return (fact.region, fact.symbol, fact.frame, fact.id) if fact.is_pointer else None


def _both(a: Scalar, b: Scalar) -> Scalar:
    """Everything that `a` and `b` say, without drawing conclusions from it (contradictions stay visible)."""
    if a.bits_value & ~b.bits_mask & ~a.bits_mask != b.bits_value & ~a.bits_mask & ~b.bits_mask:
        return Scalar.bottom()
    return Scalar(
        a.bits_value | b.bits_value,
        a.bits_mask & b.bits_mask,
        max(a.umin, b.umin),
        min(a.umax, b.umax),
        max(a.smin, b.smin),
        min(a.smax, b.smax),
        max(a.u32min, b.u32min),
        min(a.u32max, b.u32max),
        max(a.s32min, b.s32min),
        min(a.s32max, b.s32max),
    )


def type_of(fact: Register) -> Register:
    """What the fact says of where a pointer leads, without any number."""
    return replace(fact, value=Scalar.top(), off=0, id=0, base=0, packet_range=0)


def _within(terms: Terms, variable: Term, scalar: Scalar) -> list[Term]:
    """The known bits and the four ranges as terms of one bit."""

    def const(width: int, value: int) -> Term:
        return terms.const(width, value)

    low = terms.trunc(32, variable)
    fixed = terms.and_(variable, const(WORD, ~scalar.bits_mask & mask(WORD)))
    result = [terms.eq(fixed, const(WORD, scalar.bits_value))]
    for number, least, most, signed_least, signed_most in (
        (variable, scalar.umin, scalar.umax, scalar.smin, scalar.smax),
        (low, scalar.u32min, scalar.u32max, scalar.s32min, scalar.s32max),
    ):
        width = number.width
        result += [
            terms.not_(terms.ult(number, const(width, least))),
            terms.not_(terms.ult(const(width, most), number)),
            terms.not_(terms.slt(number, const(width, signed_least))),
            terms.not_(terms.slt(const(width, signed_most), number)),
        ]
    return result


def reference(terms: Terms, ref: Ref) -> Term:
    """The address that the loader will put in place of a symbol: a variable per symbol, never a number.

    Only data sections are known to lie in one piece (one map value per section), so only there is the addend added.
    """
    if ref.kind is RefKind.DATA:
        return terms.offset(terms.var(("symbol", ref.kind, ref.name), WORD), ref.addend)
    return terms.var(("symbol", ref.kind, ref.name, ref.addend), WORD)


def known_stack(entry: Entry) -> list[tuple[int, Term]]:
    """(offset from r10, byte) that the facts know at the start."""
    terms, result = entry.terms, []
    for off in sorted(entry.state.stack):
        slot = entry.state.stack[off]
        zeros = [off + index for index in range(SLOT_SIZE) if slot.marks[index] == "0"]
        result += [(at, terms.const(8, 0)) for at in zeros]
    return result

"""Cut points: where two runs start from what is believed there, and what they must show when they arrive at one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from verifier_model.bpf.demand import ALL_BITS, STACK_LIMIT, Demand
from verifier_model.bpf.insn import FRAME_POINTER, Ref, RefKind
from verifier_model.bpf.unit import Function
from verifier_model.domains.state import SLOT_SIZE
from verifier_model.prover import events as ev
from verifier_model.prover.ends import compare_ends, compare_frame, compare_outside
from verifier_model.prover.entry import SCALAR_FACT, UNKNOWN_FACT, WORD, Entry, Value
from verifier_model.prover.events import Check, Comparison
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.memory import AliasBudget, Apart, Place, RegionMemory, cut, glue, places
from verifier_model.prover.provenance import symbol_value
from verifier_model.prover.run import Run
from verifier_model.prover.terms import Term, Terms, mask
from verifier_model.verdict import CutPoint, Equality, InRegister, Obligation, OnStack

_FRAME = frozenset(range(-STACK_LIMIT, 0))


@dataclass(frozen=True, slots=True)
class Start:
    """Two runs at the beginning of a segment, and what holds in every state that they may start in."""

    entry: Entry
    before: Run
    after: Run
    assumptions: list[Term]


def begin(question: Obligation, terms: Terms, point: CutPoint | None, alias_tests: int) -> Start:
    """Both programs in one and the same state, or (with `point`) in states that are related as it says."""
    entry, budget = Entry(terms, question.entry), AliasBudget(alias_tests)
    before, after = Run(question, entry, "before", budget), Run(question, entry, "after", budget)
    believed = [] if point is None else _relate(before, after, point)
    return Start(entry, before, after, [*entry.assumptions(), *believed])


def _relate(before: Run, after: Run, point: CutPoint) -> list[Term]:
    """Put `after` where the cut point says; returns what must be assumed beyond that."""
    terms = before.terms
    _start_frame(before, after, point.unlike)
    for number in range(FRAME_POINTER):
        after.registers[number] = Value(terms.var(("own", number), WORD), UNKNOWN_FACT)
    assumptions, seen = [], set[InRegister | OnStack]()
    for equality in point.equalities:
        place = equality.after
        spot = InRegister(place.number) if isinstance(place, InRegister) else place
        if spot in seen:
            check = check_of(equality, before, after)
            assumptions.append(terms.eq(check.before, check.after))
            _unify(before, equality, check.after)
            continue
        seen.add(spot)
        _put(after, place, source(before, equality.before))
    return assumptions


def _unify(before: Run, equality: Equality, term: Term) -> None:
    """Give a register of `before` the term of what it is assumed to equal, so that nobody need conclude it."""
    place = equality.before
    is_whole = isinstance(equality.after, OnStack) or equality.after.bits == ALL_BITS
    if is_whole and isinstance(place, InRegister) and place.number != FRAME_POINTER:
        before.registers[place.number] = Value(term, before.registers[place.number].fact)


def _start_frame(before: Run, after: Run, unlike: frozenset[int]) -> None:
    key, top = ev.stack_key(0), before.entry.frame_pointer
    if not unlike:
        return
    offs = frozenset(off & mask(WORD) for off in unlike)
    apart = Apart(top, offs, ("initial", ("after", *key), 0))
    memory = RegionMemory(before.terms, ("initial", key, 0), before.budget, apart=apart)
    for _, place, byte in before.known_bytes:
        if place.off not in offs:
            memory.know(place, byte)
    after.memory[key] = memory
    after.forget_spills([Place(top, off) for off in offs])


def _put(after: Run, place: InRegister | OnStack, value: Value) -> None:
    terms = after.terms
    if isinstance(place, OnStack):
        where = _slot(after, place)
        memory = after.region(ev.stack_key(0))
        for at, byte in zip(where, cut(terms, value.term, after.obligation.unit.byte_order), strict=True):
            memory.write(at, byte)
        after.spills[place.off] = value.fact
        return
    if not 0 <= place.number < FRAME_POINTER:
        raise TooHardError(f"a relation about r{place.number}")
    if place.bits == ALL_BITS:
        after.registers[place.number] = value
        return
    own = after.registers[place.number].term
    known = terms.and_(value.term, terms.const(WORD, place.bits))
    term = terms.or_(known, terms.and_(own, terms.const(WORD, ~place.bits)))
    after.registers[place.number] = Value(term, SCALAR_FACT if value.fact.is_scalar else UNKNOWN_FACT)


def _slot(run: Run, place: OnStack) -> list[Place]:
    if place.off % SLOT_SIZE or not -STACK_LIMIT <= place.off <= -SLOT_SIZE:
        raise TooHardError(f"a relation about the stack at {place.off}")
    return places(run.terms, run.terms.offset(run.entry.frame_pointer, place.off), SLOT_SIZE)


def source(run: Run, place: InRegister | OnStack | int | Ref) -> Value:
    """What a run holds in a place; a number or the address of a symbol for the others."""
    if isinstance(place, InRegister):
        if not 0 <= place.number <= FRAME_POINTER:
            raise TooHardError(f"a relation about r{place.number}")
        return run.registers[place.number]
    if isinstance(place, OnStack):
        memory = run.region(ev.stack_key(0))
        content = [memory.read(at) for at in _slot(run, place)]
        term = glue(run.terms, content, run.obligation.unit.byte_order)
        return Value(term, run.spills.get(place.off, UNKNOWN_FACT))
    if isinstance(place, Ref):
        if place.kind is RefKind.LABEL:
            raise TooHardError("a relation about a label")
        return symbol_value(run.terms, place)
    return Value(run.terms.const(WORD, place), SCALAR_FACT)


def check_of(equality: Equality, before: Run, after: Run) -> Check:
    """The two terms that the equality says are equal."""
    terms = before.terms
    old, new = source(before, equality.before).term, source(after, equality.after).term
    what = f"{describe(equality.after)} = {describe(equality.before)}"
    if isinstance(equality.after, InRegister) and equality.after.bits != ALL_BITS:
        kept = terms.const(WORD, equality.after.bits)
        old, new = terms.and_(old, kept), terms.and_(new, kept)
    return Check(what, old, new)


def describe(place: InRegister | OnStack | int | Ref) -> str:
    if isinstance(place, InRegister):
        return f"r{place.number}" if place.bits == ALL_BITS else f"r{place.number} & {place.bits:#x}"
    if isinstance(place, OnStack):
        return f"stack {place.off}"
    return f"{place.kind.value} {place.name}" if isinstance(place, Ref) else f"{place:#x}"


class Claim(NamedTuple):
    """A check at a segment's end.

    `belief` is what it is about if that was believed at a cut point: an equality, or the offset of a like stack byte.
    """

    check: Check
    belief: Equality | int | None = None


def claims_at_cut(point: CutPoint, before: Run, after: Run) -> Iterator[Claim]:
    """What must be shown where both arrive at a cut point."""
    comparison = Comparison()
    compare_outside(before, after, comparison)
    yield from map(Claim, comparison.checks)
    slots = {e.after.off + at for e in point.equalities if isinstance(e.after, OnStack) for at in range(SLOT_SIZE)}
    frame = Comparison()
    offs = compare_frame(_FRAME - point.unlike - slots, before, after, frame)
    yield from map(Claim, frame.checks, offs)
    for equality in point.equalities:
        yield Claim(check_of(equality, before, after), equality)


def claims_at_end(demand: Demand, before: Run, after: Run) -> Iterator[Claim]:
    """What must be shown where both leave, at an exit of the function or of the region."""
    comparison = Comparison()
    compare_ends(demand, before, after, comparison)
    yield from map(Claim, comparison.checks)


def demand_at_exit(function: Function) -> Demand:
    """The result, unless nobody looks at it (bpf.liveness: global functions must always set r0)."""
    is_void = function.is_subprogram and function.returns_void and not function.is_global
    return Demand((0 if is_void else ALL_BITS, *[0] * FRAME_POINTER), frozenset())

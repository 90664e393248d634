"""All ways of one program from a program point to the next stops, each a straight-line run under path conditions.

A branch whose outcome follows from the conditions so far is not split.  Every other one is, so the conditions of the
ways that come out cover every start state; some of them may describe no state at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from verifier_model.bpf.flow import falls_through
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Point
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State
from verifier_model.prover.encode import advance
from verifier_model.prover.entry import WORD
from verifier_model.prover.events import DifferentShapeError
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.run import Run
from verifier_model.prover.simplify import maximum, minimum
from verifier_model.prover.terms import Term, Terms

Implied = Callable[[tuple[Term, ...], Term], bool]


class TooLongError(TooHardError):
    """A way passes one block more often than the budget allows."""


class Stop(NamedTuple):
    """Where a way ends: in front of a block, or (`is_exit`) at an exit of the function."""

    label: str
    is_exit: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """One program's blocks and, for each that may fall through, the label it falls into ("" where there is none)."""

    entry: str
    insns: Mapping[str, tuple[Insn, ...]]
    falls: Mapping[str, str]


def graph_of(blocks: tuple[Block, ...], next_label: str = "") -> Graph:
    """The graph of blocks in layout order; the last falls through to `next_label`.  Raises TooHardError."""
    labels = {block.label for block in blocks}
    if not blocks or len(labels) != len(blocks) or "" in labels:
        raise TooHardError("blocks without labels of their own")
    following = [*(block.label for block in blocks[1:]), next_label]
    falls = {block.label: label for block, label in zip(blocks, following, strict=True) if falls_through(block)}
    return Graph(blocks[0].label, {block.label: block.insns for block in blocks}, falls)


@dataclass(frozen=True, slots=True)
class Way:
    """One run with the conditions (terms of one bit) under which it takes this way, and the blocks it passed.

    `mismatch` says why its events do not correspond to the other program's; then the run ends where that was seen.
    `holding`: the conditions again.
    """

    run: Run
    conditions: tuple[Term, ...]
    trail: tuple[str, ...]
    stop: Stop
    mismatch: DifferentShapeError | None = None
    holding: frozenset[Term] = frozenset()

    def under(self, condition: Term, stop: Stop) -> Way:
        """The same way where a further condition holds, which leads on to `stop`."""
        return replace(self, conditions=(*self.conditions, condition), holding=self.holding | {condition}, stop=stop)


@dataclass
class Budget:
    """Ways and instructions that are left for one segment; no way passes a block more than `turns` times."""

    ways: int
    insns: int
    turns: int

    def spend(self, insns: int, ways: int = 0) -> None:
        self.insns -= insns
        self.ways -= ways
        if self.insns < 0 or self.ways < 0:
            raise TooHardError("too many ways through a segment")


@dataclass
class Walk:
    """Finds the ways of one program.

    `implied(conditions, term)` may prove that a branch is taken; `known` gives facts that hold before an instruction.
    """

    graph: Graph
    stops: frozenset[str]
    budget: Budget
    implied: Implied = field(default=lambda conditions, term: False)
    known: Callable[[Point], State] | None = None

    def ways(self, run: Run, label: str, conditions: Iterable[Term] = ()) -> Iterator[Way]:
        """Every way from the start of a block to the next stop; raises TooHardError.

        Ways that pass a block too often are left out, and TooLongError ends the others.
        """
        too_long: TooLongError | None = None
        given = tuple(conditions)
        pending = [Way(run, given, (), Stop(label), holding=frozenset(given))]
        while pending:
            way = pending.pop()
            if way.mismatch is not None or way.stop.is_exit or self._is_stop(way):
                self.budget.spend(0, ways=1)
                yield self._finished(way)
                continue
            try:
                pending += reversed(self._through_block(way))
            except TooLongError as error:
                too_long = error
        if too_long is not None:
            raise too_long

    def _is_stop(self, way: Way) -> bool:
        return bool(way.trail) and (way.stop.label in self.stops or way.stop.label not in self.graph.insns)

    def _finished(self, way: Way) -> Way:
        if way.mismatch is None:
            try:
                way.run.finish()
            except DifferentShapeError as error:
                return replace(way, mismatch=error)
        return way

    def _through_block(self, way: Way) -> list[Way]:
        label, run = way.stop.label, way.run
        insns = self.graph.insns[label]
        self.budget.spend(len(insns) + 1)
        if way.trail.count(label) >= self.budget.turns:
            raise TooLongError(f"many turns through block {label} without a cut point")
        way = replace(way, trail=(*way.trail, label))
        run.control = None
        try:
            for at, insn in enumerate(insns):
                if self.known is not None:
                    way = _recalled(way, insn, self.known(Point(label, at)))
                else:
                    run.borrow(_used(insn))
                advance(run, (insn,))
            return self._onward(way)
        except DifferentShapeError as error:
            return [replace(way, mismatch=error)]

    def _onward(self, way: Way) -> list[Way]:
        run, control = way.run, way.run.control
        if control is None:
            return [replace(way, stop=self._next(way.stop.label))]
        if control.kind == "exits":
            return [replace(way, stop=Stop("", is_exit=True))]
        taken = control.taken
        if control.kind == "may_goto":
            number = run.event(("may_goto",), "may_goto", (), is_kept=True)
            taken = run.terms.var(("may_goto", number), 1)
        if taken.constant == 1:
            return [replace(way, stop=Stop(control.target))]
        return self._split(way, taken, Stop(control.target))

    def _split(self, way: Way, taken: Term, target: Stop) -> list[Way]:
        run = way.run
        not_taken = run.terms.not_(taken)
        onward = self._next(way.stop.label)
        if taken.constant == 0 or self._holds(way, not_taken):
            return [replace(way, stop=onward)]
        if self._holds(way, taken):
            return [replace(way, stop=target)]
        other = replace(way, run=run.fork()).under(taken, target)
        return [way.under(not_taken, onward), other]

    def _holds(self, way: Way, term: Term) -> bool:
        return term in way.holding or self.implied(way.conditions, term)

    def _next(self, label: str) -> Stop:
        following = self.graph.falls.get(label, "")
        if not following:
            raise TooHardError(f"control falls off the end of block {label}")
        return Stop(following)


def _recalled(way: Way, insn: Insn, known: State) -> Way:
    """The way with what the facts say of the registers that the next instruction names."""
    run = way.run
    run.recall(known)
    bounds: list[Term] = []
    for number in _used(insn):
        fact = known.regs[number]
        if fact.is_scalar and not fact.assumed_safe:
            bounds += _bounds(run.terms, run.registers[number].term, fact.value)
    new = [bound for bound in bounds if bound.constant != 1 and bound not in way.holding]
    return replace(way, conditions=(*way.conditions, *new), holding=way.holding | set(new)) if new else way


def _bounds(terms: Terms, term: Term, value: Scalar) -> list[Term]:
    """What a fact says of a number beyond what its term shows."""
    if term.constant is not None:
        return []
    if value.constant is not None:
        return [terms.eq(term, terms.const(WORD, value.constant))]
    result = []
    if value.umax < maximum(term):
        result.append(terms.not_(terms.ult(terms.const(WORD, value.umax), term)))
    if value.umin > minimum(term):
        result.append(terms.not_(terms.ult(term, terms.const(WORD, value.umin))))
    if value.smin > -(1 << 63) and value.umax >> 63:
        result.append(terms.not_(terms.slt(term, terms.const(WORD, value.smin))))
    if value.smax < (1 << 63) - 1 and value.umax >> 63:
        result.append(terms.not_(terms.slt(terms.const(WORD, value.smax), term)))
    return result


def _used(insn: Insn) -> tuple[int, ...]:
    return _ARGUMENTS if insn.kind is Kind.CALL else (insn.dst, insn.src)


_ARGUMENTS = (1, 2, 3, 4, 5)

"""A guess of the cut points and of what holds there, for two functions that somebody made of one another.

Nothing here is trusted: `functions` checks whatever comes out.  Cut points are tried at every join of ways; those where
the two programs do not meet are given up one by one, down to the loop heads.  What is believed at one is what the first
ways to get there have in common (the same term in a place of each program), less what any other way takes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from verifier_model.bpf.demand import ALL_BITS, EVERYTHING, STACK_LIMIT, Demand
from verifier_model.bpf.flow import predecessors, reverse_post_order, successors
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.domains.state import SLOT_SIZE
from verifier_model.facts import Facts, analyse
from verifier_model.prover.cuts import Claim, source
from verifier_model.prover.ends import compare_frame
from verifier_model.prover.entry import WORD
from verifier_model.prover.events import Comparison
from verifier_model.prover.functions import Pair, Whole, interface, prove_function
from verifier_model.prover.limits import DEFAULT, Limits, TooHardError
from verifier_model.prover.paths import Way, graph_of
from verifier_model.prover.refinement import plain
from verifier_model.prover.run import Run
from verifier_model.prover.segments import Claims, Failure
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.terms import Term
from verifier_model.verdict import CutPoint, Equality, FunctionObligation, InRegister, OnStack, Status, Verdict

_MOST_ALIKE = 4  # places of `before` that one place of `after` is compared with


def guess_cuts(before: Function, after: Function, unit: Unit, limits: Limits = DEFAULT) -> tuple[CutPoint, ...]:
    """Cut points that may prove the pair, none when no guess comes through."""
    try:
        return _Guess(before, after, unit, limits).run()
    except (TooHardError, ValueError):
        return ()


def prove_functions(
    before: Function,
    after: Function,
    unit: Unit,
    cuts: tuple[CutPoint, ...] | None = None,
    limits: Limits = DEFAULT,
) -> Verdict:
    """Does `after` refine `before`, whoever made them?  Where no cut points are given, they are guessed."""
    if interface(before) == interface(after) and _code(before) == _code(after):
        return Verdict(Status.PROVED, method="identical")
    guessed = guess_cuts(before, after, unit, limits) if cuts is None else cuts
    return prove_function(FunctionObligation(before, after, unit, guessed), limits)


def _code(function: Function) -> list[tuple[str, list[tuple[Insn, object]]]]:
    """Labels and instructions, line records left out."""
    return [(block.label, plain(block.insns)) for block in function.blocks]


class _ConflictError(Exception):
    """The segment from a pair of cut points does not come through, whatever is believed there."""

    def __init__(self, pair: Pair | None) -> None:
        super().__init__(pair)
        self.pair = pair


@dataclass
class _Guess:
    before: Function
    after: Function
    unit: Unit
    limits: Limits
    points: dict[Pair, CutPoint] = field(default_factory=dict)
    segments: int = 0

    def run(self) -> tuple[CutPoint, ...]:
        graph_of(self.before.blocks)
        graph_of(self.after.blocks)
        self.facts = analyse(self.unit, self.before)
        self.after_facts = analyse(self.unit.with_function(self.after), self.after)
        for first, second in _candidates(self.before, self.after):
            stops = [set(first), set(second)]
            heads = (_loop_heads(self.before), _loop_heads(self.after))
            for _ in range(self.limits.guess_attempts):
                try:
                    return self._attempt((frozenset(stops[0]), frozenset(stops[1])))
                except _ConflictError as conflict:
                    if not self._give_up(conflict.pair, stops, heads):
                        break
        return ()

    def _give_up(self, pair: Pair | None, stops: list[set[str]], heads: tuple[frozenset[str], frozenset[str]]) -> bool:
        """Take back the less likely of the two labels as a cut point; False when both must stay."""
        if pair is None:
            return False
        optional = [side for side in (0, 1) if pair[side] in stops[side] - heads[side]]
        if not optional:
            return False
        partners = [len({other for other in self.points if other[side] == pair[side]}) for side in (0, 1)]
        side = max(optional, key=lambda side: (partners[side], -side))
        stops[side].discard(pair[side])
        return True

    def _attempt(self, stops: tuple[frozenset[str], frozenset[str]]) -> tuple[CutPoint, ...]:
        self.points = {}
        whole = Whole(FunctionObligation(self.before, self.after, self.unit), self.facts, self.limits)
        whole.stops, whole.cuts = stops, self.points
        waiting: list[Pair | None] = [None]
        while waiting:
            pair = waiting.pop(0)
            if pair is not None and not whole.is_reachable(pair):
                continue
            for other in self._segment(whole, pair):
                if other not in waiting:
                    waiting.append(other)
        return tuple(self.points.values())

    def _segment(self, whole: Whole, pair: Pair | None) -> list[Pair]:
        """Run one segment with what is believed now; returns the pairs whose beliefs changed."""
        self.segments += 1
        if self.segments > self.limits.guess_segments:
            raise TooHardError("no cut points were found in good time")
        changed: list[Pair] = []

        def claims(before: Way, after: Way) -> Iterator[Claim] | str:
            target = (before.stop.label, after.stop.label)
            is_cut = not before.stop.is_exit and not after.stop.is_exit
            if is_cut and target[0] in whole.stops[0] and target[1] in whole.stops[1] and target not in self.points:
                self.points[target] = self._first_belief(target, before.run, after.run)
                changed.append(target)
            return whole.claims(before, after)

        for failure in self._failures(whole, pair, claims):
            if failure.belief is None:
                raise _ConflictError(pair)
            target = (failure.meeting.before.stop.label, failure.meeting.after.stop.label)
            self.points[target] = _weaker(self.points[target], failure)
            if target not in changed:
                changed.append(target)
        return changed

    def _failures(self, whole: Whole, pair: Pair | None, claims: Claims) -> Iterator[Failure]:
        try:
            yield from whole.segment(pair, SimplifyingTerms()).failures(claims)
        except TooHardError:
            raise _ConflictError(pair) from None

    # ---- what the first ways have in common ----

    def _first_belief(self, pair: Pair, before: Run, after: Run) -> CutPoint:
        wanted = _demand(self.after_facts, pair[1])
        offered = _places(before, _demand(self.facts, pair[0]))
        equalities: list[Equality] = []
        for number in range(FRAME_POINTER):
            if wanted.is_live(number):
                equalities += _same_register(number, wanted.regs[number], offered, before, after)
        unlike = frozenset(_differing_bytes(before, after))
        slots = sorted({off // SLOT_SIZE * SLOT_SIZE for off in unlike & wanted.stack})
        for off in slots:
            term = source(after, OnStack(off)).term
            equalities += [Equality(OnStack(off), place) for place in _alike(term, offered)]
        return CutPoint(*pair, tuple(equalities), unlike)


def _candidates(before: Function, after: Function) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Labels to cut at, in each program: first those that both have, where they seem to share their labels."""
    joins = (_joins(before), _joins(after))
    heads = (_loop_heads(before), _loop_heads(after))
    common = joins[0] & joins[1]
    if 2 * len(common) >= min(len(joins[0]), len(joins[1])):
        yield common | heads[0], common | heads[1]
    yield joins
    yield heads


def _joins(function: Function) -> frozenset[str]:
    before = predecessors(successors(function))
    entry = function.blocks[0].label
    return frozenset(label for label, others in before.items() if len(others) + (label == entry) > 1)


def _loop_heads(function: Function) -> frozenset[str]:
    edges = successors(function)
    rank = {label: index for index, label in enumerate(reverse_post_order(function, edges))}
    return frozenset(to for label, others in edges.items() if label in rank for to in others if rank[to] <= rank[label])


def _demand(facts: Facts, label: str) -> Demand:
    return facts.demand_before(Point(label, 0)) if facts.incomplete is None else EVERYTHING


Offer = dict[int, list[InRegister | OnStack]]


def _places(run: Run, demand: Demand) -> Offer:
    """Where `before` holds each term, the places that it still looks at first."""
    live = [number for number in range(FRAME_POINTER) if demand.is_live(number)]
    places: list[InRegister | OnStack] = [InRegister(number) for number in live]
    places += [OnStack(off) for off in sorted({off // SLOT_SIZE * SLOT_SIZE for off in demand.stack})]
    places += [InRegister(number) for number in range(FRAME_POINTER) if number not in live]
    offered: Offer = {}
    for place in places:
        offered.setdefault(source(run, place).term.id, []).append(place)
    return offered


def _alike(term: Term, offered: Offer) -> Iterable[InRegister | OnStack | int]:
    found = list[InRegister | OnStack | int](offered.get(term.id, ())[:_MOST_ALIKE])
    return [*found, *([term.constant] if term.constant is not None else [])]


def _same_register(number: int, bits: int, offered: Offer, before: Run, after: Run) -> list[Equality]:
    place, term = InRegister(number), after.registers[number].term
    exact = after.registers[number].fact.exact
    sources = sorted(_alike(term, offered), key=lambda other: other != place)
    equalities = [Equality(place, other) for other in sources]
    if exact is not None:
        equalities.insert(0, Equality(place, exact))
    if equalities:
        return equalities
    kept = after.terms.const(WORD, bits)
    wanted = after.terms.and_(term, kept)
    part = InRegister(number, bits or ALL_BITS)
    found = [other for other in range(FRAME_POINTER) if after.terms.and_(before.registers[other].term, kept) is wanted]
    return [Equality(part, InRegister(other)) for other in found] or [Equality(part, place)]


def _differing_bytes(before: Run, after: Run) -> Iterator[int]:
    frame = Comparison()
    offs = compare_frame(range(-STACK_LIMIT, 0), before, after, frame)
    for off, check in zip(offs, frame.checks, strict=True):
        if check.before is not check.after:
            yield off


def _weaker(point: CutPoint, failure: Failure) -> CutPoint:
    """The cut point without a belief that did not come true."""
    if isinstance(failure.belief, int):
        return replace(point, unlike=point.unlike | {failure.belief})
    return replace(point, equalities=tuple(each for each in point.equalities if each is not failure.belief))

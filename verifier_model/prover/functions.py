"""Regions and whole functions: segment after segment from cut point to cut point, believing nothing.

Whatever is said at a cut point is used at the start of the segments from there and shown at the end of every segment
that leads there; the entry needs no belief.  As every segment is a finite set of ways, a program that runs for ever
passes infinitely many cut points, and then so does the other one: termination is preserved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from verifier_model.bpf.demand import EVERYTHING, NOTHING
from verifier_model.bpf.exchange_halves import UNDEFINED_HALF, used_upper_half
from verifier_model.bpf.unit import Function, Point
from verifier_model.facts import Facts, analyse
from verifier_model.prover.counterexample import Assignment, first_difference
from verifier_model.prover.cuts import Claim, begin, claims_at_cut, claims_at_end, demand_at_exit
from verifier_model.prover.events import Check
from verifier_model.prover.limits import DEFAULT, Limits, TooHardError
from verifier_model.prover.paths import Graph, Way, graph_of
from verifier_model.prover.refinement import CONTEXT_WIDTHS, CONTRADICTION, is_satisfiable, relates_context_widths
from verifier_model.prover.segments import Failure, Segment, trail
from verifier_model.prover.shrink import smaller
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.start import describe
from verifier_model.prover.terms import Terms
from verifier_model.verdict import CutPoint, FunctionObligation, Obligation, RegionObligation, Status, Verdict

Pair = tuple[str, str]
Watch = Callable[[Way, Way], None]


def prove_region(region: RegionObligation, limits: Limits = DEFAULT) -> Verdict:
    """PROVED only if the second region shows what the first shows, and leaves by the same exit in the same state."""
    try:
        segment = region_segment(region, SimplifyingTerms(), limits)
        if not is_satisfiable(segment.start.entry, limits):
            return _unknown(CONTRADICTION)
        for failure in segment.failures(lambda before, after: region_claims(region, before, after)):
            return _verdict(segment, failure, is_reachable=True)
    except (TooHardError, ValueError) as error:
        return _unknown(str(error))
    return Verdict(Status.PROVED, method="region")


def region_segment(region: RegionObligation, terms: Terms, limits: Limits) -> Segment:
    question = Obligation((), (), region.entry, NOTHING, region.unit, region.function)
    graphs = (graph_of(region.before, region.next_label), graph_of(region.after, region.next_label))
    if any(label in graph.insns for graph in graphs for label in (region.next_label, *region.demands)):
        raise TooHardError("an exit of the region is one of its own blocks")
    start = begin(question, terms, None, limits.alias_tests)
    return Segment(start, graphs, (graphs[0].entry, graphs[1].entry), (frozenset(), frozenset()), limits)


def region_claims(region: RegionObligation, before: Way, after: Way) -> Iterator[Claim] | str:
    """What must be shown where two ways leave the region."""
    if before.stop != after.stop:
        return f"the region leaves to {_name(before)} before, to {_name(after)} after"
    if before.stop.is_exit:
        return claims_at_end(demand_at_exit(region.function), before.run, after.run)
    return claims_at_end(region.demands.get(before.stop.label, EVERYTHING), before.run, after.run)


def prove_function(obligation: FunctionObligation, limits: Limits = DEFAULT, watch: Watch | None = None) -> Verdict:
    """PROVED only if the whole second function refines the first.

    `watch` is shown every two ways that may be taken together, from one cut point to the next; it decides nothing.
    """
    try:
        return _prove_function(Whole(obligation, analyse(obligation.unit, obligation.before), limits), watch)
    except (TooHardError, ValueError) as error:
        return _unknown(str(error))


@dataclass
class Whole:
    """A question about two functions, with what its segments share."""

    obligation: FunctionObligation
    facts: Facts
    limits: Limits

    def __post_init__(self) -> None:
        before, after = self.obligation.before, self.obligation.after
        for function in (before, after):
            if function.untouchable is not None:
                raise TooHardError(function.untouchable)
            if before.blocks != after.blocks and used_upper_half(function) is not None:
                raise TooHardError(UNDEFINED_HALF)
        if self.facts.incomplete is not None:
            raise TooHardError(self.facts.incomplete)
        if interface(before) != interface(after):
            raise TooHardError("the functions have different interfaces")
        self.graphs: tuple[Graph, Graph] = (graph_of(before.blocks), graph_of(after.blocks))
        cuts = self.obligation.cuts
        self.cuts: dict[Pair, CutPoint] = {(cut.before, cut.after): cut for cut in cuts}
        if len(self.cuts) != len(cuts):
            raise TooHardError("two relations for one pair of cut points")
        self.stops = (frozenset(cut.before for cut in cuts), frozenset(cut.after for cut in cuts))

    def segment(self, pair: Pair | None, terms: Terms) -> Segment:
        """The segment from a pair of cut points, or from the functions' entries."""
        labels = (self.graphs[0].entry, self.graphs[1].entry) if pair is None else pair
        state = self.facts.before(Point(labels[0], 0))
        question = Obligation((), (), state, NOTHING, self.obligation.unit, self.obligation.before)
        point = None if pair is None else self.cuts[pair]
        start = begin(question, terms, point, self.limits.alias_tests)
        return Segment(start, self.graphs, labels, self.stops, self.limits, self.facts.before)

    def claims(self, before: Way, after: Way) -> Iterator[Claim] | str:
        """What must be shown where two ways end."""
        if before.stop.is_exit and after.stop.is_exit:
            return claims_at_end(demand_at_exit(self.obligation.before), before.run, after.run)
        point = self.cuts.get((before.stop.label, after.stop.label))
        if point is None or before.stop.is_exit or after.stop.is_exit:
            return f"{_name(before)} before, {_name(after)} after"
        return claims_at_cut(point, before.run, after.run)

    def is_reachable(self, pair: Pair) -> bool:
        return self.facts.is_reachable(Point(pair[0], 0))


def _prove_function(whole: Whole, watch: Watch | None = None) -> Verdict:
    waiting: list[Pair | None] = [None]
    seen = set(waiting)
    count = 0
    while waiting:
        pair = waiting.pop()
        segment = whole.segment(pair, SimplifyingTerms())
        reached: set[Pair] = set()

        def claims(before: Way, after: Way, reached: set[Pair] = reached) -> Iterator[Claim] | str:
            reached.add((before.stop.label, after.stop.label))
            if watch is not None:
                watch(before, after)
            return whole.claims(before, after)

        if not is_satisfiable(segment.start.entry, whole.limits, segment.start.assumptions):
            return _unknown(CONTRADICTION)
        for failure in segment.failures(claims):
            return _verdict(segment, failure, is_reachable=pair is None and _is_shown(failure))
        count += 1
        for other in sorted(reached & whole.cuts.keys() - seen, reverse=True):
            seen.add(other)
            if whole.is_reachable(other):
                waiting.append(other)
    return Verdict(Status.PROVED, method=f"{count} segments")


def interface(function: Function) -> tuple[object, ...]:
    """What callers, the loader and the kernel see of a function besides its code."""
    return (
        function.name,
        function.program_type,
        function.is_global,
        function.is_subprogram,
        function.argument_count,
        function.returns_void,
    )


def _name(way: Way) -> str:
    return "an exit" if way.stop.is_exit else way.stop.label


def _is_shown(failure: Failure) -> bool:
    """Is it an event or a result that differs, and not only what is believed at a cut point?"""
    before, after = failure.meeting
    if after.mismatch is not None or (before.stop.is_exit and after.stop.is_exit):
        return True
    return any(check is failure.check for check in after.run.comparison.checks)


def _verdict(segment: Segment, failure: Failure, is_reachable: bool) -> Verdict:
    """A difference refutes only where it can be met and seen: at a cut point it is merely not excluded."""
    text = f"{failure.text} (along {trail(failure.meeting)})"
    if failure.state is None:
        return _unknown(text)
    if not is_reachable:
        return _unknown(f"not implied by what is believed, from {segment.labels[0]}: {text}")
    runs = (failure.meeting.before.run, failure.meeting.after.run)
    mismatch = failure.meeting.after.mismatch
    if any(event.is_of_unknown_origin for run in runs for event in run.events) or (
        mismatch is not None and mismatch.is_kept
    ):
        return _unknown(text)
    if relates_context_widths(*runs):
        return _unknown(f"{CONTEXT_WIDTHS}: {text}")
    state, found = _smallest(segment, failure)
    text = f"{found or failure.text} (along {trail(failure.meeting)})"
    return Verdict(Status.REFUTED, counterexample=describe(runs, state, text))


def _smallest(segment: Segment, failure: Failure) -> tuple[Assignment, str]:
    """The failure's state made small, and the difference that it shows; "" where any state at all is one too many."""
    assert failure.state is not None
    terms = segment.start.entry.terms
    check = failure.check or Check("", terms.const(1, 0), terms.const(1, 1))
    assumptions = [*segment.start.assumptions, *failure.meeting.after.conditions]

    def differs(state: Assignment) -> bool:
        return first_difference([check], assumptions, state) is not None

    registers = [value.term for value in segment.start.entry.registers]
    roots = [*assumptions, *registers, check.before, check.after]
    state = smaller(failure.state, roots, differs, segment.limits.shrink_tests)
    difference = first_difference([check], assumptions, state)
    return state, "" if difference is None or failure.check is None else difference.text


def _unknown(reason: str) -> Verdict:
    return Verdict(Status.UNKNOWN, reason)

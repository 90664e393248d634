"""One segment: every way of `before` from its start, against every way of `after` that can be taken with it.

Each pair of ways is a straight-line question under the conditions of both.  What does not correspond (events, where the
ways lead) must be impossible: the conditions contradict each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import z3

from verifier_model.bpf.unit import Point
from verifier_model.domains.state import State
from verifier_model.prover.counterexample import Assignment, ModelState, Sample, first_difference
from verifier_model.prover.cuts import Claim, Start
from verifier_model.prover.evaluate import evaluate
from verifier_model.prover.events import Check
from verifier_model.prover.limits import Limits, TooHardError
from verifier_model.prover.paths import Budget, Graph, TooLongError, Walk, Way
from verifier_model.prover.smt_algebra import Query, relevant
from verifier_model.prover.terms import Term, reachable
from verifier_model.verdict import Equality

Claims = Callable[[Way, Way], "Iterator[Claim] | str"]  # the claims where two ways end, or why they must not end there


class Meeting(NamedTuple):
    """A way of each program, taken from one start state wherever the conditions of `after` hold."""

    before: Way
    after: Way


class Failure(NamedTuple):
    """A claim that was not proved.  `state` shows a difference; without one, `text` is a reason for not knowing.

    `check`: what differs; None where the ways must not be taken together at all.
    """

    text: str
    meeting: Meeting
    state: Assignment | None = None
    belief: Equality | int | None = None
    check: Check | None = None


@dataclass
class Judge:
    """Answers about start states: what follows, and what may differ.

    `conclusions`: the queries without a model from which ways were left out.
    """

    start: Start
    limits: Limits
    conclusions: list[Query] = field(default_factory=list)
    _context: z3.Context = field(default_factory=z3.Context)
    _lowered: dict[int, Any] = field(default_factory=dict)
    _implied: dict[tuple[tuple[int, ...], int], bool] = field(default_factory=dict)

    def implied(self, conditions: tuple[Term, ...], term: Term) -> bool:
        """Does the term (one bit) hold in every start state under the conditions?  False may mean "not seen to"."""
        key = (tuple(condition.id for condition in conditions), term.id)
        if key not in self._implied:
            query = self._narrowed(self.query(conditions, [self.start.entry.terms.not_(term)]))
            self._implied[key] = query.solve(self.limits) is None
            if self._implied[key]:
                self.conclusions.append(query)
        return self._implied[key]

    def is_possible(self, conditions: tuple[Term, ...]) -> bool:
        """Is there a start state under the conditions?  False may mean that none was found."""
        assumptions, bounds = [*self.start.assumptions, *conditions], self.start.entry.bounds
        for number in range(self.limits.samples):
            sample = Sample(number, self.limits.seed, bounds)
            values = evaluate(assumptions, sample.variable, sample.initial_byte)
            if all(values[term.id] for term in assumptions):
                return True
        return isinstance(self._solve(conditions, [self.start.entry.terms.const(1, 1)]), ModelState)

    def differing(self, conditions: tuple[Term, ...], checks: list[Check]) -> tuple[Check, Assignment | str] | None:
        """A check that fails in some start state, or (with a text) for which nobody knows; None: none can fail."""
        checks = [check for check in checks if check.before is not check.after]
        if not checks:
            return None
        assumptions = [*self.start.assumptions, *conditions]
        for number in range(self.limits.samples):
            sample = Sample(number, self.limits.seed, self.start.entry.bounds)
            found = first_difference(checks, assumptions, sample)
            if found is not None:
                return found.check, sample
        terms = self.start.entry.terms
        goals = [terms.not_(terms.eq(check.before, check.after)) for check in checks]
        if self.limits.cone:
            narrow = self._narrowed(self.query(conditions, goals)).solve(self.limits)
            if narrow is None:
                return None
            if not isinstance(narrow, str):
                state = ModelState(narrow, Sample(0, self.limits.seed, self.start.entry.bounds))
                found = first_difference(checks, assumptions, state)
                if found is not None:
                    return found.check, state
        answer = self._solve(conditions, goals)
        if answer is None:
            return None
        if isinstance(answer, str):
            return checks[0], answer
        found = first_difference(checks, assumptions, answer)
        return (checks[0], "model not confirmed by evaluation") if found is None else (found.check, answer)

    def query(self, conditions: tuple[Term, ...], goals: list[Term]) -> Query:
        """Is there a start state under the conditions where one of the goals (terms of one bit) holds?"""
        assumptions = [*self.start.assumptions, *conditions]
        return Query(self.start.entry.terms, assumptions, goals, self.limits.alias_tests, self._context, self._lowered)

    def _narrowed(self, query: Query) -> Query:
        return replace(query, assumptions=relevant(query.assumptions, query.goals)) if self.limits.cone else query

    def _solve(self, conditions: tuple[Term, ...], goals: list[Term]) -> ModelState | str | None:
        answer = self.query(conditions, goals).solve(self.limits)
        return answer if answer is None or isinstance(answer, str) else ModelState(answer)


@dataclass
class Segment:
    """Where it starts, both programs' graphs, and the labels at which their ways end.

    `known`: the facts just before each instruction of `before`, where they are at hand.
    """

    start: Start
    graphs: tuple[Graph, Graph]
    labels: tuple[str, str]
    stops: tuple[frozenset[str], frozenset[str]]
    limits: Limits
    known: Callable[[Point], State] | None = None

    def __post_init__(self) -> None:
        self.judge = Judge(self.start, self.limits)

    def meetings(self) -> Iterator[Meeting]:
        """All pairs of ways, except some that cannot be taken together; raises TooHardError, and TooLongError late."""
        too_long: TooLongError | None = None
        budget = Budget(self.limits.ways, self.limits.way_insns, self.limits.turns)
        first = Walk(self.graphs[0], self.stops[0], budget, known=self.known)
        second = Walk(self.graphs[1], self.stops[1], budget, self.judge.implied)
        for before in first.ways(self.start.before.fork(), self.labels[0]):
            run = self.start.after.fork()
            run.script, run.types = before.run.events, before.run.types
            try:
                for after in second.ways(run, self.labels[1], before.conditions):
                    yield Meeting(before, after)
            except TooLongError as error:
                too_long = error
        if too_long is not None:
            raise too_long

    def failures(self, claims: Claims) -> Iterator[Failure]:
        """Everything that is not proved, one counterexample per claim; also when nothing at all can get through."""
        met: list[Meeting] = []
        for meeting in self.meetings():
            met.append(meeting)
            yield from self._failures_of(meeting, claims)
        if not any(self.judge.is_possible(meeting.after.conditions) for meeting in met):
            raise TooHardError(f"nothing gets through the segment from {self.labels[0]}")

    def queries(self, claims: Claims) -> Iterator[tuple[str, Query]]:
        """All that must have no model so that nothing here fails, each with the ways that it is about."""
        terms = self.start.entry.terms
        for meeting in self.meetings():
            wanted = _wanted(meeting, claims)
            if isinstance(wanted, str):
                goals = [terms.const(1, 1)]
            else:
                goals = [terms.not_(terms.eq(claim.check.before, claim.check.after)) for claim in wanted]
            yield trail(meeting), self.judge.query(meeting.after.conditions, goals)
        yield from ((f"ways left out, {number}", query) for number, query in enumerate(self.judge.conclusions))

    def _failures_of(self, meeting: Meeting, claims: Claims) -> Iterator[Failure]:
        wanted = _wanted(meeting, claims)
        conditions = meeting.after.conditions
        if isinstance(wanted, str):
            yield from self._must_be_impossible(wanted, meeting)
            return
        while True:
            answer = self.judge.differing(conditions, [claim.check for claim in wanted])
            if answer is None:
                return
            check, state = answer
            at = next(index for index, claim in enumerate(wanted) if claim.check is check)
            claim = wanted.pop(at)
            if isinstance(state, str):
                yield Failure(f"{check.what}: {state}", meeting, None, claim.belief)
            else:
                difference = first_difference([check], [], state)
                text = check.what if difference is None else difference.text
                yield Failure(text, meeting, state, claim.belief, check)

    def _must_be_impossible(self, text: str, meeting: Meeting) -> Iterator[Failure]:
        answer = self.judge.differing(meeting.after.conditions, [self._absurd()])
        if answer is not None:
            _, state = answer
            if isinstance(state, str):
                yield Failure(f"{text}: {state}", meeting)
            else:
                yield Failure(text, meeting, state)

    def _absurd(self) -> Check:
        terms = self.start.entry.terms
        return Check("", terms.const(1, 0), terms.const(1, 1))


def _wanted(meeting: Meeting, claims: Claims) -> list[Claim] | str:
    """What must be shown of two ways; or why they must not be taken together."""
    after = meeting.after
    found = str(after.mismatch) if after.mismatch is not None else claims(*meeting)
    if isinstance(found, str):
        return found
    wanted = [*(Claim(check) for check in after.run.comparison.checks), *found]
    return _without_garbage(wanted, after.conditions)


def _without_garbage(claims: list[Claim], conditions: tuple[Term, ...]) -> list[Claim]:
    """The claims that are left when `before` shows garbage which nothing else depends on.

    What a call leaves in r1 to r5 is not determined, and calls with fewer arguments than registers may pass it on.
    Where the original may show any value at all, whatever the replacement shows is one of them.
    """
    garbage = [claim for claim in claims if claim.belief is None and _is_garbage(claim.check.before)]
    if not garbage:
        return claims
    users = Counter(term.id for claim in claims for term in reachable([claim.check.before, claim.check.after]))
    users.update(term.id for condition in conditions for term in reachable([condition]))
    return [claim for claim in claims if claim not in garbage or users[claim.check.before.id] > 1]


def _is_garbage(term: Term) -> bool:
    return term.op == "var" and isinstance(term.data, tuple) and term.data[:2] == ("garbage", "before")


def trail(meeting: Meeting) -> str:
    """The blocks that both ways pass, for messages."""
    ways = []
    for way in meeting:
        end = "exit" if way.stop.is_exit else way.stop.label
        ways.append(" ".join((*way.trail, "..." if way.mismatch else end)))
    return ways[0] if ways[0] == ways[1] else f"{ways[0]} before, {ways[1]} after"

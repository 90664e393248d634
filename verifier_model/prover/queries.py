"""The questions about regions and whole functions as SMT-LIB 2 text, for other solvers and other eyes."""

from __future__ import annotations

from verifier_model.facts import analyse
from verifier_model.prover.functions import Whole, region_claims, region_segment
from verifier_model.prover.limits import DEFAULT, Limits, TooHardError
from verifier_model.prover.smt_algebra import Query
from verifier_model.prover.smtlib_text import script
from verifier_model.prover.terms import Terms
from verifier_model.verdict import FunctionObligation, RegionObligation

Named = tuple[str, str]  # what a query is about, and its text


def function_queries(obligation: FunctionObligation, limits: Limits = DEFAULT) -> tuple[Named, ...]:
    """Queries that are built without simplification; if all are "unsat", `after` refines `before`.

    Raises ValueError when the prover cannot model the two.  Which branches cannot be taken is decided with the solver,
    and each such decision is a query too.
    """
    try:
        whole = Whole(obligation, analyse(obligation.unit, obligation.before), limits)
        result: list[Named] = []
        for pair in (None, *filter(whole.is_reachable, whole.cuts)):
            where = "the entry" if pair is None else f"{pair[0]} / {pair[1]}"
            found = whole.segment(pair, Terms()).queries(whole.claims)
            result += [(f"from {where}: {name}", _text(query)) for name, query in found]
    except TooHardError as error:
        raise ValueError(str(error)) from error
    return tuple(result)


def function_companions(obligation: FunctionObligation, limits: Limits = DEFAULT) -> tuple[Named, ...]:
    """For each segment, whether it has a start state at all ("sat"); without one, its queries prove nothing."""
    try:
        whole = Whole(obligation, analyse(obligation.unit, obligation.before), limits)
        result = []
        for pair in (None, *filter(whole.is_reachable, whole.cuts)):
            where = "the entry" if pair is None else f"{pair[0]} / {pair[1]}"
            start = whole.segment(pair, Terms()).start
            query = Query(start.entry.terms, start.assumptions, [], limits.alias_tests)
            result.append((f"from {where}", script([*query.assumptions, *query.same_bytes()], None)))
    except TooHardError as error:
        raise ValueError(str(error)) from error
    return tuple(result)


def region_queries(region: RegionObligation, limits: Limits = DEFAULT) -> tuple[Named, ...]:
    """The same for a region."""
    try:
        segment = region_segment(region, Terms(), limits)
        found = segment.queries(lambda before, after: region_claims(region, before, after))
        return tuple((name, _text(query)) for name, query in found)
    except TooHardError as error:
        raise ValueError(str(error)) from error


def _text(query: Query) -> str:
    return script([*query.assumptions, *query.same_bytes()], query.goals)

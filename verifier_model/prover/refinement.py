"""The door's question: does `after` refine `before`?  Simplify, try random states, ask the solver, in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from verifier_model.bpf.demand import ALL_BITS
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.prover.counterexample import (
    Assignment,
    ModelState,
    Sample,
    first_difference,
    member,
)
from verifier_model.prover.encode import execute
from verifier_model.prover.ends import compare_ends
from verifier_model.prover.entry import Entry
from verifier_model.prover.events import Check, Comparison, DifferentShapeError
from verifier_model.prover.limits import DEFAULT, Limits, TooHardError
from verifier_model.prover.memory import AliasBudget
from verifier_model.prover.replay import confirms
from verifier_model.prover.run import Run
from verifier_model.prover.shrink import smaller
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.smt_algebra import Query, relevant
from verifier_model.prover.smtlib_text import script
from verifier_model.prover.start import describe, value_of
from verifier_model.prover.terms import Term, Terms
from verifier_model.verdict import Counterexample, Obligation, Status, Verdict

CONTEXT_WIDTHS = "context loads of different widths are not related to each other"
CONTRADICTION = "assumptions contradict each other"


def prove(obligation: Obligation, limits: Limits = DEFAULT, terms: Callable[[], Terms] = SimplifyingTerms) -> Verdict:
    """PROVED only if `after` shows what `before` shows from every state that satisfies the entry facts.

    `terms` makes the terms of the proof: how much they simplify changes the time and not what is true.
    """
    try:
        return _prove(obligation, limits, terms())
    except TooHardError as error:
        return _unknown(str(error))


def smtlib(obligation: Obligation, limits: Limits = DEFAULT) -> str:
    """The whole query as SMT-LIB 2 text, built without any simplification; "unsat" is the proof.

    Raises ValueError when there is no such query, because the prover cannot model the two programs event by event.
    """
    return scripts(obligation, limits)[0]


def scripts(obligation: Obligation, limits: Limits = DEFAULT) -> tuple[str, str]:
    """The query of `smtlib`, and the same without its goal: "sat" says that the assumptions can be met.

    Raises ValueError as `smtlib` does.
    """
    try:
        problem = encode(obligation, Entry(Terms(), obligation.entry), limits)
        query = _query(problem, problem.checks, limits)
        assumptions = [*query.assumptions, *query.same_bytes()]
        return script(assumptions, query.goals), script(assumptions, None)
    except (TooHardError, DifferentShapeError) as error:
        raise ValueError(str(error)) from error


@dataclass
class Problem:
    """Two runs from one entry, and what must be equal."""

    obligation: Obligation
    entry: Entry
    before: Run
    after: Run
    checks: list[Check]
    assumptions: list[Term]


def _unknown(reason: str) -> Verdict:
    return Verdict(Status.UNKNOWN, reason)


def plain(insns: tuple[Insn, ...]) -> list[tuple[Insn, object]]:
    """Instructions without their line records; CO-RE records count."""
    return [(insn.without_origin(), insn.origin.core) for insn in insns]


def _prove(obligation: Obligation, limits: Limits, terms: Terms) -> Verdict:
    entry = Entry(terms, obligation.entry)
    if not is_satisfiable(entry, limits):
        return _unknown(CONTRADICTION)
    if plain(obligation.before) == plain(obligation.after):
        return Verdict(Status.PROVED, method="identical")
    try:
        problem = encode(obligation, entry, limits)
    except DifferentShapeError as error:
        return _different_shape(entry, error, limits)
    open_checks = [check for check in problem.checks if check.before is not check.after]
    if not open_checks:
        return Verdict(Status.PROVED, method="simplified")
    return _decide(problem, open_checks, limits)


def _decide(problem: Problem, checks: list[Check], limits: Limits) -> Verdict:
    for number in range(limits.samples):
        verdict = _refuted(problem, checks, Sample(number, limits.seed, problem.entry.bounds), limits)
        if verdict is not None:
            return verdict
    query = _query(problem, checks, limits)
    if limits.cone:
        narrow = replace(query, assumptions=relevant(query.assumptions, query.goals)).solve(limits)
        if narrow is None:
            return Verdict(Status.PROVED, method="solver")
        if not isinstance(narrow, str):
            state = ModelState(narrow, Sample(0, limits.seed, problem.entry.bounds))
            verdict = _refuted(problem, checks, state, limits)
            if verdict is not None:
                return verdict
    answer = query.solve(limits)
    if answer is None:
        return Verdict(Status.PROVED, method="solver")
    if isinstance(answer, str):
        return _unknown(answer)
    verdict = _refuted(problem, checks, ModelState(answer), limits)
    return verdict if verdict is not None else _unknown("model not confirmed by evaluation")


def _refuted(problem: Problem, checks: list[Check], state: Assignment, limits: Limits) -> Verdict | None:
    difference = first_difference(checks, problem.assumptions, state)
    if difference is None:
        return None
    if relates_context_widths(problem.before, problem.after):
        return _unknown(CONTEXT_WIDTHS)
    runs = (problem.before, problem.after)
    confirmed = confirms(*runs, state)
    if confirmed is False:
        return _unknown("model not confirmed by the concrete machine")

    def differs(other: Assignment) -> bool:
        found = first_difference(checks, problem.assumptions, other)
        return found is not None and found.check is difference.check and confirms(*runs, other) is confirmed

    registers = [value.term for value in problem.entry.registers]
    roots = [*problem.assumptions, *registers, *(term for check in checks for term in (check.before, check.after))]
    small = smaller(state, roots, differs, limits.shrink_tests)
    shown = first_difference(checks, problem.assumptions, small) or difference
    return Verdict(Status.REFUTED, counterexample=describe(runs, small, shown.text, limits.shrink_tests > 0))


def relates_context_widths(before: Run, after: Run) -> bool:
    """Were overlapping context bytes read by loads of different shape?  The model takes those for unrelated."""
    loads = sorted(before.context_loads | after.context_loads)
    return any(
        epoch == other_epoch and off < other_off + other_size and other_off < off + size
        for index, (epoch, off, size) in enumerate(loads)
        for other_epoch, other_off, other_size in loads[:index]
    )


def _different_shape(entry: Entry, error: DifferentShapeError, limits: Limits) -> Verdict:
    """Any state at all is a counterexample to runs whose events do not correspond."""
    if error.is_kept:
        return _unknown(str(error))
    state = Sample(0, limits.seed, entry.bounds)
    registers = tuple(value_of(value.term, state) for value in entry.registers)
    return Verdict(Status.REFUTED, counterexample=Counterexample(registers, (), (), str(error)))


def _query(problem: Problem, checks: list[Check], limits: Limits) -> Query:
    terms = problem.entry.terms
    goals = [terms.not_(terms.eq(check.before, check.after)) for check in checks]
    return Query(terms, problem.assumptions, goals, limits.alias_tests)


def is_satisfiable(entry: Entry, limits: Limits, assumptions: list[Term] | None = None) -> bool:
    """Is there an initial state at all?  Facts bound single variables, so each can be looked at by itself.

    `assumptions`: all that is assumed, when that is more than what the facts say.
    """
    facts = entry.assumptions()
    wanted = facts if assumptions is None else assumptions
    if len(wanted) == len(facts) and all(member(tuple(scalars), 0) is not None for _, scalars in entry.bounds.values()):
        return True
    answer = Query(entry.terms, wanted, [entry.terms.const(1, 1)], limits.alias_tests).solve(limits)
    if isinstance(answer, str):
        raise TooHardError(answer)
    return answer is not None


# ---- the two runs ----


def encode(obligation: Obligation, entry: Entry, limits: Limits) -> Problem:
    """Both runs and every check; raises TooHardError and DifferentShapeError."""
    budget = AliasBudget(limits.alias_tests)
    before = Run(obligation, entry, "before", budget)
    execute(before, obligation.before)
    comparison = Comparison()
    after = Run(obligation, entry, "after", budget, script=before.events, comparison=comparison)
    execute(after, obligation.after)
    _compare_control(before, after, comparison)
    _compare_ends(obligation, before, after, comparison)
    return Problem(obligation, entry, before, after, comparison.checks, entry.assumptions())


def _compare_control(before: Run, after: Run, comparison: Comparison) -> None:
    old, new = before.control, after.control
    assert old is not None and new is not None
    jumps = ("falls", "jumps")
    if old.kind != new.kind and not (old.kind in jumps and new.kind in jumps):
        raise DifferentShapeError(f"the window {old.kind} before, {new.kind} after", "may_goto" in (old.kind, new.kind))
    if old.kind == "may_goto" and old.target != new.target:
        raise DifferentShapeError("the target of may_goto changed", is_kept=True)
    if old.kind in jumps and old.target == new.target:
        comparison.same(f"jump to {old.target}", old.taken, new.taken)
    elif old.kind in jumps:
        never = before.terms.const(1, 0)
        comparison.same(f"jump to {new.target}", never, new.taken)
        comparison.same(f"jump to {old.target}", old.taken, never)


def _compare_ends(obligation: Obligation, before: Run, after: Run, comparison: Comparison) -> None:
    demand = obligation.demand
    is_exit = obligation.before[-1:] != () and obligation.before[-1].kind is Kind.EXIT
    if is_exit and not obligation.function.returns_void:
        demand = replace(demand, regs=(ALL_BITS, *demand.regs[1:]))
    compare_ends(demand, before, after, comparison)

"""Terms in z3: a fresh context per proof, so that no earlier proof can change an answer or its cost."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import z3

from verifier_model.prover.limits import Limits, TooHardError
from verifier_model.prover.terms import Term, Terms, linear_data, reachable


@dataclass(frozen=True, slots=True)
class Model:
    """A state in which they differ: values of variables by term id, and of initial bytes by region and address."""

    variables: dict[int, int]
    bytes: dict[tuple[Hashable, int], int]


@dataclass
class Query:
    """Is there a state that satisfies all `assumptions` and at least one of `goals` (terms of one bit)?

    Initial bytes become variables; two in one region are equal when their addresses are (Ackermann's reduction), so the
    whole query stays within quantifier-free bit vectors.  Queries about the same `terms` may share a `context` and the
    z3 terms made in it, `lowered` by node id.
    """

    terms: Terms
    assumptions: list[Term]
    goals: list[Term]
    alias_tests: int
    context: z3.Context = field(default_factory=z3.Context)
    lowered: dict[int, Any] = field(default_factory=dict)

    def solver(self) -> z3.Solver:
        """A fresh solver that holds the query; raises TooHardError when memory needs too many case distinctions."""
        solver = z3.SolverFor("QF_BV", ctx=self.context)
        for term in [*self.assumptions, *self.same_bytes()]:
            solver.add(self._is_true(term))
        solver.add(z3.Or([self._is_true(goal) for goal in self.goals] + [z3.BoolVal(False, self.context)]))
        return solver

    def _is_true(self, term: Term) -> Any:
        return self.lower(term) == z3.BitVecVal(1, 1, self.context)

    def same_bytes(self) -> list[Term]:
        """Equal addresses in one region hold equal bytes, for every pair that the query mentions.

        Nodes are unique, so two bytes of one base have different offsets and hence different addresses.
        """
        reads: dict[Hashable, dict[Term, list[Term]]] = {}
        for term in reachable([*self.assumptions, *self.goals]):
            if term.op == "init":
                base, _ = self.terms.split(term.args[0])
                reads.setdefault(term.data, {}).setdefault(base, []).append(term)
        pairs = [
            (a, b)
            for by_base in reads.values()
            for some, others in combinations(by_base.values(), 2)
            for a in some
            for b in others
        ]
        if len(pairs) > self.alias_tests:
            raise TooHardError("too many addresses may alias")
        terms = self.terms
        return [terms.or_(terms.not_(terms.eq(a.args[0], b.args[0])), terms.eq(a, b)) for a, b in pairs]

    def lower(self, root: Term) -> Any:
        """The z3 term of a node."""
        if root.id not in self.lowered:
            for term in reachable([root]):
                if term.id not in self.lowered:
                    self.lowered[term.id] = self._lower_node(term)
        return self.lowered[root.id]

    def _lower_node(self, term: Term) -> Any:
        args = [self.lowered[arg.id] for arg in term.args]
        context = self.context
        if term.op in ("var", "init"):
            return z3.BitVec(f"{term.op}{term.id}", term.width, context)
        if term.op == "const":
            return z3.BitVecVal(term.constant, term.width, context)
        if term.op == "slice":
            assert isinstance(term.data, int)
            return z3.Extract(term.data + term.width - 1, term.data, args[0])
        if term.op == "concat":
            return z3.Concat(*reversed(args))
        if term.op == "sext":
            return z3.SignExt(term.width - term.args[0].width, args[0])
        if term.op == "ite":
            return z3.If(args[0] == z3.BitVecVal(1, 1, context), args[1], args[2])
        if term.op == "linear":
            constant, coefficients = linear_data(term)
            weighted = [c * arg if c != 1 else arg for c, arg in zip(coefficients, args, strict=True)]
            return sum(weighted[1:], weighted[0]) + z3.BitVecVal(constant, term.width, context)
        result = _OPERATIONS[term.op](*args)
        if isinstance(result, z3.BoolRef):
            return z3.If(result, z3.BitVecVal(1, 1, context), z3.BitVecVal(0, 1, context))
        return result

    def solve(self, limits: Limits) -> Model | str | None:
        """A model, None when there is none, or the solver's reason for not knowing."""
        solver = self.solver()
        solver.set("rlimit", limits.solver_steps)
        solver.set("random_seed", 0)
        try:
            answer = solver.check()
        except z3.Z3Exception as error:
            return f"the solver failed: {error}"
        if answer == z3.unsat:
            return None
        if answer != z3.sat:
            return f"the solver gave up: {solver.reason_unknown()}"
        return self._model(solver.model())

    def _model(self, model: z3.ModelRef) -> Model:
        def value(term: Term) -> int:
            return int(model.eval(self.lower(term), model_completion=True).as_long())

        nodes = reachable([*self.assumptions, *self.goals])
        variables = {term.id: value(term) for term in nodes if term.op == "var"}
        memory = {(term.data, value(term.args[0])): value(term) for term in nodes if term.op == "init"}
        return Model(variables, memory)


def relevant(assumptions: list[Term], goals: list[Term]) -> list[Term]:
    """The assumptions that share a variable with the goals, or with an assumption that does: the cone of influence.

    Those that are left out say nothing of the goals, as long as they can be met at all.  All of them if the goals have
    no variables: then the question is whether the assumptions can be met.
    """
    names = [(term, _variables(term)) for term in assumptions]
    wanted = {name for goal in goals for name in _variables(goal)}
    if not wanted:
        return assumptions
    kept: set[int] = set()
    grows = True
    while grows:
        grows = False
        for index, (_, variables) in enumerate(names):
            if index not in kept and not wanted.isdisjoint(variables):
                kept.add(index)
                wanted |= variables
                grows = True
    return [term for index, (term, _) in enumerate(names) if index in kept]


def _variables(root: Term) -> set[Hashable]:
    """Variables and regions below a node (the bytes of one region depend on each other)."""
    return {term.data if term.op == "init" else term.id for term in reachable([root]) if term.op in ("var", "init")}


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "shl": lambda a, b: a << b,
    "lshr": z3.LShR,
    "ashr": lambda a, b: a >> b,
    "udiv": z3.UDiv,
    "urem": z3.URem,
    "sdiv": lambda a, b: a / b,
    "srem": z3.SRem,
    "eq": lambda a, b: a == b,
    "ult": z3.ULT,
    "slt": lambda a, b: a < b,
}

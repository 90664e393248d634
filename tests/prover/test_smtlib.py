"""The query as text, built without any simplification: a second opinion on every row of the tables.

What the rewriting constructors decide by themselves, z3 must decide alike from the plain terms.
"""

from __future__ import annotations

import pytest
import z3

from tests.prover.obligations import obligation
from tests.prover.test_mutants import questions, shown
from tests.prover.test_windows import ROWS, Row
from verifier_model.prover import Limits, prove, smtlib
from verifier_model.verdict import Obligation, Status

STEPS = 1_000_000


def answer(question: Obligation) -> str:
    solver = z3.SolverFor("QF_BV", ctx=z3.Context())
    solver.set("rlimit", STEPS)
    text = smtlib(question)
    assert text.startswith("(set-logic QF_BV)") and text.rstrip().endswith("(check-sat)")
    solver.from_string(text)
    return str(solver.check())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_text_is_unsatisfiable_for_a_proof_and_satisfiable_for_its_twin(row: Row) -> None:
    def question(after: str) -> Obligation:
        return obligation(row.entry, row.before, after, row.demand, row.program_type, row.order)

    assert answer(question(row.after)) == "unsat"
    if not row.difference.startswith("event"):
        assert answer(question(row.twin)) == "sat"


@pytest.mark.parametrize("order", ["little", "big"])
def test_random_windows_agree(order: str) -> None:
    compared = 0
    for question in questions(order)[::12]:
        verdict = prove(question, Limits(solver_steps=300_000))
        if verdict.status is Status.UNKNOWN or verdict.method == "identical":
            continue
        try:
            found = answer(question)
        except ValueError:  # the events do not correspond: there is no query
            assert verdict.status is Status.REFUTED
            continue
        if found == "unknown":
            continue
        assert (found == "unsat") == verdict.is_proved, f"{found}\n{verdict}\n{shown(question)}"
        compared += 1
    assert compared > 40


def test_no_text_where_nothing_is_modelled() -> None:
    with pytest.raises(ValueError, match="pointer of kind scalar"):
        smtlib(obligation("r7 scalar", "r3 = *(u8 *)(r7 + 0)", "r3 = 0", "r3"))

"""The prover's questions as text for other solvers, and obligations as JSON values."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from tests.prover.obligations import demand, obligation, state
from tests.prover.test_mutants import questions
from tests.prover.test_windows import ROWS, Row
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import NO_ORIGIN, Insn, Origin, Ref, RefKind, make
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State
from verifier_model.prover import Limits, prove
from verifier_model.prover.certificate_values import (
    demand_of,
    demand_value,
    fact_text,
    facts_value,
    insn_of,
    insn_value,
    state_of,
)
from verifier_model.prover.refinement import scripts
from verifier_model.prover.second_solver import SOLVERS, Bounds, SolverMissingError, ask, version
from verifier_model.prover.smtlib_text import comment
from verifier_model.verdict import CutPoint, Obligation, Status

ALL = [pytest.param(name, marks=pytest.mark.needs(name) if name != "z3" else ()) for name in SOLVERS]
SECONDS = 20


def asked(row: Row, after: str) -> Obligation:
    return obligation(row.entry, row.before, after, row.demand, row.program_type, row.order)


@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_solver_confirms_the_proof_and_sees_the_twin(row: Row, solver: str) -> None:
    query, companion = scripts(asked(row, row.after))
    bounds = Bounds(seconds=SECONDS)
    assert ask(solver, query, bounds).answer == "unsat"
    assert ask(solver, companion, bounds).answer == "sat"
    if not row.difference.startswith("event"):
        assert ask(solver, scripts(asked(row, row.twin))[0], bounds).answer == "sat"


@pytest.mark.needs("bitwuzla")
@pytest.mark.parametrize("order", ["little", "big"])
def test_random_windows_agree_with_a_solver_of_another_family(order: str) -> None:
    compared = 0
    for question in questions(order)[::7]:
        verdict = prove(question, Limits(solver_steps=300_000))
        if verdict.status is Status.UNKNOWN:
            continue
        try:
            query, companion = scripts(question)
        except ValueError:
            assert verdict.status is Status.REFUTED or verdict.method == "identical"
            continue
        reply = ask("bitwuzla", query, Bounds(seconds=SECONDS))
        if reply.answer != "unknown":
            assert (reply.answer == "unsat") == verdict.is_proved, query
            compared += 1
        assert ask("bitwuzla", companion, Bounds(seconds=SECONDS)).answer == "sat"
    assert compared > 60


def test_a_size_that_is_a_number_is_one_without_simplification_too() -> None:
    """What a callee may write is known by its size; the plain question must not fear for the bytes beside it."""
    call = "r1 = r10; r1 += -64; r2 = 0; r2 &= 32; r2 += 32; r3 = 0; call 113"
    question = obligation("", f"r0 = 0; *(u64 *)(r10 - 16) = r0; {call}", call, "r0")
    assert prove(question).is_proved
    assert ask("z3", scripts(question)[0]).answer == "unsat"
    twin = replace(question, demand=demand("r0 -16..-9"))
    assert prove(twin).status is Status.REFUTED
    assert ask("z3", scripts(twin)[0]).answer == "sat"


def test_contradicting_facts_show_in_the_companion() -> None:
    vacuous = obligation("r1 scalar umin=5 umax=4", "r0 = r1", "r0 = 7", "r0")
    query, companion = scripts(vacuous)
    assert ask("z3", query).answer == "unsat", "anything follows"
    assert ask("z3", companion).answer == "unsat"
    assert prove(vacuous).status is Status.UNKNOWN
    sane = obligation("r1 scalar umin=4 umax=4", "r0 = r1", "r0 = 4", "r0")
    assert [ask("z3", text).answer for text in scripts(sane)] == ["unsat", "sat"]


HARD = """(set-logic QF_BV)
(declare-const a (_ BitVec 64))
(declare-const b (_ BitVec 64))
(assert (= (bvmul a b) (_ bv1000000016000000063 64)))
(assert (and (bvult (_ bv1 64) a) (bvult a (_ bv4294967295 64)) (bvult (_ bv1 64) b) (bvult b (_ bv4294967295 64))))
(check-sat)
"""


@pytest.mark.parametrize("solver", ALL)
def test_what_is_too_hard_or_broken_is_unknown(solver: str) -> None:
    bounds = Bounds(steps=0.01, seconds=2)
    assert ask(solver, HARD, bounds).answer == "unknown"
    reply = ask(solver, "(set-logic QF_BV)\n(assert (= x y))\n(check-sat)\n", bounds)
    assert reply.answer == "unknown" and "failed" in reply.reason
    assert ask(solver, "(set-logic QF_BV)\n", bounds).answer != "unsat"
    assert version(solver).startswith(f"{solver} ")


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "bitwuzla", SOLVERS["bitwuzla"]._replace(module="no_such_module"))
    with pytest.raises(SolverMissingError, match="certificates"):
        ask("bitwuzla", HARD)


@pytest.mark.parametrize("name", ["f\n(assert false)", "f\r(assert false)", "f\x0b\x85\u2028(assert false)", "x" * 999])
def test_no_name_ends_a_comment(name: str) -> None:
    text = comment(f"function: {name}")
    assert text.isascii() and all(re.match(r"; [ -~]*$|;$", line) for line in text.splitlines())
    assert text.endswith("\n") and "\r" not in text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_obligation_as_values_asks_the_same_question(row: Row) -> None:
    question = asked(row, row.after)
    order = question.unit.byte_order
    read = json.loads(
        json.dumps(
            {
                "facts": facts_value(question.entry),
                "demand": demand_value(question.demand),
                "insns": [[insn_value(insn, order) for insn in insns] for insns in (question.before, question.after)],
            }
        )
    )
    again = replace(
        question,
        before=tuple(insn_of(value, order) for value in read["insns"][0]),
        after=tuple(insn_of(value, order) for value in read["insns"][1]),
        entry=state_of(read["facts"]),
        demand=demand_of(read["demand"]),
    )
    assert scripts(again) == scripts(question)
    for value in read["facts"].values():
        assert fact_text(value)


def test_values_that_no_writer_would_write_are_refused() -> None:
    insn = insn_value(parse_insns("r1 += 4")[0], "little")
    assert insn_of(insn, "little") == parse_insns("r1 += 4")[0]
    for wrong in ({**insn, "bytes": "0701000005000000"}, {**insn, "text": "r1 += 5"}, {**insn, "more": 1}):
        with pytest.raises(ValueError):
            insn_of(wrong, "little")
    facts = facts_value(state("r1 scalar max=9; -8 zero"))
    assert facts_value(state_of(facts)) == facts
    for wrong in ({"r11": facts["r1"]}, {"r10-7": facts["r10-8"]}, {"r1": {"region": "scalar", "no": 1}}):
        with pytest.raises(ValueError):
            state_of(wrong)
    wanted = demand_value(demand("r0 r1:ff -16..-9 -4"))
    assert demand_value(demand_of(wanted)) == wanted
    with pytest.raises(ValueError):
        demand_of({**wanted, "regs": {"r12": "0x1"}})


ODD: dict[str, Any] = {
    "region": Region.OBJECT,
    "value": Scalar.between(3, 9),
    "exact": Ref(RefKind.MAP, "hits", 4, 5, 6),
    "object": ObjectType("task_struct", 7, list(Trust)[-1]),
    "symbol": "hits",
}


@pytest.mark.parametrize("field", [field.name for field in fields(Register)])
def test_every_field_of_a_fact_is_part_of_the_value(field: str) -> None:
    """Also those that are added later: a fact that the certificate leaves out is one that nobody derives again."""
    plain = Register(Region.MEMORY)
    old = getattr(plain, field)
    odd = replace(plain, **{field: ODD.get(field, 3 if type(old) is int else True)})
    assert odd != plain
    read = json.loads(json.dumps(facts_value(State((odd,) * 11, {-8: StackSlot("ssssssss", odd)}))))
    again = state_of(read)
    assert again.regs[0] == odd and again.stack[-8].spill == odd
    assert fact_text(read["r0"])


def test_every_field_of_other_values_is_known() -> None:
    """What the values are made of; whoever adds a field adds it to `certificate_values` too."""
    names = {kind: [field.name for field in fields(kind)] for kind in (State, StackSlot, Demand, Ref, Origin, Insn)}
    assert names[State] == ["regs", "stack", "callers", "references"]
    assert names[StackSlot] == ["marks", "spill"]
    assert names[Demand] == ["regs", "stack"]
    assert names[Ref] == ["kind", "name", "addend", "symbol", "relocation"]
    assert names[Origin] == ["line", "core"]
    assert names[Insn] == ["row", "dst", "src", "off", "imm", "ref", "origin"]
    assert [field.name for field in fields(CutPoint)] == ["before", "after", "equalities", "unlike"]


def test_records_that_ride_along_are_part_of_the_value() -> None:
    ref = Ref(RefKind.MAP, "hits", 0, symbol=7, relocation=1)
    plain = make("lddw_constant", dst=1, ref=ref)
    core = replace(parse_insns("r1 = *(u64 *)(r2 + 8)")[0], origin=replace(NO_ORIGIN, core=((1, 2, 3),)))
    for insn in (plain, core):
        value = insn_value(insn, "little")
        assert insn_of(value, "little") == insn
        bare = {name: part for name, part in value.items() if name in ("text", "bytes")}
        assert bare != value and insn_of(bare, "little") != insn

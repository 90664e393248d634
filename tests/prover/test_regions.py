"""Regions: acyclic blocks with several exits, from facts at their entry to demands at their exits."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.prover.functions import function, unit_of
from tests.prover.obligations import demand, state
from verifier_model.prover import Limits, prove_region, region_queries
from verifier_model.prover.second_solver import ask
from verifier_model.verdict import RegionObligation, Status


class Row(NamedTuple):
    """`demands`: exit label -> what is looked at there; `twin`: (text of `after`, what replaces it)."""

    name: str
    entry: str
    before: str
    after: str
    demands: dict[str, str]
    twin: tuple[str, str]
    difference: str


ROWS = [
    Row(
        "a diamond becomes straight",
        "r6 scalar max=1; r7 scalar",
        "a: if r6 == 0 goto c\nb: r7 += 1; goto OUT\nc: r7 += 0",
        "a: r7 += r6",
        {"OUT": "r7"},
        ("r7 += r6", "r7 += r6; r7 += r6"),
        "r7",
    ),
    Row(
        "two exits",
        "r6 scalar; r7 scalar",
        "a: if r6 > 7 goto BIG\nb: r7 = 1; if r6 == 3 goto BIG\nc: r7 = 2",
        "a: if r6 >= 8 goto BIG\nb: r7 = 1; if r6 == 3 goto BIG\nc: r7 = 2",
        {"OUT": "r7 r6", "BIG": "r6"},
        ("r6 >= 8", "r6 >= 9"),
        "the region leaves to BIG before, to OUT after",
    ),
    Row(
        "another order of tests",
        "r6 scalar",
        "a: if r6 == 3 goto X\nb: if r6 == 5 goto Y",
        "a: if r6 == 5 goto Y\nb: if r6 == 3 goto X",
        {"OUT": "r6", "X": "r6", "Y": "r6"},
        ("r6 == 5", "r6 == 4"),
        "the region leaves to",
    ),
    Row(
        "what only one exit looks at",
        "r6 scalar; r7 scalar",
        "a: r7 = 5; if r6 == 0 goto X\nb: r7 = 6",
        "a: if r6 == 0 goto X\nb: r7 = 6",
        {"OUT": "r7", "X": "r6"},
        ("r7 = 6", "r7 = 7"),
        "r7",
    ),
    Row(
        "events under conditions",
        "r6 scalar; r7 map_value base=3; r8 scalar",
        "a: if r6 == 0 goto c\nb: *(u32 *)(r7 + 0) = r8; goto OUT\nc: *(u32 *)(r7 + 4) = r8",
        "a: if r6 != 0 goto c\nb: *(u32 *)(r7 + 4) = r8; goto OUT\nc: *(u32 *)(r7 + 0) = r8",
        {"OUT": "r6 r7 r8"},
        ("r7 + 4", "r7 + 0"),
        "address of 32-bit store to shared memory",
    ),
    Row(
        "a store sinks out of both arms",
        "r6 scalar; r2 packet base=1; r8 scalar",
        "a: if r6 == 0 goto c\nb: *(u8 *)(r2 + 0) = 1; goto OUT\nc: *(u8 *)(r2 + 0) = 2",
        "a: r3 = 1; if r6 != 0 goto c\nb: r3 = 2\nc: *(u8 *)(r2 + 0) = r3",
        {"OUT": "r6"},
        ("r3 = 2", "r3 = 3"),
        "packet byte +0 at the end",
    ),
    Row(
        "an exit of the function",
        "r6 scalar",
        "a: if r6 == 0 goto c\nb: r0 = 1; exit\nc: r0 = 2; exit",
        "a: r0 = 1; if r6 != 0 goto c\nb: r0 = 2\nc: exit",
        {},
        ("r0 = 2", "r0 = 3"),
        "r0",
    ),
    Row(
        "the frame at an exit",
        "r6 scalar",
        "a: *(u64 *)(r10 - 8) = r6; if r6 == 0 goto X\nb: *(u64 *)(r10 - 8) = 1",
        "a: if r6 == 0 goto c\nb: *(u64 *)(r10 - 8) = 1; goto OUT\nc: *(u64 *)(r10 - 8) = 0; goto X",
        {"OUT": "-8..-1", "X": "-8..-1"},
        ("(r10 - 8) = 0", "(r10 - 8) = 4"),
        "stack byte -8 at the end",
    ),
]


def asked(row: Row, after: str, order: str = "little") -> RegionObligation:
    frame = function(row.before + "\nOUT: exit\nX: exit\nY: exit\nBIG: exit")
    blocks = function(after + "\nOUT: exit\nX: exit\nY: exit\nBIG: exit").blocks
    unit = unit_of(frame, order=order)
    demands = {label: demand(text) for label, text in row.demands.items()}
    return RegionObligation(frame.blocks[:-4], blocks[:-4], "OUT", state(row.entry), demands, unit, frame)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_proved(row: Row, order: str) -> None:
    verdict = prove_region(asked(row, row.after, order))
    assert verdict.status is Status.PROVED, verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_twin_is_refuted(row: Row) -> None:
    wrong = row.after.replace(*row.twin)
    assert wrong != row.after
    verdict = prove_region(asked(row, wrong))
    assert verdict.status is Status.REFUTED, verdict
    assert verdict.counterexample is not None
    assert verdict.counterexample.difference.startswith(row.difference), verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_other_way_round(row: Row) -> None:
    question = asked(row, row.after)
    turned = RegionObligation(
        question.after, question.before, "OUT", question.entry, question.demands, question.unit, question.function
    )
    assert prove_region(turned).is_proved


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_queries_without_simplification_say_the_same(row: Row) -> None:
    assert all(ask("z3", text).answer == "unsat" for _, text in region_queries(asked(row, row.after)))
    wrong = asked(row, row.after.replace(*row.twin))
    assert any(ask("z3", text).answer == "sat" for _, text in region_queries(wrong))


def test_a_missing_demand_demands_everything() -> None:
    row = ROWS[3]
    assert not prove_region(asked(row._replace(demands={"OUT": "r7"}), row.after)).is_proved


def test_contradicting_facts_prove_nothing() -> None:
    row = ROWS[0]._replace(entry="r6 scalar range=5..3; r7 scalar")
    assert prove_region(asked(row, row.after)).reason == "assumptions contradict each other"


def test_an_exit_is_outside() -> None:
    row = ROWS[0]._replace(after="a: goto OUT\nOUT: r7 += r6")
    question = asked(row, row.before)
    inside = function("a: goto OUT\nOUT: r7 += r6").blocks
    turned = RegionObligation(
        question.before, inside, "OUT", question.entry, question.demands, question.unit, question.function
    )
    assert prove_region(turned).reason == "an exit of the region is one of its own blocks"


def test_limits_end_in_unknown() -> None:
    verdict = prove_region(asked(ROWS[0], ROWS[0].after), Limits(ways=1))
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, "too many ways through a segment")

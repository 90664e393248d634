"""Cut points that a proposer hands over: what is right is enough, and what is wrong is never believed."""

from __future__ import annotations

import pytest

from tests.prover.functions import function, unit_of
from tests.prover.test_functions import COUNTER, ROWS, SPILLED, SUM
from verifier_model.bpf.insn import Ref, RefKind
from verifier_model.prover import function_queries, guess_cuts, prove_function
from verifier_model.prover.second_solver import ask
from verifier_model.verdict import CutPoint, Equality, FunctionObligation, InRegister, OnStack, Status, Verdict

RENAMED = next(row.after for row in ROWS if row.name == "registers and layout")
KEPT_MAP = next(row.after for row in ROWS if row.name == "a map's address kept in a register over a loop")


def r(number: int) -> InRegister:
    return InRegister(number)


def asked(before: str, after: str, *cuts: CutPoint) -> Verdict:
    old, new = function(before), function(after)
    return prove_function(FunctionObligation(old, new, unit_of(old), cuts))


SUM_CUT = CutPoint("head", "test", (Equality(r(8), r(7)), Equality(r(9), r(6))))


def test_what_is_handed_over_is_enough() -> None:
    verdict = asked(SUM, RENAMED, SUM_CUT)
    assert (verdict.status, verdict.method) == (Status.PROVED, "2 segments")


@pytest.mark.parametrize(
    ("equalities", "reason"),
    [
        # (beliefs at the loop's head, where it breaks)
        ((Equality(r(8), r(6)), Equality(r(9), r(7))), "r8 = r6"),
        ((Equality(r(8), r(7)),), "r0"),
        ((Equality(r(8), r(7)), Equality(r(9), r(6)), Equality(r(9), 0)), "r9 = 0x0"),
        ((Equality(r(8), r(7)), Equality(r(9), r(6)), Equality(r(3), 1)), "r3 = 0x1"),
        ((Equality(r(8), r(7)), Equality(r(9), 0), Equality(r(9), 1)), "r9 = 0x1"),
        ((Equality(r(8), r(7)), Equality(InRegister(9, 0xFFFF_FFFF), r(6))), "r0"),
        ((Equality(r(8), r(7)), Equality(r(9), r(6)), Equality(OnStack(-8), r(6))), "stack -8 = r6"),
        ((Equality(r(8), r(7)), Equality(r(9), r(6)), Equality(OnStack(-4), r(6))), "a relation about the stack at -4"),
        ((Equality(r(10), r(7)),), "r10 = r7"),
        ((Equality(r(10), r(10)),), "a relation about r10"),
        ((Equality(r(8), r(11)),), "a relation about r11"),
    ],
)
def test_what_is_wrong_is_not_believed(equalities: tuple[Equality, ...], reason: str) -> None:
    verdict = asked(SUM, RENAMED, CutPoint("head", "test", equalities))
    assert verdict.status is not Status.PROVED
    difference = verdict.counterexample.difference if verdict.counterexample is not None else verdict.reason
    assert reason in difference, difference


def test_a_loop_needs_a_cut_point() -> None:
    assert "without a cut point" in asked(SUM, RENAMED).reason
    elsewhere = CutPoint("out", "test", SUM_CUT.equalities)
    assert asked(SUM, RENAMED, elsewhere).status is Status.UNKNOWN
    assert asked(SUM, RENAMED, SUM_CUT, SUM_CUT).reason == "two relations for one pair of cut points"


def test_a_symbol_at_a_cut_point() -> None:
    def cut(name: str) -> CutPoint:
        return CutPoint("head", "head", (Equality(r(8), r(7)), Equality(r(9), Ref(RefKind.MAP, name))))

    assert asked(COUNTER, KEPT_MAP, cut("hits")).is_proved
    assert not asked(COUNTER, KEPT_MAP, cut("flows")).is_proved
    other = KEPT_MAP.replace("map[hits]", "map[flows]")
    assert not asked(COUNTER, other, cut("hits")).is_proved
    assert not asked(COUNTER, other, cut("flows")).is_proved


MOVED = """
    r6 = *(u32 *)(r1 + 12); *(u64 *)(r10 - 24) = r6
    call 5
join: r7 = *(u64 *)(r10 - 24); r0 = r7; exit
"""
LEFT = """
    r6 = *(u32 *)(r1 + 12); *(u64 *)(r10 - 8) = r6
    call 5
join: r7 = *(u64 *)(r10 - 8); r0 = r7; exit
"""


@pytest.mark.parametrize(
    ("equalities", "unlike", "is_proved"),
    [
        ((Equality(OnStack(-24), OnStack(-8)),), range(-24, 0), True),
        ((Equality(OnStack(-24), r(6)),), range(-24, 0), True),
        ((Equality(OnStack(-24), r(6)),), range(-8, 0), True),
        ((Equality(OnStack(-24), r(6)),), range(-16, 0), True),
        ((Equality(OnStack(-24), OnStack(-16)),), range(-24, 0), False),
        ((), range(-24, 0), False),  # nothing is said of the slot
        ((Equality(OnStack(-24), r(6)),), range(-4, 0), False),  # four bytes that differ are said to be the same
    ],
)
def test_the_frame_at_a_cut_point(equalities: tuple[Equality, ...], unlike: range, is_proved: bool) -> None:
    cut = CutPoint("join", "join", equalities, frozenset(unlike))
    assert asked(LEFT, MOVED, cut).is_proved == is_proved


def test_one_label_in_two_pairs() -> None:
    """Two copies of a tail stand for one."""
    before = "r6 = *(u32 *)(r1 + 12); if r6 > 7 goto t; r6 += 1\nt: r0 = r6; r0 *= r0; exit"
    after = """
        r6 = *(u32 *)(r1 + 12); if r6 > 7 goto t; r6 += 1; goto s
    t: r0 = r6; r0 *= r0; exit
    s: r0 = r6; r0 *= r6; exit
    """
    same = (Equality(r(6), r(6)),)
    assert asked(before, after, CutPoint("t", "t", same), CutPoint("t", "s", same)).method == "3 segments"
    wrong = after.replace("r0 *= r6", "r0 *= r0; r0 += 1")
    assert not asked(before, wrong, CutPoint("t", "t", same), CutPoint("t", "s", same)).is_proved
    assert not asked(before, after, CutPoint("t", "t", same)).is_proved


@pytest.mark.parametrize("name", ["registers and layout", "a spill becomes a register", "jump threading"])
def test_queries_without_simplification_say_the_same(name: str) -> None:
    """Each query of a proof has no model; of a wrong twin at least one has."""
    row = next(row for row in ROWS if row.name == name)
    old, new = function(row.before), function(row.after)
    cuts = guess_cuts(old, new, unit_of(old))
    texts = function_queries(FunctionObligation(old, new, unit_of(old), cuts))
    assert texts and all(ask("z3", text).answer == "unsat" for _, text in texts)
    wrong = function(row.after.replace(*row.twin))
    texts = function_queries(FunctionObligation(old, wrong, unit_of(old), cuts))
    assert any(ask("z3", text).answer == "sat" for _, text in texts)


def test_a_function_with_a_reason_to_stay_is_left_alone() -> None:
    old = function(SPILLED, untouchable="jump table")
    assert prove_function(FunctionObligation(old, old, unit_of(old))).reason == "jump table"

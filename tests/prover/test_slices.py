"""A slice is a straight run: what is moved over independent instructions is proved, what is not independent is not."""

from __future__ import annotations

import pytest

from tests.prover.obligations import obligation
from tests.prover.slices import DEMAND, ENTRY, WHOLE, question, scattered
from verifier_model.prover import prove
from verifier_model.verdict import Status


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("count", [1, 4, 12, 32, 64])
def test_members_move_over_the_rest(count: int, is_last: bool) -> None:
    verdict = prove(question(count, is_last=is_last))
    assert (verdict.status, verdict.method) == (Status.PROVED, "simplified")


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("whole", ["r3 = *(u16 *)(r2 + 1)", "r3 = *(u8 *)(r2 + 0)", "r4 = *(u16 *)(r2 + 0)"])
def test_another_whole_is_refuted(whole: str, is_last: bool) -> None:
    assert prove(question(12, whole, is_last)).status is Status.REFUTED


@pytest.mark.parametrize(
    ("between", "is_first_right", "is_last_right"),
    [
        # (an instruction between the members, may the whole stand before it, may it stand behind it)
        ("*(u8 *)(r2 + 2) = r7", True, True),
        ("*(u8 *)(r2 + 0) = r7", False, True),  # the byte that the second member reads
        ("*(u8 *)(r2 + 1) = r7", True, False),  # the byte that the first member has read
        ("r2 += 1", False, False),
        ("*(u64 *)(r6 + 0) = r3", False, False),
        ("r5 = r10; r5 += -16; *(u64 *)(r5 + 0) = r7", True, True),
        ("call 5", False, False),  # takes r2 away
        ("lock *(u64 *)(r6 + 0) += r7", True, True),
    ],
)
def test_what_stands_between(between: str, is_first_right: bool, is_last_right: bool) -> None:
    lines = between.split("; ")
    head, *rest = scattered(0).split("; ")
    before = "; ".join([head, *lines, *rest])
    for after, is_right in (([WHOLE, *lines], is_first_right), ([*lines, WHOLE], is_last_right)):
        verdict = prove(obligation(ENTRY, before, "; ".join(after), DEMAND))
        assert verdict.is_proved == is_right, (after, verdict)

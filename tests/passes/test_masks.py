"""Masks that take a wide load, as shifts, each with a twin that must be left alone."""

import pytest

from synth.passes.masks import shifts_for_mask
from tests.passes.straight_line import demand, propose, replacement


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("r2 = 0xf0000000 ll; r1 &= r2; r1 >>= 28", "w1 >>= 28"),
        ("r2 = 0xffffffff ll; r1 &= r2", "w1 = w1"),
        ("r2 = 0xffff00000000 ll; r1 &= r2; r1 >>= 40", "r1 <<= 16; r1 >>= 56"),
        ("r2 = 0xffffffff00000000 ll; r1 &= r2; r1 >>= 36", "r1 >>= 36"),
        ("r2 = 0x1ffffffff ll; r1 &= r2", "r1 <<= 31; r1 >>= 31"),
    ],
)
def test_shifts(text: str, expected: str) -> None:
    assert replacement(shifts_for_mask, lines(text), demand(1)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "r2 = 0xf0000001 ll; r1 &= r2; r1 >>= 28",
        "r2 = 0xf0000000 ll; r1 &= r2; r1 >>= 27",
        "r2 = 0xf0000000 ll; r1 &= r2; r3 = r1; r1 >>= 28",
        "r2 = 0xf0000000 ll; r1 &= r2; r1 s>>= 28",
        "r2 = 0xf0000000 ll; r1 |= r2; r1 >>= 28",
        "r1 &= r2; r1 >>= 28",
    ],
)
def test_other_masks_stay(text: str) -> None:
    assert not propose(shifts_for_mask, lines(text), demand(1, 3))


def test_mask_that_is_still_needed_stays() -> None:
    assert replacement(shifts_for_mask, lines("r2 = 0x1ffffffff ll; r1 &= r2"), demand(1, 2)) is None

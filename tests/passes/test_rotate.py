"""Rotations, each case with a twin that must be left alone."""

import pytest

from synth.passes.rotate import rotate
from tests.passes.straight_line import demand, replacement
from verifier_model.bpf.demand import Demand

LOW = Demand(tuple((1 << 32) - 1 if reg in (2, 4) else 0 for reg in range(11)), frozenset())
TEXT = "w4 = w3; w5 = w4; w5 >>= 25; w2 = w4; w2 <<= 7; w2 |= w5"


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


def test_rotation() -> None:
    assert replacement(rotate, lines(TEXT), LOW) == "w4 = w3; r2 = r4; r2 <<= 32; r2 |= r4; r2 >>= 25"
    right = TEXT.replace(">>= 25", "<<= 25").replace("w2 <<= 7", "w2 >>= 7")
    assert replacement(rotate, lines(right), LOW) == "w4 = w3; r2 = r4; r2 <<= 32; r2 |= r4; r2 >>= 7"


@pytest.mark.parametrize(
    "old, new",
    [
        ("<<= 7", "<<= 8"),
        ("w4 = w3", "r4 = r3"),
        ("w2 = w4", "w2 = w3\nw2 += 1"),
        ("w2 <<= 7", "w2 <<= 7\nw4 += 1"),
        ("w2 |= w5", "w2 -= w5"),
        ("w2 = w4", "w2 = w5"),
        (">>= 25", "s>>= 25"),
    ],
)
def test_what_is_no_rotation_stays(old: str, new: str) -> None:
    assert replacement(rotate, lines(TEXT.replace(old, new)), LOW) is None


def test_upper_half_must_not_be_looked_at() -> None:
    assert replacement(rotate, lines(TEXT), demand(2, 4)) is None


def test_other_half_must_be_dead() -> None:
    both = Demand(tuple((1 << 32) - 1 if reg in (2, 4, 5) else 0 for reg in range(11)), frozenset())
    assert replacement(rotate, lines(TEXT), both) is None

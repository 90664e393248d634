"""Wide numbers that can be said shorter; each case has a twin that must be left alone."""

import pytest

from synth.passes.numbers import branch_on_mask, low_ones, short_constant
from tests.passes.straight_line import demand, replacement


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


SIGN = "r1 = {} ll; r1 &= r0; {}if r1 {} 0 goto L1"


@pytest.mark.parametrize(
    ("mask", "op", "result"),
    [
        ("0x80000000", "!=", "if w0 s< 0x0 goto L1"),
        ("0x80000000", "==", "if w0 s>= 0x0 goto L1"),
        ("0xc0000000", "!=", "if w0 & 0xc0000000 goto L1"),
        ("0xc0000000", "==", None),
        ("0x180000000", "!=", None),
        ("0x40000000", "==", None),
    ],
)
def test_branch_tests_the_bits_itself(mask: str, op: str, result: str | None) -> None:
    assert replacement(branch_on_mask, lines(SIGN.format(mask, "", op)), demand(0)) == result


def test_branch_on_a_register_that_changes_takes_a_copy() -> None:
    text = lines(SIGN.format("0x80000000", "w0 = 0; ", "!="))
    assert replacement(branch_on_mask, text, demand(0)) == "r1 = r0; w0 = 0; if w1 s< 0x0 goto L1"
    assert replacement(branch_on_mask, text, demand(0, 1)) is None


def test_number_of_32_bits_needs_one_slot() -> None:
    assert replacement(short_constant, "r2 = 0xffffffff ll", demand(2)) == "w2 = -1"
    assert replacement(short_constant, "r2 = 0x1ffffffff ll", demand(2)) is None
    assert replacement(short_constant, "r2 = 0x80000000 ll", demand(2)) == "w2 = -2147483648"


def test_ones_below_a_number_are_the_next_number_less_one() -> None:
    text = lines("r3 <<= {}; r2 = {} ll; r3 |= r2")
    assert replacement(low_ones, text.format(32, "0xffffffff"), demand(3)) == "r3 += 1; r3 <<= 32; r3 += -1"
    assert replacement(low_ones, text.format(31, "0xffffffff"), demand(3)) is None
    assert replacement(low_ones, text.format(32, "0xfffffffe"), demand(3)) is None
    assert replacement(low_ones, text.format(32, "0xffffffff"), demand(2, 3)) is None

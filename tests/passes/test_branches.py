"""Bit tests inside branches, each with a twin that must be left alone."""

import pytest

from synth.passes.branches import test_bits as bit_tests
from tests.passes.straight_line import demand, propose, replacement
from verifier_model.bpf.asm import print_insn


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("w1 &= 5; if w1 != 0 goto L1", "if w1 & 5 goto L1"),
        ("r1 &= -8; if r1 != 0 goto L1", "if r1 & 4294967288 goto L1"),
        ("r1 &= 5; if w1 != 0 goto L1", "if w1 & 5 goto L1"),
        ("w1 >>= 9; if w1 & 1 goto L1", "if w1 & 512 goto L1"),
        ("r1 >>= 3; if r1 == 0 goto L1", "if r1 < 8 goto L1"),
        ("w1 >>= 3; if w1 != 0 goto L1", "if w1 > 7 goto L1"),
    ],
)
def test_branch_takes_the_test_over(text: str, expected: str) -> None:
    (rewrite,) = propose(bit_tests, lines(text), demand(2))
    (insn,) = rewrite.after
    head, _, number = print_insn(insn).removesuffix(" goto L1").rpartition(" ")
    assert f"{head} {int(number, 0)} goto L1" == expected


@pytest.mark.parametrize(
    "text",
    [
        "w1 &= 5; if w1 == 0 goto L1",
        "w1 &= 5; if w1 != 1 goto L1",
        "w1 &= w3; if w1 != 0 goto L1",
        "w2 &= 5; if w1 != 0 goto L1",
        "w1 &= 5; w2 = w1; if w1 != 0 goto L1",
        "w1 >>= 9; if w1 & 0x400000 goto L1",
        "r1 >>= 3; if w1 == 0 goto L1",
        "r1 >>= 40; if r1 == 0 goto L1",
        "w1 s>>= 3; if w1 == 0 goto L1",
    ],
)
def test_other_tests_stay(text: str) -> None:
    assert not propose(bit_tests, lines(text), demand(2))


def test_tested_register_must_be_dead() -> None:
    assert replacement(bit_tests, lines("w1 &= 5; if w1 != 0 goto L1"), demand(1)) is None

"""Whole functions: what passes may do to control flow, registers and frames, each beside a twin that is off by a bit.

The cut points are guessed here; `test_cuts` hands them over.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.prover.functions import compared, function, unit_of
from verifier_model.bpf.unit import Unit
from verifier_model.prover import guess_cuts, prove_function, prove_functions
from verifier_model.verdict import FunctionObligation, Status


class Row(NamedTuple):
    """`twin`: (text of `after`, what replaces it)."""

    name: str
    before: str
    after: str
    twin: tuple[str, str]
    program_type: str = "xdp"


CLASSIFY = """
    r6 = *(u32 *)(r1 + 12)
    if r6 > 7 goto big
    r7 = 1; goto join
big: r7 = 2
join: r0 = r7; r0 += r6; exit
"""
SUM = """
    r6 = 0; r7 = *(u32 *)(r1 + 12); r7 &= 15
head: if r7 == 0 goto out
    r6 += r7; r7 += -1; goto head
out: r0 = r6; exit
"""
COUNTER = """
    r6 = r1; r7 = 0
head: *(u32 *)(r10 - 4) = r7
    r1 = map[hits] ll; r2 = r10; r2 += -4; call 1
    if r0 == 0 goto next
    r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 0) = r1
next: r7 += 1
    if r7 < 8 goto head
    r0 = 2; exit
"""
SPILLED = """
    r6 = *(u32 *)(r1 + 12); *(u64 *)(r10 - 8) = r6
    call 5
    if r0 > 9 goto high
    r7 = *(u64 *)(r10 - 8); r7 += 1; goto join
high: r7 = *(u64 *)(r10 - 8); r7 += 2
join: r0 = r7; exit
"""
PACKET = """
    r6 = r1; r2 = *(u32 *)(r1 + 4); r3 = *(u32 *)(r1 + 0)
    r4 = r3; r4 += 34
    if r4 > r2 goto pass
    r5 = *(u8 *)(r3 + 12); r4 = *(u8 *)(r3 + 13); r4 <<= 8; r4 |= r5
    if r4 == 8 goto ip
    goto pass
ip: r5 = *(u8 *)(r3 + 22); r5 += -1; *(u8 *)(r3 + 22) = r5
    r1 = r6; r2 = 4; call 44
    if r0 != 0 goto pass
    r0 = 3; exit
pass: r0 = 2; exit
"""
ROWS = [
    Row(
        "branch inversion",
        CLASSIFY,
        """
            r6 = *(u32 *)(r1 + 12)
            if r6 < 8 goto small
            r7 = 2; goto join
        small: r7 = 1
        join: r0 = r7; r0 += r6; exit
        """,
        ("r6 < 8", "r6 < 9"),
    ),
    Row(
        "one arm before the branch",
        CLASSIFY,
        "r6 = *(u32 *)(r1 + 12); r7 = 2; if r6 > 7 goto join; r7 = 1\njoin: r0 = r7; r0 += r6; exit",
        ("r7 = 1", "r7 = 3"),
    ),
    Row(
        "two exits instead of a join",
        CLASSIFY,
        "r0 = *(u32 *)(r1 + 12); if r0 > 7 goto big; r0 += 1; exit\nbig: r0 += 2; exit",
        ("r0 += 2", "r0 += 3"),
    ),
    Row(
        "registers and layout",
        SUM,
        """
            r8 = *(u32 *)(r1 + 12); r8 &= 15; r9 = 0; goto test
        body: r9 += r8; r8 += -1
        test: if r8 != 0 goto body
            r0 = r9; exit
        """,
        ("r8 += -1", "r8 += -2"),
    ),
    Row(
        "a map's address kept in a register over a loop",
        COUNTER,
        """
            r8 = 0; r9 = map[hits] ll
        head: *(u32 *)(r10 - 4) = r8
            r1 = r9; r2 = r10; r2 += -4; call 1
            if r0 == 0 goto next
            r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 0) = r1
        next: r8 += 1
            if r8 < 8 goto head
            r0 = 2; exit
        """,
        ("r9 = map[hits] ll", "r9 = map[flows] ll"),
    ),
    Row(
        "a spill becomes a register",
        SPILLED,
        """
            r6 = *(u32 *)(r1 + 12); call 5
            if r0 > 9 goto high
            r6 += 1; goto join
        high: r6 += 2
        join: r0 = r6; exit
        """,
        ("r6 += 2", "r6 += 3"),
    ),
    Row(
        "a register becomes a spill, and the slot another",
        SPILLED,
        """
            r6 = *(u32 *)(r1 + 12); *(u64 *)(r10 - 24) = r6
            r6 = 0; call 5
            r7 = *(u64 *)(r10 - 24)
            if r0 > 9 goto high
            r7 += 1; goto join
        high: r7 += 2
        join: r0 = r7; exit
        """,
        ("r7 = *(u64 *)(r10 - 24)", "r7 = *(u64 *)(r10 - 16)"),
    ),
    Row(
        "jump threading",
        """
            r6 = *(u32 *)(r1 + 12); r7 = 0
            if r6 > 7 goto join
            r7 = 1; r6 += 5
        join: if r7 == 0 goto zero
            r0 = r6; exit
        zero: r0 = 0; exit
        """,
        "r6 = *(u32 *)(r1 + 12); if r6 > 7 goto zero; r0 = r6; r0 += 5; exit\nzero: r0 = 0; exit",
        ("r6 > 7", "r6 > 6"),
    ),
    Row(
        "a test that repeats another",
        """
            r6 = *(u32 *)(r1 + 12)
            if r6 == 4 goto four
            r7 = 9
            if r6 == 4 goto never
            r0 = r7; exit
        never: r0 = 77; exit
        four: r0 = 1; exit
        """,
        "r6 = *(u32 *)(r1 + 12); r0 = 9; if r6 != 4 goto out; r0 = 1\nout: exit",
        ("r6 != 4", "r6 != 5"),
    ),
    Row(
        "packet, helper, shared exit",
        PACKET,
        """
            r2 = *(u32 *)(r1 + 4); r3 = *(u32 *)(r1 + 0)
            r4 = r3; r4 += 34
            if r4 > r2 goto pass
            r4 = *(u16 *)(r3 + 12)
            if r4 != 8 goto pass
            r5 = *(u8 *)(r3 + 22); r5 += -1; *(u8 *)(r3 + 22) = r5
            r2 = 4; call 44
            if r0 == 0 goto done
        pass: r0 = 2; exit
        done: r0 = 3; exit
        """,
        ("r2 = 4", "r2 = 5"),
    ),
    Row(
        "no branch",
        "r6 = *(u32 *)(r1 + 12); r0 = 0; if r6 == 0 goto out; r0 = 1\nout: exit",
        "r6 = *(u32 *)(r1 + 12); r0 = r6; r0 += -1; r0 >>= 63; r0 ^= 1; exit",
        ("r0 ^= 1", "r0 ^= 3"),
    ),
    Row(
        "a loop of known length, unrolled",
        "r6 = *(u32 *)(r1 + 12); r7 = 0\nhead: r6 *= 3; r7 += 1; if r7 < 3 goto head; r0 = r6; exit",
        "r0 = *(u32 *)(r1 + 12); r0 *= 27; exit",
        ("27", "26"),
    ),
    Row(
        "may_goto stays",
        "r6 = 0\nhead: may_goto out; r6 += 1; if r6 < 100 goto head\nout: r0 = r6; exit",
        "r0 = 0\nhead: may_goto out; r0 += 1; if r0 <= 99 goto head\nout: exit",
        ("<= 99", "<= 103"),
    ),
    Row(
        "a tail call",
        """
            r6 = r1; r7 = *(u32 *)(r1 + 12); if r7 > 3 goto none
            r3 = r7; r2 = map[hits] ll; call 12
            r0 = 1; exit
        none: r0 = 1; exit
        """,
        "r3 = *(u32 *)(r1 + 12); if r3 > 3 goto none; r2 = map[hits] ll; call 12\nnone: r0 = 1; exit",
        ("r3 > 3", "r3 > 2"),
    ),
    Row(
        "legacy loads",
        """
            r6 = r1; r0 = *(u16 *)skb[12]; if r0 != 2048 goto out; r0 = *(u8 *)skb[23]; r7 = r0
            if r7 == 6 goto tcp
        out: r0 = 0; exit
        tcp: r0 = 1; exit
        """,
        "r6 = r1; r0 = *(u16 *)skb[12]; r7 = 0; if r0 != 2048 goto out; r0 = *(u8 *)skb[23]; if r0 != 6 goto out\n"
        "r7 = 1\nout: r0 = r7; exit",
        ("r7 = 1", "r7 = 3"),
        "socket_filter",
    ),
]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_proved(row: Row, order: str) -> None:
    verdict = compared(row.before, row.after, order=order, program_type=row.program_type)
    if order == "big" and row.after is ROWS[9].after:  # two bytes of the packet make another number there
        assert verdict.status is Status.REFUTED
        return
    assert verdict.status is Status.PROVED, verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_twin_is_not_proved(row: Row) -> None:
    wrong = row.after.replace(*row.twin)
    assert wrong != row.after
    verdict = compared(row.before, wrong, program_type=row.program_type)
    # A difference that takes a hundred turns of a loop is not looked for.
    assert verdict.status is (Status.UNKNOWN if row.name == "may_goto stays" else Status.REFUTED), verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_function_refines_itself(row: Row) -> None:
    for text in (row.before, row.after):
        same = function(text, program_type=row.program_type)
        cuts = guess_cuts(same, same, unit_of(same))
        assert prove_function(FunctionObligation(same, same, unit_of(same), cuts)).is_proved
        assert compared(text, text, program_type=row.program_type).method == "identical"


CALLEE = function(
    "r0 = *(u64 *)(r1 + 0); r0 += r2; *(u64 *)(r1 + 0) = r0; exit",
    name="helper",
    is_global=False,
    is_subprogram=True,
    argument_count=2,
    program_type=None,
)


def test_a_subprogram_sees_the_frame_it_gets() -> None:
    before = """
        r6 = 0; *(u64 *)(r10 - 8) = r6; *(u64 *)(r10 - 16) = r6
    head: r1 = r10; r1 += -8; r2 = r6; call fn[helper]
        r6 += 1; if r6 < 5 goto head
        r0 = *(u64 *)(r10 - 8); exit
    """
    after = """
        r7 = 0; *(u64 *)(r10 - 8) = r7; *(u64 *)(r10 - 16) = r7
    head: r1 = r10; r1 += -8; r2 = r7; call fn[helper]
        r7 += 1; if r7 != 5 goto head
        r0 = *(u64 *)(r10 - 8); exit
    """
    assert compared(before, after, CALLEE).is_proved
    assert not compared(before, after.replace("(r10 - 16) = r7", "(r10 - 16) = 1"), CALLEE).is_proved
    assert not compared(before, after.replace("r2 = r7", "r2 = 1"), CALLEE).is_proved


def test_what_the_caller_sees_of_a_subprogram() -> None:
    fields = {"name": "g", "is_subprogram": True, "is_global": False, "program_type": None, "argument_count": 2}
    before = function("if r2 == 0 goto out; *(u32 *)(r1 + 0) = r2\nout: r0 = 0; exit", **fields)
    caller = function("r2 = *(u32 *)(r1 + 12); r1 = r10; r1 += -8; call fn[g]; r0 = *(u32 *)(r10 - 8); exit")

    unit = Unit((caller, before))
    right = function("if r2 == 0 goto out; *(u32 *)(r1 + 0) = r2\nout: r0 = 1; r0 += -1; exit", **fields)
    wrong = function("*(u32 *)(r1 + 0) = r2; r0 = 0; exit", **fields)
    assert prove_functions(before, right, unit).is_proved
    assert not prove_functions(before, wrong, unit).is_proved


def test_a_refutation_names_the_observable_and_the_ways() -> None:
    verdict = compared(CLASSIFY, CLASSIFY.replace("r7 = 2", "r7 = 3"))
    assert verdict.counterexample is not None
    assert verdict.counterexample.difference.startswith("r0: 0x")
    assert verdict.counterexample.difference.endswith("(along B0 big join exit)")


def test_termination_is_preserved() -> None:
    """A loop that does not end is no refinement of one that does, whatever is believed at its head."""
    for body in ("goto head", "r7 += 0; goto head", "if r7 >= 0 goto head; r0 = r6; exit"):
        after = f"r6 = 0; r7 = *(u32 *)(r1 + 12); r7 &= 15\nhead: {body}"
        assert not compared(SUM, after).is_proved


def test_interfaces_must_agree() -> None:
    before = function(CLASSIFY)

    after = function(CLASSIFY, program_type="sched_cls")
    assert prove_functions(before, after, Unit((before,))).reason == "the functions have different interfaces"


TYPED = """
    r6 = r1; r2 = *(u32 *)(r6 + 4); r3 = *(u32 *)(r6 + 0); r4 = r3; r4 += 14
    if r4 > r2 goto out
    r5 = *(u8 *)(r3 + 12); r4 = *(u8 *)(r3 + 13); r4 <<= 8; r4 |= r5; *(u16 *)(r3 + 0) = r4
out: r0 = 0; exit
"""


def test_a_pointer_that_only_the_facts_know() -> None:
    """In a subprogram the context's fields are known from its callers alone; the other program holds the same value."""
    fields = {"name": "g", "is_subprogram": True, "is_global": False, "program_type": None, "argument_count": 1}
    caller = function("call fn[g]; r0 = 2; exit")
    before = function(TYPED, **fields)
    bytes_read = "r5 = *(u8 *)(r3 + 12); r4 = *(u8 *)(r3 + 13); r4 <<= 8; r4 |= r5"
    right = function(TYPED.replace(bytes_read, "r3 += 14; r4 = *(u16 *)(r3 - 2); r3 += -14"), **fields)
    wrong = function(TYPED.replace(bytes_read, "r3 += 14; r4 = *(u16 *)(r3 - 3); r3 += -14"), **fields)
    unit = Unit((caller, before))
    assert prove_functions(before, right, unit).is_proved
    assert not prove_functions(before, wrong, unit).is_proved

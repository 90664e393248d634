"""What changes of webs make of functions; each result is proved, and a twin that is off by one bit or step is not."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from synth.webs import WEB_PASSES
from tests.webs.whole import first, function, offers, spelled, unit_of
from verifier_model.bpf.asm import parse_insns
from verifier_model.checker import check
from verifier_model.prover import prove_functions
from verifier_model.verdict import Status


class Row(NamedTuple):
    """`wrong`: (text of the result, what the twin has in its place)."""

    name: str
    proposer: str
    before: str
    saved: int
    wrong: tuple[str, str]
    program_type: str = "xdp"


BOUNDS = "r2 = *(u32 *)(r1 + 4); r1 = *(u32 *)(r1 + 0); r3 = r1; r3 += 14; w0 = 1; if r3 > r2 goto OUT;"
LOOKUP = "call 1; if r0 == 0 goto OUT;"

ROWS = [
    Row(
        "a copy to a register that calls leave alone, and back",
        "pass:coalesce-registers",
        "L0: r6 = r1; r7 = *(u32 *)(r6 + 12); r8 = r7; *(u32 *)(r10 - 4) = r7; r2 = r10; r2 += -4;"
        "r1 = map[hits] ll; call 1; w0 = w8; exit",
        2,
        ("r2 += -4", "r2 += -8"),
    ),
    Row(
        "a result that is tested in another register",
        "pass:coalesce-registers",
        "L0: *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1; r1 = r0; if r1 == 0 goto OUT;"
        "L1: r2 = *(u64 *)(r1 + 0); r2 += 1; *(u64 *)(r1 + 0) = r2;"
        "OUT: w0 = 2; exit",
        1,
        ("+= 1", "+= 2"),
    ),
    Row(
        "bounds of two headers from one address",
        "pass:near-address+rebase",
        f"L0: {BOUNDS}"
        "L1: r3 = *(u16 *)(r1 + 12); if w3 == 0xdd86 goto SIX;"
        "L2: r3 = r1; r3 += 34; if r3 > r2 goto OUT;"
        "L3: r4 = *(u8 *)(r1 + 23); w0 = w4; exit;"
        "SIX: r3 = r1; r3 += 54; if r3 > r2 goto OUT;"
        "L5: r4 = *(u8 *)(r1 + 20); w0 = w4; exit;"
        "OUT: exit",
        5,
        ("-11", "-12"),
    ),
    Row(
        "the checked address serves for the accesses",
        "pass:rebase",
        f"L0: {BOUNDS} L1: r3 = *(u16 *)(r1 + 12); r4 = *(u8 *)(r1 + 0); w0 = w3; w0 += w4; OUT: exit",
        2,
        ("*(u16 *)(r1 -2)", "*(u16 *)(r1 -4)"),
    ),
    Row(
        "the checked address goes into a sum",
        "pass:rebase",
        f"L0: {BOUNDS} L1: r5 = 6; r4 = r1; r4 += r5; r3 = *(u8 *)(r4 + 2); r1 = *(u8 *)(r1 + 1);"
        "w0 = w3; w0 += w1; OUT: exit",
        3,
        ("-12)", "-11)"),
    ),
    Row(
        "one map for three lookups",
        "pass:hold-address",
        "L0: w0 = 0; *(u32 *)(r10 - 4) = 1; *(u32 *)(r10 - 8) = 2; *(u32 *)(r10 - 12) = 3;"
        f"r2 = r10; r2 += -4; r1 = map[hits] ll; {LOOKUP}"
        f"L1: r2 = r10; r2 += -8; r1 = map[hits] ll; {LOOKUP}"
        f"L2: r2 = r10; r2 += -12; r1 = map[hits] ll; {LOOKUP}"
        "L3: w0 = 1; OUT: exit",
        2,
        ("map[hits]", "map[flows]"),
    ),
    Row(
        "one key for four lookups",
        "pass:hold-address",
        "L0: w0 = 0; *(u32 *)(r10 - 4) = 1;"
        f"r2 = r10; r2 += -4; r1 = map[hits] ll; {LOOKUP}"
        f"L1: r2 = r10; r2 += -4; r1 = map[flows] ll; {LOOKUP}"
        f"L2: r2 = r10; r2 += -4; r1 = map[hits] ll; {LOOKUP}"
        f"L3: r2 = r10; r2 += -4; r1 = map[flows] ll; {LOOKUP}"
        "L4: w0 = 1; OUT: exit",
        3,
        ("+= -4", "+= -8"),
    ),
    Row(
        "the sum takes the register of the operand that is free",
        "pass:commute-webs",
        "L0: r6 = *(u32 *)(r1 + 12); r2 = *(u32 *)(r1 + 16); r3 = r6; r3 += r2; r2 = 5; w2 *= w6; w3 *= w2;"
        "w0 = w3; exit",
        2,
        ("*= w", "+= w"),
    ),
    Row(
        "equality with a number in the packet's byte order",
        "pass:unswap",
        f"L0: {BOUNDS}"
        "L1: r3 = *(u16 *)(r1 + 12); r3 = be16 r3; if w3 == 0x800 goto OUT; L2: if w3 == 0x86dd goto OUT;"
        "L3: w0 = 2; OUT: exit",
        2,
        ("== 0x8 ", "== 0x9 "),
    ),
    Row(
        "a number for the exit stands in the way of a result",
        "pass:sink-number",
        "L0: w0 = 1; r2 = *(u32 *)(r1 + 12); if w2 == 0 goto OUT; L1: *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4;"
        "r1 = map[hits] ll; call 1; r1 = r0; w0 = 2; if r1 == 0 goto OUT;"
        "L2: r2 = *(u64 *)(r1 + 0); r2 += 1; *(u64 *)(r1 + 0) = r2; OUT: exit",
        1,
        ("w0 = 2", "w0 = 3"),
    ),
    Row(
        "a known result has an exit of its own",
        "pass:own-exits",
        "L0: *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1; w1 = 2; if r0 == 0 goto OUT;"
        "L1: call 7; w1 = 2; if r0 == 9 goto OUT; L2: call 7; r1 = r0; OUT: r0 = r1; exit",
        2,
        ("w0 = 2", "w0 = 3"),
    ),
    Row(
        "a spill that a register can hold",
        "pass:unspill",
        "L0: r2 = *(u32 *)(r1 + 12); *(u64 *)(r10 - 16) = r2; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4;"
        "r1 = map[hits] ll; call 1; r0 = *(u64 *)(r10 - 16); exit",
        1,
        ("r10 -4) = 0", "r10 -4) = 1"),
    ),
    Row(
        "a key that is compared again",
        "pass:reload",
        "L0: r1 = *(u32 *)(r1 + 12); *(u32 *)(r10 - 4) = r1; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1;"
        "r2 = *(u32 *)(r10 - 4); w0 = 1; if w2 == 7 goto OUT; L1: w0 = 2; OUT: exit",
        1,
        ("== 0x7", "== 0x6"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_shorter_proved_and_accepted(row: Row) -> None:
    before = function(row.before, row.program_type)
    found = offers(before)
    after = first(before)
    assert after is not None
    assert set(row.proposer.removeprefix("pass:").split("+")) <= set(found[0].proposer.removeprefix("pass:").split("+"))
    assert before.slots - after.slots == row.saved, spelled(after)
    unit = unit_of(before)
    verdict = prove_functions(before, after, unit)
    assert verdict.status is Status.PROVED, (verdict, spelled(after))
    old, new = check(unit, before), check(unit.with_function(after), after)
    assert new.accepted, (new.rejection, spelled(after))
    assert new.processed <= old.processed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_twin_is_not_proved(row: Row) -> None:
    before = function(row.before, row.program_type)
    after = first(before)
    assert after is not None
    text = spelled(after)
    right, wrong = row.wrong
    assert right in text, text
    twin = function(text.replace(right, wrong, 1), row.program_type)
    assert prove_functions(before, twin, unit_of(before)).status is not Status.PROVED


KEPT = [
    "L0: r6 = r1; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1; r0 = *(u32 *)(r6 + 12); exit",
    # Two uses of a map do not pay for keeping it.
    "L0: *(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map[hits] ll; call 1; if r0 == 0 goto OUT;"
    "L1: r2 = r10; r2 += -4; r1 = map[hits] ll; call 1; if r0 == 0 goto OUT; L2: w0 = 1; OUT: exit",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_cannot_be_shorter_is_not_touched(text: str) -> None:
    assert not offers(function(text))


def test_every_pass_has_a_name_an_equation_and_a_row() -> None:
    assert len({row.name for row in WEB_PASSES}) == len({row.equation for row in WEB_PASSES}) == len(WEB_PASSES)
    assert all("==" in row.equation for row in WEB_PASSES)
    shown = " ".join(row.proposer for row in ROWS)
    assert all(row.name in shown for row in WEB_PASSES)


def test_instructions_with_records_keep_their_registers() -> None:
    """A self-move that an asm barrier left names its register for good."""
    before = function("L0: r3 = *(u32 *)(r1 + 0); r2 = r3; r2 = r2; r1 = *(u32 *)(r1 + 4); w0 = w2; exit")
    after = first(before)
    barrier = parse_insns("r2 = r2")[0]
    assert after is None or any(insn == barrier for _, insn in after.insns())

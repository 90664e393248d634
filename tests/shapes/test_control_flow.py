"""Each change of control flow on a function of its own: found, proved through its cut points, and no bit of it free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from synth.door import Door
from synth.reshape import Reshape, plain_blocks, reshape
from synth.settings import Settings
from synth.shapes import SHAPES
from synth.shapes.search import reshape_control_flow
from synth.shapes.table import AHEAD, MOVES, SETTLED
from tests.prover.functions import function, unit_of
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import BY_NAME, Kind, Operand
from verifier_model.bpf.unit import Block, Function
from verifier_model.facts import analyse

SIZE = Settings(goal="size", effort=1)
LOADS = "r2 = *(u32 *)(r1 +12); r3 = *(u32 *)(r1 +16)"

# Name of what finds it, the function, and the slots that are saved.
FOUND = {
    "branch-inversion": (f"L0: {LOADS}; w0 = 1; if w2 == 7 goto A; X: goto B; A: w0 = 2; B: exit", 1),
    "fall-through": (f"L0: {LOADS}; w0 = w2; goto C; B: w0 = 7; exit; C: w0 += w3; if w0 == 9 goto B; D: exit", 1),
    "known-branch": (f"L0: {LOADS}; w4 = 0; w0 = w2; if w4 == 0 goto A; X: w0 = 3; w0 += w3; A: exit", 4),
    "test-of-source": (f"L0: {LOADS}; r0 = r2; r4 = r0; if r4 == 0 goto A; X: w0 += w3; A: exit", 1),
    "same-nodes": (
        f"L0: {LOADS}; if w2 == 1 goto A; X: if w2 == 2 goto B; Y: w0 = w2; w0 += 5; exit; "
        "A: w0 = w3; w0 *= 5; exit; B: w0 = w3; w0 *= 5; exit",
        3,
    ),
    "cross-jumping": (
        f"L0: {LOADS}; if w2 == 1 goto A; X: w0 = w2; w0 += 5; w0 *= w3; w0 ^= 3; exit; "
        "A: w0 = w3; w0 -= 5; w0 *= w3; w0 ^= 3; exit",
        2,
    ),
    "apart": (
        f"L0: {LOADS}; w4 = 1; if w2 == 7 goto J; B: w4 = 0; J: w0 = 5; if w4 == 0 goto L; X: w0 = w3; L: exit",
        3,
    ),
    "edges": (
        f"L0: {LOADS}; w0 = 1; if w2 == 5 goto E; A: w0 = 2; if w3 == 6 goto E; B: w2 += w3; w0 = 1; "
        "if w2 == 6 goto E; C: w2 ^= w3; w0 = 2; if w2 > 40 goto E; D: w2 *= w3; w0 = 1; if w2 == 3 goto E; "
        "F: w0 = w2; w0 += w3; E: exit",
        1,
    ),
    "sink": (
        f"L0: {LOADS}; r0 = r2; r0 += 5; if w2 > 5 goto E; A: r0 = r2; r0 += 5; if w3 > 6 goto E; "
        "B: w3 += 1; r0 = r2; r0 += 5; if w3 == 7 goto E; C: r0 = r3; E: exit",
        1,
    ),
    "hoist": (
        f"L0: {LOADS}; if w2 == 1 goto A; B: w0 = w3; w0 *= 9; w0 += 1; exit; A: w0 = w3; w0 *= 9; w0 -= 7; exit",
        2,
    ),
    "ahead": (
        f"L0: {LOADS}; if w2 == 1 goto A; X: if w2 == 2 goto B; Y: w0 = w3; exit; "
        "A: w4 = 4; goto C; B: w4 = 6; goto C; C: w0 = w3; w0 *= w4; exit",
        2,
    ),
}


def proposal_of(old: Function, settings: Settings = SIZE) -> Reshape | None:
    unit = unit_of(old)
    return next(reshape_control_flow(old, analyse(unit, old), unit, settings), None)


def proved(old: Function, proposal: Reshape, settings: Settings = SIZE) -> bool:
    unit = unit_of(old)
    return Door(unit, settings).ask_whole(old, proposal)[0].is_accepted


def twins(blocks: tuple[Block, ...]) -> Iterator[tuple[Block, ...]]:
    """The blocks with one thing changed: an immediate's lowest bit, a condition, a register."""
    for at, block in enumerate(blocks):
        for index, insn in enumerate(block.insns):
            for other in _twins_of(insn):
                insns = (*block.insns[:index], other, *block.insns[index + 1 :])
                yield (*blocks[:at], Block(block.label, insns), *blocks[at + 1 :])


def _twins_of(insn: Insn) -> Iterator[Insn]:
    if insn.kind in (Kind.ALU, Kind.BRANCH) and insn.row.operand is Operand.IMM:
        yield replace(insn, imm=insn.imm ^ 1)
    if insn.kind is Kind.BRANCH and insn.row.op in ("jeq", "jne"):
        other = insn.row.name.replace(insn.row.op, {"jeq": "jne", "jne": "jeq"}[insn.row.op])
        yield replace(insn, row=BY_NAME[other])
    if insn.kind is Kind.ALU and insn.row.op == "mov" and insn.row.operand is Operand.REG and insn.src in (2, 3):
        yield replace(insn, src=5 - insn.src)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_found_and_proved(name: str) -> None:
    text, saved = FOUND[name]
    old = function(text)
    proposal = proposal_of(old)
    assert proposal is not None
    assert proposal.slots_saved >= saved, print_function(reshape(old, proposal))
    assert proved(old, proposal)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_no_twin_is_proved(name: str) -> None:
    old = function(FOUND[name][0])
    proposal = proposal_of(old)
    assert proposal is not None
    count = 0
    for blocks in twins(proposal.blocks):
        assert not proved(old, replace(proposal, blocks=blocks)), print_function(replace(old, blocks=blocks))
        count += 1
    assert count >= 1


def test_every_change_is_shown() -> None:
    named = {*SETTLED, *(move.name for move in MOVES), AHEAD.name}
    assert named - {"jump-to-exit"} == set(FOUND)
    equations = [*SETTLED.values(), *(move.equation for move in MOVES), AHEAD.equation]
    assert len(set(equations)) == len(equations) and all("  ==  " in equation for equation in equations)
    assert (reshape_control_flow,) == SHAPES


@pytest.mark.parametrize("name", sorted(move.name for move in MOVES))
def test_a_move_is_what_finds_it(name: str) -> None:
    old = function(FOUND[name][0])
    proposal = proposal_of(old)
    assert proposal is not None
    assert name in proposal.proposer.removeprefix("shape:").split("+")


def test_a_jump_to_an_exit_is_one() -> None:
    old = function(
        f"L0: {LOADS}; w0 = w2; if w2 == 1 goto A; X: w0 += w3; if w3 == 4 goto E; "
        "Y: w0 -= 7; goto E; A: w0 = 9; w0 *= w3; goto E; E: exit; F: goto E"
    )
    proposal = proposal_of(old)
    assert proposal is not None and proved(old, proposal)
    assert sum(insn.kind is Kind.EXIT for insn in proposal.after) >= 1
    assert not any(insn.kind is Kind.JUMP for insn in proposal.after)


LOOP = (
    f"L0: {LOADS}; w4 = 0; w0 = 0; H: w0 += w3; w4 += 1; if w4 == 5 goto E; X: goto T; D: w0 ^= 3; goto H; "
    "T: if w0 == 77 goto D; Y: goto H; E: exit"
)


def test_loops_stay_loops() -> None:
    old = function(LOOP)
    proposal = proposal_of(old)
    assert proposal is not None and proposal.slots_saved >= 2 and proved(old, proposal)
    for blocks in twins(proposal.blocks):
        assert not proved(old, replace(proposal, blocks=blocks))


def test_nothing_is_proposed_that_saves_nothing() -> None:
    assert proposal_of(function(f"L0: {LOADS}; w0 = w2; if w2 == w3 goto A; X: w0 = 3; A: exit")) is None


def test_balanced_makes_no_path_slower() -> None:
    """Setting a number ahead of a branch costs the other way something: fine for size, not for balanced."""
    old = function(FOUND["ahead"][0])
    proposal = proposal_of(old)
    assert proposal is not None and proved(old, proposal)
    door = Door(unit_of(old), Settings(goal="balanced"))
    assert not door.ask_whole(old, proposal)[0].is_accepted
    assert door.refusals["goal: some path is slower"] == 1


def test_lines_follow_their_instructions() -> None:
    old = function(FOUND["known-branch"][0])
    lined = replace(
        old,
        blocks=tuple(
            Block(
                b.label,
                tuple(replace(i, origin=replace(i.origin, line=(1, at, 64 * n))) for n, i in enumerate(b.insns)),
            )
            for at, b in enumerate(old.blocks)
        ),
    )
    proposal = proposal_of(lined)
    assert proposal is not None
    new = reshape(lined, proposal)
    known = {(insn.without_origin(), insn.origin.line) for _, insn in lined.insns()}
    same = [insn for _, insn in new.insns() if insn.without_origin() in {one for one, _ in known} and insn.origin.line]
    assert len(same) >= 4 and all((insn.without_origin(), insn.origin.line) in known for insn in same)
    assert new.blocks[0].insns[0].origin.line == (1, 0, 0)
    with pytest.raises(ValueError, match="no longer"):
        reshape(replace(old, blocks=old.blocks[:-1]), proposal)
    assert plain_blocks(lined.blocks) == proposal.old


def test_same_search_every_time() -> None:
    old = function(FOUND["edges"][0])
    assert proposal_of(old) == proposal_of(function(FOUND["edges"][0]))

"""Facts against execution: every state that a random program passes through is one that its facts describe."""

from __future__ import annotations

import random

import pytest

from tests.facts.concretise import CONTEXT, PACKET, STACK_TOP, VALUE_STRIDE, VALUES, mismatches
from tests.facts.random_programs import program, unit_of
from verifier_model.bpf.concrete import Machine, Stop, map_frame, run_insns
from verifier_model.bpf.insn import Insn, make
from verifier_model.bpf.unit import Block, Function, Point
from verifier_model.facts import Facts, analyse

SEED = 4711
VALUE_COUNT = 2


def machine(rng: random.Random, packet_length: int) -> Machine:
    """A fresh XDP run: context, packet, frame and two map values, all with random bytes."""
    made = Machine([rng.getrandbits(64) for _ in range(11)])
    made.registers[1] = CONTEXT
    made.map_bytes(CONTEXT, PACKET.to_bytes(4, "little") + (PACKET + packet_length).to_bytes(4, "little") + bytes(16))
    made.map_bytes(PACKET, rng.randbytes(packet_length))
    for at in range(VALUE_COUNT):
        made.map_bytes(VALUES + at * VALUE_STRIDE, rng.randbytes(16))
    map_frame(made, STACK_TOP, rng.randbytes(512))
    made.address = lambda ref: 0x666000
    made.call = lambda m, insn: _lookup(rng, m, insn)
    return made


def _lookup(rng: random.Random, machine: Machine, insn: Insn) -> int:
    assert insn.imm == 1
    return rng.choice((0, VALUES, VALUES + VALUE_STRIDE))


def run_beside(
    function: Function, facts: Facts, run: Machine, packet_length: int, steps: int
) -> tuple[int, str | None]:
    """Execute and compare before every instruction: (points visited, first contradiction)."""
    order = [block.label for block in function.blocks]
    point, visited = Point(order[0], 0), 0
    while visited < steps:
        insns = function.block(point.label).insns
        if not facts.is_reachable(point):
            return visited, f"{point} was reached"
        for wrong in mismatches(facts.before(point), run, packet_length, VALUE_COUNT):
            return visited, f"{point}: {wrong}"
        if point.at == len(insns):
            point = Point(order[order.index(point.label) + 1], 0)
            continue
        visited += 1
        context = bytes(run.load(CONTEXT + at, 1) for at in range(24))
        outcome = run_insns(insns[point.at : point.at + 1], run)
        if outcome.stop not in (Stop.END, Stop.JUMP):
            return visited, None
        if context != bytes(run.load(CONTEXT + at, 1) for at in range(24)):
            return visited, None  # an XDP context cannot be written: its contract has no such field
        point = Point(outcome.label, 0) if outcome.stop is Stop.JUMP else Point(point.label, point.at + 1)
    return visited, None


@pytest.mark.parametrize("part", range(4))
def test_no_run_contradicts_the_facts(part: int) -> None:
    visited = 0
    for at in range(40):
        seed = f"{SEED}-{part}-{at}"
        rng = random.Random(seed)
        function = program(rng)
        facts = analyse(unit_of(function), function)
        assert facts.incomplete is None
        for _ in range(3):
            length = rng.choice((0, 1, 13, 14, 34, 40, 64))
            count, wrong = run_beside(function, facts, machine(rng, length), length, 80)
            assert wrong is None, f"seed {seed}: {wrong}"
            visited += count
    assert visited > 1000


def test_the_comparison_notices_a_false_fact() -> None:
    """The twin: the same runs against facts about another program."""
    noticed = 0
    for at in range(40):
        rng = random.Random(f"{SEED}-{at}")
        function = program(rng)
        first = function.blocks[0]
        other = function.with_block(Block("b0", (*first.insns[:-1], make("mov64_imm", 9, imm=10))))
        facts = analyse(unit_of(function), function)
        _, wrong = run_beside(other, facts, machine(rng, 34), 34, 400)
        noticed += wrong is not None
    assert noticed == 40

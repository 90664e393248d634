"""Facts against execution: every state that a random program passes through is one that its facts describe."""

from __future__ import annotations

import random

import pytest

from tests.facts.concretise import CONTEXT, MAP, PACKET, STACK_TOP, VALUE_STRIDE, VALUES, mismatches
from tests.facts.random_programs import program, unit_of, with_subprogram
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
    parts = (PACKET, PACKET + packet_length, PACKET)  # data, data_end, data_meta
    made.map_bytes(CONTEXT, b"".join(part.to_bytes(4, "little") for part in parts) + bytes(12))
    made.map_bytes(PACKET, rng.randbytes(packet_length))
    for at in range(VALUE_COUNT):
        made.map_bytes(VALUES + at * VALUE_STRIDE, rng.randbytes(16))
    map_frame(made, STACK_TOP, rng.randbytes(512))
    made.address = lambda ref: MAP
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


def run_with_calls(functions: dict[str, Function], facts: dict[str, Facts], run: Machine, length: int) -> str | None:
    """The first contradiction of a run that goes through static calls, comparing in every function."""
    name, point = "f", Point("b0", 0)
    saved: list[tuple[str, Point, list[int]]] = []
    for _ in range(150):
        block = functions[name].block(point.label)
        here = f"{name} {point}"
        if not facts[name].is_reachable(point):
            return f"{here} was reached"
        tops = (run.registers[10], *(regs[10] for _, _, regs in reversed(saved)))
        for wrong in mismatches(facts[name].before(point), run, length, VALUE_COUNT, tops):
            return f"{here}: {wrong}"
        if point.at == len(block.insns):
            order = [other.label for other in functions[name].blocks]
            point = Point(order[order.index(point.label) + 1], 0)
            continue
        insn = block.insns[point.at]
        if insn.row.name == "call_local":
            saved.append((name, Point(point.label, point.at + 1), list(run.registers)))
            name, point = "s", Point("b0", 0)
            run.registers[10] -= 512
            continue
        if insn.row.name == "exit" and saved:
            name, point, regs = saved.pop()
            run.registers[1:6] = [0xDEAD] * 5
            run.registers[6:] = regs[6:]
            continue
        context = bytes(run.load(CONTEXT + at, 1) for at in range(24))
        outcome = run_insns((insn,), run)
        if outcome.stop not in (Stop.END, Stop.JUMP):
            return None
        if context != bytes(run.load(CONTEXT + at, 1) for at in range(24)):
            return None
        point = Point(outcome.label, 0) if outcome.stop is Stop.JUMP else Point(point.label, point.at + 1)
    return None


@pytest.mark.parametrize("part", range(4))
def test_no_run_through_calls_contradicts_the_facts(part: int) -> None:
    for at in range(30):
        seed = f"{SEED}-calls-{part}-{at}"
        rng = random.Random(seed)
        main, sub = with_subprogram(rng)
        unit = unit_of(main, sub)
        facts = {function.name: analyse(unit, function) for function in (main, sub)}
        for _ in range(3):
            length = rng.choice((0, 13, 14, 34, 64))
            run = machine(rng, length)
            run.map_bytes(STACK_TOP - 1024, rng.randbytes(512))
            wrong = run_with_calls({"f": main, "s": sub}, facts, run, length)
            assert wrong is None, f"seed {seed}: {wrong}"

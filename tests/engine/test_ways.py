"""Programs with forward branches in the engine: every lane goes its own way, as on the concrete machine."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from synth import _engine
from synth.search import WindowSearch, is_way
from synth.stochastic import CHAINS
from synth.window import SearchWindow
from tests.engine.windows import MAP_VALUE, NUMBER, PACKET_64, machine_of, window
from verifier_model.bpf.asm import parse_function, parse_insns, print_insn
from verifier_model.bpf.concrete import Stop, run_function
from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind

SELECT = "w3 = 1\nif w1 > 9 goto +1\nw3 = 0\nw3 <<= 4"
REGS = {1: NUMBER, 2: NUMBER, 3: NUMBER, 6: PACKET_64, 7: MAP_VALUE}
WANTED = (1, 2, 3, 6)


def ways(
    code: str, targets: dict[int, int], live: tuple[int, ...] = WANTED, exits: tuple[tuple[int, ...], ...] = ()
) -> SearchWindow:
    """A window; `targets` says where the instruction of that index leads, `exits` what is wanted behind each."""
    text = "\n".join(line.replace("goto +1", "goto L") for line in code.splitlines())
    insns = parse_insns(text)
    made = window(insns, REGS, live, live_stack=range(-8, 0))
    demands = tuple(Demand(tuple(ALL_BITS if reg in one else 0 for reg in range(11)), frozenset()) for one in exits)
    return replace(made, exits=demands, targets=tuple(targets.get(at, 0) for at in range(len(insns))))


def on_the_machine(search: WindowSearch, insns: tuple[Insn, ...], targets: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The registers and the exit, test by test."""
    lines = []
    for at, (insn, target) in enumerate(zip(insns, targets, strict=True)):
        lines.append(f"P{at}:")
        if is_way(insn):
            label = f"P{target}" if target >= 0 else f"E{-target}"
            assert insn.ref is not None
            insn = replace(insn, ref=replace(insn.ref, kind=RefKind.LABEL, name=label))
        lines.append(print_insn(insn))
    lines += [f"P{len(insns)}:", "r9 = 0", "exit"]
    for number in range(1, len(search.window.exits) + 1):
        lines += [f"E{number}:", f"r9 = {number}", "exit"]
    function = parse_function("\n".join(lines))
    found = []
    for case in search.cases:
        machine = machine_of(case, "little")
        outcome = run_function(function, machine, 1000)
        assert outcome.stop is Stop.EXIT, outcome
        found.append(tuple(machine.registers[:10]))
    return found


def assert_agreement(search: WindowSearch) -> None:
    columns, _ = search.session.results()
    there = on_the_machine(search, search.window.insns, search.window.targets)
    for lane, registers in enumerate(there):
        for reg in (1, 2, 3):
            assert columns[reg][lane] == registers[reg], f"test {lane}, r{reg}"
    # Both ways of the first branch are taken by some test.
    assert len({registers[9] for registers in there}) > 1 or len({columns[3][lane] for lane in range(32)}) > 1


CASES = [
    (SELECT, {1: 3}, ()),
    ("r2 ^= r1\nif r1 s< 77 goto +1\nr2 += 5\nif r2 & 4 goto +1\nr3 = r2\nr3 += r1", {1: 4, 3: -1}, (WANTED,)),
    ("if w1 == 8 goto +1\nr3 = *(u16 *)(r6 + 12)\ngoto +1\nr3 = *(u8 *)(r6 + 3)\nr2 = r3", {0: 3, 2: 4}, ()),
    ("r3 = 7\nif r1 <= r2 goto +1\n*(u32 *)(r10 - 4) = r3\nr3 = 8\nr1 -= r3", {1: 4}, ()),
]


@pytest.mark.parametrize(("code", "targets", "exits"), CASES)
def test_each_lane_goes_its_own_way(code: str, targets: dict[int, int], exits: tuple[tuple[int, ...], ...]) -> None:
    for lanes in _engine.variants():
        search = WindowSearch(ways(code, targets, exits=exits), 3, lanes)
        assert_agreement(search)
        assert search.session.errors(search.translated(search.window.insns, search.window.targets)) == 0


def test_random_programs_with_branches_agree_with_the_machine() -> None:
    rng = random.Random(11)
    alu = ["r{d} += r{s}", "w{d} ^= {i}", "r{d} = {i}", "r{d} >>= 3", "w{d} = w{s}", "r{d} *= r{s}"]
    tests = ["if r{d} > {i} goto +1", "if w{d} == w{s} goto +1", "if r{d} s<= {i} goto +1", "if w{d} & {i} goto +1"]
    for number in range(40):
        lines, targets, length = [], {}, rng.randrange(4, 12)
        for at in range(length):
            shape = rng.choice(tests if rng.random() < 0.35 else alu)
            lines.append(shape.format(d=rng.randrange(1, 4), s=rng.randrange(1, 4), i=rng.choice((0, 1, 8, 255, -1))))
            if "goto" in shape:
                targets[at] = rng.choice([*range(at + 1, length + 1), -1])
        if not targets:
            continue
        search = WindowSearch(ways("\n".join(lines), targets, exits=(WANTED,)), number)
        columns, _ = search.session.results()
        for lane, registers in enumerate(on_the_machine(search, search.window.insns, search.window.targets)):
            assert [columns[reg][lane] for reg in (1, 2, 3)] == list(registers[1:4]), f"program {number}, seed 11"


WRONG = [
    ("another constant", "w3 = 1\nif w1 > 9 goto +1\nw3 = 0\nw3 <<= 5", {1: 3}),
    ("another limit", "w3 = 1\nif w1 > 8 goto +1\nw3 = 0\nw3 <<= 4", {1: 3}),
    ("the other way", "w3 = 1\nif w1 <= 9 goto +1\nw3 = 0\nw3 <<= 4", {1: 3}),
    ("another target", "w3 = 1\nif w1 > 9 goto +1\nw3 = 0\nw3 <<= 4", {1: 2}),
    ("out where it goes on", "w3 = 1\nif w1 > 9 goto +1\nw3 = 0\nw3 <<= 4", {1: -1}),
]


@pytest.mark.parametrize(("what", "code", "targets"), WRONG, ids=[row[0] for row in WRONG])
def test_what_differs_in_one_place_is_no_replacement(what: str, code: str, targets: dict[int, int]) -> None:
    search = WindowSearch(ways(SELECT, {1: 3}, exits=(WANTED,)), 1)
    other = ways(code, targets, exits=(WANTED,))
    right = ways("w3 = 16\nif w1 > 9 goto +1\nw3 = 0", {1: 3}, exits=(WANTED,))
    assert search.session.errors(search.translated(right.insns, right.targets)) == 0
    assert search.session.errors(search.translated(other.insns, other.targets)) != 0


@pytest.mark.parametrize("at", [0, 1, -2])
def test_branches_lead_forwards_and_to_known_exits_only(at: int) -> None:
    search = WindowSearch(ways(SELECT, {1: 3}, exits=(WANTED,)), 1)
    form = search.translated(search.window.insns, (0, at, 0, 0))
    assert search.session.errors(form) == -1


def chains(steps: int = 4000) -> list[_engine.ChainSettings]:
    return [weights.settings(number, steps, 4, True) for number, weights in enumerate((*CHAINS, *CHAINS))]


def test_the_scale_of_a_selected_bit_goes_into_its_constant() -> None:
    search = WindowSearch(ways(SELECT, {1: 3}), 1)
    program, targets = search.ways(chains(), 1)[0]
    assert len(program) == 3
    assert program[1].kind is Kind.BRANCH
    assert targets[1] == 3
    # Not where the unscaled bit is wanted, too.
    both = WindowSearch(ways("w3 = 1\nif w1 > 9 goto +1\nw3 = 0\nw2 = w3\nw3 <<= 4", {1: 3}), 1)
    assert all(len(found) > 3 for found, _ in both.ways(chains(), 1))


def test_results_do_not_depend_on_the_number_of_workers() -> None:
    search = WindowSearch(ways(SELECT, {1: 3}), 1)
    alone = search.session.chains(search.domain, chains(), 1)
    assert alone == search.session.chains(search.domain, chains(), 4)
    assert alone == search.session.chains(search.domain, chains(), 4)
    assert alone[0] != alone[1] or alone[0] != alone[2]
    # One after the other in one evaluator, they find the same.
    assert alone == [search.session.chain(search.domain, one)[0] for one in chains()]

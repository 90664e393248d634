"""Enumeration: known shortest forms, completeness against brute force, and what must not be found."""

from __future__ import annotations

import pytest

from synth.cost import latency, slots
from synth.engine_link import from_engine
from synth.search import WindowSearch
from synth.testcases import STACK
from tests.engine.windows import MAP_VALUE, NUMBER, PACKET_64, machine_of, window
from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.bpf.concrete import Stop, run_insns
from verifier_model.bpf.insn import Insn
from verifier_model.domains.registers import Register
from verifier_model.domains.scalar import Scalar

BUDGET = 10_000_000
REGS = {1: NUMBER, 2: NUMBER, 6: PACKET_64, 7: MAP_VALUE}


def shortest(
    code: str, live: tuple[int, ...] | dict[int, int], live_stack: range = range(0), level: int = 4
) -> list[str]:
    """The slots of the best replacement and its text."""
    search = WindowSearch(window(code, REGS, live, live_stack=live_stack, level=level), 1)
    found = search.enumerate(2, BUDGET, 400, True)
    return ["; ".join(print_insn(insn) for insn in program) for program in found]


KNOWN = [
    ("zero extension", "r1 <<= 32\nr1 >>= 32", (1,), "w1 = w1"),
    (
        "gather of two bytes",
        "r3 = *(u8 *)(r6 +0)\nr4 = *(u8 *)(r6 +1)\nr4 <<= 8\nr4 |= r3",
        (4, 6),
        "r4 = *(u16 *)(r6 +0)",
    ),
    ("mask and shift", "r3 = 0xf0000000 ll\nr1 &= r3\nr1 >>= 28", (1,), "w1 >>= 28"),
    ("a sum of constants", "r1 += 3\nr1 += 5", (1,), "r1 += 8"),
    ("a chain of copies", "r3 = r1\nr4 = r3\nr5 = r4", (5,), "r5 = r1"),
    ("nothing", "r1 ^= r2\nr1 ^= r2", (1,), ""),
    ("a store of a constant", "r3 = 7\n*(u8 *)(r6 +3) = r3", (6,), "*(u8 *)(r6 +3) = 7"),
    ("a wide constant", "r1 = 0x5 ll", (1,), "w1 = 5"),
    ("a shared store", "r3 = 7\n*(u32 *)(r7 +4) = r3", (7,), "*(u32 *)(r7 +4) = 7"),
]


@pytest.mark.parametrize(("what", "code", "live", "best"), KNOWN, ids=[row[0] for row in KNOWN])
def test_known_shortest_forms(what: str, code: str, live: tuple[int, ...], best: str) -> None:
    found = shortest(code, live)
    least = slots(parse_insns(best))
    assert best in found, found[:5]
    assert all(slots(parse_insns(program.replace("; ", "\n"))) >= least for program in found)


TWINS = [
    ("a signed extension is no zero extension", "r1 <<= 32\nr1 s>>= 32", (1,), "w1 = w1"),
    (
        "bytes that do not touch",
        "r3 = *(u8 *)(r6 +0)\nr4 = *(u8 *)(r6 +2)\nr4 <<= 8\nr4 |= r3",
        (4, 6),
        "r4 = *(u16 *)(r6 +0)",
    ),
    ("a mask one bit short", "r3 = 0xe0000000 ll\nr1 &= r3\nr1 >>= 28", (1,), "w1 >>= 28"),
    ("another store between", "r3 = 7\n*(u32 *)(r7 +4) = r3\n*(u32 *)(r7 +4) = r2", (7,), "*(u32 *)(r7 +4) = r2"),
    ("a wanted register", "r3 = 7\n*(u8 *)(r6 +3) = r3", (3, 6), "*(u8 *)(r6 +3) = 7"),
]


@pytest.mark.parametrize(("what", "code", "live", "wrong"), TWINS, ids=[row[0] for row in TWINS])
def test_what_is_no_replacement(what: str, code: str, live: tuple[int, ...], wrong: str) -> None:
    assert wrong not in shortest(code, live)


def test_unwanted_bits_allow_more() -> None:
    code = "r1 &= 255\nr1 |= 256\nr1 &= 255"
    assert "" not in shortest(code, {1: 2**64 - 1})
    assert "" in shortest(code, {1: 0xFF})


def test_facts_allow_more() -> None:
    code = "r1 &= 255\nr1 += 1"
    narrow = WindowSearch(window(code, {1: Register.scalar(Scalar.between(0, 255))}, (1,)), 1)
    assert [print_insn(insn) for insn in narrow.enumerate(2, BUDGET, 1, True)[0]] == ["r1 += 1"]
    wide = WindowSearch(window(code, {1: Register.scalar(Scalar.between(0, 511))}, (1,)), 1)
    assert all(len(program) == 2 for program in wide.enumerate(2, BUDGET, 50, True))


def test_the_level_bounds_the_opcodes() -> None:
    """32-bit moves came with v3 and sign-extending moves with v4."""
    assert "w1 = w1" in shortest("r1 <<= 32\nr1 >>= 32", (1,), level=3)
    assert all("w1" not in program for program in shortest("r1 <<= 32\nr1 >>= 32", (1,), level=2))
    assert "r1 = (s32)r1" in shortest("r1 <<= 32\nr1 s>>= 32", (1,), level=4)
    assert shortest("r1 <<= 32\nr1 s>>= 32", (1,), level=3) == []


def test_two_stack_stores_become_one() -> None:
    code = "r1 = 0\n*(u32 *)(r10 -4) = r1\n*(u32 *)(r10 -8) = r1"
    assert shortest(code, (), range(-8, 0))[0] == "*(u64 *)(r10 -8) = 0"
    # Not when bytes between them are wanted, too.
    apart = "r1 = 0\n*(u16 *)(r10 -2) = r1\n*(u32 *)(r10 -8) = r1"
    assert all(len(program.split("; ")) == 2 for program in shortest(apart, (), range(-8, 0)))


def agrees(search: WindowSearch, program: tuple[Insn, ...]) -> bool:
    """The concrete machine's word on a candidate without pointers, on the same tests."""
    for case in search.cases:
        ours, theirs = machine_of(case, "little"), machine_of(case, "little")
        if run_insns(search.window.insns, theirs).stop is not Stop.END or run_insns(program, ours).stop is not Stop.END:
            return False
        mask = search.window.demand.regs
        if any((a ^ b) & m for a, b, m in zip(ours.registers, theirs.registers, mask, strict=True)):
            return False
        top = case.bases[STACK]
        if any(ours.memory[top + 512 + off] != theirs.memory[top + 512 + off] for off in search.window.demand.stack):
            return False
    return True


@pytest.mark.parametrize("code", ["r1 += 3\nr1 ^= 3\nr1 ^= 3", "r1 <<= 32\nr1 >>= 32", "r1 = r2\nr1 &= 255"])
def test_single_replacements_are_complete_over_the_space(code: str) -> None:
    """Brute force over the same space with the concrete machine finds the same single instructions."""
    search = WindowSearch(window(code, {1: NUMBER, 2: NUMBER}, (1, 2)), 1)
    space = [from_engine(insn, search.symbols) for insn in search.domain.instructions()]
    usable = [insn for insn in space if insn.dst == 1 and (insn.src in (1, 2) or "src" not in insn.row.uses)]
    limit = latency(search.window.insns)
    by_hand = {print_insn(insn) for insn in usable if latency((insn,)) <= limit and agrees(search, (insn,))}
    found = {print_insn(program[0]) for program in search.enumerate(1, BUDGET, 10_000, True) if len(program) == 1}
    assert found == by_hand
    assert found or "255" in code


def test_every_pair_found_agrees_on_the_machine() -> None:
    search = WindowSearch(window("r1 <<= 3\nr3 = r1\nr1 = r2\nr1 ^= r3", {1: NUMBER, 2: NUMBER}, (1, 2)), 1)
    found = search.enumerate(2, BUDGET, 10_000, True)
    assert found
    assert all(agrees(search, program) for program in found)


def test_the_budget_bounds_the_work() -> None:
    search = WindowSearch(window("r1 += 3\nr1 *= r2", {1: NUMBER, 2: NUMBER}, (1,)), 1)
    from synth import _engine

    settings = _engine.EnumerationSettings()
    settings.budget = 1000
    _, evaluations, complete = search.session.enumerate(search.domain, settings)
    assert not complete
    assert evaluations < 20_000
    settings.budget = BUDGET
    assert search.session.enumerate(search.domain, settings)[2]


def test_enumeration_repeats_itself() -> None:
    assert shortest("r1 <<= 32\nr1 >>= 32", (1,)) == shortest("r1 <<= 32\nr1 >>= 32", (1,))

"""Enumeration by classes: what is pruned is what the tests cannot tell apart, and a counterexample splits it again."""

from __future__ import annotations

import random

import pytest

from synth import _engine
from synth.enumerate import longest_replacement
from synth.search import WindowSearch
from synth.window import least_instructions
from tests.engine.windows import MAP_VALUE, NUMBER, PACKET_64, window
from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.bpf.concrete import Machine, run_insns
from verifier_model.verdict import Counterexample

REGS = {1: NUMBER, 2: NUMBER, 6: PACKET_64, 7: MAP_VALUE}
BUDGET = 20_000_000


def texts(search: WindowSearch, longest: int, kept: int = 2000) -> list[str]:
    return ["; ".join(map(print_insn, program)) for program in search.enumerate(longest, BUDGET, kept, True)]


def run(text: str, first: int, second: int) -> int:
    machine = Machine([0, first, second, *[0] * 8])
    run_insns(parse_insns(text.replace("; ", "\n")), machine)
    return machine.registers[1]


def with_equal_tests(code: str, value: int) -> WindowSearch:
    """A search whose tests all start with that number in r1."""
    search = WindowSearch(window(code, REGS, (1,)), 1)
    for case in search._drawn:
        case.registers[1] = value
    search.session = search._loaded([])
    return search


def test_a_class_whose_representative_is_refuted_is_split_and_never_dropped() -> None:
    """With 2 in r1 everywhere, its square is its double, which is cheaper and stands for both until it is refuted."""
    code, square = "r1 *= r1\nr1 += 3\nr1 -= 3\nr1 ^= r2", "r1 *= r1; r1 ^= r2"
    search = with_equal_tests(code, 2)
    first = texts(search, 2)
    assert first
    assert square not in first
    assert all(run(text, 7, 9) != run(code, 7, 9) for text in first)
    assert search.learn(Counterexample((0, 7, 9, *[0] * 8), (), (), "made up"))
    second = texts(search, 2)
    assert square in second
    assert not set(first) & set(second)


@pytest.mark.parametrize("seed", range(6))
def test_planted_programs_of_three_are_found(seed: int) -> None:
    """Three instructions, stretched by detours that change nothing: enumeration finds three or fewer again."""
    rng = random.Random(seed)
    shapes = ["r1 += r2", "r1 ^= {i}", "r1 <<= {s}", "r1 &= r2", "w1 -= w2", "r1 += {i}", "r1 |= {i}", "r1 >>= {s}"]
    planted = [rng.choice(shapes).format(i=rng.choice((3, 77, 255)), s=rng.choice((3, 8))) for _ in range(3)]
    detours = ["r3 = r1\nr1 = r3", "r1 += 9\nr1 -= 9", "r1 ^= 5\nr1 ^= 5"]
    code = "\n".join(f"{insn}\n{rng.choice(detours)}" for insn in planted)
    search = WindowSearch(window(code, REGS, (1, 2)), seed + 1)
    found = search.enumerate(3, BUDGET, 50, True)
    assert search.is_complete
    assert found, f"planted {planted}, seed {seed}"
    numbers = [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(200)]
    texts_found = ["; ".join(map(print_insn, program)) for program in found]
    assert any(all(run(text, a, b) == run(code, a, b) for a, b in numbers) for text in texts_found)
    assert len(found[0]) <= 3


def test_two_copies_of_words_become_one_of_a_double_word() -> None:
    code = "r3 = *(u32 *)(r6 +0)\n*(u32 *)(r6 +16) = r3\nr3 = *(u32 *)(r6 +4)\n*(u32 *)(r6 +20) = r3"
    best = texts(WindowSearch(window(code, REGS, (6,)), 1), 2)[0]
    assert best == "r3 = *(u64 *)(r6 +0); *(u64 *)(r6 +16) = r3"
    apart = WindowSearch(window(code.replace("+20", "+24"), REGS, (6,)), 1)
    assert texts(apart, 3) == []
    assert apart.is_complete


def test_a_budget_that_is_too_small_is_admitted() -> None:
    search = WindowSearch(window("r1 <<= 3\nr3 = r1\nr1 = r2\nr1 ^= r3\nr1 += 1", REGS, (1, 2)), 1)
    search.enumerate(3, 2000, 8, True)
    assert not search.is_complete
    search.enumerate(3, BUDGET, 8, True)
    assert search.is_complete


def test_every_variant_of_the_lanes_enumerates_the_same() -> None:
    code = "r1 += r2\nr3 = r1\nr3 >>= 3\nr3 ^= r2\nr3 &= 255\nr1 = r3"
    found = [texts(WindowSearch(window(code, REGS, (1,)), 1, lanes), 3) for lanes in _engine.variants()]
    assert all(one == found[0] for one in found)


def test_bounds_of_a_window() -> None:
    short = window("r1 += 3\nr1 += 5", REGS, (1,))
    assert (least_instructions(short), longest_replacement(short)) == (1, 2)
    long = window("r1 += 3\nr2 += 5\nr1 ^= 4\nr2 ^= 9\n*(u32 *)(r7 +0) = r1\n*(u32 *)(r7 +4) = r2", REGS, (1, 2, 7))
    assert (least_instructions(long), longest_replacement(long)) == (3, 3)

"""Layout steps: what they save, that every run gives the same, and twins that must be left alone."""

import random

import pytest

from synth.layout import COMPLEMENTS, classes, steps
from verifier_model.bpf.asm import parse_function, print_function
from verifier_model.bpf.concrete import Machine, Stop, run_function, taken
from verifier_model.bpf.isa import BY_NAME
from verifier_model.bpf.unit import Function


def improved(text: str) -> Function:
    function = parse_function(text)
    for _ in range(20):
        step = next(steps(function, 3), None)
        if step is None:
            break
        function = step.function
    return function


def code(function: Function) -> str:
    return "; ".join(line.strip() for line in print_function(function).splitlines() if not line.endswith(":"))


LONE_JUMP = """A:
  if w4 == 7 goto C
B:
  goto D
C:
  r0 = 1
  exit
D:
  r0 = 2
  exit
"""


def test_branch_over_a_lone_jump_is_turned_round() -> None:
    assert code(improved(LONE_JUMP)) == "if w4 != 0x7 goto D; r0 = 1; exit; r0 = 2; exit"


def test_jump_that_others_use_stays() -> None:
    text = LONE_JUMP.replace("  r0 = 1\n", "  if r1 == 0 goto B\n  r0 = 1\n")
    assert improved(text).slots < parse_function(text).slots  # the other branch is threaded first
    text = LONE_JUMP.replace("goto D", "r0 = 3\n  goto D").replace("  r0 = 1\n", "  if r1 == 0 goto B\n  r0 = 1\n")
    assert improved(text) == parse_function(text)


def test_branch_without_a_complement_stays() -> None:
    text = LONE_JUMP.replace("w4 == 7", "w4 & 7")
    assert improved(text) == parse_function(text)


TWICE = """A:
  if r1 == 0 goto F
B:
  if r1 == 1 goto G
C:
  r0 = 2
  exit
F:
  *(u32 *)(r10 - 4) = 0
  r0 = 1
  goto E
G:
  *(u32 *)(r10 - 4) = 0
  r0 = 1
E:
  r0 += 1
  exit
"""


def test_equal_blocks_run_once() -> None:
    assert improved(TWICE).slots == parse_function(TWICE).slots - 3


def test_blocks_that_differ_in_one_number_stay() -> None:
    text = TWICE.replace("G:\n  *(u32 *)(r10 - 4) = 0", "G:\n  *(u32 *)(r10 - 4) = 1")
    assert improved(text) == parse_function(text)


def test_blocks_that_go_on_elsewhere_differ() -> None:
    number = classes(parse_function(TWICE.replace("  goto E\n", "  goto C\n")))
    assert number["F"] != number["G"]
    assert classes(parse_function(TWICE))["F"] == classes(parse_function(TWICE))["G"]


def test_jump_to_the_next_place_goes() -> None:
    assert code(improved("A:\n  r0 = 1\n  goto B\nB:\n  exit\n")) == "r0 = 1; exit"


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("op", sorted(COMPLEMENTS))
def test_complements_disagree_on_every_pair(op: str, width: int) -> None:
    edge = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    for a in edge:
        for b in edge:
            row, other = BY_NAME[f"{op}{width}_reg"], BY_NAME[f"{COMPLEMENTS[op]}{width}_reg"]
            assert taken(row, a, b) != taken(other, a, b)


def random_function(rng: random.Random) -> str:
    """Blocks of a little arithmetic that go forward only, with many equal ones among them."""
    count = rng.randint(3, 9)
    text = ""
    for at in range(count):
        text += f"L{at}:\n"
        for _ in range(rng.randint(0, 2)):
            text += f"  r{rng.randint(0, 1)} {rng.choice(('+=', '^='))} {rng.randint(1, 2)}\n"
        later = [f"L{n}" for n in range(at + 1, count)]
        kind = rng.random()
        if at == count - 1 or kind < 0.15:
            text += "  exit\n"
        elif kind < 0.4:
            text += f"  goto {rng.choice(later)}\n"
        elif kind < 0.9:
            test = rng.choice(("w0 == 1", "r0 > r1", "r1 s< 2", "r0 & 1", "w1 != 3"))
            text += f"  if {test} goto {rng.choice(later)}\n"
    return text


def result(function: Function, r0: int, r1: int) -> tuple[Stop, list[int]]:
    machine = Machine([r0, r1, *[0] * 9])
    return run_function(function, machine).stop, machine.registers[:2]


@pytest.mark.parametrize("seed", range(40))
def test_random_functions_run_the_same_and_never_longer(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        text = random_function(rng)
        old, new = parse_function(text), improved(text)
        for r0, r1 in ((0, 0), (1, 2), (2, 1), (3, 3), (rng.getrandbits(64), rng.getrandbits(64))):
            assert result(old, r0, r1) == result(new, r0, r1), f"seed {seed}\n{text}\n---\n{print_function(new)}"
            ran = [run_function(f, Machine([r0, r1, *[0] * 9])).steps for f in (old, new)]
            assert ran[1] <= ran[0], f"seed {seed}: longer\n{text}\n---\n{print_function(new)}"

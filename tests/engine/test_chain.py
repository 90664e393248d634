"""The random walk: its numbers, its determinism, and what it finds."""

from __future__ import annotations

from math import log2

import pytest

from synth import _engine
from synth.search import WindowSearch
from synth.stochastic import CHAINS
from tests.engine.windows import NUMBER, PACKET_64, window
from verifier_model.bpf.asm import parse_insns, print_insn

MASK = 2**64 - 1
GATHER = "r3 = *(u8 *)(r6 + 12)\nr4 = *(u8 *)(r6 + 13)\nr4 <<= 8\nr4 |= r3\nr3 = 0"


def rotated(value: int, count: int) -> int:
    return (value << count | value >> (64 - count)) & MASK


def reference_numbers(seed: int, count: int) -> list[int]:
    """xoshiro256** seeded by splitmix64, as published (prng.di.unimi.it)."""
    state = []
    for _ in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        state.append(z ^ z >> 31)
    found = []
    for _ in range(count):
        found.append(rotated(state[1] * 5 & MASK, 7) * 9 & MASK)
        shifted = state[1] << 17 & MASK
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= shifted
        state[3] = rotated(state[3], 45)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2**63, MASK])
def test_random_numbers_are_the_published_sequence(seed: int) -> None:
    assert _engine.random_numbers(seed, 200) == reference_numbers(seed, 200)
    assert _engine.random_numbers(seed, 200) != reference_numbers(seed ^ 1, 200)


def test_the_allowance_is_minus_the_logarithm_of_the_draw() -> None:
    numbers = _engine.random_numbers(5, 2000)
    for number, allowance in zip(numbers, _engine.allowances(5, 2000), strict=True):
        exact = -256 * log2((number | 1) / 2**64)
        assert exact - 1 < allowance < exact + 3, f"draw {number:#x}, seed 5"


def settings(seed: int = 1, steps: int = 20_000) -> _engine.ChainSettings:
    made = _engine.ChainSettings()
    made.seed, made.steps = seed, steps
    return made


def chain(lanes: str = "", seed: int = 1, early_stop: bool = True) -> tuple[object, int, int]:
    search = WindowSearch(window(GATHER, {6: PACKET_64}, (4, 6)), 1, lanes)
    made = settings(seed)
    made.early_stop = early_stop
    return search.session.chain(search.domain, made)


def test_the_gather_becomes_one_load() -> None:
    search = WindowSearch(window(GATHER, {6: PACKET_64}, (4, 6)), 1)
    best = search.chain(settings())[0]
    assert [print_insn(insn) for insn in best] == [print_insn(i) for i in parse_insns("r4 = *(u16 *)(r6 + 12)")]


def test_what_cannot_be_shortened_stays() -> None:
    """The twin: with the second byte from one place further, no single load gives the number."""
    search = WindowSearch(window(GATHER.replace("+ 13", "+ 14"), {6: PACKET_64}, (4, 6)), 1)
    assert all(len(found) > 2 for found in search.chain(settings()))


def test_a_seed_names_one_walk_on_every_instruction_set() -> None:
    walks = [chain(lanes) for lanes in _engine.variants()]
    assert all(walk == walks[0] for walk in walks)
    assert chain(seed=2) != walks[0]


def test_stopping_early_changes_nothing_but_the_time() -> None:
    assert chain(early_stop=True) == chain(early_stop=False)


def test_no_found_program_is_slower_unless_asked_for() -> None:
    # A multiplication costs more than two shifts and an addition may: the walk must not trade slots for time.
    code = "r2 = r1\nr2 <<= 1\nr2 += r1\nr1 = r2"
    search = WindowSearch(window(code, {1: NUMBER}, (1,)), 1)
    prices = dict(_prices())
    limit = sum(prices[insn.row.name] for insn in search.window.insns)
    for found in search.chain(settings(steps=40_000)):
        assert sum(prices[insn.row.name] for insn in found) <= limit


def _prices() -> list[tuple[str, int]]:
    from synth.cost import table
    from synth.engine_link import ENGINE_ROWS

    return [(row.name, table().of(row)) for row in ENGINE_ROWS]


LONG = """
r3 = *(u8 *)(r6 + 12)
r4 = *(u8 *)(r6 + 13)
r4 <<= 8
r4 |= r3
r2 ^= r4
r5 = *(u32 *)(r6 + 20)
r5 ^= r2
r1 += r5
r5 >>= 3
r1 ^= r5
*(u32 *)(r10 - 8) = r1
"""


def best_slots(error_weight: int, slot_weight: int) -> int:
    regs = {1: NUMBER, 2: NUMBER, 6: PACKET_64}
    search = WindowSearch(window(LONG, regs, (1, 2, 6), live_stack=range(-8, -4)), 1)
    made = settings(steps=20_000)
    made.error_weight, made.slot_weight = error_weight, slot_weight
    return min((len(found) for found in search.chain(made)), default=search.window.slots)


def test_the_weights_in_use_find_the_gather_inside_a_long_window() -> None:
    assert [best_slots(weights.error, weights.slot) for weights in CHAINS] == [8] * len(CHAINS)


def test_weights_under_which_wrong_is_cheap_lose_the_way() -> None:
    """The twin: where leaving everything out costs less than it saves, the walk ends far from the window."""
    assert best_slots(16, 1024) > 8

"""Test inputs keep to the facts, cover their extremes, and are the same for the same seed."""

from __future__ import annotations

import pytest

from synth.engine_link import LANES
from synth.sampling import Infeasible, Numbers, sample
from synth.search import WindowSearch
from synth.testcases import PACKET, STACK
from tests.engine.windows import CONTEXT, MAP_VALUE, NUMBER, PACKET_64, window
from verifier_model.bpf.asm import parse_insns
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot
from verifier_model.verdict import Counterexample

BYTE = Scalar.between(0, 255)
HEADER = Register(Region.PACKET, Scalar.between(0, 60), off=14, id=4, packet_range=34)
SCALARS = [
    Scalar.top(),
    BYTE,
    Scalar.between(1, 3),
    Scalar.between(2**63 - 5, 2**63 + 5),
    Scalar.between(0xFFFF_FFF0, 0x1_0000_000F),
    Scalar.between(0, 255) & Scalar(bits_value=4, bits_mask=2**64 - 1 - 7),
]


@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize("profile", range(8))
def test_samples_are_contained(scalar: Scalar, profile: int) -> None:
    numbers = Numbers(profile)
    assert all(scalar.contains(sample(scalar, numbers, profile)) for _ in range(50)), f"seed {profile}"


def test_the_first_profiles_are_the_extremes() -> None:
    assert [sample(Scalar.between(3, 9), Numbers(1), profile) for profile in (0, 1)] == [3, 9]


def test_contradictory_facts_have_no_sample() -> None:
    with pytest.raises(Infeasible):
        sample(Scalar(umin=4, umax=5, u32min=9, u32max=12), Numbers(1), 9)


def search_of(seed: int = 1) -> WindowSearch:
    regs = {
        1: Register.scalar(BYTE, id=2),
        2: Register.scalar(BYTE, id=2),
        3: PACKET_64,
        4: HEADER,
        5: Register(Region.PACKET_END, Scalar.const(0)),
        6: Register(Region.MAP_VALUE, Scalar.const(0), id=9, base=9, nullable=True, size=8),
        7: MAP_VALUE,
        8: NUMBER,
    }
    stack = {-8: StackSlot("ssssssss", HEADER), -16: StackSlot("0000mmmm")}
    code = "\n".join(f"r0 ^= r{reg}" if reg in (1, 2, 8) else f"r9 = r{reg}" for reg in regs)
    code += "\nr9 = *(u64 *)(r10 - 16)"
    return WindowSearch(window("r0 = 0\n" + code, regs, (0, 9), stack=stack), seed)


def test_states_keep_to_the_facts() -> None:
    search = search_of()
    assert len(search.cases) == LANES
    for case in search.cases:
        r, base = case.registers, case.bases[PACKET]
        assert r[1] == r[2] <= 255
        assert r[3] == base
        variable = r[4] - 14 - base
        assert 0 <= variable <= 60
        assert r[5] >= max(base + 64, base + variable + 34)
        assert case.limits[PACKET] == max(64, variable + 34)
        assert r[10] == case.bases[STACK] + 512
        assert r[10] % 8 == 0
        assert int.from_bytes(case.images[STACK][-8:], "little") == r[4]
        assert case.images[STACK][-16:-12] == bytes(4)
    assert {case.registers[6] == 0 for case in search.cases} == {True, False}
    assert all(case.registers[7] for case in search.cases)
    assert len({case.registers[8] for case in search.cases}) > LANES // 2


def test_a_seed_names_the_tests() -> None:
    assert search_of(1).cases == search_of(1).cases
    assert search_of(1).cases != search_of(2).cases


def test_a_counterexample_is_learnt() -> None:
    """`r1 & 0xffff0000ffff` and `r1` agree on every 16-bit number: only the prover's state tells them apart."""
    search = WindowSearch(window("r0 = r1\nr0 &= 65535", {1: Register.scalar(BYTE)}, (0,)), 1)
    wrong = parse_insns("r0 = r1")
    assert search.passes(wrong)
    outside = Counterexample((0, 0x1_0005, *([0] * 9)), (), (), "r0")
    assert search.learn(outside)
    assert not search.passes(wrong)
    assert search.passes(parse_insns("w0 = w1\nw0 &= 65535"))


def test_a_counterexample_in_memory_is_learnt() -> None:
    stack = {-8: StackSlot("00000000")}
    search = WindowSearch(window("r0 = *(u8 *)(r10 - 8)", {}, (0,), stack=stack), 1)
    wrong = parse_insns("r0 = 0")
    assert search.passes(wrong)
    top = 0x1000
    state = Counterexample((*([0] * 10), top), ((top - 8, 3),), (), "r0")
    assert search.learn(state)
    assert not search.passes(wrong)


def test_a_counterexample_in_shared_memory_is_learnt() -> None:
    """The second load's address comes from the first load."""
    code = "r1 = *(u8 *)(r7 + 0)\nr3 = r7\nr3 += r1\nr0 = *(u32 *)(r3 + 0)\nr0 &= 65535"
    small = Register.scalar(BYTE)
    search = WindowSearch(window(code, {7: MAP_VALUE}, (0,), results={0: small, 3: small}), 1)
    wrong = parse_insns(code)[:-1]
    assert search.passes(wrong)
    base = 0x7000
    memory = ((base, 8), (base + 8, 5), (base + 9, 0), (base + 10, 1), (base + 11, 0))
    assert search.learn(Counterexample((0, 0, 0, 0, 0, 0, 0, base, 0, 0, 0x9000), memory, (), "r0"))
    assert not search.passes(wrong)
    assert search.passes(parse_insns(code))


def test_a_state_that_the_window_cannot_start_from_changes_nothing() -> None:
    search = WindowSearch(window("r0 = *(u8 *)(r3 + 0)", {3: HEADER, 1: PACKET_64}, (0,)), 1)
    before = list(search.cases)
    far = Counterexample((0, 0, 0, 0x5000, *([0] * 7)), (), (), "r0")
    # The header lies before the packet's start as the other register has it: no access can be in bounds.
    search.learn(far)
    assert search.cases[-LANES:] == before
    assert search.passes(parse_insns("r0 = *(u8 *)(r3 + 0)"))


def test_context_and_map_value_places_differ() -> None:
    search = WindowSearch(window("r0 = r7\nr9 = r8", {7: MAP_VALUE, 8: CONTEXT}, (0, 9)), 1)
    assert all(case.registers[7] != case.registers[8] for case in search.cases)

"""A slice of `make fool-prover`: mutants of rewrites that the door let in, and the states they are run from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.agreement import fool
from benchmarks.agreement.mutants import mutants
from benchmarks.agreement.proven import key, proved_in
from benchmarks.agreement.states import distinguishing_state
from benchmarks.agreement.subjects import example_objects
from synth.settings import Settings
from tests.prover.obligations import obligation
from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.verdict import Obligation, Status, Verdict

SEED = 12
ENTRY = (
    "r0 scalar max=255; r1 ctx; r2 packet base=1; r3 packet base=2; r4 scalar range=1..8 id=5;"
    "r5 scalar range=1..8 id=5; r7 scalar id=7; "
    "r6 map_value base=3; r8 scalar; r9 scalar bits=0/0xff00; -8 zero; -16 spill r7"
)


@pytest.fixture(scope="module")
def proofs() -> list[Obligation]:
    for name, data in example_objects(("v3",)):
        if name.startswith("tc_flow_stats"):
            return proved_in(data, Settings(tiers=("passes",)))
    raise AssertionError


@pytest.mark.needs("clang-19")
def test_no_mutant_that_differs_is_proved(proofs: list[Obligation]) -> None:
    assert len({key(one) for one in proofs}) > 20
    tally = fool.campaign(proofs, SEED, 250)
    assert tally.wrong == []
    assert tally.verdicts["REFUTED"] > 150 and tally.proved["equal in every state"] > 5
    assert tally.vacuity == {"fine": len(proofs)}
    assert tally.control["seen"] > 5 * tally.control["not seen"]


@pytest.mark.needs("clang-19")
def test_a_prover_that_believes_too_much_is_caught(proofs: list[Obligation], monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: everything is PROVED."""
    monkeypatch.setattr(fool, "prove", lambda question, limits=None: Verdict(Status.PROVED, method="faith"))
    tally = fool.campaign(proofs[:5], SEED, 50)
    assert len(tally.wrong) > 25


def test_every_bit_and_every_field_is_changed() -> None:
    program = parse_insns("r7 += 5\nr8 = *(u16 *)(r2 + 6)")
    found = {tuple(print_insn(insn) for insn in mutant) for mutant in mutants(program)}
    assert {insns[0] for insns in found if len(insns) == 2} >= {
        "r7 += 4",
        "r7 += -2147483643",
        "r7 -= 5",
        "w7 += 5",
        "r6 += 5",
        "r7 = 5",
    }
    assert {insns[1] for insns in found if len(insns) == 2} >= {
        "r8 = *(u16 *)(r2 +7)",
        "r8 = *(u16 *)(r2 -32762)",
        "r8 = *(s16 *)(r2 +6)",
        "r8 = *(u8 *)(r2 +6)",
        "r9 = *(u16 *)(r2 +6)",
        "r8 = *(u16 *)(r3 +6)",
    }
    assert ("r8 = *(u16 *)(r2 +6)", "r7 += 5") in found and ("r7 += 5",) in found
    assert tuple(print_insn(insn) for insn in program) not in found


SAME = [
    ("r7 += 1; r7 += 2", "r7 += 3"),
    ("r4 += r7", "r5 += r7; r4 = r5"),
    ("*(u16 *)(r2 + 0) = 513", "*(u8 *)(r2 + 1) = 2; *(u8 *)(r2 + 0) = 1"),
    ("r7 = *(u64 *)(r10 - 16)", ""),
    ("r8 = *(u32 *)(r6 + 4); r8 &= 255", "r8 = *(u32 *)(r6 + 4); r8 <<= 56; r8 >>= 56"),
    ("r8 = *(u32 *)(r1 + 12); r8 = *(u32 *)(r1 + 12)", "r8 = *(u32 *)(r1 + 12)"),
    ("r1 = map[hits] ll; r2 = 1; r8 = 0", "r2 = 1; r1 = map[hits] ll; r8 = 0"),
]
OTHER = [
    ("r7 += 1", "r7 += 2"),
    ("r4 += r7", "r5 += r7; r4 = r7"),
    ("*(u16 *)(r2 + 0) = 513", "*(u8 *)(r2 + 1) = 2; *(u8 *)(r2 + 0) = 0"),
    ("*(u32 *)(r2 + 0) = r7; r8 = *(u32 *)(r3 + 0)", "r8 = *(u32 *)(r3 + 0); *(u32 *)(r2 + 0) = r7"),
    ("r8 = *(u32 *)(r6 + 4)", "r8 = *(u16 *)(r6 + 4)"),
    ("*(u32 *)(r6 + 4) = 1; *(u32 *)(r6 + 0) = 2", "*(u32 *)(r6 + 0) = 2; *(u32 *)(r6 + 4) = 1"),
    ("r8 = *(u32 *)(r6 + 4); r8 = *(u32 *)(r6 + 4)", "r8 = *(u32 *)(r6 + 4)"),
    ("*(u64 *)(r10 - 24) = r7", "*(u32 *)(r10 - 24) = r7"),
    ("r1 = map[hits] ll; r8 = r1", "r1 = map[flows] ll; r8 = r1"),
    ("r2 = 1; call 35; r8 = r0", "r2 = 1; call 8; r8 = r0"),
    ("r7 = r9", "r7 = 0"),
]


def question(before: str, after: str) -> Obligation:
    one = obligation(ENTRY, before, after, "r4 r7 r8 -24..-17")
    return replace(one, unit=replace(one.unit, byte_order="little"))


@pytest.mark.parametrize(("before", "after"), SAME)
def test_equal_programs_are_equal_in_every_state(before: str, after: str) -> None:
    state, compared = distinguishing_state(question(before, after), fool.STATES)
    assert state is None and compared > 40


@pytest.mark.parametrize(("before", "after"), OTHER)
def test_different_programs_differ_in_some_state(before: str, after: str) -> None:
    state, _ = distinguishing_state(question(before, after), fool.STATES)
    assert state is not None


def test_a_proof_from_contradicting_facts_is_vacuous() -> None:
    contradiction = "r7 scalar umin=9 umax=5"
    assert fool.vacuity(obligation(contradiction, "r7 += 1", "r7 += 1", "r7")) != "fine"
    assert fool.vacuity(obligation("r7 scalar umin=5 umax=9", "r7 += 1", "r7 += 1", "r7")) == "fine"

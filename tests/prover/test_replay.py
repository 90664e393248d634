"""The concrete machine's word on a refutation: it can say yes, no, and "not all of this can be run"."""

from __future__ import annotations

import pytest

from tests.prover.obligations import obligation
from verifier_model.prover import DEFAULT, prove, refinement
from verifier_model.prover.counterexample import Sample
from verifier_model.prover.entry import Entry
from verifier_model.prover.refinement import Problem, encode
from verifier_model.prover.replay import confirms
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.verdict import Obligation, Status


def problem(question: Obligation) -> Problem:
    return encode(question, Entry(SimplifyingTerms(), question.entry), DEFAULT)


def word_on(question: Obligation, number: int = 0) -> bool | None:
    runs = problem(question)
    return confirms(runs.before, runs.after, Sample(number, 1, runs.entry.bounds))


@pytest.mark.parametrize("constant", [4, 5])
def test_yes_and_no(constant: int) -> None:
    """Adding 1 and setting the lowest bit agree on even numbers alone."""
    known = f"r7 scalar id=1 const={constant}"
    assert word_on(obligation(known, "r7 += 1", "r7 |= 1", "r7")) is (constant == 5)
    assert word_on(obligation(known, "r7 += 1", "r7 |= 1", "")) is False
    store = "*(u64 *)(r10 - 8) = r7"
    assert word_on(obligation(known, f"r7 += 1; {store}", f"r7 |= 1; {store}", "-8..-1")) is (constant == 5)
    assert word_on(obligation(known, f"r7 += 1; {store}", f"r7 |= 1; {store}", "-7..-1")) is False
    branch = "if r7 == 6 goto L"
    assert word_on(obligation(known, f"r7 += 1; {branch}", f"r7 |= 1; {branch}", "")) is (constant == 5)


def test_packet_and_shared_memory() -> None:
    entry = "r2 packet base=1; r6 map_value base=2; r7 scalar const=5"
    assert word_on(obligation(entry, "*(u8 *)(r2 + 0) = r7", "*(u8 *)(r2 + 0) = 5", "")) is False
    assert word_on(obligation(entry, "*(u8 *)(r2 + 0) = r7", "*(u8 *)(r2 + 0) = 6", "")) is True
    assert word_on(obligation(entry, "*(u8 *)(r6 + 0) = r7", "*(u8 *)(r6 + 0) = 5", "")) is False
    assert word_on(obligation(entry, "*(u8 *)(r6 + 0) = r7", "*(u8 *)(r6 + 0) = 6", "")) is True
    twice = "r3 = *(u32 *)(r6 + 0); r4 = *(u32 *)(r6 + 0)"
    assert word_on(obligation(entry, twice, f"{twice}; r4 = r3", "r4")) is True
    assert word_on(obligation(entry, twice, f"{twice}; r3 = r4", "r4")) is False


def test_not_everything_can_be_run() -> None:
    entry = "r6 map_value base=2; r7 scalar"
    assert word_on(obligation(entry, "lock *(u32 *)(r6 + 0) += r7", "r3 = 1; lock *(u32 *)(r6 + 0) += r7", "")) is None
    assert word_on(obligation(entry, "call 5", "r7 = 1; call 5", "r0")) is None


def test_a_difference_that_the_machine_does_not_see_is_no_refutation(monkeypatch: pytest.MonkeyPatch) -> None:
    question = obligation("r7 scalar", "r7 += 1", "r7 += 2", "r7")
    assert prove(question).status is Status.REFUTED
    monkeypatch.setattr(refinement, "confirms", lambda before, after, state: False)
    verdict = prove(question)
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, "model not confirmed by the concrete machine")

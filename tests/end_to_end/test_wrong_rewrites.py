"""A wrong rewrite in front of the prover is refuted; one smuggled in behind it is caught by running both programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import synth.door
import synth.pipeline
from object_stage import optimise_bytes
from synth import passes
from synth.passes.table import Pass
from synth.rewrite import Rewrite, Window
from synth.settings import Settings
from tests.differential.scenarios import SCENARIOS
from tests.end_to_end.objects import compiled
from verifier_model.kernel.differential import compare
from verifier_model.verdict import Obligation, Status, Verdict

PASSES_ONLY = Settings(tiers=("passes",))
SEED = 11
# An increment that matters, in a function whose effect the test's inputs reach.
WRONG = [("xdp_firewall", "add64_imm"), ("xdp_router", "add32_imm"), ("tc_flow_stats", "add64_imm")]


class Liar(Pass):
    """Proposes to add one more than every addition of a constant adds."""

    def propose(self, function, facts, unit, settings) -> Iterator[Rewrite]:  # type: ignore[no-untyped-def]
        for block in function.blocks:
            for at, insn in enumerate(block.insns):
                if insn.row.name == self.name and abs(insn.imm) <= 64 and not insn.is_pinned and insn.dst < 6:
                    window = Window(block.label, at, at + 1)
                    yield Rewrite(window, (insn,), (replace(insn, imm=insn.imm + 1),), "liar", "")


def _lie(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    monkeypatch.setattr(synth.pipeline, "reshapers", lambda settings: ())
    monkeypatch.setattr(passes, "PASSES", (Liar(row, "lie", "x + 1 == x + 2", lambda view, settings: iter(())),))


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize(("name", "row"), WRONG)
def test_in_front_of_the_prover_it_is_refuted(name: str, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _lie(monkeypatch, row)
    monkeypatch.setattr(synth.door, "local_safety", lambda obligation: None)
    image = compiled(name)
    outcome = optimise_bytes(image, PASSES_ONLY, 3)
    assert outcome.data == image
    verdicts = [function.verdicts for function in outcome.record.functions]
    assert sum(count.get("REFUTED", 0) for count in verdicts) > 0
    assert sum(count.get("PROVED", 0) for count in verdicts) == 0


@pytest.mark.needs("bpf", "clang-19")
@pytest.mark.parametrize(("name", "row"), WRONG)
def test_behind_the_prover_it_is_caught_by_running_both(name: str, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _lie(monkeypatch, row)

    def believe(obligation: Obligation, limits: object = None) -> Verdict:
        return Verdict(Status.PROVED, method="believed")

    monkeypatch.setattr(synth.door, "local_safety", lambda obligation: None)
    monkeypatch.setattr(synth.door, "prove", believe)
    image = compiled(name)
    outcome = optimise_bytes(image, replace(PASSES_ONLY, gate="kernel"), 3)
    assert outcome.data != image
    found = compare(image, outcome.data, 10_000, SEED, SCENARIOS[name](image))
    assert not found.is_equal and not found.refused and found.differences, SEED

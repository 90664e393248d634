"""What the door counts: verdicts, reasons of UNKNOWN, refusals."""

from __future__ import annotations

import pytest

import synth.door
from synth.door import Door
from synth.rewrite import Rewrite, Window
from synth.settings import Settings
from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.unit import Unit
from verifier_model.facts import analyse
from verifier_model.verdict import Status, Verdict

FUNCTION = parse_function("L0:\n  r0 = 3\n  r0 += 4\n  exit\n", "main", section="xdp", program_type="xdp")
UNIT = Unit((FUNCTION,))


def rewrite(after: str) -> Rewrite:
    return Rewrite(Window("L0", 0, 2), FUNCTION.blocks[0].insns[:2], parse_insns(after), "test", "by hand")


def test_reasons_of_unknown_are_counted_and_never_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    door, facts = Door(UNIT, Settings()), analyse(UNIT, FUNCTION)
    assert door.ask(FUNCTION, facts, rewrite("r0 = 7")).is_accepted
    assert not door.ask(FUNCTION, facts, rewrite("r0 = 6")).is_accepted
    monkeypatch.setattr(synth.door, "prove", lambda *_: Verdict(Status.UNKNOWN, "too hard"))
    for after in ("r0 = 8", "r0 = 9", "r0 = 9"):
        assert not door.ask(FUNCTION, facts, rewrite(after)).is_accepted
    assert door.verdicts == {"PROVED": 1, "REFUTED": 1, "UNKNOWN": 2}
    assert door.unknowns == {"too hard": 2}, "what was asked before is not counted again"

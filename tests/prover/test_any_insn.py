"""Every row of the instruction table, anywhere, in any state: an answer, and never an exception."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.bpf.random_insns import random_insn
from tests.prover.obligations import demand, obligation
from verifier_model.bpf.insn import Insn, Origin, Ref, RefKind
from verifier_model.bpf.isa import ROWS, Kind
from verifier_model.prover import Limits, prove, smtlib
from verifier_model.verdict import Obligation, Status

SEED = 11
KINDS = ["scalar", "scalar max=255", "unknown", "uninit", "ctx", "stack off=-64", "stack frame=1", "packet base=1"]
KINDS += ["packet_meta base=2", "packet_end", "map symbol=hits", "map_value base=3", "map_value base=3 nullable"]
KINDS += ["data symbol=.bss", "memory base=4", "object base=5", "function", "scalar id=6", "packet base=1 range=0..9"]
REFS = [Ref(RefKind.MAP, "hits"), Ref(RefKind.DATA, ".bss", 8), Ref(RefKind.FUNCTION, "f"), Ref(RefKind.EXTERN, "x")]


def random_window(rng: random.Random) -> tuple[Insn, ...]:
    insns = []
    for _ in range(rng.randint(1, 5)):
        insn = random_insn(rng.choice(ROWS), rng)
        if insn.row.is_memory_access and rng.random() < 0.7:
            insn = replace(insn, off=rng.choice([-8, -16, 0, 4, 12]))
        if insn.kind is Kind.CALL and insn.row.name == "call_helper":
            insn = replace(insn, imm=rng.choice([1, 2, 5, 6, 14, 26, 44, 51, 93, 181, 9999]))
        if insn.kind in (Kind.LOAD_WIDE, Kind.CALL) and rng.random() < 0.4:
            insn = replace(insn, imm=0, ref=rng.choice(REFS))
        if rng.random() < 0.05:
            insn = replace(insn, origin=Origin(core=((1, 2, 0),)))
        if insn.row.is_block_end and rng.random() < 0.8:
            continue
        insns.append(insn)
    return tuple(insns)


def random_question(rng: random.Random) -> Obligation:
    facts = [f"r{number} {rng.choice(KINDS)}" for number in range(10)] + ["-8 zero"] * rng.randint(0, 1)
    frame = obligation("; ".join(facts), "", "", "", rng.choice(["xdp", "sched_cls", "tracing", None]), "little")
    before = random_window(rng)
    after = list(before)
    if after and rng.random() < 0.7:
        at = rng.randrange(len(after))
        after[at : at + 1] = list(random_window(rng)[:1])
    elif len(after) > 1:
        after.reverse()
    return replace(frame, before=before, after=tuple(after), demand=demand("r0 r6 r7:ff -16..-1"))


@pytest.mark.parametrize("part", range(4))
def test_an_answer_to_everything(part: int) -> None:
    print(f"seed {SEED} {part}")
    rng = random.Random(f"{SEED} {part}")
    counts: Counter[Status] = Counter()
    for _ in range(400):
        question = random_question(rng)
        verdict = prove(question, Limits(solver_steps=100_000))
        counts[verdict.status] += 1
        assert (verdict.status is Status.UNKNOWN) == bool(verdict.reason)
        assert (verdict.status is Status.REFUTED) == (verdict.counterexample is not None)
        assert verdict.is_proved == bool(verdict.method)
        same = prove(replace(question, after=question.before))
        assert same.method == "identical"
        try:
            assert smtlib(question).startswith("(set-logic")
        except ValueError as error:
            assert str(error)
    assert min(counts.values()) > 5, counts


def test_every_row_is_answered_alone() -> None:
    rng = random.Random(SEED)
    for row in ROWS:
        for _ in range(4):
            question = random_question(rng)
            alone = (random_insn(row, rng),)
            verdict = prove(replace(question, before=alone, after=(*question.after[:1], *alone)))
            assert verdict.status in Status

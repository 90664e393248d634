"""A slice of `make agreement`: every row on random operands, in every engine and in the kernel."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.agreement import engines
from benchmarks.agreement.operand_programs import FAMILIES, covered_rows, operand_pair, operand_programs
from benchmarks.agreement.operands import Tally, compare, uncovered
from verifier_model.bpf.insn import ByteOrder, Insn
from verifier_model.bpf.isa import BY_NAME, ROWS

SEED = 411


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_engine_and_the_kernel_agree(family: str, order: ByteOrder) -> None:
    rng, tally = random.Random(f"{SEED} {family} {order}"), Tally(SEED)
    for program in operand_programs(rng, [family]):
        compare(program, [operand_pair(rng) for _ in range(6)], order, tally)
    assert tally.wrong == []
    assert ("kernel" in tally.by_engine) == (order == engines.HOST)
    assert family == "legacy" or tally.by_engine["Python"] == tally.by_engine["z3"] == tally.cases


def test_every_row_is_covered_or_excused() -> None:
    assert covered_rows() | set(uncovered()) == {row.name for row in ROWS}
    assert not covered_rows() & set(uncovered())


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("name", ["native", "Python", "z3", "kernel", "C++ engine"])
def test_a_wrong_row_is_seen_in_every_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: one engine is given subtraction where the others add."""
    rng = random.Random(SEED)
    program = operand_programs(rng, ["compute"])[0]
    at = next(index for index, instance in enumerate(program.instances) if instance.row.name == "add64_reg")
    old = program.instances[at].insns[0]
    new = Insn(BY_NAME["sub64_reg"], 2, old.src)
    instance = replace(program.instances[at], insns=(new, *program.instances[at].insns[1:]))
    blocks = tuple(
        replace(block, insns=tuple(new if insn is old else insn for insn in block.insns))
        for block in program.function.blocks
    )
    function = replace(program.function, blocks=blocks)
    instances = (*program.instances[:at], instance, *program.instances[at + 1 :])
    wrong = replace(program, function=function, instances=instances)
    real: dict[str, Any] = {
        "native": engines.native,
        "Python": engines.python,
        "z3": engines.smt,
        "kernel": engines.kernel,
    }
    if name == "C++ engine":
        results = engines.engine_results
        monkeypatch.setattr(
            engines,
            "engine_results",
            lambda one, *rest: results(instance if one is program.instances[at] else one, *rest),
        )
    else:
        attribute = {"Python": "python", "z3": "smt"}.get(name, name)
        make = real[name]
        monkeypatch.setattr(engines, attribute, lambda _, *rest: make(wrong, *rest))
    tally = Tally(SEED)
    compare(program, [(5, 3), (9, 2)], engines.HOST, tally)
    assert tally.wrong and all("r2 += r" in line for line in tally.wrong)
    assert name == "native" or all(f", {name} 0x" in line for line in tally.wrong)

"""A counterexample is a start state that satisfies the facts and on which the two programs really differ."""

from __future__ import annotations

import pytest

from tests.prover.obligations import obligation
from tests.prover.test_refusals import REFUTED, VALUE
from tests.prover.test_windows import ROWS
from verifier_model.bpf.concrete import Machine, run_insns
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.prover import prove
from verifier_model.verdict import Counterexample, Obligation

TWINS = [
    (row.name, obligation(row.entry, row.before, row.twin, row.demand, row.program_type, row.order))
    for row in ROWS
    if not row.difference.startswith("event")
] + [(row.name, obligation(row.entry, row.before, row.after, row.demand, row.program_type)) for row in REFUTED]
NOT_RUN = {Kind.CALL, Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.EXIT}
# What plain byte memory cannot show: pointers wider than their context field, a word that changes between two reads.
NOT_PLAIN = {
    "packet pointer from the context",
    "pointers out of the context have 64 bits",
    "two loads of one word may differ",
}


class Anywhere(dict[int, int]):
    """Memory in which every address is mapped and holds 0 unless said otherwise."""

    def __missing__(self, address: int) -> int:
        return 0

    def __contains__(self, address: object) -> bool:
        return True


def end_of(question: Obligation, insns: tuple[Insn, ...], start: Counterexample) -> tuple[object, ...]:
    machine = Machine(list(start.registers), Anywhere(start.memory), question.unit.byte_order)
    outcome = run_insns(insns, machine)
    registers = [value & bits for value, bits in zip(machine.registers, question.demand.regs, strict=True)]
    return outcome.stop, outcome.label, registers, sorted(item for item in machine.memory.items() if item[1])


@pytest.mark.parametrize(("name", "question"), TWINS, ids=[name for name, _ in TWINS])
def test_programs_differ_from_there_on(name: str, question: Obligation) -> None:
    start = prove(question).counterexample
    assert start is not None
    for register, known in zip(start.registers, question.entry.regs, strict=True):
        if known.is_scalar and not known.assumed_safe:
            assert known.value.contains(register)
    assert start.registers[10] % 8 == 0
    insns = (*question.before, *question.after)
    is_at_end = start.difference.split(":")[0].endswith(" at the end") or start.difference.startswith(("r", "jump"))
    if not is_at_end or " of the call" in start.difference or name in NOT_PLAIN:
        return
    if any(insn.kind in NOT_RUN or (insn.ref is not None and insn.kind is Kind.LOAD_WIDE) for insn in insns):
        return
    assert end_of(question, question.before, start) != end_of(question, question.after, start), start.difference


def test_shared_reads_are_in_the_memory() -> None:
    question = obligation(VALUE, "r3 = *(u16 *)(r6 + 4); r3 += 1", "r3 = *(u16 *)(r6 + 4); r3 |= 1", "r3")
    start = prove(question).counterexample
    assert start is not None
    address = start.registers[6] + 4
    word = dict(start.memory)[address] | dict(start.memory)[address + 1] << 8
    assert word + 1 != word | 1
    assert start.difference == f"r3: {word + 1:#x} before, {word | 1:#x} after"


def test_call_results_are_listed_in_order() -> None:
    both = "call 5; r7 = r0; *(u32 *)(r6 + 0) = 1; call 7"
    question = obligation(VALUE, f"{both}; r0 += r7", f"{both}; r0 -= r7", "r0")
    start = prove(question).counterexample
    assert start is not None
    first, second = start.call_results
    total, rest = first + second & (1 << 64) - 1, second - first & (1 << 64) - 1
    assert start.difference == f"r0: {total:#x} before, {rest:#x} after"

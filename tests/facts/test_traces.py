"""A slice of `make facts-traces`: traced runs of examples and random programs against their facts and the kernel."""

from __future__ import annotations

import pytest

from benchmarks.agreement import tracing
from benchmarks.agreement.claims import Seen, contradictions
from benchmarks.agreement.subjects import example_objects, random_subject, subjects_of
from benchmarks.agreement.traces import Tally, trace_subject
from verifier_model.bpf.insn import make
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import Frame, StackSlot, State
from verifier_model.facts import Facts, analyse

SEED = 31
STACK, PACKET, VALUE, CONTEXT, DATA = 0x9000, 0x20000, 0x80000, 0x1000, 0x30000


@pytest.mark.needs("bpf", "clang-19")
def test_examples_pass_through_their_facts_and_end_as_in_the_kernel() -> None:
    tally = Tally()
    for name, data in example_objects(("v3",)):
        for subject in subjects_of(name, data):
            tally.add(trace_subject(subject, "examples", 4, f"{SEED} {name}"))
    assert tally.wrong == [] and tally.odd == []
    assert tally.traces["examples"] == 4 * tally.programs["examples"] >= 16
    assert tally.kernel["equal"] > 8


@pytest.mark.needs("bpf")
def test_random_programs_pass_through_their_facts() -> None:
    tally = Tally()
    for number in range(5):
        tally.add(trace_subject(random_subject(SEED, number), "random", 3, f"{SEED} {number}"))
    assert tally.wrong == [] and tally.odd == []
    assert (tally.traces["random"], tally.kernel["equal"]) == (15, 15)


@pytest.mark.needs("bpf")
def test_facts_of_another_program_are_contradicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: the facts are those of a program that sets r9 to 1 where the one that runs keeps a map value in it."""

    def altered(unit: Unit, function: Function) -> Facts:
        if function.name != "f":
            return analyse(unit, function)
        blocks = tuple(
            Block(block.label, (*block.insns[:-1], make("mov64_imm", 9, imm=1), *block.insns[-1:]))
            if any(insn.row.name == "mov64_reg" and insn.dst == 9 for insn in block.insns)
            else block
            for block in function.blocks
        )
        return analyse(unit, Function("f", "xdp", blocks, "xdp"))

    monkeypatch.setattr(tracing, "analyse", altered)
    tally = trace_subject(random_subject(SEED, 0), "random", 1, "twin")
    assert len(tally.wrong) == 1


def moment(**registers: int) -> Seen:
    values = [registers.get(f"r{number}", 0) for number in range(10)]
    memory = {STACK - 8: 5, STACK - 16: 0, STACK + 504: 5}
    return Seen(
        [*values, STACK],
        (STACK, STACK + 512),
        lambda address, size: memory.get(address, 0),
        CONTEXT,
        PACKET,
        PACKET + 64,
        PACKET - 8,
        lambda region, symbol: {Region.MAP_VALUE: [VALUE, VALUE + 64], Region.DATA: [DATA]}.get(region, []),
        lambda ref: DATA,
    )


def claim(number: int, register: Register, **others: Register) -> State:
    regs = [Register.uninit()] * 11
    regs[number] = register
    for name, other in others.items():
        regs[int(name[1:])] = other
    return State(tuple(regs))


NUMBER = Scalar.between(3, 5)
POINTERS = [
    (Register.scalar(NUMBER), 5, 6),
    (Register(Region.CTX, Scalar.const(0), off=4), CONTEXT + 4, CONTEXT + 3),
    (Register(Region.STACK, Scalar.const(0), off=-8), STACK - 8, STACK - 16),
    (Register(Region.STACK, Scalar.const(0), off=-8, frame=1), STACK + 504, STACK - 8),
    (Register(Region.PACKET, NUMBER, off=1), PACKET + 6, PACKET + 7),
    (Register(Region.PACKET, Scalar.between(0, 70), packet_range=8), PACKET + 56, PACKET + 57),
    (Register(Region.PACKET_META, Scalar.const(0), packet_range=8), PACKET - 8, PACKET),
    (Register(Region.PACKET_END, Scalar.const(0)), PACKET + 64, PACKET + 63),
    (Register(Region.MAP_VALUE, Scalar.const(0), off=4), VALUE + 68, VALUE + 69),
    (Register(Region.MAP_VALUE, NUMBER), VALUE + 67, VALUE + 70),
    (Register(Region.MAP_VALUE, Scalar.const(0), nullable=True), 0, 1),
    (Register(Region.DATA, NUMBER), DATA + 3, DATA + 2),
]


@pytest.mark.parametrize(("register", "right", "wrong"), POINTERS)
def test_a_claim_holds_for_what_it_describes_and_for_nothing_else(register: Register, right: int, wrong: int) -> None:
    assert list(contradictions(claim(1, register), moment(r1=right))) == []
    assert list(contradictions(claim(1, register), moment(r1=wrong))) != []


def test_equal_ids_are_equal_values() -> None:
    number = Register.scalar(Scalar.top(), id=4)
    assert list(contradictions(claim(1, number, r2=number), moment(r1=9, r2=9))) == []
    assert list(contradictions(claim(1, number, r2=number), moment(r1=9, r2=8))) != []
    first = Register(Region.PACKET, Scalar.between(0, 63), id=4)
    second = Register(Region.PACKET, Scalar.between(0, 63), off=2, id=4)
    assert list(contradictions(claim(1, first, r2=second), moment(r1=PACKET + 5, r2=PACKET + 7))) == []
    assert list(contradictions(claim(1, first, r2=second), moment(r1=PACKET + 5, r2=PACKET + 6))) != []


@pytest.mark.parametrize("up", [0, 1])
def test_stack_slots_of_every_frame_are_compared(up: int) -> None:
    def state(stack: dict[int, StackSlot]) -> State:
        regs = (Register.uninit(),) * 11
        if up == 0:
            return State(regs, stack)
        return State(regs, {}, (Frame("g", "b", 1, regs, stack),))

    spilled = StackSlot("ssssssss", Register.scalar(NUMBER))
    assert list(contradictions(state({-8: spilled}), moment())) == []
    assert list(contradictions(state({-16: spilled}), moment())) != []
    assert list(contradictions(state({-16: StackSlot("0mmm0000")}), moment())) == []
    assert list(contradictions(state({-8: StackSlot("0mmm0000")}), moment())) != []

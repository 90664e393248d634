"""Accesses of every kind: atomics and ordered accesses of the stack, legacy packet loads, context words at a variable
offset, pointers of unknown origin.  Each row has a twin that is off by one bit and must not be proved.
"""

from __future__ import annotations

import pytest

from tests.prover.obligations import obligation
from tests.prover.test_windows import Row
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.concrete import Machine, Stop, map_frame, run_insns
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import ROWS as TABLE
from verifier_model.bpf.isa import Kind
from verifier_model.prover import prove
from verifier_model.verdict import Status

ATOMICS = [row for row in TABLE if row.kind is Kind.ATOMIC]
STATES = ((5, 12, 5), (0xFFFF_FFFF_FFFF_FFFF, 1, 7), (0x1_0000_0001, 0x8000_0000_8000_0000, 0x1_0000_0001))

ROWS = [
    Row(
        "a load through a pointer of unknown origin",
        "r7 unknown",
        "r3 = *(u8 *)(r7 + 0); r4 = r3; r4 += 1",
        "r4 = *(u8 *)(r7 + 0); r4 += 1",
        "r4 = *(u8 *)(r7 + 0); r4 += 3",
        "r4",
        "r4",
    ),
    Row(
        "the packet behind it",
        "r7 unknown; r2 packet base=1; r8 scalar",
        "*(u16 *)(r2 + 0) = r8; *(u16 *)(r2 + 0) = 7; r3 = *(u8 *)(r7 + 0)",
        "*(u16 *)(r2 + 0) = 7; r3 = *(u8 *)(r7 + 0)",
        "*(u16 *)(r2 + 0) = 6; r3 = *(u8 *)(r7 + 0); *(u16 *)(r2 + 0) = 7",
        "r3",
        "packet byte +0 at 8-bit load of shared memory",
    ),
    Row(
        "a store through it may change the stack",
        "r7 unknown; r8 scalar; -8 zero",
        "*(u8 *)(r7 + 0) = r8; r3 = *(u64 *)(r10 - 8); r4 = 1",
        "*(u8 *)(r7 + 0) = r8; r4 = 1; r3 = *(u64 *)(r10 - 8)",
        "*(u8 *)(r7 + 0) = r8; r3 = 0; r4 = 1",
        "r3 r4",
        "r3",
    ),
    Row(
        "a store through it may change the context",
        "r7 unknown; r1 ctx; r8 scalar",
        "r3 = *(u32 *)(r1 + 12); *(u8 *)(r7 + 0) = r8; r4 = *(u32 *)(r1 + 12)",
        "r3 = *(u32 *)(r1 + 12); *(u8 *)(r7 + 0) = r8; r4 = *(u32 *)(r1 + 12); r5 = 0",
        "r3 = *(u32 *)(r1 + 12); *(u8 *)(r7 + 0) = r8; r4 = r3",
        "r3 r4",
        "r4",
    ),
    Row(
        "a pointer with bits cut off",
        "r2 packet base=1; r8 scalar",
        "r2 &= -8; r3 = *(u8 *)(r2 + 0); r3 += 2",
        "r2 >>= 3; r2 <<= 3; r3 = *(u8 *)(r2 + 0); r3 += 2",
        "r2 >>= 2; r2 <<= 2; r3 = *(u8 *)(r2 + 0); r3 += 2",
        "r3",
        "address of 8-bit load of shared memory",
    ),
    Row(
        "legacy load",
        "r6 ctx",
        "r0 = *(u16 *)skb[14]; r7 = r0; r7 &= 65535",
        "r0 = *(u16 *)skb[14]; r7 = r0",
        "r0 = *(u16 *)skb[12]; r7 = r0",
        "r0 r7",
        "event 0",
        program_type="socket_filter",
    ),
    Row(
        "legacy load at a register",
        "r6 ctx; r8 scalar",
        "r8 += 2; r8 += 2; r0 = *(u8 *)skb[r8 + 14]",
        "r8 += 4; r0 = *(u8 *)skb[r8 + 14]",
        "r8 += 6; r0 = *(u8 *)skb[r8 + 14]",
        "r0",
        "offset of ld_ind_b of the packet",
        program_type="socket_filter",
    ),
    Row(
        "a legacy load takes an addition in",
        "r6 ctx; r8 scalar",
        "r1 = r8; r1 += 12; r0 = *(u32 *)skb[r1 + 2]",
        "r0 = *(u32 *)skb[r8 + 14]",
        "r0 = *(u32 *)skb[r8 + 10]",
        "r0",
        "offset of ld_ind_w of the packet",
        program_type="socket_filter",
    ),
    Row(
        "a legacy load adds 64 bits",
        "r6 ctx; r8 scalar",
        "r1 = r8; r1 += -1; r0 = *(u32 *)skb[r1 + 0]",
        "r0 = *(u32 *)skb[r8 + -1]",
        "w1 = w8; w1 += -1; r0 = *(u32 *)skb[r1 + 0]",
        "r0",
        "offset of ld_ind_w of the packet",
        program_type="socket_filter",
    ),
    Row(
        "the packet where a legacy load may end the program",
        "r6 ctx; r9 packet base=1; r7 scalar",
        "*(u8 *)(r9 + 0) = r7; *(u8 *)(r9 + 0) = 1; r0 = *(u8 *)skb[14]",
        "*(u8 *)(r9 + 0) = 1; r0 = *(u8 *)skb[14]",
        "*(u8 *)(r9 + 0) = 0; r0 = *(u8 *)skb[14]; *(u8 *)(r9 + 0) = 1",
        "r0",
        "packet byte +0 at ld_abs_b of the packet",
        program_type="sched_cls",
    ),
    Row(
        "a legacy load leaves other garbage in r1",
        "r6 ctx",
        "r1 = 1; r0 = *(u8 *)skb[14]; r1 = 1",
        "r0 = *(u8 *)skb[14]; r1 = 1",
        "r1 = 1; r0 = *(u8 *)skb[14]",
        "r0 r1",
        "r1",
        program_type="sched_cls",
    ),
    Row(
        "a context word at a variable offset",
        "r1 ctx; r3 scalar max=8",
        "r1 += r3; r2 = *(u32 *)(r1 + 0); r4 = *(u32 *)(r1 + 0)",
        "r1 += r3; r2 = *(u32 *)(r1 + 0); r4 = r2",
        "r1 += r3; r2 = *(u32 *)(r1 + 0); r4 = r2; r4 += 1",
        "r2 r4",
        "r4",
    ),
    Row(
        "an ordered load of the stack",
        "r7 scalar",
        "*(u32 *)(r10 - 8) = r7; r3 = load_acquire((u32 *)(r10 - 8))",
        "*(u32 *)(r10 - 8) = r7; r4 = load_acquire((u32 *)(r10 - 8)); w3 = w7",
        "*(u32 *)(r10 - 8) = r7; r4 = load_acquire((u32 *)(r10 - 8)); r3 = r7",
        "r3",
        "r3",
    ),
    Row(
        "an ordered store to the stack",
        "r7 scalar",
        "store_release((u32 *)(r10 - 8), r7); r3 = *(u32 *)(r10 - 8)",
        "store_release((u32 *)(r10 - 8), r7); w3 = w7",
        "store_release((u32 *)(r10 - 8), r7); r3 = r7",
        "r3 -8..-5",
        "r3",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_proved(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.after, row.demand, row.program_type))
    assert verdict.status is Status.PROVED, verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_twin_is_refuted(row: Row) -> None:
    verdict = prove(obligation(row.entry, row.before, row.twin, row.demand, row.program_type))
    assert verdict.status is Status.REFUTED, verdict
    assert verdict.counterexample is not None
    assert verdict.counterexample.difference.split(":")[0] == row.difference


@pytest.mark.parametrize("after", ["r7 = *(u64 *)(r10 - 8)", "r4 = *(u64 *)(r10 - 8); r7 += r4"])
def test_ordering_is_never_weakened(after: str) -> None:
    """A fetching atomic orders the accesses of others, also where its own memory is private."""
    before = "r7 = atomic64_fetch_add((u64 *)(r10 - 8), r7)"
    assert prove(obligation("r7 scalar const=0; -8 zero", before, after, "r7")).status is Status.UNKNOWN


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("row", ATOMICS, ids=lambda row: row.name)
def test_atomics_of_the_stack_compute(row: object, order: str) -> None:
    """What the concrete machine computes is proved, and nothing that differs in one bit."""
    atomic = next(each for each in ATOMICS if each is row)
    window = (*parse_insns("*(u64 *)(r10 - 8) = r7"), Insn(atomic, 10, 8, -8), *parse_insns("r3 = *(u64 *)(r10 - 8)"))
    for memory, operand, expected in STATES:
        machine = Machine(
            [expected, 0, 0, 0, 0, 0, 0, memory, operand, 0, 0], order="big" if order == "big" else "little"
        )
        map_frame(machine, 0x10000)
        assert run_insns(window, machine).stop is Stop.END
        entry = f"r0 scalar const={expected}; r7 scalar const={memory}; r8 scalar const={operand}"
        for register in (0, 3, 8):
            value = machine.registers[register]
            for wrong in (0, 1 << 31, 1 << 63):
                after = (*window, *parse_insns(f"r{register} = {value ^ wrong:#x} ll"))
                question = obligation(entry, "", "", f"r{register} -8..-1", order=order)
                question = type(question)(
                    window, after, question.entry, question.demand, question.unit, question.function
                )
                assert prove(question).status is (Status.REFUTED if wrong else Status.PROVED)

"""The machine: memory, faults, calls, loops, and the reasons why a run ends."""

from __future__ import annotations

import pytest

from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.concrete import (
    POISON,
    Machine,
    Outcome,
    Stop,
    calls_within,
    map_frame,
    run_function,
    run_insns,
)
from verifier_model.bpf.insn import ByteOrder, Insn, Ref
from verifier_model.bpf.unit import Unit

STACK = 0x1000


def machine(order: ByteOrder = "little", **registers: int) -> Machine:
    made = Machine([0] * 11, order=order)
    map_frame(made, STACK)
    for name, value in registers.items():
        made.registers[int(name[1:])] = value
    return made


def run(text: str, on: Machine) -> Outcome:
    return run_insns(parse_insns(text), on)


@pytest.mark.parametrize(("order", "low", "signed"), [("little", 0x88, 0x7788), ("big", 0x11, 0x1122)])
def test_memory_in_both_byte_orders(order: ByteOrder, low: int, signed: int) -> None:
    at = machine(order)
    outcome = run(
        """
        r1 = 0x1122334455667788 ll
        *(u64 *)(r10 -8) = r1
        r2 = *(u8 *)(r10 -8)
        r3 = *(s16 *)(r10 -8)
        *(u32 *)(r10 -16) = -2
        r4 = *(s32 *)(r10 -16)
        r5 = *(u32 *)(r10 -16)
        """,
        at,
    )
    assert outcome == Outcome(Stop.END, 7)
    assert at.registers[2:6] == [low, signed, (1 << 64) - 2, 0xFFFFFFFE]


def test_sign_extending_load_and_its_zero_extending_twin() -> None:
    at = machine()
    run("*(u8 *)(r10 -1) = 128\nr1 = *(s8 *)(r10 -1)\nr2 = *(u8 *)(r10 -1)", at)
    assert at.registers[1:3] == [(1 << 64) - 128, 128]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("r1 = *(u64 *)(r10 -7)", "read of 8 bytes at 0xff9"),
        ("*(u64 *)(r10 -7) = r1", "write of 8 bytes at 0xff9"),
        ("*(u8 *)(r10 -513) = 1", "write of 1 bytes at 0xdff"),
        ("lock *(u32 *)(r10 +0) += r1", "read of 4 bytes at 0x1000"),
    ],
)
def test_unmapped_memory_is_a_fault_and_changes_nothing(text: str, reason: str) -> None:
    at = machine()
    memory, registers = dict(at.memory), list(at.registers)
    assert run(text, at) == Outcome(Stop.FAULT, 0, reason=reason)
    assert (at.memory, at.registers) == (memory, registers)


ATOMICS = (
    ("lock *(u64 *)(r10 -8) += r2", 13, 3, 10),
    ("lock *(u32 *)(r10 -8) |= r2", 11, 3, 10),
    ("lock *(u32 *)(r10 -8) &= r2", 2, 3, 10),
    ("lock *(u64 *)(r10 -8) ^= r2", 9, 3, 10),
    ("r2 = atomic64_fetch_add((u64 *)(r10 -8), r2)", 13, 10, 10),
    ("r2 = atomic_xchg((u32 *)(r10 -8), r2)", 3, 10, 10),
    ("r0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r2)", 3, 3, 10),
)


@pytest.mark.parametrize(("text", "memory", "r2", "r0"), ATOMICS)
def test_atomics(text: str, memory: int, r2: int, r0: int) -> None:
    at = machine(r0=10, r2=3)
    at.store(STACK - 8, 8, 10)
    assert run(text, at).stop is Stop.END
    assert (at.load(STACK - 8, 8), at.registers[2], at.registers[0]) == (memory, r2, r0)


def test_failed_and_narrow_compare_and_exchange() -> None:
    high = 0xFFFF_FFFF_0000_0000
    at = machine(r0=11, r2=3)
    at.store(STACK - 8, 8, high | 10)
    run("r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r2)", at)
    assert (at.load(STACK - 8, 8), at.registers[0]) == (high | 10, 10)
    at.registers[0] = high | 10  # only the low half is compared, and r0 comes back zero-extended
    run("r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r2)", at)
    assert (at.load(STACK - 8, 8), at.registers[0]) == (high | 3, 10)


def test_calls_answer_and_poison() -> None:
    seen: list[tuple[int, list[int]]] = []

    def answer(at: Machine, insn: Insn) -> int:
        seen.append((insn.imm, at.registers[1:6]))
        return -1

    at = machine(r1=1, r2=2, r6=6)
    at.call = answer
    assert run("call 12", at) == Outcome(Stop.END, 1)
    assert seen == [(12, [1, 2, 0, 0, 0])]
    assert at.registers[:7] == [(1 << 64) - 1, *[POISON] * 5, 6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("call 12", "nobody answers the call 12"),
        ("r1 = map[flows] ll", "no address is known for map flows"),
        ("r1 = map_fd(0x5) ll", "lddw_map_fd without a symbol"),
        ("r1 = addr_space_cast(r2, 0, 1)", "cast_kernel is not modelled"),
        ("r0 = *(u8 *)skb[4]", "ld_abs_b is not modelled"),
    ],
)
def test_what_has_no_meaning_here_says_so(text: str, reason: str) -> None:
    assert run(text, machine()) == Outcome(Stop.UNMODELLED, 0, reason=reason)


def test_symbols_have_addresses() -> None:
    def address(ref: Ref) -> int:
        return {".rodata": 0x4000}[ref.name]

    at = machine()
    at.address = address
    run("r1 = data[.rodata+8] ll", at)
    assert at.registers[1] == 0x4008


def test_straight_code_ends_at_a_taken_jump() -> None:
    assert run("r1 = 8\nif r1 > 0x7 goto L3\nr2 = 5", machine()) == Outcome(Stop.JUMP, 2, "L3")
    twin = machine()
    assert run("r1 = 7\nif r1 > 0x7 goto L3\nr2 = 5", twin) == Outcome(Stop.END, 3)
    assert twin.registers[2] == 5


SUM = """
  r0 = 0
loop:
  r0 += r1
  r1 += -1
  if r1 != 0x0 goto loop
  exit
"""


def test_loop_and_step_bound() -> None:
    at = machine(r1=10)
    assert run_function(parse_function(SUM), at) == Outcome(Stop.EXIT, 1 + 3 * 10 + 1)
    assert at.registers[0] == 55
    assert run_function(parse_function(SUM), machine(r1=10), 32) == Outcome(Stop.EXIT, 32)
    assert run_function(parse_function(SUM), machine(r1=10), 31) == Outcome(Stop.STEPS, 31)


def test_may_goto_asks() -> None:
    function = parse_function("r0 = 0\nloop:\nmay_goto out\nr0 += 1\ngoto loop\nout:\nexit")
    at = machine()
    left = iter([False, False, True])
    at.budget_is_spent = lambda insn: next(left)
    assert run_function(function, at).stop is Stop.EXIT
    assert at.registers[0] == 2
    assert run_function(function, machine(), 1000).stop is Stop.STEPS


def test_falling_off_the_end_is_not_an_exit() -> None:
    assert run_function(parse_function("r0 = 0"), machine()) == Outcome(Stop.END, 1)
    assert run_function(parse_function("r0 = 0\nexit"), machine()) == Outcome(Stop.EXIT, 2)


def test_subprograms_have_their_own_frame_and_keep_r6_to_r9() -> None:
    callee = parse_function("r6 = 1\n*(u64 *)(r10 -8) = 9\nr0 = r1\nr0 += 1\nexit", name="callee")
    caller = parse_function("r6 = 5\n*(u64 *)(r10 -8) = 7\nr1 = 41\ncall fn[callee]\nexit", name="caller")
    at = machine()
    at.call = calls_within(Unit((caller, callee)))
    assert run_function(caller, at).stop is Stop.EXIT
    assert (at.registers[0], at.registers[6], at.registers[10]) == (42, 5, STACK)
    assert (at.load(STACK - 8, 8), at.load(STACK - 520, 8)) == (7, 9)


def test_a_fault_in_a_callee_is_a_fault_of_the_caller() -> None:
    callee = parse_function("r0 = *(u8 *)(r1 +0)\nexit", name="callee")
    caller = parse_function("call fn[callee]\nexit", name="caller")
    at = machine(r1=0)
    at.call = calls_within(Unit((caller, callee)))
    assert run_function(caller, at) == Outcome(Stop.FAULT, 0, reason="in callee: fault")

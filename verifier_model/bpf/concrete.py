"""BPF on Python integers: the algebra of fixed-width numbers, and a machine with byte-addressed memory.

Serves tests, cheap refutation and minimisation in the prover, and test inputs in the search.  The machine is bounded by
a number of steps, never by time, and checks only what it must: memory that nobody mapped is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from verifier_model.bpf import evaluate
from verifier_model.bpf.insn import FRAME_POINTER, ByteOrder, Insn, Ref, RefKind
from verifier_model.bpf.isa import Kind, Operand, Row
from verifier_model.bpf.unit import Function, Unit

Bits = tuple[int, int]  # (unsigned value, width in bits)
MASK64: Final = (1 << 64) - 1


def to_signed(value: int, width: int = 64) -> int:
    """The unsigned `value` of that width read as two's complement."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


class IntAlgebra:
    """`Algebra` over pairs of an unsigned Python integer and its width."""

    def const(self, width: int, value: int) -> Bits:
        return value & ((1 << width) - 1), width

    def add(self, a: Bits, b: Bits) -> Bits:
        return self.const(a[1], a[0] + b[0])

    def sub(self, a: Bits, b: Bits) -> Bits:
        return self.const(a[1], a[0] - b[0])

    def mul(self, a: Bits, b: Bits) -> Bits:
        return self.const(a[1], a[0] * b[0])

    def udiv(self, a: Bits, b: Bits) -> Bits:
        return a[0] // b[0], a[1]

    def urem(self, a: Bits, b: Bits) -> Bits:
        return a[0] % b[0], a[1]

    def sdiv(self, a: Bits, b: Bits) -> Bits:
        dividend, divisor = to_signed(*a), to_signed(*b)
        quotient = abs(dividend) // abs(divisor)
        return self.const(a[1], quotient if (dividend < 0) == (divisor < 0) else -quotient)

    def srem(self, a: Bits, b: Bits) -> Bits:
        dividend, divisor = to_signed(*a), to_signed(*b)
        rest = abs(dividend) % abs(divisor)
        return self.const(a[1], -rest if dividend < 0 else rest)

    def and_(self, a: Bits, b: Bits) -> Bits:
        return a[0] & b[0], a[1]

    def or_(self, a: Bits, b: Bits) -> Bits:
        return a[0] | b[0], a[1]

    def xor(self, a: Bits, b: Bits) -> Bits:
        return a[0] ^ b[0], a[1]

    def shl(self, a: Bits, b: Bits) -> Bits:
        return self.const(a[1], a[0] << b[0])

    def lshr(self, a: Bits, b: Bits) -> Bits:
        return a[0] >> b[0], a[1]

    def ashr(self, a: Bits, b: Bits) -> Bits:
        return self.const(a[1], to_signed(*a) >> b[0])

    def zext(self, width: int, a: Bits) -> Bits:
        return a[0], width

    def sext(self, width: int, a: Bits) -> Bits:
        return self.const(width, to_signed(*a))

    def trunc(self, width: int, a: Bits) -> Bits:
        return self.const(width, a[0])

    def eq(self, a: Bits, b: Bits) -> bool:
        return a[0] == b[0]

    def ult(self, a: Bits, b: Bits) -> bool:
        return a[0] < b[0]

    def slt(self, a: Bits, b: Bits) -> bool:
        return to_signed(*a) < to_signed(*b)

    def not_(self, a: bool) -> bool:
        return not a

    def ite(self, condition: bool, a: Bits, b: Bits) -> Bits:
        return a if condition else b


INTEGERS: Final = IntAlgebra()


def alu(row: Row, dst: int, src: int) -> int:
    """The new 64-bit unsigned dst of an ALU row; operands are taken modulo 2**64 (immediates may be negative)."""
    value, _ = evaluate.alu_result(INTEGERS, row, (dst & MASK64, 64), (src & MASK64, 64))
    return int(value)


def taken(row: Row, dst: int, src: int) -> bool:
    """Whether a branch row jumps; operands as for `alu`."""
    return bool(evaluate.branch_taken(INTEGERS, row, (dst & MASK64, 64), (src & MASK64, 64)))


def swapped(row: Row, dst: int, order: ByteOrder) -> int:
    """The new 64-bit unsigned dst of `leN`, `beN` or `bswapN` on a machine of that byte order."""
    value, _ = evaluate.endian_result(INTEGERS, row, (dst & MASK64, 64), order)
    return int(value)


class Stop(Enum):
    """Why a run ended."""

    END = "end"  # behind the last instruction
    EXIT = "exit"
    JUMP = "jump"  # a run of plain instructions ended in a jump or a taken branch to `label`
    FAULT = "fault"
    UNMODELLED = "unmodelled"  # an instruction that this machine cannot run
    STEPS = "steps"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`label` for JUMP; `reason` for FAULT and UNMODELLED; `steps` counts executed instructions."""

    stop: Stop
    steps: int
    label: str = ""
    reason: str = ""


class FaultError(Exception):
    """An access to memory that is not there."""


class UnmodelledError(Exception):
    """An instruction or symbol that the machine has no meaning for."""


def _no_call(machine: Machine, insn: Insn) -> int:
    raise UnmodelledError(f"nobody answers the call {insn.imm if insn.ref is None else insn.ref.name}")


def _no_address(ref: Ref) -> int:
    raise UnmodelledError(f"no address is known for {ref.kind.value} {ref.name}")


def _never(insn: Insn) -> bool:
    return False


@dataclass(slots=True)
class Machine:
    """Registers (unsigned 64 bit) and memory (address -> byte; what is not in it is not mapped).

    `call` answers a call with the new r0 and may read and write registers and memory; `address` places a symbol;
    `budget_is_spent` decides whether `may_goto` jumps.  After a call r1 to r5 hold `POISON`.
    """

    registers: list[int]
    memory: dict[int, int] = field(default_factory=dict)
    order: ByteOrder = "little"
    call: Callable[[Machine, Insn], int] = _no_call
    address: Callable[[Ref], int] = _no_address
    budget_is_spent: Callable[[Insn], bool] = _never

    def map_bytes(self, address: int, content: Iterable[int]) -> None:
        for index, byte in enumerate(content):
            self.memory[address + index & MASK64] = byte

    def load(self, address: int, size: int) -> int:
        """The `size` bytes at an address as an unsigned number; raises FaultError."""
        try:
            content = bytes(self.memory[address + index & MASK64] for index in range(size))
        except KeyError:
            raise FaultError(f"read of {size} bytes at {address:#x}") from None
        return int.from_bytes(content, self.order)

    def store(self, address: int, size: int, value: int) -> None:
        """Write the low `size` bytes of `value`; raises FaultError, and then nothing has been written."""
        places = [address + index & MASK64 for index in range(size)]
        if any(place not in self.memory for place in places):
            raise FaultError(f"write of {size} bytes at {address:#x}")
        content = (value & ((1 << 8 * size) - 1)).to_bytes(size, self.order)
        self.memory.update(zip(places, content, strict=True))

    def operand(self, insn: Insn) -> int:
        return self.registers[insn.src] if insn.row.operand is Operand.REG else insn.imm & MASK64


POISON: Final = 0xDEAD_BEEF_DEAD_BEEF
Step = Callable[[Machine, Insn], None]


def _alu(machine: Machine, insn: Insn) -> None:
    machine.registers[insn.dst] = alu(insn.row, machine.registers[insn.dst], machine.operand(insn))


def _endian(machine: Machine, insn: Insn) -> None:
    machine.registers[insn.dst] = swapped(insn.row, machine.registers[insn.dst], machine.order)


def _load_wide(machine: Machine, insn: Insn) -> None:
    if insn.ref is not None:
        machine.registers[insn.dst] = machine.address(insn.ref) + insn.ref.addend & MASK64
    elif insn.row.name == "lddw_constant":
        machine.registers[insn.dst] = insn.imm & MASK64
    else:
        raise UnmodelledError(f"{insn.row.name} without a symbol")


def _load(machine: Machine, insn: Insn) -> None:
    value = machine.load(machine.registers[insn.src] + insn.off & MASK64, insn.row.size)
    machine.registers[insn.dst] = evaluate.loaded(INTEGERS, insn.row, (value, insn.row.width))[0]


def _store(machine: Machine, insn: Insn) -> None:
    machine.store(machine.registers[insn.dst] + insn.off & MASK64, insn.row.size, machine.operand(insn))


def _atomic(machine: Machine, insn: Insn) -> None:
    row, registers = insn.row, machine.registers
    place = registers[insn.dst] + insn.off & MASK64
    old = machine.load(place, row.size)
    src, r0 = (registers[insn.src], 64), (registers[0], 64)
    machine.store(place, row.size, evaluate.atomic_memory(INTEGERS, row, (old, row.width), src, r0)[0])
    destination = evaluate.atomic_destination(row, insn.src)
    if destination is not None:
        registers[destination] = old


def _call(machine: Machine, insn: Insn) -> None:
    result = machine.call(machine, insn) & MASK64
    machine.registers[0] = result
    machine.registers[1:6] = [POISON] * 5


_STEPS: Final[dict[Kind, Step]] = {
    Kind.ALU: _alu,
    Kind.ENDIAN: _endian,
    Kind.LOAD_WIDE: _load_wide,
    Kind.LOAD: _load,
    Kind.LOAD_ACQUIRE: _load,
    Kind.STORE: _store,
    Kind.STORE_IMM: _store,
    Kind.STORE_RELEASE: _store,
    Kind.ATOMIC: _atomic,
    Kind.CALL: _call,
}


def _leaves(machine: Machine, insn: Insn) -> bool:
    if insn.kind is Kind.BRANCH:
        return taken(insn.row, machine.registers[insn.dst], machine.operand(insn))
    return insn.kind is Kind.JUMP or machine.budget_is_spent(insn)


def run_insns(insns: Sequence[Insn], machine: Machine, steps: int = 1_000_000) -> Outcome:
    """Run straight code, changing `machine`, until its end, an exit, or a jump out of it."""
    for count, insn in enumerate(insns):
        if count >= steps:
            return Outcome(Stop.STEPS, count)
        if insn.kind is Kind.EXIT:
            return Outcome(Stop.EXIT, count + 1)
        if insn.row.is_block_end:
            if _leaves(machine, insn):
                return Outcome(Stop.JUMP, count + 1, insn.ref.name if insn.ref is not None else "")
            continue
        step = _STEPS.get(insn.kind)
        if step is None:
            return Outcome(Stop.UNMODELLED, count, reason=f"{insn.row.name} is not modelled")
        try:
            step(machine, insn)
        except FaultError as error:
            return Outcome(Stop.FAULT, count, reason=str(error))
        except UnmodelledError as error:
            return Outcome(Stop.UNMODELLED, count, reason=str(error))
    return Outcome(Stop.END, len(insns))


def run_function(function: Function, machine: Machine, steps: int = 1_000_000) -> Outcome:
    """Run from the first block to an exit; END means that control fell off the function's end."""
    place = {block.label: index for index, block in enumerate(function.blocks)}
    at, done = 0, 0
    while at < len(function.blocks):
        outcome = run_insns(function.blocks[at].insns, machine, steps - done)
        done += outcome.steps
        if outcome.stop is Stop.JUMP and outcome.label in place:
            at = place[outcome.label]
        elif outcome.stop is Stop.END:
            at += 1
        else:
            return Outcome(outcome.stop, done, outcome.label, outcome.reason)
    return Outcome(Stop.END, done)


FRAME_BYTES: Final = 512


def map_frame(machine: Machine, top: int, content: Sequence[int] = bytes(FRAME_BYTES)) -> None:
    """Give the machine a stack frame that ends at the address `top`, which r10 then holds."""
    machine.map_bytes(top - len(content) & MASK64, content)
    machine.registers[FRAME_POINTER] = top & MASK64


def calls_within(
    unit: Unit, helper: Callable[[Machine, Insn], int] = _no_call, steps: int = 1_000_000
) -> Callable[[Machine, Insn], int]:
    """An answer to calls that runs functions of the unit in a frame of their own and asks `helper` for the rest.

    Each callee gets a fresh frame of zeroes below the caller's; r6 to r10 are kept, as the kernel does
    (kernel/bpf/core.c, bpf_prog_run with a pseudo call).
    """

    def answer(machine: Machine, insn: Insn) -> int:
        if insn.ref is None or insn.ref.kind is not RefKind.FUNCTION:
            return helper(machine, insn)
        kept = machine.registers[6:]
        map_frame(machine, machine.registers[FRAME_POINTER] - FRAME_BYTES)
        outcome = run_function(unit.function(insn.ref.name), machine, steps)
        machine.registers[6:] = kept
        if outcome.stop is Stop.EXIT:
            return machine.registers[0]
        raise (FaultError if outcome.stop is Stop.FAULT else UnmodelledError)(
            f"in {insn.ref.name}: {outcome.stop.value}"
        )

    return answer

"""The engines of the agreement, each with one way to run a program on a packet or one instance on two operands."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import z3

from benchmarks.agreement.operand_programs import FIRST_RESULT, Instance, OperandProgram
from benchmarks.agreement.term_machine import TermMachine
from llvm_bridge.native import Arena, Call, Stop, compile_functions
from synth import _engine
from synth.engine_link import LANES, Symbols, to_engine
from verifier_model.bpf.concrete import Machine, map_frame, run_function
from verifier_model.bpf.concrete import Stop as MachineStop
from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Unit
from verifier_model.kernel.loading import load_function
from verifier_model.kernel.syscall import Refused
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.smt_algebra import Query

HOST: Final[ByteOrder] = "little" if sys.byteorder == "little" else "big"
CONTEXT, PACKET, STACK = 0x1000, 0x2000, 0x9000
_CONTEXT_BYTES: Final = 192
_SKB_DATA: Final = 76
_DONE: Final = 2
Runner = Callable[[int, int], Sequence[int]]
"""From two operands to the result of every instance of a program."""


class RefusedError(Exception):
    """The kernel does not load a program of ours."""


def _unit(program: OperandProgram, order: ByteOrder) -> Unit:
    return Unit((program.function,), byte_order=order, cpu_level=4)


def _packet(program: OperandProgram, a: int, b: int, order: ByteOrder) -> bytes:
    return a.to_bytes(8, order) + b.to_bytes(8, order) + bytes(8 * len(program.instances))


def _context(program: OperandProgram, order: ByteOrder) -> bytes:
    ends = PACKET.to_bytes(4, order) + (PACKET + program.packet_size).to_bytes(4, order)
    at = _SKB_DATA if program.function.program_type == "sched_cls" else 0
    return (bytes(at) + ends).ljust(_CONTEXT_BYTES, b"\0")


def _results(program: OperandProgram, packet: bytes, order: ByteOrder) -> Sequence[int]:
    prefix = "<" if order == "little" else ">"
    return struct.unpack_from(f"{prefix}{len(program.instances)}Q", packet, FIRST_RESULT)


def kernel(program: OperandProgram) -> tuple[Runner, Callable[[], None]]:
    """The running kernel's JIT, in the host's byte order, and what closes the program."""
    loaded = load_function(_unit(program, HOST), "f")
    if isinstance(loaded, Refused):
        raise RefusedError(f"{loaded.reason}\n{loaded.log}")

    def run(a: int, b: int) -> Sequence[int]:
        done = loaded.programs["f"].test_run(_packet(program, a, b, HOST))
        if done.error or done.result != _DONE:
            raise RuntimeError(f"TEST_RUN of {program.family}: error {done.error}, result {done.result}")
        return _results(program, done.packet, HOST)

    return run, loaded.close


def _legacy(arena: Arena, call: Call) -> int:
    """A legacy load; those of our programs stay inside the packet."""
    insn = call.insn
    if insn.kind is not Kind.LEGACY_LOAD:
        raise RuntimeError(f"{insn.row.name} is no legacy load")
    start = insn.imm + (call.registers[insn.src] if insn.row.op == "ind" else 0)
    return int.from_bytes(arena.read(PACKET + start, insn.row.size), "big")


def native(program: OperandProgram, order: ByteOrder, level: int = 0) -> Runner:
    """Code compiled by LLVM from the rows' meanings over IR."""
    compiled = compile_functions(_unit(program, order), ["f"], level=level)
    arena = Arena(1 << 16)
    arena.map(CONTEXT, _context(program, order), writable=False)
    arena.map(STACK - 512, bytes(512))

    def run(a: int, b: int) -> Sequence[int]:
        arena.map(PACKET, _packet(program, a, b, order))
        done = compiled.run("f", arena, (CONTEXT,), STACK, calls=lambda call: _legacy(arena, call))
        if done.stop is not Stop.EXIT or done.result != _DONE:
            raise RuntimeError(f"native {program.family}: {done}")
        return _results(program, arena.read(PACKET, program.packet_size), order)

    return run


def python(program: OperandProgram, order: ByteOrder) -> Runner:
    """The concrete machine over Python integers.  It has no legacy loads."""

    def run(a: int, b: int) -> Sequence[int]:
        machine = Machine([0] * 11, order=order)
        map_frame(machine, STACK)
        machine.map_bytes(CONTEXT, _context(program, order))
        machine.map_bytes(PACKET, _packet(program, a, b, order))
        machine.registers[1] = CONTEXT
        done = run_function(program.function, machine)
        if done.stop is not MachineStop.EXIT or machine.registers[0] != _DONE:
            raise RuntimeError(f"machine {program.family}: {done}")
        content = bytes(machine.memory[PACKET + at] for at in range(program.packet_size))
        return _results(program, content, order)

    return run


@dataclass(slots=True)
class _Lowered:
    """One instance as a z3 term over two variables of 64 bits."""

    result: Any
    a: Any
    b: Any

    def value(self, a: Any, b: Any) -> int:
        return int(z3.simplify(z3.substitute(self.result, (self.a, a), (self.b, b))).as_long())


def _lowered(instance: Instance, order: ByteOrder, query: Query) -> _Lowered:
    terms = query.terms
    zero = terms.const(64, 0)
    a, b = terms.var("a", 64), terms.var("b", 64)
    machine = TermMachine(terms, [zero, zero, a, b, *[zero] * 7], order, lambda address: terms.const(8, 0))
    machine.store(STACK - 8, 8, a)
    taken = jumped = None
    for insn in instance.insns:
        if insn.kind is Kind.BRANCH:
            taken = (machine.taken(insn), machine.registers[4])
        elif insn.kind is Kind.JUMP:
            jumped = machine.registers[4]
        else:
            machine.step(insn, STACK + insn.off)
    result = machine.registers[4]
    if taken is not None:  # to the end, or around a jump to the end
        result = terms.ite(taken[0], taken[1], result) if jumped is None else terms.ite(taken[0], result, jumped)
    return _Lowered(query.lower(result), query.lower(a), query.lower(b))


def smt(program: OperandProgram, order: ByteOrder) -> Runner:
    """The prover's terms, simplified as the prover does, handed to z3, and z3's own evaluation of them."""
    query = Query(SimplifyingTerms(), [], [], 0)
    lowered = [_lowered(instance, order, query) for instance in program.instances]

    def run(a: int, b: int) -> Sequence[int]:
        x, y = z3.BitVecVal(a, 64, query.context), z3.BitVecVal(b, 64, query.context)
        return [instance.value(x, y) for instance in lowered]

    return run


def engine_results(instance: Instance, pairs: Sequence[tuple[int, int]], order: ByteOrder) -> list[int] | None:
    """The C++ engine on many pairs of operands at once; None where it has no form for the instance."""
    forms = [to_engine(insn, Symbols(())) for insn in instance.insns]
    if instance.row.kind not in (Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE) or any(form is None for form in forms):
        return None
    padded = [*pairs, *[pairs[-1]] * (-len(pairs) % LANES)]
    numbers = [(-2, False, 0)] * 11
    code = [form for form in forms if form is not None]
    session = _engine.Session(
        code, [], numbers, [], bytes(64), [], [], [(1 << 64) - 1] * 11, bytes(512), order == "big"
    )
    columns = [[0] * len(padded) for _ in range(11)]
    columns[2], columns[3] = [a for a, _ in padded], [b for _, b in padded]
    trouble = session.load(columns, [])
    if trouble:
        raise RuntimeError(f"the engine: {trouble}")
    return session.results()[0][4][: len(pairs)]

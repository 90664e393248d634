"""Random whole programs in every engine: one input, and what each makes of it."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import z3

from benchmarks.agreement.random_programs import ARRAY, FLOW_BYTES, HASH, KEYS, PACKET_BYTES, VALUE_BYTES
from benchmarks.agreement.stepper import Step, Stepper
from benchmarks.agreement.term_machine import TermMachine
from benchmarks.agreement.world import (
    CONTEXT,
    FRAMES,
    MAP_HELPERS,
    PACKET,
    STACK_TOP,
    ArenaMemory,
    MachineMemory,
    World,
)
from llvm_bridge.native import Arena, Native, Stop
from verifier_model.bpf.concrete import FRAME_BYTES, POISON, Machine, taken
from verifier_model.bpf.concrete import Stop as MachineStop
from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, Insn
from verifier_model.bpf.isa import LOAD_KINDS, Kind
from verifier_model.bpf.unit import Unit
from verifier_model.kernel.programs import LoadedObject
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.smt_algebra import Query
from verifier_model.prover.terms import Term, mask

Contents = dict[str, dict[bytes, bytes]]
_CONTEXT: Final = z3.Context()  # nothing is solved in it, so that runs may share it
_STACK_BOTTOM: Final = STACK_TOP - FRAMES * FRAME_BYTES


@dataclass(frozen=True, slots=True)
class Input:
    """A packet and what the maps hold."""

    packet: bytes
    maps: Mapping[str, Mapping[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Output:
    """r0 (32 bits, as TEST_RUN shows it), the packet and the maps afterwards."""

    result: int
    packet: bytes
    maps: Contents


class RunError(Exception):
    """An engine could not run a program to its exit."""


def random_input(rng: random.Random) -> Input:
    words = [
        rng.choice((0, 1, rng.getrandbits(8), rng.getrandbits(64), (1 << 64) - 1)) for _ in range(PACKET_BYTES // 8)
    ]
    keys = rng.sample(range(8), rng.randrange(4))
    return Input(
        struct.pack(f"<{len(words)}Q", *words),
        {
            ARRAY: {_key(at): rng.randbytes(VALUE_BYTES) for at in range(KEYS)},
            HASH: {_key(key): rng.randbytes(FLOW_BYTES) for key in keys},
        },
    )


def _key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _context() -> bytes:
    return struct.pack("<6I", PACKET, PACKET + PACKET_BYTES, PACKET, 1, 0, 0)


def on_kernel(loaded: LoadedObject, given: Input) -> Output:
    """The running kernel's JIT."""
    used = {name: map for name, map in loaded.maps.items() if name in given.maps}
    for name, map in used.items():
        if not map.is_array:
            map.clear()
        map.fill(given.maps[name].items())
    run = loaded.programs["f"].test_run(given.packet)
    if run.error:
        raise RunError(f"TEST_RUN says {run.error}")
    return Output(run.result, run.packet, {name: map.dump() for name, map in used.items()})


def on_native(compiled: Native, world: World, given: Input, arena: Arena) -> Output:
    """Compiled code; `arena` is reused between runs, every byte of it is set anew."""
    memory = ArenaMemory(arena)
    arena.clear()
    arena.map(CONTEXT, _context(), writable=False)
    arena.map(PACKET, given.packet)
    arena.map(_STACK_BOTTOM, bytes(FRAMES * FRAME_BYTES))
    _fill(world, memory, given)
    run = compiled.run(
        "f", arena, (CONTEXT,), STACK_TOP, FRAMES, calls=lambda call: world.call(memory, call.insn, call.registers)
    )
    if run.stop is not Stop.EXIT:
        raise RunError(f"native: {run}")
    return Output(run.result & 0xFFFFFFFF, arena.read(PACKET, PACKET_BYTES), _contents(world, memory, given))


def _fill(world: World, memory: ArenaMemory | MachineMemory, given: Input) -> None:
    for name, model in world.maps.items():
        model.fill(memory, given.maps[name])


def _contents(world: World, memory: ArenaMemory | MachineMemory, given: Input) -> Contents:
    return {name: model.contents(memory) for name, model in world.maps.items()}


class Beside:
    """The concrete machine's run, with terms beside it: every value as a function of the packet and the map values."""

    def __init__(self, unit: Unit, given: Input) -> None:
        self.world, self.given = World(unit, MAP_HELPERS), given
        self.machine = Machine([0] * REGISTER_COUNT, order=unit.byte_order)
        self.memory = MachineMemory(self.machine)
        self.machine.map_bytes(CONTEXT, _context())
        self.machine.map_bytes(PACKET, given.packet)
        self.machine.map_bytes(_STACK_BOTTOM, bytes(FRAMES * FRAME_BYTES))
        self.machine.registers[1], self.machine.registers[FRAME_POINTER] = CONTEXT, STACK_TOP
        self.machine.address = self.world.address
        self.machine.call = lambda machine, insn: self.world.call(self.memory, insn, machine.registers)
        _fill(self.world, self.memory, given)
        self.query = Query(SimplifyingTerms(), [], [], 0, _CONTEXT)
        terms = self.query.terms
        self.free: dict[Term, int] = {}  # variables and the numbers they had at the start
        self.terms = TermMachine(
            terms, [terms.const(64, value) for value in self.machine.registers], unit.byte_order, self._fresh
        )
        self.conditions: list[tuple[Term, bool]] = []
        self.stepper = Stepper(unit, "f", self.machine)
        self._called: Insn | None = None  # a call or an exit that the machine is about to run
        self._exited = False
        self._frames: list[list[Term]] = []
        self.steps = 0  # executed instructions

    def _fresh(self, address: int) -> Term:
        """The byte before the run: a variable in the packet, where the numbers come from, else what it is."""
        byte = self.machine.memory[address]
        if not PACKET <= address < PACKET + PACKET_BYTES:
            return self.query.terms.const(8, byte)
        name = self.query.terms.var(("byte", address), 8)
        self.free[name] = byte
        return name

    def run(self) -> Output:
        """What the concrete machine makes of the input.  Raises RunError."""
        for step in self.stepper.steps():
            self._term_step(step)
            self.steps += 1
        if self.stepper.stop is not MachineStop.EXIT:
            raise RunError(f"machine: {self.stepper.stop} {self.stepper.reason}")
        packet = bytes(self.machine.memory[PACKET + at] for at in range(PACKET_BYTES))
        return Output(self.machine.registers[0] & 0xFFFFFFFF, packet, _contents(self.world, self.memory, self.given))

    def _term_step(self, step: Step) -> None:
        """The same instruction on terms, before the machine runs it."""
        insn, machine, terms = step.insn, self.machine, self.terms
        self._after_call()
        base = machine.registers[insn.src if insn.kind in LOAD_KINDS else insn.dst]
        if insn.kind is Kind.BRANCH:
            # Pointers are numbers here, so whatever is compared is what the machine compares.
            self.conditions.append((terms.taken(insn), self._is_taken(insn)))
        elif insn.kind is Kind.CALL:
            self._called = insn
        elif insn.kind is Kind.EXIT:
            self._exited = True
        elif insn.kind is not Kind.JUMP:
            wide = machine.address(insn.ref) + insn.ref.addend if insn.ref is not None else 0
            terms.step(insn, base + insn.off & (1 << 64) - 1, wide)

    def _after_call(self) -> None:
        """What a call or a return left, taken over from the machine; the caller's own registers stay terms."""
        terms, registers = self.query.terms, self.machine.registers
        if self._called is not None:
            if self._called.row.name == "call_local":
                self._frames.append(self.terms.registers[6:])
                self.terms.registers[0] = terms.const(64, POISON)
                self.terms.registers[6:] = [terms.const(64, value) for value in registers[6:]]
            else:
                self.terms.registers[:6] = [terms.const(64, value) for value in registers[:6]]
                for address in self.memory.written:
                    self.terms.memory[address] = terms.const(8, self.machine.memory[address])
            self.memory.written.clear()
            self._called = None
        if self._exited:
            self.terms.registers[1:6] = [terms.const(64, POISON)] * 5
            self.terms.registers[6:] = self._frames.pop()
            self._exited = False

    def _is_taken(self, insn: Insn) -> bool:
        return taken(insn.row, self.machine.registers[insn.dst], self.machine.operand(insn))

    def solved(self) -> str:
        """Where z3's evaluation of the terms differs from the machine's run, "" when nowhere."""
        expected = [(f"branch {at} of the run", term, int(way)) for at, (term, way) in enumerate(self.conditions)]
        memory = sorted(self.terms.memory.items())
        expected += [(f"byte at {address:#x}", term, self.machine.memory[address]) for address, term in memory]
        expected.append(("r0", self.terms.registers[0], self.machine.registers[0]))
        wrong = [what for what, term, value in expected if term.constant not in (None, value)]
        open_terms = [(what, term, value) for what, term, value in expected if term.constant is None]
        return wrong[0] if wrong else self._evaluated(open_terms)

    def _evaluated(self, expected: list[tuple[str, Term, int]]) -> str:
        """All terms beside each other in one, so that z3 is asked once."""
        if not expected:
            return ""
        context = self.query.context
        pairs = [(self.query.lower(name), z3.BitVecVal(byte, 8, context)) for name, byte in self.free.items()]
        whole = z3.Concat(z3.BitVecVal(0, 1, context), *[self.query.lower(term) for _, term, _ in expected])
        number = int(z3.simplify(z3.substitute(whole, *pairs)).as_long())
        for what, term, value in reversed(expected):
            if number & mask(term.width) != value:
                return what
            number >>= term.width
        return ""

"""Concrete runs of windows from states that satisfy the entry facts, written without any part of the prover.

Private memory (stack frames, packet) holds bytes; the context too, and stores to it are seen; every other access is an
event that is seen and, for loads, answered from a script, as anybody may have changed shared memory meanwhile.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from verifier_model.bpf.concrete import Machine, Stop, run_insns
from verifier_model.bpf.insn import ByteOrder, Insn, Ref, RefKind
from verifier_model.contracts.helpers import HELPERS
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State
from verifier_model.verdict import Obligation

MASK: Final = (1 << 64) - 1
_REACH: Final = 0x9000  # bytes on both sides of a base that belong to it: more than any offset reaches
_FRAME, _CONTEXT, _PACKET, _OTHER = 0x10_0000, 0x40_0000, 0x80_0000, 0x1000_0000
_STEP: Final = 0x4_0000  # from one object of a kind to the next
_TRIES: Final = 40
_EDGES: Final = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, MASK, MASK - 1)


class NoStateError(Exception):
    """No number was found that a fact allows."""


def draw(scalar: Scalar, rng: random.Random) -> int:
    """A number that the scalar contains; raises NoStateError when none was found by trying."""
    for attempt in range(_TRIES):
        kind = rng.randrange(6)
        if kind == 0:
            value = rng.choice(_EDGES)
        elif kind == 1:
            value = rng.choice((scalar.umin, scalar.umax, scalar.smin & MASK, scalar.smax & MASK))
        elif kind == 2 and scalar.umin <= scalar.umax:
            value = rng.randint(scalar.umin, min(scalar.umax, scalar.umin + rng.choice((3, 300, MASK))))
        elif kind == 3 and scalar.smin <= scalar.smax:
            value = rng.randint(scalar.smin, scalar.smax) & MASK
        elif kind == 4 and scalar.u32min <= scalar.u32max:
            value = rng.getrandbits(64) & ~0xFFFFFFFF | rng.randint(scalar.u32min, scalar.u32max)
            if attempt % 2:
                value &= 0xFFFFFFFF
        else:
            value = rng.getrandbits(rng.choice((4, 16, 32, 64)))
        value = value & scalar.bits_mask | scalar.bits_value
        if scalar.contains(value):
            return value
    raise NoStateError(str(scalar))


@dataclass(slots=True)
class Watched(Machine):
    """A machine that shows what others can see.  `script` numbers the answers."""

    script: int = 0
    seen: list[tuple[object, ...]] = field(default_factory=list)
    private: dict[int, int] = field(default_factory=dict)  # what was written to stack, packet or context

    def byte(self, address: int) -> int:
        if address in self.private:
            return self.private[address]
        if address in self.memory:
            return self.memory[address]
        return _noise(self.script, address)

    def load(self, address: int, size: int) -> int:
        if _is_private(address) or _is_context(address):
            content = bytes(self.byte(address + at) for at in range(size))
            return int.from_bytes(content, self.order)
        self.seen.append(("load", address, size))
        return random.Random(f"{self.script} {len(self.seen)}").getrandbits(8 * size)

    def store(self, address: int, size: int, value: int) -> None:
        content = (value & (1 << 8 * size) - 1).to_bytes(size, self.order)
        if _is_private(address) or _is_context(address):
            self.private.update({address + at: byte for at, byte in enumerate(content)})
        if not _is_private(address):
            self.seen.append(("store", address, size, content))


def _noise(script: int, address: int) -> int:
    mixed = (address * 0x9E3779B97F4A7C15 + script * 0xBF58476D1CE4E5B9) & MASK
    return mixed >> 40 & 0xFF


def _is_private(address: int) -> bool:
    return _FRAME <= address < _CONTEXT or _PACKET <= address < _OTHER


def _is_context(address: int) -> bool:
    return _CONTEXT <= address < _PACKET


@dataclass
class Start:
    """One concrete state that satisfies an entry, drawn by number."""

    entry: State
    number: int
    order: ByteOrder
    registers: list[int] = field(default_factory=list)
    stack: dict[int, int] = field(default_factory=dict)
    _places: dict[tuple[object, ...], int] = field(default_factory=dict)
    _drawn: dict[tuple[object, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"start {self.number}")
        self.top = _FRAME + _REACH
        self.registers = [self._value(register) for register in self.entry.regs]
        self.registers[10] = self.top
        for up, stack in enumerate([self.entry.stack, *(frame.stack for frame in self.entry.callers)]):
            for off, slot in sorted(stack.items()):
                place = self._frame(up) + off
                if slot.spill is not None and not slot.is_owned:
                    spilled = slot.spill
                    content = self._value(spilled, up).to_bytes(8, self.order)
                    self.stack.update({place + at: byte for at, byte in enumerate(content)})
                else:
                    self.stack.update({place + at: 0 for at, mark in enumerate(slot.marks) if mark == "0"})

    def _frame(self, up: int) -> int:
        return self.top + up * _STEP

    def _value(self, register: Register, up: int = 0) -> int:
        region = register.region
        if register.exact is not None:
            return address_of(register.exact) + register.exact.addend & MASK
        if region is Region.SCALAR:
            return self._shared(("number", register.id), register) if register.id else draw(register.value, self.rng)
        if region in (Region.UNINIT, Region.UNKNOWN, Region.OWNED):
            return self.rng.getrandbits(64)
        if register.nullable:
            key = ("null", region, register.symbol, register.id, register.base)
            if self._drawn.setdefault(key, self.rng.randrange(2)):
                return 0
        key = ("pointer", region, register.symbol, register.id, register.frame + up)
        variable = self._shared(key, register) if register.id else draw(register.value, self.rng)
        return self._base(register, up) + variable + register.off & MASK

    def _shared(self, key: tuple[object, ...], register: Register) -> int:
        """One number for all registers of an id; facts of all of them were joined into each."""
        if key not in self._drawn:
            self._drawn[key] = draw(register.value, self.rng)
        if not register.value.contains(self._drawn[key]):
            raise NoStateError(str(register))
        return self._drawn[key]

    def _base(self, register: Register, up: int) -> int:
        region = register.region
        if region is Region.STACK:
            return self._frame(register.frame + up)
        if region is Region.CTX:
            return _CONTEXT + _REACH
        if region is Region.DATA and register.symbol:
            return address_of(Ref(RefKind.DATA, register.symbol))
        key = (region, register.symbol, register.base or register.id)
        if key not in self._places:
            area = _PACKET if region in (Region.PACKET, Region.PACKET_META, Region.PACKET_END) else _OTHER
            others = [place for (kind, *_), place in self._places.items() if kind is region]
            if others and self.number % 2:  # odd states put objects of one kind onto or beside each other
                self._places[key] = others[0] + self.rng.choice((0, 0, 1, 4, 8, -3))
            else:
                self._places[key] = area + _REACH + _STEP * (1 + len(self._places))
        return self._places[key]


def observed(question: Obligation, insns: tuple[Insn, ...], number: int) -> object:
    """What start state `number` shows of a run: events, demanded registers and stack bytes, memory, way out.

    None where the machine has no meaning for an instruction.  Raises NoStateError where no state was found.
    """
    start = Start(question.entry, number, question.unit.byte_order)
    machine = Watched(list(start.registers), dict(start.stack), question.unit.byte_order, script=number)
    machine.call = _call
    machine.address = address_of
    outcome = run_insns(insns, machine)
    if outcome.stop not in (Stop.END, Stop.JUMP, Stop.EXIT):
        return None
    demand = list(question.demand.regs)
    if outcome.stop is Stop.EXIT:
        demand = [0] * 11
        if not question.function.returns_void:
            demand[0] = MASK
    frame = range(start.top - 512, start.top)
    wanted = set() if outcome.stop is Stop.EXIT else {start.top + off for off in question.demand.stack}
    others = sorted(place for place in machine.private if place not in frame)
    # A byte that one run wrote and the other left alone may still be equal.
    places = tuple((place, machine.byte(place)) for place in others if machine.byte(place) != _before(start, place))
    return (
        tuple(machine.seen),
        tuple(value & bits for value, bits in zip(machine.registers, demand, strict=True)),
        tuple(machine.byte(place) for place in sorted(wanted)),
        places,
        (outcome.stop, outcome.label),
    )


def _before(start: Start, place: int) -> int:
    return start.stack.get(place, _noise(start.number, place))


def _call(machine: Machine, insn: Insn) -> int:
    """An event with the arguments that the callee takes; what it leaves is scripted or garbage."""
    assert isinstance(machine, Watched)
    helper = HELPERS.get(insn.imm) if insn.ref is None and insn.row.name == "call_helper" else None
    count = len(helper.arguments) if helper is not None else 5
    arguments = tuple(machine.registers[1 : 1 + count])
    machine.seen.append(("call", insn.row.name, insn.imm, insn.ref, arguments))
    return random.Random(f"{machine.script} {len(machine.seen)}").getrandbits(64)


def address_of(ref: Ref) -> int:
    """Symbols lie somewhere in shared memory, each at its own place."""
    kinds = list(RefKind)
    name = int.from_bytes(ref.name.encode(), "little") % 4093
    return _OTHER + 0x1000_0000 * (1 + kinds.index(ref.kind)) + 0x1_0000 * name


def distinguishing_state(question: Obligation, states: range) -> tuple[int | None, int]:
    """(the first state in which `after` does not show what `before` shows, how many states were compared)."""
    compared = 0
    for number in states:
        try:
            one = observed(question, question.before, number)
            other = observed(question, question.after, number)
        except NoStateError:
            continue
        if one is None or other is None:
            continue
        compared += 1
        if one != other:
            return number, compared
    return None, compared

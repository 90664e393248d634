"""Concrete initial states for a window, drawn from its facts: what the engine runs every candidate on.

A test that the facts rule out would only cost gains, one that they allow and that is missing only costs a question to
the prover, so nothing here needs trust.  Everything is drawn from one seeded sequence of integers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from synth.sampling import Infeasible, Numbers, sample
from synth.window import SearchWindow, writes
from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, Ref, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import SLOT_SIZE, STACK_BYTES
from verifier_model.verdict import Counterexample

Place = tuple[Hashable, ...]
STACK: Final[Place] = ("stack",)
PACKET: Final[Place] = ("packet",)
PACKET_END: Final[Place] = ("packet end",)
MASK64: Final = (1 << 64) - 1
_MOST_PACKET: Final = 1024  # bytes of packet that a test holds
_MOST_VARIABLE: Final = 192  # largest variable part of a packet pointer that is drawn when the facts leave room


def place_of(fact: Register, where: Hashable) -> Place:
    """The memory object that a pointer leads to; `where` tells apart what the facts do not connect."""
    if fact.region is Region.STACK and fact.frame == 0:
        return STACK
    if fact.region is Region.PACKET:
        return PACKET
    if fact.region is Region.PACKET_END:
        return PACKET_END
    if fact.region in (Region.CTX, Region.PACKET_META):
        return (fact.region.value,)
    if fact.region is Region.DATA and fact.symbol:
        return (fact.region.value, fact.symbol)
    identity = ("base", fact.base) if fact.base else ("id", fact.id) if fact.id else ("at", where)
    return fact.region.value, fact.symbol, fact.frame, fact.nullable, identity


def symbol_fact(ref: Ref | None) -> Register:
    """What a wide load of a symbol gives."""
    if ref is not None and ref.kind is RefKind.DATA:
        return Register(Region.DATA, off=ref.addend, symbol=ref.name)
    region = Region.FUNCTION if ref is not None and ref.kind is RefKind.FUNCTION else Region.MAP
    return Register(region, symbol="" if ref is None else ref.name)


@dataclass
class TestCase:
    """One initial state: `bases` gives each place's address, `images` the bytes of private places."""

    registers: list[int]
    bases: dict[Place, int]
    images: dict[Place, bytes]
    limits: dict[Place, int]
    loaded: list[int]  # per instruction: what it loads from shared memory
    symbols: list[int]


def compared(window: SearchWindow) -> tuple[int, ...]:
    """Numbers at which the ways of a window with branches part; none without branches."""
    if not window.targets:
        return ()
    found: dict[int, None] = {}
    for insn in window.insns:
        if "imm" not in insn.row.uses or (insn.ref is not None and insn.kind is not Kind.BRANCH):
            continue
        if insn.kind is Kind.BRANCH:
            found.update(dict.fromkeys((insn.imm, insn.imm + 1, insn.imm - 1)))
        elif insn.kind is Kind.ALU:
            found[insn.imm] = None
    return tuple(number & MASK64 for number in found)


@dataclass
class _Draw:
    """The making of one test: what has been decided so far.  With `is_near` the packet may be short."""

    numbers: Numbers
    profile: int
    is_near: bool = False
    chosen: dict[Hashable, int] = field(default_factory=dict)
    bases: dict[Place, int] = field(default_factory=dict)
    packet_extent: int = 0

    def value(self, fact: Register, where: Hashable) -> int:
        if fact.is_scalar:
            return self._number(fact, ("scalar", fact.id) if fact.id else ("at", where))
        if not fact.is_pointer:
            return self.numbers.corner() if self.numbers.below(3) == 0 else self.numbers.next()
        place = place_of(fact, where)
        if fact.nullable and self._once(("null", place), lambda: self.numbers.below(4)) == 0:
            return 0
        return (self.base(place) + self._variable(fact, where) + fact.off) & MASK64

    def base(self, place: Place) -> int:
        if place not in self.bases:
            self.bases[place] = self._address(place)
        return self.bases[place]

    def _address(self, place: Place) -> int:
        if place == PACKET_END:
            room = (1500, 8, 1500, 64)[self.profile % 4] if self.is_near else 1500
            return self.base(PACKET) + self.packet_extent + self.numbers.below(room)
        start = 0xFFFF_8880_0000_0000 + (len(self.bases) << 34)
        scattered = start + 4096 + (self.numbers.below(1 << 20) << 3)
        # Packets start where the driver left room: not at a multiple of eight.
        return scattered + (2 * self.numbers.below(4) if place == PACKET else STACK_BYTES if place == STACK else 0)

    def _once(self, key: Hashable, draw: object) -> int:
        if key not in self.chosen:
            assert callable(draw)
            self.chosen[key] = draw()
        return self.chosen[key]

    def _number(self, fact: Register, key: Hashable) -> int:
        return self._once(key, lambda: sample(fact.value, self.numbers, self.profile))

    def _variable(self, fact: Register, where: Hashable) -> int:
        constant = fact.value.constant
        if constant is None:
            key = (fact.region, fact.symbol, fact.frame, fact.id) if fact.id else ("variable", where)
            most = _MOST_VARIABLE if fact.region is Region.PACKET else None
            constant = self._once(key, lambda: sample(fact.value, self.numbers, self.profile, most))
        if fact.region is Region.PACKET:
            self.packet_extent = max(self.packet_extent, constant + fact.packet_range)
        return constant


def draw_case(window: SearchWindow, symbols: Sequence[Ref | None], numbers: Numbers, profile: int) -> TestCase:
    """One test; `profile` (0, 1, 2, ...) steers the first ones to the extremes.  Raises Infeasible."""
    draw = _Draw(numbers, profile, bool(window.targets))
    facts = list(window.entry.regs)
    registers = [0] * REGISTER_COUNT
    ends = [reg for reg, fact in enumerate(facts) if fact.region is Region.PACKET_END]
    # The packet's end comes last: it lies behind everything that is known to be readable.
    for reg in range(REGISTER_COUNT):
        if reg not in ends:
            registers[reg] = draw.value(facts[reg], ("register", reg))
    stack = bytearray(numbers.bytes(STACK_BYTES, profile))
    for off, slot in sorted(window.entry.stack.items()):
        at = STACK_BYTES + off
        for index, mark in enumerate(slot.marks):
            if mark == "0":
                stack[at + index] = 0
        if slot.spill is not None:
            content = draw.value(slot.spill, ("slot", off))
            stack[at : at + SLOT_SIZE] = content.to_bytes(SLOT_SIZE, window.byte_order)
    loaded = [0 if fact is None else draw.value(fact, ("event", at)) for at, fact in enumerate(window.results)]
    for reg in ends:
        registers[reg] = draw.value(facts[reg], ("register", reg))
    values = [draw.value(symbol_fact(ref), ("symbol", at)) for at, ref in enumerate(symbols)]
    frame = draw.base(STACK)
    registers[FRAME_POINTER] = frame
    draw.bases[STACK] = frame - STACK_BYTES
    if draw.packet_extent > _MOST_PACKET:
        raise Infeasible("the packet is too long for a test")
    images: dict[Place, bytes] = {STACK: bytes(stack)}
    limits: dict[Place, int] = {STACK: STACK_BYTES}
    if PACKET in draw.bases:
        images[PACKET] = numbers.bytes(_MOST_PACKET, profile)
        limits[PACKET] = draw.packet_extent
        if window.targets and PACKET_END in draw.bases:
            limits[PACKET] = min(draw.bases[PACKET_END] - draw.bases[PACKET], _MOST_PACKET)
    if numbers.likely:
        _plant(window, numbers, images)
    return TestCase(registers, draw.bases, images, limits, loaded, values)


def _plant(window: SearchWindow, numbers: Numbers, images: dict[Place, bytes]) -> None:
    """Puts numbers that the window compares with where it loads from, in about half of the cases."""
    written: set[int] = set()
    for insn in window.insns:
        reg = writes(insn)
        if insn.kind is Kind.LOAD and insn.src not in written and numbers.below(2):
            fact = window.entry.regs[insn.src]
            place, constant = place_of(fact, ("register", insn.src)), fact.constant_off
            at = (constant or 0) + insn.off + (STACK_BYTES if place == STACK else 0)
            if constant is not None and place in images and 0 <= at <= len(images[place]) - insn.row.size:
                number = numbers.likely[numbers.below(len(numbers.likely))]
                image = bytearray(images[place])
                low = number & ((1 << insn.row.width) - 1)
                image[at : at + insn.row.size] = low.to_bytes(insn.row.size, window.byte_order)
                images[place] = bytes(image)
        if reg is not None:
            written.add(reg)


def case_from(window: SearchWindow, drawn: TestCase, counterexample: Counterexample) -> TestCase:
    """The prover's state as a test; what it does not speak of comes from the test `drawn`."""
    memory = dict(counterexample.memory)
    registers = list(drawn.registers)
    for reg, fact in enumerate(window.entry.regs):
        if fact.region is not Region.UNINIT:
            registers[reg] = counterexample.registers[reg] & MASK64
    bases = dict(drawn.bases)
    bases[STACK] = (registers[FRAME_POINTER] - STACK_BYTES) & MASK64
    found: dict[Place, list[tuple[bool, int]]] = {}
    for reg, fact in enumerate(window.entry.regs):
        if fact.is_pointer and fact.region is not Region.STACK:
            constant = fact.value.constant
            at = registers[reg] - fact.off - (constant or 0)
            found.setdefault(place_of(fact, ("register", reg)), []).append((constant is not None, at & MASK64))
    for place, ways in found.items():
        exact = [at for is_exact, at in ways if is_exact]
        bases[place] = exact[0] if exact else min(at for _, at in ways)
    images = {}
    for place, image in drawn.images.items():
        base = bases[place]
        images[place] = bytes(memory.get((base + at) & MASK64, 0) for at in range(len(image)))
    limits = {place: len(image) for place, image in images.items()}
    ends = [registers[reg] for reg, fact in enumerate(window.entry.regs) if fact.region is Region.PACKET_END]
    if window.targets and ends and PACKET in limits:
        limits[PACKET] = max(0, min(ends[0] - bases[PACKET], limits[PACKET]))
    return TestCase(registers, bases, images, limits, list(drawn.loaded), list(drawn.symbols))

"""Random straight windows with memory in the C++ engine, held to the concrete machine."""

from __future__ import annotations

import random
from typing import Final

from synth.engine_link import ENGINE_ROWS
from synth.search import WindowSearch
from synth.testcases import PACKET, STACK
from synth.window import SearchWindow, writes
from verifier_model.bpf.concrete import Machine, Stop, run_insns
from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.bpf.insn import ByteOrder, Insn
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State

_NUMBERS: Final = 6  # r0 to r5 hold numbers, r6 the packet
_AREA: Final = 64  # bytes of the stack and of the packet that may be accessed
_STACK: Final = {off: StackSlot("mmmmmmmm") for off in range(-512, 0, 8)}
_FACTS: Final = (
    *(Register.scalar(Scalar.top()) for _ in range(_NUMBERS)),
    Register(Region.PACKET, Scalar.const(0), packet_range=_AREA),
    *(Register.uninit() for _ in range(3)),
    Register(Region.STACK, Scalar.const(0)),
)
_ROWS: Final = [row for row in ENGINE_ROWS if row.name != "mov64_reg" and row.fixed_src in (None, 0)]


def _insn(rng: random.Random) -> Insn:
    row = rng.choice(_ROWS)
    number, other = rng.randrange(_NUMBERS), rng.randrange(_NUMBERS)
    if row.kind is Kind.LOAD_WIDE:
        return Insn(row, number, imm=rng.getrandbits(64))
    if row.is_memory_access:
        base = rng.choice((6, 10))
        at = rng.randrange(_AREA // row.size) * row.size - (_AREA if base == 10 else 0)
        if row.kind is Kind.LOAD:
            return Insn(row, number, base, at)
        is_register = row.operand is Operand.REG
        return Insn(
            row, base, other if is_register else 0, at, 0 if is_register else rng.randrange(-(1 << 31), 1 << 31)
        )
    imm = 0
    if row.operand is Operand.IMM:
        imm = rng.randrange(row.width) if row.op in ("lsh", "rsh", "arsh") else rng.randrange(-(1 << 31), 1 << 31) or 1
    return Insn(row, number, other if row.operand is Operand.REG else 0, imm=imm)


def window_trouble(rng: random.Random, size: int = 10) -> str:
    """Where the engine's run of a random window differs from the machine's, "" when nowhere."""
    order: ByteOrder = rng.choice(("little", "big"))
    insns = tuple(_insn(rng) for _ in range(size))
    demand = Demand((ALL_BITS,) * 11, frozenset(range(-512, 0)))
    window = SearchWindow(insns, State(_FACTS, _STACK), (None,) * size, demand, (), 4, order)
    search = WindowSearch(window, rng.getrandbits(32))
    registers, regions = search.session.results()
    places = list(search.places.index)
    for lane, case in enumerate(search.cases):
        machine = Machine(list(case.registers), order=order)
        areas = [place for place in (STACK, PACKET) if place in case.images]
        for place in areas:
            machine.map_bytes(case.bases[place], case.images[place][: case.limits[place]])
        outcome = run_insns(insns, machine)
        if outcome.stop is not Stop.END:
            return f"the machine stops: {outcome}"
        for register in (*range(_NUMBERS), 6, 10):
            fact = search.window.entry.regs[register]
            is_set = fact.region is not Region.UNINIT or any(writes(insn) == register for insn in insns)
            if is_set and registers[register][lane] != machine.registers[register]:
                return f"r{register} in test {lane} of {insns}"
        for place in areas:
            if place not in places:
                continue
            content = regions[places.index(place)]
            length = len(content) // len(search.cases)
            wanted = bytes(machine.memory[case.bases[place] + at] for at in range(case.limits[place]))
            if content[lane * length : lane * length + len(wanted)] != wanted:
                return f"memory in test {lane} of {insns}"
    return ""

"""Windows by hand, and what the concrete machine says of them."""

from __future__ import annotations

from collections.abc import Mapping

from synth.search import WindowSearch
from synth.testcases import PACKET, STACK, TestCase
from synth.window import SearchWindow, writes
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.concrete import Machine, Stop, run_insns
from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.bpf.insn import ByteOrder, Insn
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State

NUMBER = Register.scalar(Scalar.top())
PACKET_64 = Register(Region.PACKET, Scalar.const(0), packet_range=64)
MAP_VALUE = Register(Region.MAP_VALUE, Scalar.const(0), id=7, base=7, size=64)
FRAME = Register(Region.STACK, Scalar.const(0))
CONTEXT = Register(Region.CTX, Scalar.const(0))


def window(
    code: str | tuple[Insn, ...],
    regs: Mapping[int, Register],
    live: Mapping[int, int] | tuple[int, ...] = (),
    stack: Mapping[int, StackSlot] | None = None,
    live_stack: range | tuple[int, ...] = (),
    level: int = 4,
    results: Mapping[int, Register] | None = None,
    order: ByteOrder = "little",
) -> SearchWindow:
    """A window whose registers hold `regs`, others nothing, and after which `live` (masks or registers) is wanted."""
    insns = parse_insns(code) if isinstance(code, str) else code
    facts = [regs.get(reg, Register.uninit()) for reg in range(10)] + [FRAME]
    masks = live if isinstance(live, Mapping) else dict.fromkeys(live, ALL_BITS)
    demand = Demand(tuple(masks.get(reg, 0) for reg in range(11)), frozenset(live_stack))
    written = dict.fromkeys(reg for insn in insns if (reg := writes(insn)) is not None)
    scratch = tuple(reg for reg in [*written, 0, 1, 2, 3, 4, 5] if not masks.get(reg, 0))
    loaded = tuple((results or {}).get(at) for at in range(len(insns)))
    return SearchWindow(insns, State(tuple(facts), stack or {}), loaded, demand, scratch[:3], level, order)


def machine_of(case: TestCase, order: ByteOrder) -> Machine:
    """The machine in the state of a test."""
    machine = Machine(list(case.registers), order=order)
    for place in (STACK, PACKET):
        if place in case.images:
            machine.map_bytes(case.bases[place], case.images[place][: case.limits[place]])
    return machine


def disagreements(search: WindowSearch) -> list[str]:
    """Where the engine's run of the window itself differs from the concrete machine's, test by test."""
    columns, regions = search.session.results()
    found = []
    places = list(search.places.index)
    for lane, case in enumerate(search.cases):
        machine = machine_of(case, search.window.byte_order)
        outcome = run_insns(search.window.insns, machine)
        if outcome.stop is not Stop.END:
            found.append(f"test {lane}: the machine stops: {outcome}")
            continue
        for reg, fact in enumerate(search.window.entry.regs):
            is_set = fact.region is not Region.UNINIT or any(writes(insn) == reg for insn in search.window.insns)
            if is_set and columns[reg][lane] != machine.registers[reg]:
                found.append(f"test {lane}: r{reg} is {columns[reg][lane]:#x}, not {machine.registers[reg]:#x}")
        for place in (STACK, PACKET):
            if place not in places:
                continue
            contents = regions[places.index(place)]
            size = len(contents) // len(search.cases)
            image = contents[lane * size : (lane + 1) * size]
            wanted = bytes(machine.memory[case.bases[place] + at] for at in range(case.limits[place]))
            if image[: len(wanted)] != wanted:
                found.append(f"test {lane}: {place} differs")
    return found

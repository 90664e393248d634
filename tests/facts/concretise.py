"""Does an abstract state describe a concrete one?  The layout of memory that the tests run programs in."""

from __future__ import annotations

from collections.abc import Iterator

from verifier_model.bpf.concrete import Machine
from verifier_model.checker.memory import move_frames
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import State

CONTEXT, PACKET, STACK_TOP, VALUES = 0x1000, 0x20000, 0x9000, 0x40000
VALUE_STRIDE = 0x1000
MASK = (1 << 64) - 1


def mismatches(
    state: State, machine: Machine, packet_length: int, values: int, tops: tuple[int, ...] = (STACK_TOP,)
) -> Iterator[str]:
    """Every claim of `state` that the machine belies; `values` map values of the layout exist.

    `tops`: the r10 of the running function and of its callers, innermost first.
    """
    scalars: dict[int, int] = {}
    pointers: dict[tuple[Region, int], int] = {}
    held = [(f"r{reg}", register, machine.registers[reg]) for reg, register in enumerate(state.regs)]
    stacks = [state.stack, *(frame.stack for frame in state.callers)]
    for up, stack in enumerate(stacks):
        for off, slot in stack.items():
            place = tops[up] + off
            if slot.spill is not None:
                held.append((f"fp{off} of frame {up}", move_frames(slot.spill, up), machine.load(place, 8)))
            for at, mark in enumerate(slot.marks):
                if mark == "0" and machine.load(place + at, 1):
                    yield f"byte fp{off + at} of frame {up} is not zero"
    for name, register, value in held:
        yield from _wrong(name, register, value, packet_length, values, tops)
        if register.id and register.is_scalar and scalars.setdefault(register.id, value) != value:
            yield f"{name} differs from another of id {register.id}"
        if register.id and register.is_pointer and not register.nullable:
            base = value - register.off & MASK
            if pointers.setdefault((register.region, register.id), base) != base:
                yield f"{name} has another base than others of id {register.id}"


def _wrong(
    name: str, register: Register, value: int, packet_length: int, values: int, tops: tuple[int, ...]
) -> Iterator[str]:
    region = register.region
    if region is Region.STACK and not 0 <= register.frame < len(tops):
        return  # into a frame that is gone
    if region is Region.SCALAR:
        if not register.value.contains(value):
            yield f"{name} = {value:#x} is not in {register.value}"
    elif region in (Region.CTX, Region.PACKET, Region.STACK, Region.PACKET_END):
        base = {
            Region.CTX: CONTEXT,
            Region.PACKET: PACKET,
            Region.STACK: tops[register.frame] if region is Region.STACK else 0,
            Region.PACKET_END: PACKET + packet_length,
        }[region]
        variable = value - base - register.off & MASK
        if not register.value.contains(variable):
            yield f"{name} = {value:#x} is not {region.value} + {register.off} + {register.value}"
        signed = variable - (1 << 64) if variable >> 63 else variable
        if region is Region.PACKET and register.packet_range and signed + register.packet_range > packet_length:
            yield f"{name}: {register.packet_range} bytes from {signed} leave the packet of {packet_length}"
    elif region is Region.MAP_VALUE:
        if register.nullable and value == 0:
            return
        bases = (VALUES + at * VALUE_STRIDE for at in range(values))
        if not any(register.value.contains(value - base - register.off & MASK) for base in bases):
            yield f"{name} = {value:#x} is no map value"

"""Does an abstract state describe a concrete one?  Every claim that a run can belie, compared with where things lie."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from verifier_model.bpf.insn import Ref
from verifier_model.checker.memory import move_frames
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import State

MASK: Final = (1 << 64) - 1
_TRIES: Final = 64  # bases on each side of a pointer that it may belong to


@dataclass(frozen=True, slots=True)
class Seen:
    """A moment of a run.

    `tops`: r10 of the running function and of its callers, innermost first.  `load` reads stack bytes (address, size).
    `packet`, `packet_end`, `packet_meta` are where they lie now.  `bases(region, symbol)` gives every address, sorted,
    at which an object of the region was ever placed; an empty symbol stands for any.  `address` places a symbol.
    """

    registers: Sequence[int]
    tops: Sequence[int]
    load: Callable[[int, int], int]
    context: int
    packet: int
    packet_end: int
    packet_meta: int
    bases: Callable[[Region, str], Sequence[int]]
    address: Callable[[Ref], int | None]


def contradictions(state: State, seen: Seen) -> Iterator[str]:
    """Every claim of `state` that the moment belies, in words."""
    held = [(f"r{number}", register, seen.registers[number]) for number, register in enumerate(state.regs)]
    stacks = [state.stack, *(frame.stack for frame in state.callers)]
    for up, stack in enumerate(stacks[: len(seen.tops)]):
        for off, slot in stack.items():
            place = seen.tops[up] + off
            if slot.spill is not None:
                held.append((f"fp{off} of frame {up}", move_frames(slot.spill, up), seen.load(place, 8)))
            elif "0" in slot.marks:
                for at, mark in enumerate(slot.marks):
                    if mark == "0" and seen.load(place + at, 1):
                        yield f"byte fp{off + at} of frame {up} is not zero"
    for name, register, value in held:
        wrong = _wrong(register, value, seen)
        if wrong:
            yield f"{name} = {value:#x} {wrong}"
    yield from _identities(held)


def _identities(held: Sequence[tuple[str, Register, int]]) -> Iterator[str]:
    """Equal ids: equal numbers, or equal bases and variable parts."""
    numbers: dict[int, int] = {}
    pointers: dict[tuple[Region, str, int], int] = {}
    for name, register, value in held:
        if not register.id:
            continue
        if register.is_scalar:
            if numbers.setdefault(register.id, value) != value:
                yield f"{name} differs from another of id {register.id}"
        elif register.is_pointer and not register.nullable:
            base = value - register.off & MASK
            if pointers.setdefault((register.region, register.symbol, register.id), base) != base:
                yield f"{name} has another base than others of id {register.id}"


def _wrong(register: Register, value: int, seen: Seen) -> str:
    check = _CHECKS.get(register.region)
    if check is None or (register.nullable and value == 0):
        return ""
    return check(register, value, seen)


def _number(register: Register, value: int, seen: Seen) -> str:
    return "" if register.value.contains(value) else f"is not in {register.value}"


def _from(base: int, register: Register, value: int) -> str:
    if register.value.contains(value - base - register.off & MASK):
        return ""
    return f"is not {register.region.value} at {base:#x} + {register.off} + {register.value}"


def _context(register: Register, value: int, seen: Seen) -> str:
    return _from(seen.context, register, value)


def _packet(register: Register, value: int, seen: Seen) -> str:
    is_meta = register.region is Region.PACKET_META
    base = seen.packet_meta if is_meta else seen.packet
    variable = value - base - register.off & MASK
    signed = variable - (1 << 64) if variable >> 63 else variable
    # What is compared is readable up to where the next part begins: the packet's end, or for metadata the packet.
    room = (seen.packet if is_meta else seen.packet_end) - base
    if register.packet_range and signed + register.packet_range > room:
        return f"promises {register.packet_range} bytes from {signed}, and there are {room}"
    return _from(base, register, value)


def _packet_end(register: Register, value: int, seen: Seen) -> str:
    return _from(seen.packet_end, register, value)


def _stack(register: Register, value: int, seen: Seen) -> str:
    if not 0 <= register.frame < len(seen.tops):
        return ""  # into a frame that is gone
    return _from(seen.tops[register.frame], register, value)


def _object(register: Register, value: int, seen: Seen) -> str:
    """A pointer into one of several objects: any of them will do, and those nearby are tried."""
    bases = seen.bases(register.region, register.symbol)
    if not bases:
        return f"points into {register.region.value} {register.symbol}, of which there is nothing"
    constant = register.value.constant
    if constant is not None:
        wanted = value - register.off - constant & MASK
        at = bisect_right(bases, wanted)
        return (
            ""
            if at and bases[at - 1] == wanted
            else f"is no {register.region.value} {register.symbol} + {register.off}"
        )
    near = bisect_right(bases, value - register.off)
    for base in bases[max(near - _TRIES, 0) : near + _TRIES]:
        if register.value.contains(value - base - register.off & MASK):
            return ""
    return f"is no {register.region.value} {register.symbol} + {register.off} + {register.value}"


def _symbol(register: Register, value: int, seen: Seen) -> str:
    if register.exact is None:
        return ""
    address = seen.address(register.exact)
    if address is None or value == address + register.exact.addend & MASK:
        return ""
    return f"is not the address of {register.exact.name} + {register.exact.addend}"


def _data(register: Register, value: int, seen: Seen) -> str:
    return _symbol(register, value, seen) or _object(register, value, seen)


_CHECKS: Final[Mapping[Region, Callable[[Register, int, Seen], str]]] = {
    Region.SCALAR: _number,
    Region.CTX: _context,
    Region.STACK: _stack,
    Region.PACKET: _packet,
    Region.PACKET_META: _packet,
    Region.PACKET_END: _packet_end,
    Region.MAP_VALUE: _object,
    Region.MEMORY: _object,
    Region.DATA: _data,
    Region.MAP: _symbol,
    Region.FUNCTION: _symbol,
}

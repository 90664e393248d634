"""Where a pass finds a wanted value: registers that hold it, memory that still holds it, constants that spell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from synth.passes.block_view import BlockView, Line
from synth.passes.bytewise import FIRST_NAME, Value
from synth.passes.names import Address
from synth.passes.operands import base_register
from verifier_model.bpf.insn import REGISTER_COUNT, Insn, make
from verifier_model.domains.registers import Region

Wanted = Sequence[int | None]  # bytes, lowest first; None: any byte will do
LETTERS: Final = {1: "b", 2: "h", 4: "w", 8: "dw"}
_OFFSETS: Final = range(-(1 << 15), 1 << 15)
INT32: Final = range(-(1 << 31), 1 << 31)


def matches(wanted: Wanted, offered: Sequence[int]) -> bool:
    return all(want is None or want == offer for want, offer in zip(wanted, offered, strict=False))


def as_immediate(wanted: Wanted) -> int | None:
    """A number in the signed 32-bit range whose sign extension spells the wanted bytes, or None."""
    if any(byte is not None and byte >= FIRST_NAME for byte in wanted):
        return None
    low = [byte or 0 for byte in wanted[:4]]
    number = int.from_bytes(bytes(low), "little")
    if len(wanted) < 4:
        return number
    if wanted[3] is None and any(byte for byte in wanted[4:]):
        number |= 0xFF000000
    number = (number ^ 1 << 31) - (1 << 31)
    spelled = (number & (1 << 64) - 1).to_bytes(8, "little")
    return number if matches(wanted, spelled) else None


def registers_with(view: BlockView, index: int, wanted: Wanted) -> Iterator[int]:
    """Registers whose content before `index` has the wanted bytes."""
    for reg in range(REGISTER_COUNT):
        if matches(wanted, view.value(index, reg)):
            yield reg


def base_for(view: BlockView, index: int, address: Address, preferred: int = 10) -> tuple[int, int] | None:
    """(register, displacement) that reaches an address before `index`; the preferred first, then the lowest."""
    for reg in (10, preferred, *range(REGISTER_COUNT - 1)):
        here = view.symbols.address(index, reg)
        if here.root == address.root and address.off - here.off in _OFFSETS:
            return reg, address.off - here.off
    return None


def loadable(view: BlockView, index: int, wanted: Wanted) -> Iterator[Address]:
    """Private places whose bytes before `index` are the wanted ones, lowest address first in the machine's order."""
    bytes_ = list(wanted) if view.unit.byte_order == "little" else list(wanted)[::-1]
    first = next((k for k, byte in enumerate(bytes_) if byte is not None and byte >= FIRST_NAME), None)
    if first is None:
        return
    memory = view.symbols.before[index].memory
    for place, byte in memory.items():
        if byte != bytes_[first]:
            continue
        start = place.plus(-first)
        if all(want is None or memory.get(start.plus(k)) == want for k, want in enumerate(bytes_)):
            yield start


def is_readable(view: BlockView, index: int, address: Address, size: int) -> bool:
    """Is an access of `size` bytes fine for alignment, and every byte known to be there?"""
    if address.root.region is Region.STACK:
        if address.off % size or not view.is_own_frame(address) or address.off + size > 0:
            return False
    elif address.root.region not in (Region.PACKET, Region.PACKET_META):
        return False
    memory = view.symbols.before[index].memory
    return all(address.plus(k) in memory or _is_within(view, index, address.plus(k)) for k in range(size))


def _is_within(view: BlockView, index: int, place: Address) -> bool:
    """Has a comparison with the packet's end shown that the byte is there?"""
    if place.root.region is not Region.PACKET:
        return False
    state = view.facts.before(view.point(index))
    for reg in range(REGISTER_COUNT):
        here = view.symbols.address(index, reg)
        fact = state.regs[reg]
        if here.root == place.root and fact.region is Region.PACKET:
            # packet_range counts from the base and variable part, off included on both sides
            start = here.off - fact.off
            if start <= place.off < start + fact.packet_range:
                return True
    return False


def load_line(view: BlockView, index: int, dst: int, address: Address, size: int) -> Line | None:
    base = base_for(view, index, address)
    if base is None:
        return None
    return Line(make(f"ldx_{LETTERS[size]}", dst=dst, src=base[0], off=base[1]), None, address)


def same_width_store(insn: Insn, imm: int) -> Insn:
    return make(f"st_{LETTERS[insn.row.size]}", dst=insn.dst, off=insn.off, imm=imm)


def value_line(dst: int, value: Value) -> Line | None:
    """One instruction that puts a constant into a register."""
    imm = as_immediate(value)
    return None if imm is None else Line(make("mov64_imm", dst=dst, imm=imm), None)


__all__ = [
    "INT32",
    "LETTERS",
    "Wanted",
    "as_immediate",
    "base_for",
    "base_register",
    "is_readable",
    "load_line",
    "loadable",
    "matches",
    "registers_with",
    "same_width_store",
    "value_line",
]

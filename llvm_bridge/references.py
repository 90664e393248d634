"""Relocations as symbolic operands.

All BPF relocations are REL: the addend sits in the patched instruction (toolchain-conventions, section 6.1).  A wide
load keeps it in bytes in its low immediate; a call keeps (addend in slots) - 1 in its immediate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from llvm_bridge import jump_tables
from llvm_bridge.elf import (
    R_BPF_64_32,
    R_BPF_64_64,
    SHN_UNDEF,
    STT_NOTYPE,
    STT_SECTION,
    Elf,
    ObjectError,
    Relocation,
    Symbol,
)
from llvm_bridge.maps import MAP_SECTIONS, map_symbols
from llvm_bridge.object import CodeSection
from verifier_model.bpf.insn import SLOT_BYTES, ByteOffset, RawSlot, Ref, RefKind, read_slot
from verifier_model.bpf.isa import Kind, Row


def call_target(immediate: int) -> int:
    """Bytes from the symbol that a call's in-place immediate means."""
    return (immediate + 1) * SLOT_BYTES


def call_immediate(distance: int) -> int:
    """The in-place immediate for a call target that many bytes behind the symbol."""
    return distance // SLOT_BYTES - 1


def code_addend(elf: Elf, section: int, entry: Relocation) -> int:
    """The in-place addend in bytes of a relocation on an instruction; raises ObjectError."""
    data = elf.sections[section].data
    if entry.type not in (R_BPF_64_32, R_BPF_64_64) or entry.offset + SLOT_BYTES > len(data):
        raise ObjectError(f"{elf.sections[section].name} has a relocation of type {entry.type} against code")
    raw = read_slot(data, ByteOffset(entry.offset), elf.order)
    return call_target(raw.imm) if entry.type == R_BPF_64_32 else raw.imm


@dataclass(frozen=True)
class References:
    """What every (section, byte) of one object is called.

    `code` must hold the bounds of all functions; `jump_tables` gives sizes in bytes by places in their section.
    """

    elf: Elf
    code: Mapping[int, CodeSection]
    map_starts: Mapping[tuple[int, int], str]
    jump_tables: Mapping[int, int] = field(default_factory=dict)
    external_maps: frozenset[str] = frozenset()
    external_data: frozenset[str] = frozenset()

    def function(self, section: int, target: int, symbol: int, relocation: int) -> Ref:
        """A reference to the function that holds the byte `target`; raises ObjectError when none does."""
        placed = self.code[section].at(target) if section in self.code else None
        if placed is None or target % SLOT_BYTES:
            raise ObjectError(f"a reference to byte {target} of code hits no function")
        return Ref(RefKind.FUNCTION, placed.name, target - placed.start, symbol, relocation)

    def of_relocation(self, entry: Relocation, row: Row, raw: RawSlot, high: RawSlot | None) -> Ref:
        """The operand that a relocation on an instruction makes; raises ObjectError."""
        symbol = self.elf.symbols[entry.symbol]
        if entry.type == R_BPF_64_64 and row.kind is Kind.LOAD_WIDE and row.fixed_src == 0:
            if high is None or high.imm:
                raise ObjectError("a relocated wide load with a high half")
            return self._address(symbol, entry, raw.imm)
        if entry.type == R_BPF_64_32 and row.kind is Kind.CALL and row.name == "call_local":
            return self._callee(symbol, entry, raw.imm)
        raise ObjectError(f"relocation type {entry.type} on {row.name}")

    def _callee(self, symbol: Symbol, entry: Relocation, immediate: int) -> Ref:
        if symbol.section == SHN_UNDEF:
            if immediate != -1 or symbol.type != STT_NOTYPE:
                raise ObjectError(f"a call of the external {symbol.name} with an addend")
            return Ref(RefKind.EXTERN, symbol.name, 0, entry.symbol, entry.type)
        return self.function(symbol.section, symbol.value + call_target(immediate), entry.symbol, entry.type)

    def _address(self, symbol: Symbol, entry: Relocation, addend: int) -> Ref:
        if symbol.section == SHN_UNDEF:
            is_data = symbol.name in self.external_data
            kind = RefKind.MAP if symbol.name in self.external_maps else RefKind.DATA if is_data else RefKind.EXTERN
            return Ref(kind, symbol.name, addend, entry.symbol, entry.type)
        if not symbol.is_defined:
            raise ObjectError(f"a reference to {symbol.name}, which lies in no section")
        target = symbol.value + addend
        if symbol.section in self.code:
            return self.function(symbol.section, target, entry.symbol, entry.type)
        section = self.elf.sections[symbol.section]
        if section.name == jump_tables.SECTION and target in self.jump_tables:
            return Ref(RefKind.DATA, section.name, target, entry.symbol, entry.type)
        if not section.is_allocated:
            raise ObjectError(f"a reference into {section.name}")
        if section.name in MAP_SECTIONS:
            start = symbol.value if symbol.type != STT_SECTION else target
            name = self.map_starts.get((symbol.section, start))
            if name is None:
                raise ObjectError(f"a reference to byte {target} of {section.name} hits no map")
            return Ref(RefKind.MAP, name, target - start, entry.symbol, entry.type)
        return Ref(RefKind.DATA, section.name, target, entry.symbol, entry.type)


def references(
    elf: Elf, code: Mapping[int, CodeSection], maps: Collection[str] = (), data: Collection[str] = ()
) -> References:
    """`maps`, `data`: names of those that other objects define."""
    starts = {place: name for name, place in map_symbols(elf).items()}
    return References(elf, code, starts, jump_tables.table_sizes(elf), frozenset(maps), frozenset(data))


def places(elf: Elf) -> dict[tuple[RefKind, str], tuple[int, int]]:
    """Where maps, data sections and externals lie: (section, byte), section 0 for externals."""
    found: dict[tuple[RefKind, str], tuple[int, int]] = {}
    for index, section in enumerate(elf.sections):
        if (section.is_allocated and not section.is_code) or section.name == jump_tables.SECTION:
            found[RefKind.DATA, section.name] = (index, 0)
    for name, place in map_symbols(elf).items():
        found[RefKind.MAP, name] = place
    for symbol in elf.symbols:
        if symbol.section == SHN_UNDEF and symbol.name:
            found[RefKind.EXTERN, symbol.name] = (SHN_UNDEF, 0)
            for kind in (RefKind.MAP, RefKind.DATA):
                found.setdefault((kind, symbol.name), (SHN_UNDEF, 0))
    return found

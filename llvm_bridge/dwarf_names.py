"""What code the entries of debug information name: addresses, ranges of scopes, and what lists are counted from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from llvm_bridge import dwarf_lists
from llvm_bridge.dwarf_forms import ADDRESS_INDEX_FORMS, FORM_ADDR, FORM_RNGLISTX, Cursor, DwarfError
from llvm_bridge.dwarf_lists import Address, Base, Context, Range
from llvm_bridge.dwarf_places import Places
from llvm_bridge.dwarf_units import (
    AT_ADDR_BASE,
    AT_HIGH_PC,
    AT_LOW_PC,
    AT_RANGES,
    AT_RNGLISTS_BASE,
    Attribute,
    DebugUnit,
    Entry,
)
from verifier_model.bpf.insn import ByteOrder

TAG_SUBPROGRAM: Final = 0x2E
# Ranges of scopes and pieces of locations; the largest object of the corpus has 30,000.  One list may be that of many
# entries, and one location may be true in many places: without a bound, the product of both.
MOST_PIECES: Final = 1_000_000

Scope = list[tuple[int, int, int]]  # (section, low, high)


@dataclass
class Pieces:
    """How many more ranges may be looked at for one object."""

    left: int = field(default_factory=lambda: MOST_PIECES)

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise DwarfError("locations in more pieces than any program has")


@dataclass
class CodeNames:
    """Reads addresses and scopes out of entries, in old addresses; `rnglists` is the old .debug_rnglists."""

    places: Places
    order: ByteOrder
    rnglists: bytes
    pieces: Pieces
    _scopes: dict[tuple[int, int], Scope] = field(default_factory=dict)

    def context(self, unit: DebugUnit, section: str) -> Context:
        addresses = self.places.addresses(section)
        low = unit.entries[0].get(AT_LOW_PC)
        base = self.address(unit, low) if low is not None else None
        return Context(lambda index: self.indexed(unit, index), addresses.get, base)

    def indexed(self, unit: DebugUnit, index: int) -> Address:
        found = self.places.addresses(".debug_addr").get(unit.base(AT_ADDR_BASE, 8) + 8 * index)
        if found is None:
            raise DwarfError("an address without a relocation")
        return found

    def address(self, unit: DebugUnit, attribute: Attribute) -> Address | None:
        if attribute.form == FORM_ADDR:
            return self.places.addresses(".debug_info").get(attribute.start)
        if attribute.form in ADDRESS_INDEX_FORMS:
            return self.indexed(unit, attribute.value)
        return None

    def scope(self, unit: DebugUnit, entry: Entry) -> Scope:
        """(section, low, high) of the innermost entry with code around this one; nothing outside functions."""
        on_the_way = []
        found: Scope | None = []
        while entry.parent > 0:
            key = unit.header.start, entry.parent
            found = self._scopes.get(key)
            if found is not None:
                break
            on_the_way.append(key)
            entry = unit.entries[entry.parent]
            found = self._own_scope(unit, entry)
            if found is not None:
                break
        self._scopes.update(dict.fromkeys(on_the_way, found or []))
        return found or []

    def _own_scope(self, unit: DebugUnit, entry: Entry) -> Scope | None:
        """The code that an entry says it covers; None when it says nothing and the one around it counts."""
        low, high, ranges = entry.get(AT_LOW_PC), entry.get(AT_HIGH_PC), entry.get(AT_RANGES)
        if low is not None and high is not None:
            start, end = self.address(unit, low), self.address(unit, high)
            if start is None:
                raise DwarfError("bounds of code without a relocated address")
            return [(start.section, start.byte, end.byte if end else start.byte + high.value)]
        if ranges is not None:
            return [(r.base.address.section, r.low, r.high) for r in self._ranges_of(unit, ranges)]
        return [] if entry.tag == TAG_SUBPROGRAM else None

    def _ranges_of(self, unit: DebugUnit, attribute: Attribute) -> list[Range]:
        at = attribute.value
        if unit.header.version < 5:
            section = self.places.elf.section_index(".debug_ranges")
            data = b"" if section is None else self.places.elf.sections[section].data
            cursor = Cursor(data, self.order, at)
            return self._read(dwarf_lists.read_old_list(cursor, self.context(unit, ".debug_ranges"), False))
        if attribute.form == FORM_RNGLISTX:
            at = dwarf_lists.list_offset(self.rnglists, self.order, unit.base(AT_RNGLISTS_BASE, 12), at)
        cursor = Cursor(self.rnglists, self.order, at)
        return self._read(dwarf_lists.read_list(cursor, self.context(unit, ".debug_rnglists"), False))

    def _read(self, ranges: Iterator[Range]) -> list[Range]:
        found = []
        for one in ranges:
            self.pieces.spend(1)
            found.append(one)
        return found

    def function_base(self, unit: DebugUnit, entry: Entry) -> Base | None:
        while entry.parent > 0:
            entry = unit.entries[entry.parent]
            low = entry.get(AT_LOW_PC)
            if entry.tag == TAG_SUBPROGRAM and low is not None and low.form in ADDRESS_INDEX_FORMS:
                return Base(self.indexed(unit, low.value), low.value)
        return None

"""`.debug_info`: what its entries say of code addresses, and how that changes.

Bounds are patched in place.  A location that would lie is taken out of its entry, or restricted to a list of the
ranges where it is true; then the entry gets an abbreviation of its own, and references between entries follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from llvm_bridge import dwarf_lists
from llvm_bridge.dwarf_edits import Edits
from llvm_bridge.dwarf_forms import (
    BLOCK_FORMS,
    CONSTANT_FORMS,
    FORM_EXPRLOC,
    FORM_LOCLISTX,
    FORM_REF_ADDR,
    FORM_REF_UDATA,
    FORM_RNGLISTX,
    OFFSET_FORM,
    UNIT_REFERENCE_FORMS,
    Cursor,
    DwarfError,
    Expression,
    Need,
    decode_expression,
    sleb,
    uleb,
)
from llvm_bridge.dwarf_lists import Address, Range
from llvm_bridge.dwarf_moves import Moves
from llvm_bridge.dwarf_names import CodeNames
from llvm_bridge.dwarf_units import (
    AT_ABSTRACT_ORIGIN,
    AT_BYTE_SIZE,
    AT_CALL_PC,
    AT_CALL_RETURN_PC,
    AT_FRAME_BASE,
    AT_HIGH_PC,
    AT_LOCATION,
    AT_LOCLISTS_BASE,
    AT_LOW_PC,
    AT_RANGES,
    AT_RNGLISTS_BASE,
    AT_SPECIFICATION,
    AT_STMT_LIST,
    AT_TYPE,
    LOCATIONS,
    TAG_CALL_SITE,
    TAG_GNU_CALL_SITE,
    AbbreviationTable,
    Attribute,
    DebugUnit,
    Entry,
    abbreviation_table,
)
from verifier_model.bpf.demand import ALL_BITS
from verifier_model.bpf.demanded_bits import low_bits
from verifier_model.bpf.insn import SLOT_BYTES, ByteOrder

_TAG_POINTER: Final = 0x0F
_TAG_PARAMETERS_OF_CALLS: Final = frozenset({0x49, 0x410A})
_ALIASES: Final = frozenset({0x16, 0x26, 0x35, 0x37, 0x47})  # typedef, const, volatile, restrict, atomic
_MOST_ALIASES: Final = 64


@dataclass(slots=True)
class Use:
    """Who refers to a list: the unit, and the bits of the widest variable."""

    unit: DebugUnit
    bits: int


@dataclass
class InfoRewriter:
    """Collects what the entries refer to, decides on locations, and patches .debug_info at the end.

    `data`, `abbreviations` and `loclists` are the old sections.
    """

    names: CodeNames
    moves: Moves
    units: Sequence[DebugUnit]
    data: bytes
    abbreviations: bytes
    loclists: bytes
    edits: dict[str, Edits]
    order: ByteOrder
    locations: dict[int, Use] = field(default_factory=dict)
    ranges: dict[int, Use] = field(default_factory=dict)
    old_locations: dict[int, Use] = field(default_factory=dict)
    old_ranges: dict[int, Use] = field(default_factory=dict)
    restricted: dict[int, list[list[Range]]] = field(default_factory=dict)
    entries_move: bool = False
    _lengths: list[tuple[Attribute, Address]] = field(default_factory=list)
    _offsets: list[tuple[Attribute, str]] = field(default_factory=list)
    _variants: dict[tuple[int, int, tuple[tuple[int, bool], ...]], int] = field(default_factory=dict)
    _new_abbreviations: dict[int, bytearray] = field(default_factory=dict)
    _ends: dict[int, tuple[int, int]] = field(default_factory=dict)
    _tables: dict[tuple[int, int], AbbreviationTable] = field(default_factory=dict)

    def collect(self) -> None:
        """Go through all entries."""
        for unit in self.units:
            for entry in unit.entries:
                self._visit(unit, entry)
        for unit in self.units:
            for entry in unit.entries:
                self._judge(unit, entry)
        for start, added in self._new_abbreviations.items():
            end = self._ends[start][1]
            self.edits[".debug_abbrev"].put(end, end, bytes(added))

    def truths(self, use: Use, ranges: Iterable[Range], is_location: bool) -> Iterator[Range]:
        """The list's ranges with new bounds: scopes where they are now, locations where they still hold."""
        for one in ranges:
            section = one.base.address.section
            if not is_location:
                low, high = (self.moves.position(section, old) for old in (one.low, one.high))
                yield replace(one, low=low, high=high)
                continue
            decoded = decode_expression(one.expression, self.order)
            expression = self._with_types(use.unit, one.expression, decoded)
            for low, high in self._surviving(section, one.low, one.high, decoded.need, use.bits):
                yield Range(one.base, low, high, expression)

    def patch(self, data: bytearray, moved: Callable[[str, int], int]) -> None:
        """Set bounds, offsets and references in the old layout of the section; the edits are applied afterwards."""
        for attribute, low in self._lengths:
            start = self.moves.position(low.section, low.byte)
            end = self.moves.position(low.section, low.byte + attribute.value)
            self._put(data, attribute, end - start)
        for attribute, name in self._offsets:
            self._put(data, attribute, moved(name, attribute.value))
        for unit in self.units:
            header = unit.header
            place = header.abbreviations_place
            data[place : place + 4] = moved(".debug_abbrev", header.abbreviations).to_bytes(4, self.order)
        if not self.entries_move:
            return
        for unit in self.units:
            self._patch_references(data, unit)

    def _patch_references(self, data: bytearray, unit: DebugUnit) -> None:
        edits, header = self.edits[".debug_info"], unit.header
        start = edits.moved(header.start)
        data[header.start : header.start + 4] = (edits.moved(header.end) - start - 4).to_bytes(4, self.order)
        for entry in unit.entries:
            for attribute in entry.attributes:
                if attribute.form in UNIT_REFERENCE_FORMS:
                    self._put(data, attribute, edits.moved(header.start + attribute.value) - start)
                elif attribute.form == FORM_REF_ADDR:
                    self._put(data, attribute, edits.moved(attribute.value))
                elif attribute.form == FORM_EXPRLOC or (attribute.form in BLOCK_FORMS and attribute.name in LOCATIONS):
                    text = self.data[attribute.value : attribute.end]
                    decoded = decode_expression(text, self.order)
                    data[attribute.value : attribute.end] = self._with_types(unit, text, decoded)

    def _put(self, data: bytearray, attribute: Attribute, value: int) -> None:
        size = attribute.end - attribute.start
        if attribute.form in (FORM_REF_UDATA, 0x0F):
            data[attribute.start : attribute.end] = uleb(value, size)
        else:
            data[attribute.start : attribute.end] = value.to_bytes(size, self.order)

    def _with_types(self, unit: DebugUnit, text: bytes, decoded: Expression) -> bytes:
        """The expression with the offsets of base types in it where these lie now."""
        if not self.entries_move or not (decoded.types or decoded.need is None):
            return text
        if decoded.need is None:
            raise DwarfError("an expression with an unknown operator")
        edits, start, new = self.edits[".debug_info"], unit.header.start, bytearray(text)
        for place, width, offset in decoded.types:
            value = edits.moved(start + offset) - edits.moved(start)
            new[place : place + width] = uleb(value, width)
        return bytes(new)

    # What entries refer to

    def _visit(self, unit: DebugUnit, entry: Entry) -> None:
        for attribute in entry.attributes:
            if attribute.form == OFFSET_FORM:
                self._visit_offset(unit, entry, attribute)
            elif attribute.form == FORM_LOCLISTX:
                base = unit.base(AT_LOCLISTS_BASE, 12)
                at = dwarf_lists.list_offset(self.loclists, self.order, base, attribute.value)
                self._use(self.locations, at, unit, entry)
            elif attribute.form == FORM_RNGLISTX:
                base = unit.base(AT_RNGLISTS_BASE, 12)
                at = dwarf_lists.list_offset(self.names.rnglists, self.order, base, attribute.value)
                self._use(self.ranges, at, unit, entry)
        high = entry.get(AT_HIGH_PC)
        low = entry.get(AT_LOW_PC)
        if high is not None and high.form in CONSTANT_FORMS:
            address = None if low is None else self.names.address(unit, low)
            if address is None:
                raise DwarfError("bounds of code without a relocated address")
            self._lengths.append((high, address))
        elif high is not None and self.names.address(unit, high) is None:
            raise DwarfError("bounds of code in an unknown form")
        if entry.tag in (TAG_CALL_SITE, TAG_GNU_CALL_SITE):
            self._visit_call(unit, entry)

    def _visit_offset(self, unit: DebugUnit, entry: Entry, attribute: Attribute) -> None:
        is_new = unit.header.version >= 5
        if attribute.name == AT_STMT_LIST:
            name = ".debug_line"
        elif attribute.name == AT_RANGES:
            name = ".debug_rnglists" if is_new else ".debug_ranges"
            self._use(self.ranges if is_new else self.old_ranges, attribute.value, unit, entry)
        elif attribute.name in LOCATIONS:
            name = ".debug_loclists" if is_new else ".debug_loc"
            self._use(self.locations if is_new else self.old_locations, attribute.value, unit, entry)
        elif attribute.name in (AT_LOCLISTS_BASE, AT_RNGLISTS_BASE):
            name = ".debug_loclists" if attribute.name == AT_LOCLISTS_BASE else ".debug_rnglists"
        else:
            return  # sections whose layout does not change: strings, addresses, macros
        self._offsets.append((attribute, name))

    def _use(self, uses: dict[int, Use], offset: int, unit: DebugUnit, entry: Entry) -> None:
        found = uses.setdefault(offset, Use(unit, 0))
        if found.unit is not unit:
            raise DwarfError("a list that several units share")
        found.bits |= self._bits(unit, entry)

    def _visit_call(self, unit: DebugUnit, entry: Entry) -> None:
        """A described call must still be there."""
        back = entry.get(AT_CALL_RETURN_PC) or (entry.get(AT_LOW_PC) if entry.tag == TAG_GNU_CALL_SITE else None)
        for attribute, distance in ((back, SLOT_BYTES), (entry.get(AT_CALL_PC), 0)):
            address = None if attribute is None else self.names.address(unit, attribute)
            if address is not None and not self.moves.is_kept(address.section, address.byte - distance):
                raise DwarfError("a call that it describes was rewritten")

    def _bits(self, unit: DebugUnit, entry: Entry) -> int:
        """A mask of the bits of an entry's type; all 64 where it is large or unknown."""
        for _ in range(_MOST_ALIASES):
            found = entry.get(AT_TYPE) or entry.get(AT_ABSTRACT_ORIGIN) or entry.get(AT_SPECIFICATION)
            size = entry.get(AT_BYTE_SIZE)
            if size is not None and size.form in CONSTANT_FORMS:
                return low_bits(8 * size.value) if 0 < size.value <= SLOT_BYTES else ALL_BITS
            if found is None or found.form not in UNIT_REFERENCE_FORMS or entry.tag == _TAG_POINTER:
                return ALL_BITS
            number = unit.by_offset.get(unit.header.start + found.value)
            if number is None:
                return ALL_BITS
            entry = unit.entries[number]
        return ALL_BITS

    # Locations that hold for a whole scope

    def _judge(self, unit: DebugUnit, entry: Entry) -> None:
        actions: dict[int, int | None] = {}
        for attribute in entry.attributes:
            is_block = attribute.form in BLOCK_FORMS and attribute.name in LOCATIONS
            if attribute.form != FORM_EXPRLOC and not is_block:
                continue
            if attribute.name == AT_FRAME_BASE or (
                attribute.name == AT_LOCATION and entry.tag in _TAG_PARAMETERS_OF_CALLS
            ):
                continue
            need = decode_expression(self.data[attribute.value : attribute.end], self.order).need
            if need is not None and not (need.registers or need.stack or need.memory):
                continue
            action = self._verdict(unit, entry, attribute, need)
            if action != -1:
                actions[attribute.name] = action
        if actions:
            self._change(unit, entry, actions)

    def _verdict(self, unit: DebugUnit, entry: Entry, attribute: Attribute, need: Need | None) -> int | None:
        """-1: it stays; None: it has to go; else the index of a list that holds where it is true."""
        scope = self.names.scope(unit, entry)
        if not any(self.moves.is_changed(section, low) for section, low, _ in scope):
            return -1
        bits = self._bits(unit, entry)
        pieces: list[tuple[int, int, int]] = []
        is_whole = True
        for section, low, high in scope:
            found = self._surviving(section, low, high, need, bits)
            whole = self.moves.position(section, low), self.moves.position(section, high)
            is_whole &= found == [whole] or whole[0] == whole[1]
            pieces += [(section, *piece) for piece in found]
        if is_whole:
            return -1
        base, table = self.names.function_base(unit, entry), unit.base(AT_LOCLISTS_BASE, -1)
        if attribute.name != AT_LOCATION or base is None or table < 0 or not pieces:
            return None
        start = self.moves.position(base.address.section, base.address.byte)
        if any(section != base.address.section or low < start for section, low, _ in pieces):
            return None
        text = self.data[attribute.value : attribute.end]
        decoded = decode_expression(text, self.order)
        if decoded.types:
            return None
        lists = self.restricted.setdefault(table, [])
        lists.append([Range(base, low, high, text) for _, low, high in pieces])
        return self._count(table) + len(lists) - 1

    def _surviving(self, section: int, low: int, high: int, need: Need | None, bits: int) -> list[tuple[int, int]]:
        found = self.moves.surviving(section, low, high, need, bits)
        self.names.pieces.spend(1 + len(found))
        return found

    def _count(self, table: int) -> int:
        return Cursor(self.loclists, self.order, table - 4).number(4)

    def _change(self, unit: DebugUnit, entry: Entry, actions: dict[int, int | None]) -> None:
        """Take attributes out (None) or turn them into the index of a location list."""
        self.entries_move = True
        start, version = unit.header.abbreviations, unit.header.version
        shape = tuple(sorted((name, index is None) for name, index in actions.items()))
        code = self._variants.get((start, entry.code, shape))
        if code is None:
            table = self._tables.get((start, version))
            if table is None:
                table = abbreviation_table(self.abbreviations, self.order, start, version)
                self._tables[start, version] = table
            last, end = self._ends.get(start, (max(table.by_code), table.end))
            code = last + 1
            self._ends[start] = code, end
            self._variants[start, entry.code, shape] = code
            old = table.by_code[entry.code]
            new = uleb(code) + uleb(old.tag) + bytes((old.has_children,))
            for name, form, constant in old.raw:
                if name not in actions:
                    new += uleb(name) + uleb(form) + (sleb(constant) if constant is not None else b"")
                elif actions[name] is not None:
                    new += uleb(name) + uleb(FORM_LOCLISTX)
            self._new_abbreviations.setdefault(start, bytearray()).extend(new + bytes(2))
        edits = self.edits[".debug_info"]
        edits.put(entry.offset, entry.after_code, uleb(code))
        for attribute in entry.attributes:
            if attribute.name in actions:
                index = actions[attribute.name]
                edits.put(attribute.start, attribute.end, b"" if index is None else uleb(index))

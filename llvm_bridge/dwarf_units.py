"""`.debug_info` and `.debug_abbrev`: the entries of every unit, with those attributes that code addresses touch.

DWARF 5, sections 7.5.1 to 7.5.6.  Everything else in an entry is stepped over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from llvm_bridge.dwarf_forms import (
    ADDRESS_INDEX_FORMS,
    BLOCK_FORMS,
    FORM_ADDR,
    FORM_EXPRLOC,
    FORM_LOCLISTX,
    FORM_REF_ADDR,
    FORM_RNGLISTX,
    FORMS,
    OFFSET_FORM,
    UNIT_REFERENCE_FORMS,
    Cursor,
    DwarfError,
    Reading,
)
from verifier_model.bpf.insn import ByteOrder

AT_LOCATION, AT_BYTE_SIZE, AT_STMT_LIST, AT_LOW_PC, AT_HIGH_PC = 0x02, 0x0B, 0x10, 0x11, 0x12
AT_ABSTRACT_ORIGIN, AT_FRAME_BASE, AT_SPECIFICATION, AT_TYPE, AT_RANGES = 0x31, 0x40, 0x47, 0x49, 0x55
AT_STR_OFFSETS_BASE, AT_ADDR_BASE, AT_RNGLISTS_BASE, AT_LOCLISTS_BASE = 0x72, 0x73, 0x74, 0x8C
AT_CALL_RETURN_PC, AT_CALL_PC, AT_GNU_DWO_NAME, AT_DWO_NAME = 0x7D, 0x81, 0x2130, 0x76
TAG_CALL_SITE, TAG_GNU_CALL_SITE = 0x48, 0x4109
UT_COMPILE, UT_PARTIAL, UT_SKELETON, UT_SPLIT_COMPILE, UT_SPLIT_TYPE = 1, 3, 4, 5, 6
# Attributes whose value may be a location description, as an expression or as a list of them.
LOCATIONS: Final = frozenset({AT_LOCATION, 0x19, 0x2A, 0x38, AT_FRAME_BASE, 0x46, 0x48, 0x4A, 0x4D})
# Before DWARF 4 an offset into another section had the form of a constant.
_OFFSETS_OF_OLD: Final = frozenset({AT_LOCATION, AT_STMT_LIST, AT_RANGES, AT_FRAME_BASE, 0x43})
_DATA4: Final = 0x06
_KEPT_FORMS: Final = (
    ADDRESS_INDEX_FORMS
    | BLOCK_FORMS
    | UNIT_REFERENCE_FORMS
    | {FORM_ADDR, FORM_EXPRLOC, FORM_LOCLISTX, FORM_RNGLISTX, FORM_REF_ADDR, OFFSET_FORM}
)
_KEPT_NAMES: Final = frozenset({AT_HIGH_PC, AT_BYTE_SIZE})
# Units, entries and kept attributes of one object: fourteen times what the largest of the corpus has.  An entry may be
# as short as a byte, so without a bound they could take 300 times the memory of the section.
MOST_ENTRIES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute's value: bytes [start, end) of the section; `value` is its number, or where its block begins."""

    name: int
    form: int
    start: int
    end: int
    value: int


@dataclass(frozen=True, slots=True)
class Abbreviation:
    """A declaration: `steps` are (name, form, how to read it), with runs of what is stepped over as (0, 0, bytes).

    `raw` holds the (name, form, implicit constant) triples as declared.
    """

    tag: int
    has_children: bool
    steps: tuple[tuple[int, int, Reading], ...]
    raw: tuple[tuple[int, int, int | None], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A debugging information entry; `parent` is the number of the entry around it in its unit, -1 for none."""

    offset: int
    code: int
    after_code: int
    tag: int
    parent: int
    attributes: tuple[Attribute, ...]

    def get(self, name: int) -> Attribute | None:
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


@dataclass(frozen=True, slots=True)
class UnitHeader:
    """A unit occupies [start, end) of .debug_info; `abbreviations` is its table's offset in .debug_abbrev."""

    start: int
    end: int
    version: int
    abbreviations: int
    first_entry: int
    abbreviations_place: int


@dataclass(frozen=True)
class DebugUnit:
    """A unit and its entries in order."""

    header: UnitHeader
    entries: Sequence[Entry]
    by_offset: Mapping[int, int] = field(default_factory=dict)

    def base(self, name: int, default: int = 0) -> int:
        """An offset that the unit's own entry holds (AT_ADDR_BASE and its like)."""
        found = self.entries[0].get(name) if self.entries else None
        return default if found is None else found.value


@dataclass(frozen=True)
class AbbreviationTable:
    """All declarations at one offset of .debug_abbrev by code; `end` is the place of the final zero."""

    by_code: Mapping[int, Abbreviation]
    end: int


def abbreviation_table(data: bytes, order: ByteOrder, offset: int, version: int) -> AbbreviationTable:
    cursor = Cursor(data, order, offset)
    found: dict[int, Abbreviation] = {}
    while True:
        start = cursor.at
        code = cursor.uleb()
        if not code:
            return AbbreviationTable(found, start)
        tag, has_children = cursor.uleb(), bool(cursor.number(1))
        raw: list[tuple[int, int, int | None]] = []
        while True:
            name, form = cursor.uleb(), cursor.uleb()
            constant = cursor.sleb() if form == 0x21 else None
            if not name and not form:
                break
            raw.append((name, form, constant))
        found[code] = Abbreviation(tag, has_children, _steps(raw, version), tuple(raw))


def _steps(raw: Sequence[tuple[int, int, int | None]], version: int) -> tuple[tuple[int, int, Reading], ...]:
    steps: list[tuple[int, int, Reading]] = []
    for name, form, constant in raw:
        if form not in FORMS or (version < 3 and form == FORM_REF_ADDR):
            raise DwarfError(f"an attribute of the unknown form {form:#x}")
        if version < 4 and form == _DATA4 and name in _OFFSETS_OF_OLD:
            form = OFFSET_FORM
        reading = FORMS[form]
        if form in _KEPT_FORMS or (name in _KEPT_NAMES and constant is None):
            steps.append((name, form, reading))
        elif constant is not None:
            continue
        elif isinstance(reading, int) and steps and steps[-1][1] == 0 and isinstance(steps[-1][2], int):
            steps[-1] = (0, 0, steps[-1][2] + reading)
        else:
            steps.append((0, 0, reading))
    return tuple(steps)


@lru_cache(maxsize=1)
def read_units(info: bytes, abbreviations: bytes, order: ByteOrder) -> Sequence[DebugUnit]:
    """Every unit of .debug_info; raises DwarfError for what is not DWARF 2 to 5 in its 32-bit format."""
    units: list[DebugUnit] = []
    at = 0
    tables: dict[tuple[int, int], AbbreviationTable] = {}
    parsed = 0
    left = MOST_ENTRIES
    while at < len(info):
        header = _header(info, order, at)
        key = header.abbreviations, header.version
        if key not in tables:
            tables[key] = abbreviation_table(abbreviations, order, *key)
            parsed += tables[key].end - header.abbreviations
            if parsed > len(abbreviations):
                raise DwarfError("tables of abbreviations that overlap")
        unit = _read_unit(info, order, header, tables[key], left)
        left -= 1 + len(unit.entries) + sum(len(entry.attributes) for entry in unit.entries)
        units.append(unit)
        at = header.end
    return tuple(units)


def _header(info: bytes, order: ByteOrder, at: int) -> UnitHeader:
    cursor = Cursor(info, order, at)
    length = cursor.number(4)
    if length >= 0xFFFFFFF0:
        raise DwarfError("64-bit DWARF")
    end = cursor.at + length
    cursor = Cursor(info, order, cursor.at, end)
    version = cursor.number(2)
    if version not in (2, 3, 4, 5):
        raise DwarfError(f"DWARF version {version}")
    if version == 5:
        if cursor.number(1) not in (UT_COMPILE, UT_PARTIAL):
            raise DwarfError("units of another kind than whole compilations")
        size = cursor.number(1)
        place = cursor.at
        abbreviations = cursor.number(4)
    else:
        place = cursor.at
        abbreviations = cursor.number(4)
        size = cursor.number(1)
    if size != 8:
        raise DwarfError("addresses of an unusual size")
    return UnitHeader(at, end, version, abbreviations, cursor.at, place)


def _read_unit(info: bytes, order: ByteOrder, header: UnitHeader, table: AbbreviationTable, most: int) -> DebugUnit:
    """One unit; raises DwarfError when it has more than `most` entries and attributes."""
    cursor = Cursor(info, order, header.first_entry, header.end)
    entries: list[Entry] = []
    by_offset: dict[int, int] = {}
    open_entries = [-1]
    while not cursor.is_done:
        offset = cursor.at
        code = cursor.uleb()
        if not code:
            if len(open_entries) > 1:
                open_entries.pop()
            continue
        abbreviation = table.by_code.get(code)
        if abbreviation is None:
            raise DwarfError("an entry without an abbreviation")
        after_code = cursor.at
        attributes = _attributes(cursor, abbreviation, header.version)
        most -= 1 + len(attributes)
        if most < 0:
            raise DwarfError("more debugging entries than any program has")
        by_offset[offset] = len(entries)
        entries.append(Entry(offset, code, after_code, abbreviation.tag, open_entries[-1], attributes))
        if abbreviation.has_children:
            open_entries.append(len(entries) - 1)
    return DebugUnit(header, entries, by_offset)


def _attributes(cursor: Cursor, abbreviation: Abbreviation, version: int) -> tuple[Attribute, ...]:
    found: list[Attribute] = []
    for name, form, reading in abbreviation.steps:
        start = cursor.at
        if isinstance(reading, int):
            if name:
                found.append(Attribute(name, form, start, start + reading, cursor.number(reading)))
            else:
                cursor.skip(reading)
            continue
        value = _value(cursor, reading, form, version)
        if name:
            found.append(Attribute(name, form, start, cursor.at, value))
    return tuple(found)


def _value(cursor: Cursor, reading: Reading, form: int, version: int) -> int:
    if reading == "uleb":
        return cursor.uleb()
    if reading == "sleb":
        return cursor.sleb()
    if reading == "address":
        return cursor.number(8)
    if reading == "string":
        cursor.string()
        return 0
    length = cursor.uleb() if reading == "block" else cursor.number(int(str(reading).removeprefix("block")))
    return cursor.skip(length)

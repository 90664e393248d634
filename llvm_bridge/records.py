"""Tying `.BTF.ext` records to code sections, and checking that its relocations say the same as its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from llvm_bridge import btf_ext
from llvm_bridge.btf_ext import BtfExt
from llvm_bridge.disassembly import Records
from llvm_bridge.elf import STT_SECTION, Elf, ObjectError, parse_relocations
from llvm_bridge.object import CodeSection
from verifier_model.bpf.btf import Btf

_T = TypeVar("_T")
_EMPTY = Records({}, {}, ())


@dataclass(frozen=True)
class ExtRecords:
    """`homes` maps a name offset of .BTF.ext to the code section of that name; `relocations` is the REL section's
    index."""

    section: int | None = None
    ext: BtfExt | None = None
    relocations: int | None = None
    relocation_type: int = 0
    homes: Mapping[int, int] = field(default_factory=dict)
    by_section: Mapping[int, Records] = field(default_factory=dict)
    types: Mapping[int, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)

    def of_section(self, index: int) -> Records:
        return self.by_section.get(index, _EMPTY)

    def types_of(self, index: int) -> Mapping[int, tuple[int, ...]]:
        """The function records of a section by offset, without the offset."""
        return self.types.get(index, {})


NO_RECORDS = ExtRecords()


def read_records(elf: Elf, graph: Btf, code: Mapping[int, CodeSection]) -> ExtRecords:
    """All records by section; raises ObjectError for anything that could not be written back."""
    index = elf.section_index(".BTF.ext")
    if index is None:
        return NO_RECORDS
    ext = btf_ext.parse(elf.sections[index].data, elf.order)
    by_name = {section.name: number for number, section in code.items()}
    homes: dict[int, int] = {}
    types: dict[int, dict[int, tuple[int, ...]]] = {}
    lines: dict[int, dict[int, tuple[int, int, int]]] = {}
    cores: dict[int, dict[int, list[tuple[int, int, int]]]] = {}
    for table, subsections in enumerate(ext.tables):
        seen: set[int] = set()
        for subsection in subsections:
            name = graph.string(subsection.name_offset)
            home = by_name.get(name)
            if home is None or home in seen:
                raise ObjectError(f".BTF.ext: a table names section {name} twice, or it holds no code")
            seen.add(home)
            homes[subsection.name_offset] = home
            for record in subsection.records:
                at = record[0]
                if table == btf_ext.FUNCTIONS:
                    _once(types.setdefault(home, {}), at, record[1:])
                elif table == btf_ext.LINES:
                    _once(lines.setdefault(home, {}), at, (record[1], record[2], record[3]))
                else:
                    cores.setdefault(home, {}).setdefault(at, []).append((record[1], record[2], record[3]))
    by_section = {}
    for home in {*lines, *cores}:
        own = {at: tuple(found) for at, found in cores.get(home, {}).items()}
        by_section[home] = Records(lines.get(home, {}), own, sorted({*lines.get(home, {}), *own}))
    table_index, kind = _check_relocations(elf, index, ext, homes)
    return ExtRecords(index, ext, table_index, kind, homes, by_section, types)


def _once(table: dict[int, _T], at: int, record: _T) -> None:
    if at in table:
        raise ObjectError(f".BTF.ext: two records of one kind at byte {at}")
    table[at] = record


def _check_relocations(elf: Elf, index: int, ext: BtfExt, homes: Mapping[int, int]) -> tuple[int | None, int]:
    """(REL section, relocation type) when every record has its entry, (None, 0) when there is no REL section at all."""
    table = elf.relocation_sections().get(index)
    if table is None:
        return None, 0
    entries = {entry.offset: entry for entry in parse_relocations(elf, table)}
    kinds = {entry.type for entry in entries.values()}
    count = 0
    for place, name, _ in btf_ext.offset_positions(ext):
        entry = entries.get(place)
        symbol = elf.symbols[entry.symbol] if entry else None
        if symbol is None or symbol.section != homes[name] or symbol.value or symbol.type != STT_SECTION:
            raise ObjectError(".BTF.ext: a record without a relocation against its section")
        count += 1
    if count != len(elf.sections[table].data) // 16 or len(kinds) > 1:
        raise ObjectError(".rel.BTF.ext: entries that belong to no record, or of several types")
    return table, kinds.pop() if kinds else 0

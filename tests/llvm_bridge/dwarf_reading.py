"""What debug information says, as a debugger would read it: decoded by pyelftools, not by the code under test.

Addresses come out as `section index << 32 | byte`: the relocations are applied with every section at such a place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from elftools.dwarf.descriptions import set_global_machine_arch
from elftools.dwarf.locationlists import LocationEntry, LocationExpr, LocationParser
from elftools.dwarf.ranges import BaseAddressEntry, RangeEntry
from elftools.elf.elffile import ELFFile

from llvm_bridge import elf as elf_file

set_global_machine_arch("BPF")


def located(data: bytes) -> bytes:
    """The object with the relocations of its debug sections applied."""
    elf = elf_file.parse(data)
    new: dict[int, bytes] = {}
    for target, table in elf.relocation_sections().items():
        if not elf.sections[target].name.startswith(".debug_"):
            continue
        patched = bytearray(elf.sections[target].data)
        for entry in elf_file.parse_relocations(elf, table):
            symbol = elf.symbols[entry.symbol]
            addend = elf_file.data_addend(elf, target, entry)
            home = 0 if elf.sections[symbol.section].name.startswith(".debug_") else symbol.section << 32
            elf_file.put_addend(patched, elf.order, entry, home + symbol.value + addend)
        new[target] = bytes(patched)
    return elf_file.serialise(elf_file.with_sections(elf, new))


@dataclass(frozen=True)
class Described:
    """One entry: its scope's ranges, and its locations by range (None: wherever its scope is)."""

    tag: str
    name: str
    scope: tuple[tuple[int, int], ...]
    locations: tuple[tuple[tuple[int, int] | None, bytes], ...]

    def is_in_scope(self, address: int) -> bool:
        return any(low <= address < high for low, high in self.scope)

    def at(self, address: int) -> frozenset[bytes]:
        """The expressions that hold at an address."""
        return frozenset(text for where, text in self.locations if where is None or where[0] <= address < where[1])


@dataclass(frozen=True)
class Debug:
    """`lines` maps the address of every slot to (file, line, column)."""

    lines: Mapping[int, tuple[bytes, int, int]]
    entries: tuple[Described, ...]


def debug_of(data: bytes) -> Debug:
    info = ELFFile(io.BytesIO(located(data))).get_dwarf_info(relocate_dwarf_sections=False)
    lines: dict[int, tuple[bytes, int, int]] = {}
    entries: list[Described] = []
    for unit in info.iter_CUs():
        program = info.line_program_for_CU(unit)
        lines.update(_lines(program, unit.header.version))
        ranges, parser = info.range_lists(), LocationParser(info.location_lists())
        entries += [_described(entry, unit, ranges, parser) for entry in unit.iter_DIEs() if entry.tag is not None]
    return Debug(lines, tuple(entries))


def _lines(program: Any, version: int) -> Iterator[tuple[int, tuple[bytes, int, int]]]:
    names = [file.name for file in program.header.file_entry]
    last = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if last is not None:
            assert last.address <= state.address
            file = names[last.file - (version < 5)]
            for address in range(last.address, state.address, 8):
                yield address, (file, last.line, last.column)
        last = None if state.end_sequence else state


def _described(entry: Any, unit: Any, ranges: Any, parser: LocationParser) -> Described:
    name = entry.attributes.get("DW_AT_name")
    low, high, listed = (entry.attributes.get(f"DW_AT_{what}") for what in ("low_pc", "high_pc", "ranges"))
    scope: tuple[tuple[int, int], ...] = ()
    if low is not None and high is not None:
        scope = ((low.value, low.value + high.value if high.form != "DW_FORM_addr" else high.value),)
    elif listed is not None:
        base = low.value if low is not None else unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        scope = tuple(
            _ranges(ranges.get_range_list_at_offset(listed.value, cu=unit), getattr(base, "value", base) or 0)
        )
    locations: tuple[tuple[tuple[int, int] | None, bytes], ...] = ()
    attribute = entry.attributes.get("DW_AT_location")
    if attribute is not None:
        found = parser.parse_from_attribute(attribute, unit.header.version, entry)
        locations = tuple(_locations(found, unit))
    return Described(str(entry.tag), "" if name is None else str(name.value), scope, locations)


def _ranges(found: list[Any], base: int) -> Iterator[tuple[int, int]]:
    for one in found:
        if isinstance(one, BaseAddressEntry):
            base = one.base_address
        elif isinstance(one, RangeEntry):
            start = 0 if one.is_absolute else base
            yield start + one.begin_offset, start + one.end_offset


def _locations(found: Any, unit: Any) -> Iterator[tuple[tuple[int, int] | None, bytes]]:
    if isinstance(found, LocationExpr):
        yield None, bytes(found.loc_expr)
        return
    top = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
    base = top.value if top is not None else 0
    for one in found:
        if isinstance(one, LocationEntry):
            start = 0 if one.is_absolute else base
            yield (start + one.begin_offset, start + one.end_offset), bytes(one.loc_expr)
        else:
            base = one.base_address

"""Debug sections follow the code that they describe (toolchain-conventions, section 6.6).

DWARF holds lengths and deltas inline, so code that moves or changes makes it wrong even when all relocations are
followed.  `rewrite` makes it true again, or says why that cannot be done; then the writer drops all of it, as
`llvm-strip -g` and `bpftool gen object` do.  `.BTF` and `.BTF.ext`, which the kernel reads, are not among these.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llvm_bridge import dwarf_line, dwarf_lists
from llvm_bridge.dwarf_edits import Edits
from llvm_bridge.dwarf_forms import Cursor, DwarfError
from llvm_bridge.dwarf_info import InfoRewriter
from llvm_bridge.dwarf_lists import Address, Context, Range, Target
from llvm_bridge.dwarf_moves import moves_of
from llvm_bridge.dwarf_names import CodeNames, Pieces
from llvm_bridge.dwarf_places import Places
from llvm_bridge.dwarf_units import UT_SKELETON, UT_SPLIT_COMPILE, UT_SPLIT_TYPE, DebugUnit, read_units
from llvm_bridge.elf import Elf, ObjectError, Relocation, data_addend, put_addend, relocation_bytes
from llvm_bridge.layout import Layout
from verifier_model.bpf.unit import Function

_PREFIXES: Final = (".debug_", ".zdebug_", ".eh_frame", ".gnu.debuglto_")
_COMPRESSED: Final = 0x800  # SHF_COMPRESSED
# Indices of .debug_info by offset; a consumer makes its own where they are missing.
_INDICES: Final = frozenset(
    {".debug_names", ".debug_pubnames", ".debug_pubtypes", ".debug_gnu_pubnames", ".debug_gnu_pubtypes"}
)
_UNDERSTOOD: Final = _INDICES | {
    ".debug_info", ".debug_abbrev", ".debug_line", ".debug_addr", ".debug_aranges", ".debug_frame", ".debug_rnglists",
    ".debug_ranges", ".debug_loclists", ".debug_loc", ".debug_str", ".debug_line_str", ".debug_str_offsets",
    ".debug_macro", ".debug_macinfo",
}  # fmt: skip


def describes_addresses(name: str) -> bool:
    return name.startswith(_PREFIXES)


def debug_sections(elf: Elf) -> frozenset[int]:
    """The sections to drop when they cannot be made true, without their REL sections (which go with them)."""
    return frozenset(index for index, section in enumerate(elf.sections) if describes_addresses(section.name))


def split_from_elsewhere(elf: Elf) -> str | None:
    """Why the object's debug information lies in another file (-gsplit-dwarf) or is that other file, None otherwise."""
    for section in elf.sections:
        if section.name.endswith(".dwo") and describes_addresses(section.name):
            return f"section {section.name} holds the debug information of another object"
    index = elf.section_index(".debug_info")
    data = b"" if index is None else elf.sections[index].data
    if elf.section_index(".debug_info") is None or len(data) < 7:
        return None
    version = int.from_bytes(data[4:6], elf.order)
    if version == 5 and data[6] in (UT_SKELETON, UT_SPLIT_COMPILE, UT_SPLIT_TYPE):
        return "its debug information lies in a .dwo file"
    return "its debug information lies in a .dwo file" if _names_dwo(elf, data) else None


def _names_dwo(elf: Elf, data: bytes) -> bool:
    """Does a unit of DWARF 4 name a .dwo file (DW_AT_GNU_dwo_name)?"""
    from llvm_bridge.dwarf_units import AT_DWO_NAME, AT_GNU_DWO_NAME, abbreviation_table

    index = elf.section_index(".debug_abbrev")
    if index is None:
        return False
    try:
        cursor = Cursor(data, elf.order, 4)
        version = cursor.number(2)
        if version == 5:
            cursor.skip(2)
        table = abbreviation_table(elf.sections[index].data, elf.order, cursor.number(4), version)
    except DwarfError:
        return False
    names = {name for abbreviation in table.by_code.values() for name, _, _ in abbreviation.raw}
    return bool(names & {AT_GNU_DWO_NAME, AT_DWO_NAME})


@dataclass(frozen=True, slots=True)
class Rewritten:
    """New contents of sections (REL sections too) by index, and sections that have to go."""

    contents: Mapping[int, bytes]
    dropped: frozenset[int]


NOTHING_TO_DO: Final = Rewritten({}, frozenset())


def rewrite(layout: Layout, functions: Mapping[str, Function]) -> Rewritten | str:
    """The debug sections of the layout's source as they have to be for the new `functions`, or why they must go."""
    elf = layout.source.elf
    if not debug_sections(elf):
        return NOTHING_TO_DO
    try:
        return _Rewriter(layout, functions).run()
    except (DwarfError, ObjectError) as error:
        return str(error)
    except (IndexError, KeyError, OverflowError, ValueError) as error:
        return f"debug sections that contradict themselves ({type(error).__name__})"


class _Rewriter:
    def __init__(self, layout: Layout, functions: Mapping[str, Function]) -> None:
        self.layout = layout
        self.elf = layout.source.elf
        self.moves = moves_of(layout, functions)
        self.names: dict[str, int] = {}
        for index in sorted(debug_sections(self.elf)):
            section = self.elf.sections[index]
            if section.name not in _UNDERSTOOD or section.name in self.names:
                raise DwarfError(f"debug section {section.name} is of an unknown kind")
            if section.flags & _COMPRESSED:
                raise DwarfError("compressed debug sections")
            self.names[section.name] = index
        self.places = Places(self.elf)
        self.edits: dict[str, Edits] = {name: Edits() for name in self.names}
        self.rebuilt: dict[str, Target] = {}
        self.new_lists: dict[str, dict[int, int]] = {}
        self.added: dict[str, list[Relocation]] = {}

    def _data(self, name: str) -> bytes:
        return self.elf.sections[self.names[name]].data if name in self.names else b""

    def run(self) -> Rewritten:
        order = self.elf.order
        units = read_units(self._data(".debug_info"), self._data(".debug_abbrev"), order)
        entries, abbreviations, lists = map(self._data, (".debug_info", ".debug_abbrev", ".debug_loclists"))
        names = CodeNames(self.places, order, self._data(".debug_rnglists"), Pieces())
        info = InfoRewriter(names, self.moves, units, entries, abbreviations, lists, self.edits, order)
        info.collect()
        self._lines()
        for name, is_location in ((".debug_rnglists", False), (".debug_loclists", True)):
            self._lists(name, is_location, info, units)
        for name, is_location in ((".debug_ranges", False), (".debug_loc", True)):
            self._old_lists(name, is_location, info)
        contents: dict[int, bytes] = {}
        for name in self.names:
            contents.update(self._finished(name, info))
        gone = frozenset(self.names[n] for n in _INDICES & self.names.keys()) if info.entries_move else frozenset()
        return Rewritten(contents, gone)

    def _target(self) -> Target:
        return Target(self.elf.order, self.moves.position, self.layout.symbol_value)

    def _lines(self) -> None:
        name = ".debug_line"
        data = self._data(name)
        relocations = {
            place: (found.section, found.symbol, found.byte)
            for place, found in (self.places.addresses(name) if data else {}).items()
        }
        for header in dwarf_line.tables(data, self.elf.order):
            found = []
            for sequence in dwarf_line.sequences(data, self.elf.order, header, relocations):
                section = sequence.section
                rows = dwarf_line.moved_rows(sequence.rows, lambda old, at=section: self.moves.position(at, old))  # type: ignore[misc]
                moved = dwarf_line.Sequence(sequence.symbol, section, rows)
                found.append((moved, self.layout.symbol_value(sequence.symbol)))
            shift = self.edits[name].moved(header.table) - header.table if self.edits[name].parts else 0
            program, added = dwarf_line.encoded(header, found, self.elf.order, header.start + shift)
            self.added.setdefault(name, []).extend(added)
            length = header.start - header.table - 4 + len(program)
            self.edits[name].put(header.table, header.table + 4, length.to_bytes(4, self.elf.order))
            self.edits[name].put(header.start, header.end, program)

    def _lists(self, name: str, is_location: bool, info: InfoRewriter, units: Sequence[DebugUnit]) -> None:
        if name not in self.names:
            return
        data, order = self._data(name), self.elf.order
        target = self._target()
        moved: dict[int, int] = {}
        uses = info.locations if is_location else info.ranges
        used = sorted(uses)
        for part in dwarf_lists.contributions(data, order):
            table = [dwarf_lists.list_offset(data, order, part.base, n) for n in range(part.count)]
            own = used[bisect_left(used, part.base) : bisect_left(used, part.end)]
            extra = info.restricted.get(part.base, []) if is_location else []
            starts = sorted({*table, *own})
            # Lists lie one behind the other: none reads on into the next.
            ends = dict(zip(starts, [*starts[1:], part.end], strict=True))
            if extra and not table:
                raise DwarfError("a table of lists without offsets")

            def write(old: int, ends: dict[int, int] = ends, extra: list[list[Range]] = extra) -> None:
                if old < 0:
                    dwarf_lists.write_list(target, extra[-1 - old], is_location)
                    return
                use = uses.get(old)
                if use is None:  # nobody refers to it
                    dwarf_lists.write_list(target, (), is_location)
                    return
                cursor = Cursor(data, order, old, ends[old])
                ranges = list(dwarf_lists.read_list(cursor, info.names.context(use.unit, name), is_location))
                dwarf_lists.write_list(target, info.truths(use, ranges, is_location), is_location)

            start = len(target.data)
            moved.update(dwarf_lists.write_contribution(target, starts, table, len(extra), write))
            moved[part.base] = start + part.base - part.start
        self.rebuilt[name], self.new_lists[name] = target, moved

    def _old_lists(self, name: str, is_location: bool, info: InfoRewriter) -> None:
        if name not in self.names:
            return
        data = self._data(name)
        target = self._target()
        moved: dict[int, int] = {}
        uses = info.old_locations if is_location else info.old_ranges
        starts = sorted(uses)
        for old, end in zip(starts, [*starts[1:], len(data)], strict=False):
            context: Context = info.names.context(uses[old].unit, name)
            ranges = list(dwarf_lists.read_old_list(Cursor(data, self.elf.order, old, end), context, is_location))
            moved[old] = len(target.data)
            new = info.truths(uses[old], ranges, is_location)
            dwarf_lists.write_old_list(target, new, is_location, context.unit_base)
        self.rebuilt[name], self.new_lists[name] = target, moved

    def moved(self, name: str, offset: int) -> int:
        """The new offset in a debug section of what was at `offset`."""
        if name in self.new_lists:
            found = self.new_lists[name].get(offset)
            if found is None:
                raise DwarfError(f"a reference into {name} to something else than a list")
            return found
        return self.edits[name].moved(offset) if name in self.edits else offset

    def _finished(self, name: str, info: InfoRewriter) -> dict[int, bytes]:
        index = self.names[name]
        table = self.places.tables.get(index)
        if name in self.rebuilt:
            data, entries = bytes(self.rebuilt[name].data), self.rebuilt[name].relocations
        else:
            patched = bytearray(self._data(name))
            edits = self.edits[name]
            entries = []
            for entry in self.places.relocations(name):
                if edits.covers(entry.offset):
                    continue
                self._patch(index, patched, entry)
                entries.append(Relocation(edits.moved(entry.offset), entry.symbol, entry.type))
            if name == ".debug_info":
                info.patch(patched, self.moved)
            elif name == ".debug_aranges":
                self._ranges_of_units(patched)
            elif name == ".debug_frame":
                self._frames(patched)
            data = edits.applied(patched)
            entries += self.added.get(name, [])
        if table is None:
            if entries:
                raise DwarfError(f"{name} needs relocations but has no table of them")
            return {index: data}
        return {index: data, table: relocation_bytes(entries, self.elf.order)}

    def _patch(self, index: int, data: bytearray, entry: Relocation) -> None:
        """The in-place addend of a relocation against code, or against a debug section that changed."""
        elf = self.elf
        symbol = elf.symbols[entry.symbol]
        if not symbol.is_defined:
            return
        old = symbol.value + data_addend(elf, index, entry)
        home = elf.sections[symbol.section].name
        if symbol.section in self.layout.source.code:
            new = self.moves.position(symbol.section, old)
            put_addend(data, elf.order, entry, new - self.layout.symbol_value(entry.symbol))
        # Offsets in .debug_info's own fields are set by what they mean (InfoRewriter.patch).
        elif home in self.names and elf.sections[index].name != ".debug_info":
            put_addend(data, elf.order, entry, self.moved(home, old) - symbol.value)

    def _ranges_of_units(self, data: bytearray) -> None:
        """`.debug_aranges`: pairs of an address and a length (DWARF 5, section 6.1.2)."""
        order, addresses = self.elf.order, self.places.addresses(".debug_aranges")
        data_places = {entry.offset for entry in self.places.relocations(".debug_aranges")} - addresses.keys()
        at = 0
        while at < len(data):
            cursor = Cursor(data, order, at)
            end = cursor.number(4) + 4 + at
            if (cursor.number(2), cursor.skip(4) and cursor.number(1), cursor.number(1)) != (2, 8, 0):
                raise DwarfError("a table of address ranges of an unknown version")
            cursor.skip(-(cursor.at - at) % 16)
            while cursor.at < end:
                start = addresses.get(cursor.at)
                if cursor.skip(8) in data_places:
                    cursor.skip(8)
                else:
                    self._length(data, cursor, start)
            at = end

    def _frames(self, data: bytearray) -> None:
        """`.debug_frame`: the code that each description covers (DWARF 5, section 6.4.1)."""
        order, addresses = self.elf.order, self.places.addresses(".debug_frame")
        at = 0
        while at < len(data):
            cursor = Cursor(data, order, at)
            length = cursor.number(4)
            if length >= 0xFFFFFFF0:
                raise DwarfError("64-bit DWARF")
            at = cursor.at + length
            cursor = Cursor(data, order, cursor.at, at)
            if cursor.number(4) == 0xFFFFFFFF:
                if cursor.number(1) not in (1, 3, 4) or cursor.string():
                    raise DwarfError("a frame description of an unknown version")
                continue
            start = addresses.get(cursor.at)
            cursor.skip(8)
            self._length(data, cursor, start)
            if any(cursor.take(at - cursor.at)):
                raise DwarfError("frames described instruction by instruction")

    def _length(self, data: bytearray, cursor: Cursor, start: Address | None) -> None:
        place = cursor.at
        length = cursor.number(8)
        if start is None:
            if length:
                raise DwarfError("an address without a relocation")
            return
        if start.section not in self.layout.source.code:
            return
        low, high = (self.moves.position(start.section, old) for old in (start.byte, start.byte + length))
        data[place : place + 8] = (high - low).to_bytes(8, self.elf.order)

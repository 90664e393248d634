"""ELF64 relocatable BPF objects as values: parse strictly, change values, serialise back.

Source of the layout: the System V gABI, chapters 4 (object files) and 5 (relocation).  Only what a compiler emits for
BPF is accepted: ELFCLASS64, ET_REL, EM_BPF, one symbol table, at most one table of relocations for a section, no
extended section numbers, no overlapping sections.
Everything else is an `ObjectError`, never a traceback; memory stays proportional to the size of the input.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from verifier_model.bpf.insn import ByteOrder

EM_BPF: Final = 247
ET_REL: Final = 1
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL = 0, 1, 2, 3, 4, 7, 8, 9
SHT_X86_64_UNWIND: Final = 0x70000001
SHT_LLVM_ADDRSIG: Final = 0x6FFF4C03
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK = 0x1, 0x2, 0x4, 0x40
SHN_UNDEF: Final = 0
SHN_LORESERVE: Final = 0xFF00
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
STV_DEFAULT, STV_HIDDEN = 0, 2

R_BPF_NONE, R_BPF_64_64, R_BPF_64_ABS64, R_BPF_64_ABS32, R_BPF_64_NODYLD32, R_BPF_64_32 = 0, 1, 2, 3, 4, 10

HEADER_BYTES: Final = 64
SECTION_HEADER_BYTES: Final = 64
SYMBOL_BYTES: Final = 24
REL_BYTES: Final = 16
# Longer than any name the kernel can hold (KSYM_NAME_LEN is 512); keeps hostile tables from multiplying one string.
MAX_NAME_BYTES: Final = 4096
# Names may share their ends in a string table, but not so that together they are this many times its size.
MAX_NAME_SHARE: Final = 16


class ObjectError(Exception):
    """The bytes are not an object that we understand; the text is the reason, fit for a one-line message."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section header and its contents.

    `size` is the size in bytes (for SHT_NOBITS there is no data behind it); `offset` the place in the file it was read
    from, which also gives the order in which contents are written back.
    """

    name: str
    name_offset: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int
    data: bytes

    @property
    def is_code(self) -> bool:
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR) and self.size > 0

    @property
    def is_allocated(self) -> bool:
        return bool(self.flags & SHF_ALLOC)

    def with_data(self, data: bytes) -> Section:
        return replace(self, data=data, size=len(data))


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol-table entry; `value` and `size` in bytes, `section` the raw st_shndx."""

    name: str
    name_offset: int
    type: int
    binding: int
    other: int
    section: int
    value: int
    size: int

    @property
    def visibility(self) -> int:
        return self.other & 3

    @property
    def is_defined(self) -> bool:
        return SHN_UNDEF < self.section < SHN_LORESERVE


@dataclass(frozen=True, slots=True)
class Relocation:
    """An ELF REL entry: `offset` in bytes from the start of the section it patches; the addend is in that place."""

    offset: int
    symbol: int
    type: int


@dataclass(frozen=True, slots=True)
class Elf:
    """One object: header fields, sections (index 0 is the null section), symbols of its only symbol table."""

    order: ByteOrder
    ident: bytes
    version: int
    flags: int
    name_table: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    symbol_table: int

    def section_index(self, name: str) -> int | None:
        """The first section of that name, None when there is none."""
        for index, section in enumerate(self.sections):
            if index and section.name == name:
                return index
        return None

    def relocation_sections(self) -> dict[int, int]:
        """For each section that has a REL section: its index -> the index of the REL section."""
        return {
            section.info: index
            for index, section in enumerate(self.sections)
            if section.type == SHT_REL and section.info < len(self.sections)
        }


def is_bpf_object(data: bytes) -> bool:
    """Cheap recognition by the first 20 bytes: ELF64, ET_REL, EM_BPF, either byte order."""
    if len(data) < 20 or data[:5] != b"\x7fELF\x02" or data[5] not in (1, 2):
        return False
    kind, machine = struct.unpack_from("<HH" if data[5] == 1 else ">HH", data, 16)
    return bool(kind == ET_REL and machine == EM_BPF)


def parse(data: bytes) -> Elf:
    """The object in `data`; raises ObjectError."""
    if not is_bpf_object(data):
        raise ObjectError("not an ELF64 relocatable BPF object")
    if len(data) < HEADER_BYTES:
        raise ObjectError("the ELF header is cut off")
    order: ByteOrder = "little" if data[5] == 1 else "big"
    mark = _mark(order)
    fields = struct.unpack_from(mark + "HHIQQQIHHHHHH", data, 16)
    _, _, version, _, _, table, flags, header_size, _, programs, entry_size, count, names = fields
    if header_size != HEADER_BYTES or programs or entry_size != SECTION_HEADER_BYTES:
        raise ObjectError("unusual ELF header sizes or program headers")
    if count == 0 or count >= SHN_LORESERVE or not 0 < names < count:
        raise ObjectError("extended or missing section numbers")
    if table + count * SECTION_HEADER_BYTES > len(data):
        raise ObjectError("the section header table is cut off")
    raw = [_parse_header(data, table + i * SECTION_HEADER_BYTES, mark) for i in range(count)]
    _refuse_overlap(raw, len(data), table, count)
    if raw[names].type != SHT_STRTAB:
        raise ObjectError("the section name table is not a string table")
    name_bytes = data[raw[names].offset : raw[names].offset + raw[names].size]
    sections = tuple(_fill(section, data, name_bytes, count) for section in raw)
    tables = [index for index, section in enumerate(sections) if section.type == SHT_SYMTAB]
    if len(tables) != 1:
        raise ObjectError(f"{len(tables)} symbol tables instead of one")
    targets = [section.info for section in sections if section.type == SHT_REL]
    if len(set(targets)) != len(targets):
        raise ObjectError("two tables of relocations for one section")
    symbols = _parse_symbols(sections[tables[0]], sections, mark)
    return Elf(order, data[:16], version, flags, names, sections, symbols, tables[0])


def _mark(order: ByteOrder) -> str:
    return "<" if order == "little" else ">"


def _parse_header(data: bytes, at: int, mark: str) -> Section:
    name, kind, flags, address, offset, size, link, info, align, entry = struct.unpack_from(
        mark + "IIQQQQIIQQ", data, at
    )
    return Section("", name, kind, flags, address, offset, size, link, info, align, entry, b"")


def _refuse_overlap(raw: list[Section], length: int, table: int, count: int) -> None:
    spans = [(0, HEADER_BYTES), (table, table + count * SECTION_HEADER_BYTES)]
    for section in raw:
        if section.type in (SHT_NULL, SHT_NOBITS):
            continue
        if section.offset + section.size > length:
            raise ObjectError("a section reaches beyond the end of the file")
        if section.size:
            spans.append((section.offset, section.offset + section.size))
    spans.sort()
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise ObjectError("sections overlap")


def _fill(section: Section, data: bytes, names: bytes, count: int) -> Section:
    if section.align & (section.align - 1):
        raise ObjectError("a section alignment is not a power of two")
    if section.align > 1 << 16:
        raise ObjectError("a section alignment is out of proportion")
    if section.type != SHT_NULL and section.link >= count:
        raise ObjectError("a section links to a section that does not exist")
    if section.type == SHT_NULL:
        return section
    contents = b"" if section.type == SHT_NOBITS else data[section.offset : section.offset + section.size]
    return replace(section, name=string_at(names, section.name_offset), data=contents)


def string_at(table: bytes, offset: int) -> str:
    """The NUL-terminated string at `offset` of a string table; raises ObjectError."""
    if offset == 0 and not table:
        return ""
    end = table.find(b"\0", offset, offset + MAX_NAME_BYTES) if offset < len(table) else -1
    if end < 0:
        raise ObjectError("a name lies outside its string table or is longer than 4096 bytes")
    return table[offset:end].decode("utf-8", "backslashreplace")


def _parse_symbols(table: Section, sections: tuple[Section, ...], mark: str) -> tuple[Symbol, ...]:
    strings = sections[table.link]
    if strings.type != SHT_STRTAB:
        raise ObjectError("the symbol table's string table is missing")
    if table.size % SYMBOL_BYTES or table.entry_size != SYMBOL_BYTES:
        raise ObjectError("the symbol table has entries of an unknown size")
    if not table.size or table.info > table.size // SYMBOL_BYTES:
        raise ObjectError("the symbol table's count of local symbols is wrong")
    symbols = []
    names: dict[int, str] = {}
    left = MAX_NAME_SHARE * len(strings.data)
    for name, info, other, section, value, size in struct.iter_unpack(mark + "IBBHQQ", table.data):
        if SHN_UNDEF < section < SHN_LORESERVE and section >= len(sections):
            raise ObjectError("a symbol lies in a section that does not exist")
        if name not in names:
            names[name] = string_at(strings.data, name)
            left -= len(names[name])
            if left < 0:
                raise ObjectError("symbol names overlap out of all proportion")
        symbols.append(Symbol(names[name], name, info & 0xF, info >> 4, other, section, value, size))
    return tuple(symbols)


def parse_relocations(elf: Elf, index: int) -> tuple[Relocation, ...]:
    """The entries of the REL section `index`; raises ObjectError."""
    section = elf.sections[index]
    if section.type != SHT_REL or section.size % REL_BYTES or section.entry_size != REL_BYTES:
        raise ObjectError(f"{section.name} is not a table of REL entries")
    if section.link != elf.symbol_table or not 0 < section.info < len(elf.sections):
        raise ObjectError(f"{section.name} is not tied to the symbol table and a section")
    entries = []
    for offset, info in struct.iter_unpack(_mark(elf.order) + "QQ", section.data):
        if info >> 32 >= len(elf.symbols):
            raise ObjectError(f"{section.name} names a symbol that does not exist")
        entries.append(Relocation(offset, info >> 32, info & 0xFFFFFFFF))
    return tuple(entries)


# Bytes and signedness of the in-place addend that a relocation of a data section has.
_ADDEND_FORMATS: Final = {R_BPF_64_ABS64: "q", R_BPF_64_ABS32: "i", R_BPF_64_NODYLD32: "i"}


def data_addend(elf: Elf, section: int, entry: Relocation) -> int:
    """The in-place addend in bytes of a relocation on a data section; raises ObjectError."""
    layout = _ADDEND_FORMATS.get(entry.type)
    data = elf.sections[section].data
    if layout is None or entry.offset + struct.calcsize(layout) > len(data):
        raise ObjectError(f"{elf.sections[section].name} has a relocation of type {entry.type} that we cannot read")
    addend: int = struct.unpack_from(_mark(elf.order) + layout, data, entry.offset)[0]
    return addend


def put_addend(data: bytearray, order: ByteOrder, entry: Relocation, addend: int) -> None:
    """Write back what `data_addend` read."""
    struct.pack_into(_mark(order) + _ADDEND_FORMATS[entry.type], data, entry.offset, addend)


def relocation_bytes(entries: Iterable[Relocation], order: ByteOrder) -> bytes:
    pack = struct.Struct(_mark(order) + "QQ").pack
    return b"".join(pack(entry.offset, entry.symbol << 32 | entry.type) for entry in entries)


def symbol_bytes(symbols: Iterable[Symbol], order: ByteOrder) -> bytes:
    pack = struct.Struct(_mark(order) + "IBBHQQ").pack
    return b"".join(pack(s.name_offset, s.binding << 4 | s.type, s.other, s.section, s.value, s.size) for s in symbols)


def with_sections(elf: Elf, new: dict[int, bytes]) -> Elf:
    """The object with the contents of some sections replaced."""
    sections = tuple(s.with_data(new[i]) if i in new else s for i, s in enumerate(elf.sections))
    return replace(elf, sections=sections)


def with_symbols(elf: Elf, symbols: tuple[Symbol, ...]) -> Elf:
    """The object with other symbols; the table's bytes are made when the object is serialised."""
    return replace(elf, symbols=symbols)


def serialise(elf: Elf) -> bytes:
    """The object as bytes: contents in their old order and alignment, section headers last, as LLVM lays them out."""
    table = elf.symbol_table
    sections = list(elf.sections)
    sections[table] = sections[table].with_data(symbol_bytes(elf.symbols, elf.order))
    out = bytearray(HEADER_BYTES)
    order = sorted(
        range(1, len(sections)), key=lambda index: (sections[index].offset, bool(sections[index].data), index)
    )
    for index in order:
        section = sections[index]
        _pad(out, section.align)
        sections[index] = replace(section, offset=len(out))
        out += section.data
    _pad(out, 8)
    start = len(out)
    mark = _mark(elf.order)
    for s in sections:
        fields = (s.name_offset, s.type, s.flags, s.address, s.offset, s.size, s.link, s.info, s.align, s.entry_size)
        out += struct.pack(mark + "IIQQQQIIQQ", *fields)
    sizes = (HEADER_BYTES, 0, 0, SECTION_HEADER_BYTES, len(sections), elf.name_table)
    header = struct.pack(mark + "HHIQQQIHHHHHH", ET_REL, EM_BPF, elf.version, 0, 0, start, elf.flags, *sizes)
    out[:HEADER_BYTES] = elf.ident + header
    return bytes(out)


def _pad(out: bytearray, align: int) -> None:
    if align > 1:
        out += bytes(-len(out) % align)

"""Removing sections from an object, with every section and symbol index renumbered that something else holds.

Indices live in: section headers (link; info of REL sections), symbols (section), REL entries (symbol), the symbol
table's count of locals (info), and `.llvm_addrsig` (a list of ULEB128 symbol indices).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from llvm_bridge.elf import (
    SHT_LLVM_ADDRSIG,
    SHT_REL,
    SHT_SYMTAB,
    STB_LOCAL,
    Elf,
    ObjectError,
    Relocation,
    Section,
    parse_relocations,
    relocation_bytes,
)


def drop_sections(elf: Elf, unwanted: frozenset[int]) -> Elf:
    """The object without those sections, their REL sections and their symbols; raises ObjectError if one is needed."""
    if not unwanted:
        return elf
    unwanted |= {index for target, index in elf.relocation_sections().items() if target in unwanted}
    if {elf.symbol_table, elf.name_table, elf.sections[elf.symbol_table].link} & unwanted:
        raise ObjectError("the symbol and string tables cannot be dropped")
    section_map = _renumber(index not in unwanted for index in range(len(elf.sections)))
    kept = [not (symbol.is_defined and symbol.section in unwanted) for symbol in elf.symbols]
    symbol_map = _renumber(kept)
    symbols = tuple(
        replace(symbol, section=section_map[symbol.section]) if symbol.is_defined else symbol
        for symbol, keep in zip(elf.symbols, kept, strict=True)
        if keep
    )
    sections = tuple(
        _renumbered(elf, index, section_map, symbol_map) for index in range(len(elf.sections)) if index not in unwanted
    )
    locals_ = sum(symbol.binding == STB_LOCAL for symbol in symbols)
    table = section_map[elf.symbol_table]
    sections = tuple(replace(s, info=locals_) if i == table else s for i, s in enumerate(sections))
    names = section_map[elf.name_table]
    return replace(elf, sections=sections, symbols=symbols, symbol_table=table, name_table=names)


def _renumber(kept: Iterable[bool]) -> dict[int, int]:
    return {old: new for new, old in enumerate(index for index, keep in enumerate(kept) if keep)}


def _renumbered(elf: Elf, index: int, sections: Mapping[int, int], symbols: Mapping[int, int]) -> Section:
    section = elf.sections[index]
    if section.link not in sections:
        raise ObjectError(f"{section.name} is linked to a section that has to go")
    section = replace(section, link=sections[section.link])
    if section.type == SHT_REL:
        entries = parse_relocations(elf, index)
        try:
            moved = [Relocation(entry.offset, symbols[entry.symbol], entry.type) for entry in entries]
        except KeyError:
            raise ObjectError(f"{section.name} refers to a section that has to go") from None
        if section.info not in sections:
            raise ObjectError(f"{section.name} is about a section that has to go")
        return replace(section, info=sections[section.info]).with_data(relocation_bytes(moved, elf.order))
    if section.type == SHT_LLVM_ADDRSIG:
        indices = (symbols.get(number) for number in uleb_list(section.data))
        return section.with_data(uleb_bytes(number for number in indices if number is not None))
    if section.info and section.type != SHT_SYMTAB:
        raise ObjectError(f"{section.name} holds an index of unknown meaning")
    return section


def uleb_list(data: bytes) -> tuple[int, ...]:
    """The ULEB128 numbers in `data`; raises ObjectError when the last is cut off or one exceeds 63 bits."""
    numbers = []
    value = shift = 0
    for byte in data:
        if shift > 56:
            raise ObjectError("a ULEB128 number is too long")
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(value)
            value = shift = 0
    if shift:
        raise ObjectError("a ULEB128 number is cut off")
    return tuple(numbers)


def uleb_bytes(numbers: Iterable[int]) -> bytes:
    out = bytearray()
    for number in numbers:
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)

"""Which operation of a kernel structure a program implements: the tables of `.struct_ops` (libbpf, struct_ops maps)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llvm_bridge.elf import Elf, data_addend, parse_relocations
from llvm_bridge.object import CodeSection
from verifier_model.bpf.btf import Btf, BtfError, Kind, Type, essential_name

_PREFIXES: Final = (".struct_ops", "?.struct_ops")


def operations(elf: Elf, types: Btf | None, code: Mapping[int, CodeSection]) -> dict[str, tuple[str, str]]:
    """(structure, member) by function; functions that serve as several different operations are left out."""
    found: dict[str, set[tuple[str, str]]] = {}
    tables = elf.relocation_sections()
    # Offsets of variables in BTF come true only with the loader.
    starts = {(elf.sections[s.section].name, s.name): s.value for s in elf.symbols if 0 < s.section < len(elf.sections)}
    for index, section in enumerate(elf.sections):
        if types is None or not section.name.startswith(_PREFIXES) or index not in tables:
            continue
        for entry in parse_relocations(elf, tables[index]):
            symbol = elf.symbols[entry.symbol]
            home = code.get(symbol.section)
            placed = None if home is None else home.at(symbol.value + data_addend(elf, index, entry))
            member = None if placed is None else _member(types, section.name, entry.offset, starts)
            if placed is not None and member is not None:
                found.setdefault(placed.name, set()).add(member)
    return {name: next(iter(members)) for name, members in found.items() if len(members) == 1}


def _member(types: Btf, section: str, offset: int, starts: Mapping[tuple[str, str], int]) -> tuple[str, str] | None:
    """The member of a variable's structure at a byte of the section."""
    try:
        for table in types.types:
            if table.kind is not Kind.DATASEC or table.name != section:
                continue
            for variable in table.members:
                owner: Type = types.resolve(types.types[variable.type].type)
                start = starts.get((section, types.types[variable.type].name))
                for member in owner.members if owner.kind is Kind.STRUCT and start is not None else ():
                    if start is not None and start + member.value // 8 == offset:
                        return essential_name(owner.name), member.name
    except BtfError:
        pass
    return None

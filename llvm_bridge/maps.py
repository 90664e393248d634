"""Map definitions: the BTF-defined ones of `.maps` (libbpf, parse_btf_map_def) and the old structs of `maps`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from llvm_bridge.elf import SHF_WRITE, SHN_UNDEF, SHT_NOBITS, SHT_PROGBITS, STB_GLOBAL, STT_NOTYPE, STT_OBJECT, Elf
from verifier_model.bpf.btf import LINKAGE_EXTERN, Btf, BtfError, Kind, Type
from verifier_model.bpf.unit import DataSection, MapDef, inner_name

MAP_SECTIONS: Final = (".maps", "maps")
BPF_MAP_TYPE_ARRAY: Final = 2
_INTERNAL: Final = (".rodata", ".data", ".bss")
_DESCRIPTOR_BYTES: Final = 4  # what a map of maps or programs holds
_PLAIN: Final = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.FLOAT})
_LEGACY_WORDS: Final = 5  # type, key size, value size, entries, flags


def map_symbols(elf: Elf) -> dict[str, tuple[int, int]]:
    """Every map by its symbol's name: (section index, byte)."""
    sections = {index for index, section in enumerate(elf.sections) if section.name in MAP_SECTIONS}
    return {
        symbol.name: (symbol.section, symbol.value)
        for symbol in elf.symbols
        if symbol.section in sections and symbol.type in (STT_OBJECT, STT_NOTYPE) and symbol.name
    }


def _external(elf: Elf, graph: Btf | None) -> Iterator[Type]:
    """Variables that only another object defines: what the kernel or libbpf supplies lies in a section of BTF's."""
    if graph is None:
        return
    missing = {
        symbol.name
        for symbol in elf.symbols
        if symbol.section == SHN_UNDEF and symbol.binding == STB_GLOBAL and symbol.name
    }
    placed = {member.type for section in graph.types if section.kind is Kind.DATASEC for member in section.members}
    for index, variable in enumerate(graph.types):
        is_extern = variable.kind is Kind.VAR and variable.linkage == LINKAGE_EXTERN
        if is_extern and variable.name in missing and index not in placed:
            yield variable


def external_maps(elf: Elf, graph: Btf | None) -> dict[str, MapDef]:
    """Maps that another object defines: undefined symbols whose type in BTF is a map's (libbpf, linker.c)."""
    found = {}
    for variable in _external(elf, graph):
        assert graph is not None
        definition = _definition(graph, variable.name, variable.type, is_external=True)
        if definition is not None and definition.type and definition.key_size:
            found[variable.name] = definition
    return found


def external_data(elf: Elf, graph: Btf | None) -> dict[str, DataSection]:
    """Numbers and arrays that another object defines, each as a section of its own: nobody knows its neighbours."""
    found = {}
    for variable in _external(elf, graph):
        assert graph is not None
        kinds = list(_qualifiers(graph, variable.type))
        if graph.types[kinds[-1]].kind in _PLAIN:
            is_writable = all(graph.types[at].kind is not Kind.CONST for at in kinds)
            found[variable.name] = DataSection(variable.name, graph.size_of(variable.type), is_writable)
    return found


def _qualifiers(graph: Btf, index: int) -> Iterator[int]:
    """The type, and what it qualifies, renames or is an array of, down to what is neither."""
    yield index
    for _ in range(len(graph.types)):
        if graph.types[index].kind not in (Kind.CONST, Kind.VOLATILE, Kind.TYPEDEF, Kind.ARRAY, Kind.RESTRICT):
            return
        index = graph.types[index].type
        yield index


def read_maps(elf: Elf, graph: Btf | None, external: Mapping[str, MapDef]) -> dict[str, MapDef]:
    """All maps of the object: its own, `external` ones, those of data sections; sizes that nobody declares are 0."""
    declared = _declared(graph) if graph else {}
    sections = _sections(graph) if graph else {}
    maps = {}
    for name, (section, start) in map_symbols(elf).items():
        found = declared.get(name)
        if found is None and elf.sections[section].name == "maps":
            found = _legacy(name, elf.sections[section].data[start : start + 4 * _LEGACY_WORDS], elf)
        maps[name] = found or MapDef(name, 0, 0, 0, 0)
    maps.update(external)
    for name, data in data_sections(elf).items():
        if name.startswith(_INTERNAL):
            definition = MapDef(name, BPF_MAP_TYPE_ARRAY, 4, data.size, 1, is_private=True)
            maps.setdefault(name, replace(definition, value_type=sections.get(name, 0)))
    return maps


def data_sections(elf: Elf) -> dict[str, DataSection]:
    """The allocated sections without code, maps and metadata that instructions may address."""
    places: dict[int, list[tuple[str, int]]] = {}
    for symbol in elf.symbols:
        if symbol.type == STT_OBJECT and symbol.name:
            places.setdefault(symbol.section, []).append((symbol.name, symbol.value))
    return {
        section.name: DataSection(
            section.name,
            section.size,
            _is_writable(section.name, section.flags),
            section.data.rfind(b"\0"),
            tuple(places.get(index, ())),
            section.data if section.name.startswith(".rodata") else b"",
        )
        for index, section in enumerate(elf.sections)
        if section.is_allocated
        and section.type in (SHT_PROGBITS, SHT_NOBITS)
        and not section.is_code
        and section.name not in (*MAP_SECTIONS, "license", "version", ".text", ".eh_frame")
    }


def _is_writable(name: str, flags: int) -> bool:
    return bool(flags & SHF_WRITE) and not name.startswith((".rodata", ".kconfig"))


def _legacy(name: str, data: bytes, elf: Elf) -> MapDef | None:
    if len(data) < 4 * _LEGACY_WORDS:
        return None
    kind, key, value, entries, flags = struct.unpack(("<" if elf.order == "little" else ">") + "5I", data)
    return MapDef(name, kind, key, value, entries, flags)


def _sections(graph: Btf) -> dict[str, int]:
    return {entry.name: index for index, entry in enumerate(graph.types) if entry.kind is Kind.DATASEC}


def _declared(graph: Btf) -> dict[str, MapDef]:
    found = {}
    for section in graph.types:
        if section.kind is not Kind.DATASEC or section.name != ".maps":
            continue
        for entry in section.members:
            variable = graph.types[entry.type]
            if variable.kind is Kind.VAR:
                definition = _definition(graph, variable.name, variable.type)
                if definition is not None:
                    found[variable.name] = definition
    return found


def _definition(graph: Btf, name: str, type: int, is_inner: bool = False, is_external: bool = False) -> MapDef | None:
    """The map that a variable of that type is, None when it is not a structure we can read.

    Of a map that another object defines the value's type may be a mere name: its size is 0 then.
    """
    numbers = {"type": 0, "key_size": 0, "value_size": 0, "max_entries": 0, "map_flags": 0}
    value_type, inner = 0, None
    try:
        structure = graph.resolve(type)
        if structure.kind is not Kind.STRUCT:
            return None
        for member in structure.members:
            if member.name in numbers:
                numbers[member.name] = _number(graph, member.type)
            elif member.name in ("key", "value"):
                pointer = graph.resolve(member.type)
                if pointer.kind is not Kind.PTR:
                    return None
                is_elsewhere = is_external and graph.resolve(pointer.type).kind is Kind.FWD
                numbers[member.name + "_size"] = 0 if is_elsewhere else graph.size_of(pointer.type)
                value_type = pointer.type if member.name == "value" else value_type
            elif member.name == "values" and not is_inner:
                numbers["value_size"] = _DESCRIPTOR_BYTES
                inner = _inner(graph, name, member.type)
    except BtfError:
        return None
    return MapDef(
        name,
        numbers["type"],
        numbers["key_size"],
        numbers["value_size"],
        numbers["max_entries"],
        numbers["map_flags"],
        value_type=value_type,
        inner=inner,
        is_external=is_external,
    )


def _inner(graph: Btf, name: str, type: int) -> MapDef | None:
    """The template that `__array(values, struct inner)` names: an array of pointers to its structure."""
    array = graph.resolve(type)
    pointer = graph.resolve(array.type) if array.kind is Kind.ARRAY else array
    if pointer.kind is not Kind.PTR or graph.resolve(pointer.type).kind is not Kind.STRUCT:
        return None
    return _definition(graph, inner_name(name), pointer.type, is_inner=True)


def _number(graph: Btf, index: int) -> int:
    """__uint(name, n) is a pointer to an array of n; __ulong(name, n) an enum whose one constant is n."""
    found = graph.resolve(index)
    if found.kind is Kind.PTR:
        array = graph.resolve(found.type)
        if array.kind is Kind.ARRAY:
            return array.count
    if found.kind in (Kind.ENUM, Kind.ENUM64) and len(found.members) == 1:
        return found.members[0].value
    raise BtfError("a map attribute is no number")

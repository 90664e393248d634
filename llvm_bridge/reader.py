"""From an object's bytes to a unit: functions with symbolic operands, maps, data sections, licence.

What is in doubt stays as clang wrote it: a whole object comes back as `Untouched`, a section is *frozen* (every byte
offset in it stays; all its functions are untouchable), a single function is marked untouchable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from llvm_bridge import elf as elf_file
from llvm_bridge.disassembly import Surroundings, read_function
from llvm_bridge.dwarf import describes_addresses, split_from_elsewhere
from llvm_bridge.elf import (
    SHT_LLVM_ADDRSIG,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    SHT_X86_64_UNWIND,
    STB_LOCAL,
    STT_FUNC,
    STT_SECTION,
    Elf,
    ObjectError,
    Relocation,
    Symbol,
    data_addend,
    parse_relocations,
)
from llvm_bridge.facts_section import without_section
from llvm_bridge.maps import data_sections, external_data, external_maps, read_maps
from llvm_bridge.object import CodeSection, Object, Opaque, Placed, Untouched
from llvm_bridge.operations import operations
from llvm_bridge.records import NO_RECORDS, read_records
from llvm_bridge.references import code_addend, places, references
from llvm_bridge.type_graph import type_graph
from verifier_model.bpf import sections as section_names
from verifier_model.bpf.btf import LINKAGE_STATIC, Btf, BtfError
from verifier_model.bpf.insn import SLOT_BYTES, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import AccessFacts, Block, Function, Unit

_KNOWN_TYPES: Final = frozenset(
    {
        SHT_NULL,
        SHT_PROGBITS,
        SHT_SYMTAB,
        SHT_STRTAB,
        SHT_NOTE,
        SHT_NOBITS,
        SHT_REL,
        SHT_X86_64_UNWIND,
        SHT_LLVM_ADDRSIG,
    }
)
# A copy of the program's bitcode or its command line would no longer match the code.
_STALE_IF_CHANGED: Final = (".llvmbc", ".llvmcmd", ".llvm.lto")
_LAST_LEVEL: Final = 4


def read_object(
    data: bytes, cpu_level: int | None = None, accesses: Mapping[str, AccessFacts] | None = None
) -> Object | Untouched:
    """The programs in an object.

    `cpu_level` (1 to 4) is the level the user asked for; without it the highest level of any instruction found counts,
    so that an object never gets an instruction above what clang already used.  `accesses` is what our own compilation
    recorded, by symbol name; a section in the object itself that claims to be such a record is taken out unread.
    """
    try:
        return _read(without_claims(bytes(data)), cpu_level, accesses or {})
    except (ObjectError, BtfError) as error:
        return Untouched(str(error))


def without_claims(data: bytes) -> bytes:
    """The object without the section of our plugin.

    As it is when something else needs that, or where a section of an unknown type may hold the numbers of others.
    """
    try:
        new = without_section(data)
        if new is not data:
            _refuse_unknown_types(elf_file.parse(data))
        return new
    except (ObjectError, BtfError):
        return data


def _read(data: bytes, cpu_level: int | None, accesses: Mapping[str, AccessFacts]) -> Object:
    elf = elf_file.parse(data)
    _refuse_unknown(elf)
    graph = type_graph(elf)
    bounds = _all_bounds(elf)
    _make_names_unique(bounds)
    records = read_records(elf, graph, bounds) if graph else NO_RECORDS
    code: dict[int, CodeSection] = {}
    functions: list[Function] = []
    maps_elsewhere, data_elsewhere = external_maps(elf, graph), external_data(elf, graph)
    names = references(elf, bounds, maps_elsewhere, data_elsewhere)
    for index, section in bounds.items():
        own = records.of_section(index)
        relocations = {entry.offset: entry for entry in section.relocations}
        around = Surroundings(section, elf.sections[index].data, elf.order, relocations, own, names)
        code[index], found = _read_section(elf, section, around, graph, records.types_of(index))
        functions += found
    functions = _guard_entries(elf, code, functions)
    implements = operations(elf, graph, bounds)
    functions = [
        replace(function, accesses=accesses.get(function.name), operation=implements.get(function.name))
        for function in functions
    ]
    unit = Unit(
        functions=tuple(functions),
        maps=read_maps(elf, graph, maps_elsewhere),
        data={**data_elsewhere, **data_sections(elf)},
        byte_order=elf.order,
        cpu_level=cpu_level or _level(functions),
        license=_license(elf),
        types=graph,
    )
    return Object(
        data,
        elf,
        unit,
        code,
        ext_section=records.section,
        ext=records.ext,
        ext_relocations=records.relocations,
        ext_relocation_type=records.relocation_type,
        ext_homes=records.homes,
        places=places(elf),
    )


def _refuse_unknown(elf: Elf) -> None:
    """Raises ObjectError for an object with parts whose ties to code we do not know."""
    elsewhere = split_from_elsewhere(elf)
    if elsewhere is not None:
        raise ObjectError(elsewhere)
    _refuse_unknown_types(elf)
    seen = set()
    for section in elf.sections[1:]:
        if section.name.startswith(_STALE_IF_CHANGED):
            raise ObjectError(f"section {section.name} repeats the code in another form")
        if section.is_allocated and section.name in seen:
            raise ObjectError(f"two sections are called {section.name}")
        if section.is_allocated:
            seen.add(section.name)


def _refuse_unknown_types(elf: Elf) -> None:
    for section in elf.sections[1:]:
        if section.type not in _KNOWN_TYPES:
            raise ObjectError(f"section {section.name} has the unknown type {section.type:#x}")


def _all_bounds(elf: Elf) -> dict[int, CodeSection]:
    """Every code section by its index, in one pass over the symbols."""
    symbols: dict[int, list[tuple[int, Symbol]]] = {i: [] for i, section in enumerate(elf.sections) if section.is_code}
    for number, symbol in enumerate(elf.symbols):
        if symbol.section in symbols:
            symbols[symbol.section].append((number, symbol))
    tables = elf.relocation_sections()
    return {index: _bounds(elf, index, here, tables.get(index)) for index, here in symbols.items()}


def _bounds(elf: Elf, index: int, here: Sequence[tuple[int, Symbol]], table: int | None) -> CodeSection:
    """The functions of a section by the symbols `here`; frozen when these do not tile it.

    `table` is the index of its REL section.
    """
    section = elf.sections[index]
    symbols = sorted((s.value, number, s) for number, s in here if s.type == STT_FUNC)
    relocations: tuple[Relocation, ...] = parse_relocations(elf, table) if table is not None else ()
    functions = tuple(Placed(s.name, value, s.size, number) for value, number, s in symbols)
    marks = {n: ("", "") for n, s in here if s.type not in (STT_FUNC, STT_SECTION)}
    own = next((number for number, s in here if s.type == STT_SECTION and s.value == 0), None)
    frozen = _untiled(functions, section.size)
    offsets = [entry.offset for entry in relocations]
    if len(set(offsets)) != len(offsets):
        frozen = "two relocations on one place"
    if frozen is None and any(offset % SLOT_BYTES or offset >= section.size for offset in offsets):
        frozen = "a relocation hits no instruction"
    return CodeSection(index, section.name, functions, relocations, marks, own, frozen)


def _untiled(functions: tuple[Placed, ...], size: int) -> str | None:
    """Why the functions do not lie back to back from 0 to `size`, None when they do."""
    if size % SLOT_BYTES or any(f.start % SLOT_BYTES or f.size % SLOT_BYTES for f in functions):
        return "a function does not start or end at an instruction"
    end = 0
    for function in functions:
        if function.start != end or not function.size:
            return f"code around {function.name} belongs to no function or to several"
        end += function.size
    return None if end == size else "code behind the last function"


def _make_names_unique(bounds: dict[int, CodeSection]) -> None:
    """Static functions of linked objects may share a name: all but the first are called name@section+offset."""
    taken: set[str] = set()
    for index, section in bounds.items():
        renamed = []
        for placed in section.functions:
            if placed.name in taken or not placed.name:
                placed = replace(placed, name=f"{placed.name}@{section.name}+{placed.start:#x}.{placed.symbol}")
            taken.add(placed.name)
            renamed.append(placed)
        bounds[index] = replace(section, functions=tuple(renamed))


def _read_section(
    elf: Elf, section: CodeSection, around: Surroundings, graph: Btf | None, types: Mapping[int, tuple[int, ...]]
) -> tuple[CodeSection, list[Function]]:
    marks: dict[int, tuple[str, str]] = {}
    inside: dict[str, list[int]] = {}
    frozen = section.frozen
    for number in section.marks:
        value = elf.symbols[number].value
        placed = section.at(value)
        if placed is not None:
            inside.setdefault(placed.name, []).append(value)
            marks[number] = (placed.name, f"L{(value - placed.start) // SLOT_BYTES}")
            if (value - placed.start) % SLOT_BYTES:
                frozen = frozen or "a symbol points into an instruction"
        elif value != elf.sections[section.index].size:
            frozen = frozen or "a symbol lies outside all functions"
    bodies: dict[str, tuple[Block, ...]] = {}
    opaque: dict[str, Opaque] = {}
    for placed in section.functions:
        try:
            if section.frozen is None:
                found = read_function(placed, around, inside.get(placed.name, ()))
                if isinstance(found, Opaque):
                    opaque[placed.name] = found
                else:
                    bodies[placed.name] = found
        except ObjectError as error:
            frozen = frozen or str(error)
    if set(types) - {placed.start for placed in section.functions}:
        frozen = frozen or "a .BTF.ext function record is at no function's start"
    marks = {number: mark for number, mark in marks.items() if mark[0] not in opaque}
    placed_types = tuple(
        replace(p, type_record=types.get(p.start), opaque=opaque.get(p.name)) for p in section.functions
    )
    section = replace(section, functions=placed_types, marks=marks, frozen=frozen)
    return section, [_function(elf, section, p, bodies.get(p.name, ()), graph) for p in section.functions]


def _function(elf: Elf, section: CodeSection, placed: Placed, blocks: tuple[Block, ...], graph: Btf | None) -> Function:
    symbol = elf.symbols[placed.symbol]
    is_local = symbol.binding == STB_LOCAL
    is_subprogram = section.name == ".text" or is_local
    prototype, type_id = None, 0
    if graph is not None:
        type_id = (placed.type_record[0] if placed.type_record else graph.function(symbol.name)) or 0
        prototype = graph.prototype(type_id) if type_id else None
        if prototype is not None and type_id and graph.types[type_id].linkage == LINKAGE_STATIC:
            is_local = True
    types: tuple[str | None, ...] = (None if is_subprogram else section_names.program_type(section.name),)
    if types == (None,) and not is_subprogram and graph is not None and type_id:
        types = section_names.types_of_context(graph.context(type_id)) or types
    reason = f"section {section.name} stays as it is: {section.frozen}" if section.frozen else None
    if reason is None and placed.opaque is not None:
        reason = "it has computed jumps"
    if reason is None and not _ends_well(blocks):
        reason = "control may run off the function's end"
    return Function(
        name=placed.name,
        section=section.name,
        blocks=blocks,
        program_type=types[0],
        also_types=tuple(other for other in types[1:] if other is not None),
        is_global=not is_local,
        is_subprogram=is_subprogram,
        # clang drops and splits arguments of static functions without telling BTF: only global ones keep their promise.
        argument_count=prototype.arguments if prototype and is_subprogram and not is_local else None,
        returns_void=bool(prototype and prototype.returns_void),
        untouchable=reason,
        type_id=type_id if prototype is not None else 0,
    )


def _ends_well(blocks: tuple[Block, ...]) -> bool:
    return bool(blocks) and blocks[-1].insns[-1].kind in (Kind.EXIT, Kind.JUMP)


def _guard_entries(elf: Elf, code: Mapping[int, CodeSection], functions: list[Function]) -> list[Function]:
    """Functions that something enters elsewhere than at the start become untouchable."""
    entered = set(_data_entries(elf, code))
    for function in functions:
        for _, insn in function.insns():
            if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION and insn.ref.addend:
                entered.add(insn.ref.name)
    for section in code.values():
        for placed in section.functions if section.frozen is None else ():
            for _, insn in placed.opaque.references if placed.opaque else ():
                if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION and insn.ref.addend:
                    entered.add(insn.ref.name)
    reason = "its inside is referred to from elsewhere"
    return [replace(f, untouchable=f.untouchable or reason) if f.name in entered else f for f in functions]


def _data_entries(elf: Elf, code: Mapping[int, CodeSection]) -> Iterator[str]:
    """Functions whose inside is addressed by data, or by code that we could not read."""
    for target, table in elf.relocation_sections().items():
        name = elf.sections[target].name
        is_read_code = target in code and code[target].frozen is None
        if is_read_code or describes_addresses(name) or name.startswith(".BTF"):
            continue
        for entry in parse_relocations(elf, table):
            symbol = elf.symbols[entry.symbol]
            home = code.get(symbol.section)
            if home is None or home.frozen is not None:
                continue
            old = symbol.value + (
                code_addend(elf, target, entry) if target in code else data_addend(elf, target, entry)
            )
            placed = home.at(old)
            if placed is None:
                raise ObjectError(f"{name} refers to code outside all functions")
            if old != placed.start:
                yield placed.name


def _level(functions: list[Function]) -> int:
    return max((insn.row.level for function in functions for _, insn in function.insns()), default=1)


def _license(elf: Elf) -> str:
    index = elf.section_index("license")
    return "" if index is None else elf.sections[index].data.split(b"\0")[0].decode("utf-8", "backslashreplace")

"""From a unit back to an object: every row of section 6 of toolchain-conventions is written from the one model.

Functions keep their order and lie back to back.  When the unit is as it was read, the input bytes come back as they
are. Debug sections follow the code, or go where they cannot (llvm_bridge/dwarf.py).  What cannot be placed is an
`Untouched`, never a guess.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from llvm_bridge import btf_ext
from llvm_bridge.assembly import Assembled, Assembler
from llvm_bridge.btf_ext import BtfExt, Record, Subsection
from llvm_bridge.dwarf import NOTHING_TO_DO, Rewritten, debug_sections, describes_addresses, rewrite
from llvm_bridge.elf import (
    R_BPF_64_32,
    STT_FUNC,
    Elf,
    ObjectError,
    Relocation,
    data_addend,
    parse_relocations,
    put_addend,
    relocation_bytes,
    serialise,
    with_sections,
)
from llvm_bridge.jump_tables import is_table, moved_tables
from llvm_bridge.layout import Layout, MisfitError, plan
from llvm_bridge.lint import UNREADABLE, lint
from llvm_bridge.object import CodeSection, Object, Untouched
from llvm_bridge.prune import drop_sections
from llvm_bridge.references import call_immediate, code_addend
from verifier_model.bpf.insn import SLOT_BYTES, ByteOffset, Insn, read_slot, write_slot
from verifier_model.bpf.unit import Unit


def write_object(source: Object, unit: Unit, debug_losses: Counter[str] | None = None) -> bytes | Untouched:
    """The object with the unit's functions in place of those it was read with.

    `Untouched.function` names the function that does not fit, if it is one; with that function as it was read the rest
    can be written.  The result has passed the lint.  `debug_losses` counts the reasons for which debug
    sections had to go.
    """
    try:
        changed = _changed_functions(source, unit)
        if not changed:
            return source.data
        data = _write(source, unit, changed, debug_losses)
    except MisfitError as misfit:
        return Untouched(misfit.reason, misfit.function)
    except (ObjectError, struct.error) as error:
        return Untouched(str(error))
    # What hides all other findings excuses none.
    new = Counter(lint(data)) - Counter(finding for finding in lint(source.data) if finding.rule != UNREADABLE)
    return Untouched(f"the written object fails the lint: {next(iter(new))}") if new else data


def _changed_functions(source: Object, unit: Unit) -> list[str]:
    """Names of the functions that differ; raises MisfitError when anything else than their instructions does."""
    old = source.unit
    if replace(unit, functions=old.functions) != old:
        raise MisfitError("maps, data, licence, byte order or CPU level of the unit were changed")
    if len(unit.functions) != len(old.functions):
        raise MisfitError("functions were added or removed")
    changed = []
    for before, after in zip(old.functions, unit.functions, strict=True):
        if before == after:
            continue
        if replace(after, blocks=before.blocks) != before:
            raise MisfitError("something else than the function's instructions was changed", before.name)
        if before.untouchable is not None:
            raise MisfitError(f"it must not be changed: {before.untouchable}", before.name)
        changed.append(before.name)
    return changed


def _write(source: Object, unit: Unit, changed: Iterable[str] = (), debug_losses: Counter[str] | None = None) -> bytes:
    functions = {function.name: function for function in unit.functions}
    layout = plan(source, functions, frozenset(changed))
    present = frozenset(insn.row.name for function in source.unit.functions for _, insn in function.insns())
    assembler = Assembler(layout, unit.cpu_level, present)
    built = {
        index: assembler.section(section, functions) for index, section in source.code.items() if section.frozen is None
    }
    elf = source.elf
    contents: dict[int, bytes] = {}
    tables = elf.relocation_sections()
    for index, section in source.code.items():
        if section.frozen is not None:
            contents[index] = _frozen_code(elf, section, layout)
            continue
        contents[index] = bytes(built[index].data)
        if index in tables:
            contents[tables[index]] = relocation_bytes(built[index].relocations, elf.order)
        elif built[index].relocations:
            raise MisfitError(f"{section.name} needs relocations but has no table of them")
    contents.update(_data_sections(elf, layout))
    contents.update(moved_tables(elf, _table_moves(layout)))
    contents.update(_records(source, built))
    debug = rewrite(layout, functions) if changed else NOTHING_TO_DO
    if isinstance(debug, str):
        if debug_losses is not None:
            debug_losses[f"debug sections dropped: {debug}"] += 1
        debug = Rewritten({}, debug_sections(elf))
    contents.update(debug.contents)
    elf = with_sections(elf, contents)
    symbols = tuple(
        replace(symbol, value=layout.symbol_value(number), size=_new_size(source, layout, number))
        for number, symbol in enumerate(elf.symbols)
    )
    return serialise(drop_sections(replace(elf, symbols=symbols), debug.dropped))


def _new_size(source: Object, layout: Layout, number: int) -> int:
    symbol = source.elf.symbols[number]
    section = source.code.get(symbol.section)
    if section is None or section.frozen is not None or symbol.type != STT_FUNC:
        return symbol.size
    placed = section.at(symbol.value)
    return layout.places[placed.name].size if placed else symbol.size


def _frozen_code(elf: Elf, section: CodeSection, layout: Layout) -> bytes:
    """The section as it was, with the in-place addends of relocations against moved code set anew."""
    data = bytearray(elf.sections[section.index].data)
    for entry in section.relocations:
        symbol = elf.symbols[entry.symbol]
        target = layout.source.code.get(symbol.section)
        if target is None or target.frozen is not None:
            continue
        old = symbol.value + code_addend(elf, section.index, entry)
        addend = _code_target(layout, target, old) - layout.symbol_value(entry.symbol)
        raw = read_slot(bytes(data[entry.offset : entry.offset + SLOT_BYTES]), ByteOffset(0), elf.order)
        slot = replace(raw, imm=call_immediate(addend) if entry.type == R_BPF_64_32 else addend)
        data[entry.offset : entry.offset + SLOT_BYTES] = write_slot(slot, elf.order)
    return bytes(data)


def _code_target(layout: Layout, section: CodeSection, old: int) -> int:
    """Where a reference from outside to the byte `old` of code has to go now."""
    placed = section.at(old)
    if placed is None:
        raise MisfitError(f"a reference to byte {old} of {section.name} hits no function")
    if placed.start != old and placed.name in layout.changed:
        raise MisfitError("its inside is referred to from elsewhere", placed.name)
    return layout.code_byte(section, old)


def _data_sections(elf: Elf, layout: Layout) -> dict[int, bytes]:
    """Data that holds addresses of code by REL entries with in-place addends: .struct_ops, function pointers, ..."""
    new: dict[int, bytes] = {}
    for target, table in elf.relocation_sections().items():
        section = elf.sections[target]
        if target in layout.source.code or section.name == ".BTF.ext" or describes_addresses(section.name):
            continue
        data = bytearray(section.data)
        for entry in parse_relocations(elf, table):
            home = layout.source.code.get(elf.symbols[entry.symbol].section)
            if home is None or home.frozen is not None:
                continue
            old = data_addend(elf, target, entry)
            moved = _code_target(layout, home, elf.symbols[entry.symbol].value + old)
            addend = moved - layout.symbol_value(entry.symbol)
            if addend == old:
                continue
            if section.name in (".BTF", ".maps", "license"):
                raise MisfitError(f"{section.name} holds an address of code that moved")
            put_addend(data, elf.order, entry, addend)
        if data != section.data:
            new[target] = bytes(data)
    return new


def _table_moves(layout: Layout) -> Iterator[tuple[Insn, int]]:
    """Loads of jump tables, and by how many bytes the function around each has moved."""
    for section in layout.source.code.values():
        for placed in section.functions if section.frozen is None else ():
            for _, insn in placed.opaque.references if placed.opaque is not None else ():
                if is_table(insn):
                    yield insn, layout.places[placed.name].start - placed.start


def _records(source: Object, built: dict[int, Assembled]) -> dict[int, bytes]:
    """New contents of .BTF.ext and .rel.BTF.ext."""
    if source.ext is None or source.ext_section is None:
        return {}
    tables = []
    for number, table in enumerate(source.ext.tables):
        tables.append(tuple(_subsection(source, number, subsection, built) for subsection in table))
    ext = replace(source.ext, tables=(tables[0], tables[1], tables[2]))
    for number in range(3):
        expected = {home: bool(_records_of(assembled, number)) for home, assembled in built.items()}
        homes = {source.ext_homes[subsection.name_offset] for subsection in ext.tables[number]}
        if any(needed and home not in homes for home, needed in expected.items()):
            raise MisfitError("a rewrite made records for a section that had none")
    new = {source.ext_section: btf_ext.serialise(ext)}
    if source.ext_relocations is not None:
        new[source.ext_relocations] = relocation_bytes(_ext_relocations(source, ext), source.elf.order)
    return new


def _records_of(assembled: Assembled, table: int) -> list[Record]:
    return (assembled.types, assembled.lines, assembled.cores)[table]


def _subsection(source: Object, number: int, old: Subsection, built: dict[int, Assembled]) -> Subsection:
    assembled = built.get(source.ext_homes[old.name_offset])
    return old if assembled is None else replace(old, records=tuple(_records_of(assembled, number)))


def _ext_relocations(source: Object, ext: BtfExt) -> Iterable[Relocation]:
    for place, name, _ in btf_ext.offset_positions(ext):
        symbol = source.code[source.ext_homes[name]].section_symbol
        if symbol is None:
            raise MisfitError("a code section without a section symbol")
        yield Relocation(place, symbol, source.ext_relocation_type)

"""Every damage that toolchain-conventions, section 7, lists, and one for every other rule of the lint.

The undamaged object passes (test_round_trip), so each of these shows that one changed number is noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from llvm_bridge import btf_ext
from llvm_bridge.btf_ext import CORES, FUNCTIONS, LINES, BtfExt, Subsection
from llvm_bridge.elf import (
    STT_FUNC,
    STT_SECTION,
    Elf,
    Relocation,
    parse,
    parse_relocations,
    relocation_bytes,
    serialise,
    with_sections,
)
from llvm_bridge.lint import lint
from llvm_bridge.lint_subject import Subject
from llvm_bridge.prune import uleb_bytes
from tests.llvm_bridge.objects import compiled, needs
from verifier_model.bpf import btf

pytestmark = needs("clang-19")

Damage = Callable[[Elf], Elf]


def section(elf: Elf, name: str) -> int:
    found = elf.section_index(name)
    assert found is not None
    return found


def with_relocations(elf: Elf, name: str, change: Callable[[list[Relocation]], None]) -> Elf:
    number = section(elf, name)
    entries = list(parse_relocations(elf, number))
    change(entries)
    return with_sections(elf, {number: relocation_bytes(entries, elf.order)})


def moved(number: int, by: int) -> Callable[[list[Relocation]], None]:
    def change(entries: list[Relocation]) -> None:
        entries[number] = replace(entries[number], offset=entries[number].offset + by)

    return change


def retyped(number: int, kind: int) -> Callable[[list[Relocation]], None]:
    def change(entries: list[Relocation]) -> None:
        entries[number] = replace(entries[number], type=kind)

    return change


def with_ext(elf: Elf, change: Callable[[BtfExt], BtfExt]) -> Elf:
    number = section(elf, ".BTF.ext")
    ext = change(btf_ext.parse(elf.sections[number].data, elf.order))
    return with_sections(elf, {number: btf_ext.serialise(ext)})


def record(table: int, number: int, by: int) -> Damage:
    """Shift the offset of a record in the last subsection of a table."""

    def change(ext: BtfExt) -> BtfExt:
        tables = list(ext.tables)
        last = tables[table][-1]
        records = list(last.records)
        records[number] = (records[number][0] + by, *records[number][1:])
        tables[table] = (*tables[table][:-1], Subsection(last.name_offset, tuple(records)))
        return replace(ext, tables=(tables[0], tables[1], tables[2]))

    return lambda elf: with_ext(elf, change)


def dropped(table: int, number: int) -> Damage:
    """Remove a record of the first subsection and its relocation's place, as a careless writer would."""

    def change(ext: BtfExt) -> BtfExt:
        tables = list(ext.tables)
        first = tables[table][0]
        records = first.records[:number] + first.records[number + 1 :]
        tables[table] = (Subsection(first.name_offset, records), *tables[table][1:])
        return replace(ext, tables=(tables[0], tables[1], tables[2]))

    return lambda elf: with_ext(elf, change)


def line_on_second_slot(elf: Elf) -> Elf:
    """Shift the first line record of .text that is on a wide load and has none right behind it."""

    def change(ext: BtfExt) -> BtfExt:
        first = ext.tables[LINES][0]
        slots = Subject(elf).slots[section(elf, ".text")]
        wide = next(r for r in first.records if (slot := slots[r[0]]) is not None and slot.row.slots == 2)
        records = tuple((r[0] + 8, *r[1:]) if r == wide else r for r in first.records)
        lines = (Subsection(first.name_offset, records), *ext.tables[LINES][1:])
        return replace(ext, tables=(ext.tables[0], lines, ext.tables[2]))

    return with_ext(elf, change)


def without_ext_relocations(elf: Elf) -> Elf:
    """Records without relocations are allowed (libbpf's linker writes such objects); it lets other faults stand
    alone."""
    return with_relocations(elf, ".rel.BTF.ext", lambda entries: entries.clear())


def patched(name: str, at: int, layout: str, value: int) -> Damage:
    def damage(elf: Elf) -> Elf:
        number = section(elf, name)
        data = bytearray(elf.sections[number].data)
        struct.pack_into("<" + layout, data, at, value)
        return with_sections(elf, {number: bytes(data)})

    return damage


def symbol(name: str, **fields: int) -> Damage:
    def damage(elf: Elf) -> Elf:
        changed = tuple(replace(s, **fields) if s.name == name else s for s in elf.symbols)  # type: ignore[arg-type]
        assert changed != elf.symbols
        return replace(elf, symbols=changed)

    return damage


def section_symbol_off(elf: Elf) -> Elf:
    changed = tuple(replace(s, value=8) if s.type == STT_SECTION else s for s in elf.symbols)
    return replace(elf, symbols=changed)


def symbols_swapped(elf: Elf) -> Elf:
    first_global = elf.sections[elf.symbol_table].info
    symbols = list(elf.symbols)
    symbols[first_global - 1], symbols[first_global] = symbols[first_global], symbols[first_global - 1]
    return replace(elf, symbols=tuple(symbols))


def empty_subsection(elf: Elf) -> Elf:
    number = section(elf, ".BTF.ext")
    data = bytearray(elf.sections[number].data)
    header_length, function_length = struct.unpack_from("<I", data, 4)[0], struct.unpack_from("<I", data, 12)[0]
    data[header_length + function_length : header_length + function_length] = b""
    struct.pack_into("<I", data, header_length + 8, 0)  # the count of the first function subsection
    return with_sections(elf, {number: bytes(data)})


DAMAGES: dict[str, tuple[str, Damage]] = {
    # section 7 of toolchain-conventions, in its order
    "stale r_offset on something that is no call": ("reloc-place", lambda e: with_relocations(e, ".rel.text", moved(0,
    16))), "zero-count subsection": ("unreadable", empty_subsection),
    "line record on the second slot": ("record-place", line_on_second_slot),
    "line record past the end": ("record-place", record(LINES, -1, 8000)),
    "line record unaligned": ("record-place", record(LINES, -1, 4)),
    "gap without symbol": ("function-gap", symbol("second", value=13 * 8 + 8 * 40)),
    "relocation of type 0": ("reloc-place", lambda e: with_relocations(e, ".rel.text", retyped(0, 0))),
    # the other rules
    "data relocation of type 0": ("reloc-type", lambda e: with_relocations(e, ".rel.BTF", retyped(0, 0))),
    "relocation on the second slot": ("reloc-place", lambda e: with_relocations(e, ".rel.text", moved(0, 8))),
    "relocation unaligned": ("reloc-place", lambda e: with_relocations(e, ".rel.text", moved(0, 4))),
    "relocations out of order": ("reloc-order", lambda e: with_relocations(e, ".rel.text", lambda x: x.reverse())),
    "function size 0": ("function-size", symbol("first", size=0)),
    "function beyond the section": ("symbol-bounds", symbol("third", size=8000)),
    "function one slot late": ("function-overlap", symbol("helper", size=80)),
    "call into the middle of a function": ("call", patched(".text", 31 * 8 + 4, "i", -13)),
    "relocated call off by one": ("reloc-place", patched("tc", 19 * 8 + 4, "i", 27)),
    "callback's address off by a slot": ("reloc-place", patched("tc", 9 * 8 + 4, "i", 8)),
    "jump to the second slot": ("jump", patched(".text", 12 * 8 + 2, "h", 7)),
    "jump out of the function": ("jump", patched(".text", 12 * 8 + 2, "h", 5)),
    "second half of a wide load": ("wide-load", patched(".text", 8, "B", 0xB7)),
    "function record missing": ("function-records", lambda e: dropped(FUNCTIONS, 1)(without_ext_relocations(e))),
    "function record off by an instruction": ("function-records", record(FUNCTIONS, -1, 8)),
    "first line record missing": ("line-first", lambda e: dropped(LINES, 0)(without_ext_relocations(e))),
    "line records out of order": ("record-order", record(LINES, 0, 160)),
    "records without their relocations": ("record-reloc", dropped(LINES, 1)),
    "record's relocation shifted": ("record-reloc", lambda e: with_relocations(e, ".rel.BTF.ext", moved(0, 8))),
    "locals behind globals": ("symbol-order", symbols_swapped),
    "section symbol off its section's start": ("symbol-bounds", section_symbol_off),
    "protected visibility": ("symbol-visibility", symbol("first", other=3)),
    "addrsig names no symbol": (
        "addrsig",
        lambda e: with_sections(e, {section(e, ".llvm_addrsig"): uleb_bytes([1, 500])}),
    ),
    "code of half an instruction": (
        "code-size",
        lambda e: with_sections(e, {section(e, "tc"): e.sections[section(e, "tc")].data + bytes(4)}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_found(damage: str) -> None:
    rule, change = DAMAGES[damage]
    data = compiled("calls")
    assert lint(data) == ()
    assert rule in {finding.rule for finding in lint(serialise(change(parse(data))))}


@pytest.mark.parametrize("by", [8, -8])
def test_a_core_record_on_the_neighbour_is_found(by: int) -> None:
    """libbpf itself notices at load time alone; the types say what number the instruction must hold."""
    elf = parse(compiled("core"))
    ext = btf_ext.parse(elf.sections[section(elf, ".BTF.ext")].data, elf.order)
    checked = [
        number
        for number, (_, _, access, kind) in enumerate(ext.tables[CORES][0].records)
        if kind not in UNCHECKED and text(elf, access) not in BIT_FIELDS
    ]
    assert len(checked) >= 8
    for number in checked:
        spoilt = with_ext(without_ext_relocations(elf), partial(_shift_core, number=number, by=by))
        assert {f.rule for f in lint(serialise(spoilt))} & {"core-place", "record-place", "record-order"}, number


UNCHECKED = (3, 4, 5, 6, 7)  # sign, shifts, type ids
BIT_FIELDS = ("0:3", "0:4")  # flag_a and flag_b of struct outer


def text(elf: Elf, offset: int) -> str:
    return btf.parse(elf.sections[section(elf, ".BTF")].data, elf.order).string(offset)


def _shift_core(ext: BtfExt, number: int, by: int) -> BtfExt:
    first = ext.tables[CORES][0]
    records = list(first.records)
    records[number] = (records[number][0] + by, *records[number][1:])
    cores = (Subsection(first.name_offset, tuple(records)), *ext.tables[CORES][1:])
    return replace(ext, tables=(ext.tables[0], ext.tables[1], cores))


def test_an_undefined_symbol_with_a_size_is_found() -> None:
    elf = symbol("bpf_prog_active", size=4)(parse(compiled("externs")))
    assert {finding.rule for finding in lint(serialise(elf))} == {"symbol-undefined"}


def test_a_function_pointer_into_nothing_is_found() -> None:
    elf = patched(".struct_ops", 0, "q", 4)(parse(compiled("externs")))
    assert {finding.rule for finding in lint(serialise(elf))} == {"reloc-target"}


def test_findings_keep_their_identity_when_code_moves() -> None:
    found = lint(compiled("assembly"))
    assert [str(f) for f in found] == ["untyped: bytes 0 to 16 belong to no function [function-gap]"]
    assert replace(found[0], detail="elsewhere") == found[0]
    assert any(s.type == STT_FUNC for s in parse(compiled("assembly")).symbols)

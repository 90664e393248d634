"""An object that nobody changed comes back to the byte, and what the reader says about it is what the source says."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from llvm_bridge import elf as elf_file
from llvm_bridge import writer
from llvm_bridge.lint import lint
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.llvm_bridge.objects import NAMES, WITHOUT_DEBUG, cases, compiled, needs
from verifier_model.bpf.insn import RefKind
from verifier_model.bpf.unit import MapDef


def read(data: bytes) -> Object:
    found = read_object(data)
    assert isinstance(found, Object), found
    return found


@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases())
def test_rewriting_everything_from_the_model_gives_the_same_bytes(
    name: str, compiler: str, target: str, cpu: str
) -> None:
    """Not the shortcut for an unchanged unit: every section is assembled anew."""
    data = compiled(name, compiler, target, cpu)
    source = read(data)
    assert writer._write(source, source.unit) == data
    assert elf_file.serialise(elf_file.parse(data)) == data


@needs("clang-19")
@pytest.mark.parametrize("name", WITHOUT_DEBUG)
def test_objects_without_debug_information_come_back_too(name: str) -> None:
    data = compiled(name, "clang-19", "bpf", "v3", "-g0")
    source = read(data)
    assert source.ext is None
    assert writer._write(source, source.unit) == data


@needs("clang-19")
@pytest.mark.parametrize("name", NAMES)
def test_an_unchanged_unit_gives_the_input_itself(name: str) -> None:
    data = compiled(name)
    source = read(data)
    assert writer.write_object(source, source.unit) is source.data
    assert source.data == data


@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases())
def test_a_second_reader_sees_the_same(name: str, compiler: str, target: str, cpu: str) -> None:
    """pyelftools knows nothing of our code."""
    data = compiled(name, compiler, target, cpu)
    ours, theirs = elf_file.parse(data), ELFFile(io.BytesIO(data))
    assert len(ours.sections) == theirs.num_sections()
    for mine, other in zip(ours.sections, theirs.iter_sections(), strict=True):
        assert mine.name == other.name
        assert mine.size == other["sh_size"]
        if other["sh_type"] not in ("SHT_NOBITS", "SHT_NULL"):
            assert mine.data == other.data()
        if isinstance(other, SymbolTableSection):
            got = [(s.name, s.value, s.size) for s in ours.symbols]
            assert got == [(s.name, s["st_value"], s["st_size"]) for s in other.iter_symbols()]
        if isinstance(other, RelocationSection):
            number = ours.section_index(mine.name)
            assert number is not None
            entries = [(e.offset, e.symbol, e.type) for e in elf_file.parse_relocations(ours, number)]
            assert entries == [(e["r_offset"], e["r_info_sym"], e["r_info_type"]) for e in other.iter_relocations()]


@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases())
def test_the_lint_has_nothing_against_what_compilers_emit(name: str, compiler: str, target: str, cpu: str) -> None:
    found = [str(finding) for finding in lint(compiled(name, compiler, target, cpu))]
    if name == "assembly":
        assert found == ["untyped: bytes 0 to 16 belong to no function [function-gap]"]
    else:
        assert found == []


@needs("clang-19")
def test_functions_are_described() -> None:
    unit = read(compiled("calls")).unit
    found = {
        f.name: (f.section, f.program_type, f.is_global, f.is_subprogram, f.argument_count) for f in unit.functions
    }
    assert found == {
        "global_sub": (".text", None, True, True, 1),
        "hidden_sub": (".text", None, True, True, 2),
        "helper": (".text", None, False, True, None),
        "deeper": (".text", None, False, True, None),
        "step": (".text", None, False, True, None),
        "beside": ("xdp", None, False, True, None),
        "first": ("xdp", "xdp", True, False, None),
        "second": ("xdp", "xdp", True, False, None),
        "third": ("tc", "sched_cls", True, False, None),
    }
    assert all(function.untouchable is None for function in unit.functions)
    assert (unit.license, unit.cpu_level, unit.byte_order) == ("GPL", 3, "little")


@needs("clang-19")
def test_void_functions_are_known() -> None:
    unit = read(compiled("externs")).unit
    assert unit.function("ops_release").returns_void
    assert not unit.function("ops_init").returns_void


@needs("clang-19")
def test_all_forms_of_call_name_their_function() -> None:
    unit = read(compiled("calls")).unit
    calls = {
        (function.name, insn.ref.name, insn.row.name, insn.ref.relocation)
        for function in unit.functions
        for _, insn in function.insns()
        if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION
    }
    assert ("deeper", "helper", "call_local", -1) in calls  # relative, inside one section
    assert ("second", "deeper", "call_local", 10) in calls  # against the section symbol of .text
    assert ("first", "global_sub", "call_local", 10) in calls  # against a FUNC symbol
    assert ("second", "beside", "call_local", -1) in calls
    assert ("third", "step", "lddw_constant", 1) in calls  # a callback's address


@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases(names=("calls",)))
def test_maps_and_data_are_described(name: str, compiler: str, target: str, cpu: str) -> None:
    unit = read(compiled(name, compiler, target, cpu)).unit
    plain = {key: replace(found, value_type=0) for key, found in unit.maps.items()}
    assert plain["table"] == MapDef("table", 1, 8, 8, 16)
    assert plain["hidden"] == MapDef("hidden", 2, 4, 12, 4, flags=0x80)
    assert plain[".bss"] == MapDef(".bss", 2, 4, unit.data[".bss"].size, 1, is_private=True)
    assert unit.data[".rodata"].size == 36
    assert not unit.data[".rodata"].is_writable
    assert unit.data[".data"].is_writable
    references = {
        (insn.ref.kind, insn.ref.name) for f in unit.functions for _, insn in f.insns() if insn.ref is not None
    }
    assert {(RefKind.MAP, "table"), (RefKind.MAP, "hidden"), (RefKind.DATA, ".bss")} <= references


@needs("clang-19")
def test_externals_keep_their_names() -> None:
    unit = read(compiled("externs")).unit
    names = {
        (insn.ref.name, insn.row.name)
        for function in unit.functions
        for _, insn in function.insns()
        if insn.ref is not None and insn.ref.kind is RefKind.EXTERN
    }
    assert {
        ("bpf_rcu_read_lock", "call_local"),
        ("bpf_rcu_read_lock", "lddw_constant"),
        ("LINUX_KERNEL_VERSION", "lddw_constant"),
        ("bpf_prog_active", "lddw_constant"),
    } <= names


@needs("clang-19")
def test_the_level_is_the_highest_found_unless_given() -> None:
    for level in ("v1", "v2", "v3", "v4"):
        assert read(compiled("packets", "clang-19", "bpf", level)).unit.cpu_level == int(level[1])
    given = read_object(compiled("packets", "clang-19", "bpf", "v1"), cpu_level=3)
    assert isinstance(given, Object)
    assert given.unit.cpu_level == 3


@needs("clang-19")
def test_core_records_ride_on_instructions() -> None:
    source = read(compiled("core"))
    riders = [insn for f in source.unit.functions for _, insn in f.insns() if insn.origin.core]
    assert source.ext is not None
    assert sum(len(insn.origin.core) for insn in riders) == sum(len(s.records) for s in source.ext.tables[2])
    assert {insn.row.kind.value for insn in riders} >= {"alu", "load"}
    assert all(insn.is_pinned for insn in riders)

"""Objects that nobody's compiler wrote: the answer is an object, a reason, or findings, never a traceback."""

from __future__ import annotations

import random
import struct
import tracemalloc
from dataclasses import replace

import pytest

from llvm_bridge import btf_ext
from llvm_bridge.dwarf import debug_sections
from llvm_bridge.elf import ObjectError, parse
from llvm_bridge.lint import lint
from llvm_bridge.object import Object, Untouched
from llvm_bridge.prune import drop_sections, uleb_bytes, uleb_list
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from tests.llvm_bridge.objects import compiled, needs
from verifier_model.bpf import btf
from verifier_model.bpf.btf import BtfError
from verifier_model.bpf.insn import make

SEED = 77
WORDS = (0, 1, 7, 8, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes: flipped, overwritten by a telling number, cut off, or moved."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1 | 2:
                # Headers decide most: the last 64 bytes per section, and the first 64.
                at = rng.choice((rng.randrange(64), len(out) - 1 - rng.randrange(min(len(out) - 1, 2400))))
                word = struct.pack("<Q", rng.choice(WORDS))[: rng.choice((1, 2, 4, 8))]
                out[at : at + len(word)] = word
            case 3:
                out[at : at + 4] = struct.pack("<I", rng.choice(WORDS) & 0xFFFFFFFF)
            case 4:
                del out[at : at + rng.choice((1, 8, 100, len(out)))]
            case 5:
                size = rng.choice((1, 4, 8, 24, 64))
                other = rng.randrange(len(out))
                out[at : at + size] = out[other : other + size]
        if len(out) < 70:
            break
    return bytes(out)


def exercise(data: bytes) -> str:
    """Read, change every function that may be changed, write, lint: what became of it."""
    found = lint(data)
    assert isinstance(found, tuple)
    source = read_object(data)
    if isinstance(source, Untouched):
        assert source.reason
        return "untouched"
    assert isinstance(source, Object)
    assert write_object(source, source.unit) == data
    unit = source.unit
    for function in source.unit.functions:
        if function.untouchable is None:
            first = function.blocks[0]
            changed = replace(first, insns=(make("mov64_imm", dst=0, imm=0), *first.insns))
            unit = unit.with_function(function.with_block(changed))
    if unit == source.unit:
        return "frozen"
    written = write_object(source, unit)
    if isinstance(written, Untouched):
        return "unwritable"
    assert set(lint(written)) <= set(found)
    return "written"


@needs("clang-19")
@pytest.mark.parametrize("name", ["calls", "core", "externs", "assembly"])
def test_spoilt_objects_never_raise(name: str) -> None:
    print(f"seed {SEED}")
    rng = random.Random(f"{SEED} {name}")
    data = compiled(name)
    outcomes = [exercise(spoilt(data, rng)) for _ in range(150)]
    assert {"untouched", "written"} <= set(outcomes)


@needs("clang-19")
def test_every_prefix_is_refused() -> None:
    data = compiled("packets")
    for size in range(0, len(data), 97):
        assert isinstance(read_object(data[:size]), Untouched)
        assert lint(data[:size])


@pytest.mark.parametrize(
    "junk", [b"", b"\x7fELF", b"BC\xc0\xde" * 20, b"!<arch>\n", bytes(64), b"\x7fELF\x02\x01" + bytes(60)]
)
def test_what_is_no_bpf_object_is_not_ours(junk: bytes) -> None:
    found = read_object(junk)
    assert found == Untouched("not an ELF64 relocatable BPF object")


@needs("clang-19")
def test_an_object_for_another_machine_is_not_ours() -> None:
    data = bytearray(compiled("packets"))
    data[18] ^= 1
    assert isinstance(read_object(bytes(data)), Untouched)


@needs("clang-19")
def test_memory_stays_in_proportion() -> None:
    """Symbols that all name one long string, sections that all claim the same bytes."""
    data = bytearray(compiled("calls"))
    data += b"a" * 200_000
    start = struct.unpack_from("<Q", data, 40)[0]
    for number in range(struct.unpack_from("<H", data, 60)[0]):
        struct.pack_into("<QQ", data, start + 64 * number + 24, 64, len(data) - 64)
    tracemalloc.start()
    assert isinstance(read_object(bytes(data)), Untouched)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(data)


def _with_info(data: bytes, name: str, info: int | str) -> bytes:
    """The object whose section `name` has another sh_info: a number, or that of the section of that name."""
    elf = parse(data)
    index = elf.section_index(name)
    number = elf.section_index(info) if isinstance(info, str) else info
    assert index is not None
    assert number is not None
    out = bytearray(data)
    table = struct.unpack_from("<Q", out, 40)[0]
    struct.pack_into("<I", out, table + 64 * index + 44, number)
    return bytes(out)


@needs("clang-19")
@pytest.mark.parametrize("target", ["xdp.frags", ".debug_line", ".BTF"])
def test_two_relocation_tables_for_one_section_are_refused(target: str) -> None:
    """Only one of them would be followed; the other one's relocations would go stale."""
    data = compiled("packets")
    assert isinstance(read_object(_with_info(data, ".rel.debug_frame", ".debug_frame")), Object)
    found = read_object(_with_info(data, ".rel.debug_frame", target))
    assert isinstance(found, Untouched)
    assert "two tables of relocations" in found.reason


@needs("clang-19")
def test_relocations_of_relocations_do_not_outlive_them() -> None:
    """A table of relocations that go with their section leaves nothing for another one to be about."""
    elf = parse(_with_info(compiled("packets"), ".rel.BTF", ".rel.debug_line"))
    table = elf.section_index(".rel.BTF")
    assert table is not None
    with pytest.raises(ObjectError, match=r"\.rel\.BTF is about a section that has to go"):
        drop_sections(elf, debug_sections(elf))
    assert drop_sections(elf, debug_sections(elf) | {table}).section_index(".debug_line") is None


@needs("clang-19")
def test_what_the_lint_cannot_judge_is_not_edited() -> None:
    """A finding that stands for "cannot be read" in the source must not excuse the same one in the result."""
    data = compiled("packets")
    assert exercise(data) == "written"
    section = next(section for section in parse(data).sections if section.name == ".llvm_addrsig")
    cut_off = data[: section.offset] + b"\x80" * section.size + data[section.offset + section.size :]
    assert [finding.rule for finding in lint(cut_off)] == ["unreadable"]
    assert exercise(cut_off) == "unwritable"


@needs("clang-19")
def test_spoilt_btf_is_an_error_of_its_own() -> None:
    elf = parse(compiled("core"))
    index, ext = elf.section_index(".BTF"), elf.section_index(".BTF.ext")
    assert index is not None
    assert ext is not None
    rng = random.Random(SEED)
    refused = 0
    for _ in range(300):
        try:
            graph = btf.parse(spoilt(elf.sections[index].data, rng), "little")
            for number in range(len(graph.types)):
                graph.prototype(number)
                try:
                    graph.size_of(number)
                except BtfError:
                    continue
        except BtfError:
            refused += 1
        try:
            btf_ext.serialise(btf_ext.parse(spoilt(elf.sections[ext].data, rng), "little"))
        except ObjectError:
            refused += 1
    assert 0 < refused < 600


@needs("clang-19")
def test_an_empty_table_of_records_lies_where_the_last_one_ends() -> None:
    """The writer would put it there: nobody reads the offset of nothing, but it is a change all the same."""
    elf = parse(compiled("packets"))
    index = elf.section_index(".BTF.ext")
    assert index is not None
    data = elf.sections[index].data
    offset, length = struct.unpack_from("<II", data, 24)
    assert not length
    assert btf_ext.serialise(btf_ext.parse(data, "little")) == data
    moved = data[:24] + struct.pack("<I", offset ^ 1) + data[28:]
    with pytest.raises(ObjectError, match="overlap or leave gaps"):
        btf_ext.parse(moved, "little")


def test_a_typedef_of_itself_ends() -> None:
    strings = b"\0t\0"
    types = struct.pack("<III", 1, btf.Kind.TYPEDEF << 24, 1)
    data = struct.pack("<HBBIIIII", btf.MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    graph = btf.parse(data, "little")
    with pytest.raises(BtfError):
        graph.size_of(1)


def test_uleb_numbers() -> None:
    numbers = (0, 1, 127, 128, 300, 1 << 20, (1 << 56) - 1)
    assert uleb_list(uleb_bytes(numbers)) == numbers
    for bad in (b"\x80", b"\xff" * 12):
        with pytest.raises(ObjectError):
            uleb_list(bad)

"""Debug information made to cost much: it goes, with a reason, before it takes time or memory out of all proportion."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.corpus.shake import with_no_ops
from llvm_bridge import dwarf_line, dwarf_names, dwarf_units
from llvm_bridge.dwarf_forms import uleb
from llvm_bridge.elf import SHT_PROGBITS, STT_FUNC, Section, parse
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from tests.llvm_bridge.objects import compiled, needs
from tests.llvm_bridge.test_hostile_size import RETURN, Maker

SEED = 20261123
VARIABLE, BLOCK, UNIT = 0x34, 0x0B, 0x11
AT_LOCATION, AT_BYTE_SIZE, AT_LOCLISTS_BASE = 0x02, 0x0B, 0x8C
FORM_OFFSET, FORM_EXPRLOC, FORM_FLAG_PRESENT, FORM_LOCLISTX = 0x17, 0x18, 0x19, 0x22


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    dwarf_units.read_units.cache_clear()
    yield
    dwarf_units.read_units.cache_clear()


def edited(data: bytes) -> Counter[str]:
    """Why debug sections went when every function got no-ops; nothing when they stayed."""
    source = read_object(data)
    assert isinstance(source, Object)
    unit, losses = source.unit, Counter[str]()
    for function in unit.functions:
        unit = unit.with_function(with_no_ops(function, 0.5, random.Random(SEED))[0])
    written = write_object(source, unit, losses)
    assert isinstance(written, bytes)
    assert (parse(written).section_index(".debug_info") is None) == bool(losses)
    return losses


def most_entries() -> int:
    """Units, entries and kept attributes of the example."""
    elf = parse(compiled("packets"))
    info, abbreviations = (elf.sections[elf.section_index(name) or 0].data for name in (".debug_info", ".debug_abbrev"))
    units = dwarf_units.read_units(info, abbreviations, elf.order)
    dwarf_units.read_units.cache_clear()
    return sum(1 + len(unit.entries) + sum(len(entry.attributes) for entry in unit.entries) for unit in units)


@needs("clang-19")
def test_as_many_entries_as_may_be_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    count = most_entries() - 1  # the unit counts when it is done
    monkeypatch.setattr(dwarf_units, "MOST_ENTRIES", count)
    assert not edited(compiled("packets"))
    dwarf_units.read_units.cache_clear()
    monkeypatch.setattr(dwarf_units, "MOST_ENTRIES", count - 1)
    assert edited(compiled("packets")) == {"debug sections dropped: more debugging entries than any program has": 1}


@needs("clang-19")
def test_as_many_rows_as_may_be_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 0
    real = dwarf_line._Machine._emit

    def counted(machine: dwarf_line._Machine, end: bool) -> None:
        nonlocal rows
        rows += 1
        real(machine, end)

    monkeypatch.setattr(dwarf_line._Machine, "_emit", counted)
    assert not edited(compiled("packets"))
    monkeypatch.setattr(dwarf_line, "MOST_ROWS", rows)
    assert not edited(compiled("packets"))
    monkeypatch.setattr(dwarf_line, "MOST_ROWS", rows // 2 - 1)
    assert edited(compiled("packets")) == {"debug sections dropped: a line table of more rows than any program has": 1}


@needs("clang-19")
def test_locations_in_too_many_pieces_go(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0
    real = dwarf_names.Pieces.spend

    def counted(pieces: dwarf_names.Pieces, count: int) -> None:
        nonlocal spent
        spent += count
        real(pieces, count)

    monkeypatch.setattr(dwarf_names.Pieces, "spend", counted)
    assert not edited(compiled("packets"))
    enough = spent
    assert enough
    monkeypatch.setattr(dwarf_names, "MOST_PIECES", enough)
    assert not edited(compiled("packets"))
    monkeypatch.setattr(dwarf_names, "MOST_PIECES", enough - 1)
    assert edited(compiled("packets")) == {"debug sections dropped: locations in more pieces than any program has": 1}


class DebugMaker(Maker):
    """An object with one function and debug sections."""

    def __init__(self) -> None:
        super().__init__()
        section = self.code("xdp", RETURN * 4)
        self.symbol(self.name("f"), STT_FUNC, section, 0, len(RETURN) * 4)

    def debug(self, name: str, data: bytes) -> None:
        self.sections.append(Section(name, self.name(name), SHT_PROGBITS, 0, 0, 0, len(data), 0, 0, 1, 0, data))

    def abbreviations(self, *declared: tuple[int, bool, tuple[tuple[int, int], ...]]) -> None:
        out = bytearray()
        for code, (tag, has_children, attributes) in enumerate(declared, 1):
            out += uleb(code) + uleb(tag) + bytes([has_children])
            for name, form in attributes:
                out += uleb(name) + uleb(form)
            out += bytes(2)
        self.debug(".debug_abbrev", bytes(out + b"\0"))

    def units(self, *bodies: bytes) -> None:
        info = bytearray()
        for body in bodies:
            head = (5).to_bytes(2, "little") + bytes((1, 8)) + bytes(4)
            info += (len(head) + len(body)).to_bytes(4, "little") + head + body
        self.debug(".debug_info", bytes(info))


def tiny_entries(count: int) -> bytes:
    maker = DebugMaker()
    maker.abbreviations((VARIABLE, False, ()))
    maker.units(b"\1" * count)
    return maker.object()


def nested_blocks(count: int) -> bytes:
    """Blocks within blocks, in each a variable in a register: the scope of every one is looked for outwards."""
    maker = DebugMaker()
    maker.abbreviations((BLOCK, True, ()), (VARIABLE, False, ((AT_LOCATION, FORM_EXPRLOC),)))
    maker.units(b"\1\2\1\x57" * count)
    return maker.object()


def many_lists(count: int) -> bytes:
    """As many units as parts of .debug_loclists, each with one empty list."""
    maker = DebugMaker()
    maker.abbreviations(
        (UNIT, True, ((AT_LOCLISTS_BASE, FORM_OFFSET),)), (VARIABLE, False, ((AT_LOCATION, FORM_LOCLISTX),))
    )
    part = (13).to_bytes(4, "little") + bytes.fromhex("0500 0800 01000000 04000000 00")
    maker.debug(".debug_loclists", part * count)
    maker.units(*(b"\1" + (17 * number + 12).to_bytes(4, "little") + b"\2\0" for number in range(count)))
    return maker.object()


def attributes_of_no_size(count: int) -> bytes:
    """Entries of one byte with a thousand attributes each."""
    maker = DebugMaker()
    maker.abbreviations((VARIABLE, False, ((AT_BYTE_SIZE, FORM_FLAG_PRESENT),) * 1000))
    maker.units(b"\1" * count)
    return maker.object()


@pytest.mark.parametrize("made", [tiny_entries, nested_blocks, many_lists])
def test_work_grows_with_the_object(made: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the object, four times the calls: counted, not timed."""
    assert callable(made)
    counts = []
    for size in (500, 2000):
        data = made(size)
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            losses = edited(data)
        finally:
            sys.setprofile(None)
        assert not losses
        counts.append(calls)
    assert counts[1] < 5 * counts[0]


def test_attributes_without_bytes_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dwarf_units, "MOST_ENTRIES", 10_010)
    assert not edited(attributes_of_no_size(9))
    dwarf_units.read_units.cache_clear()
    tracemalloc.start()
    losses = edited(attributes_of_no_size(100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert losses == {"debug sections dropped: more debugging entries than any program has": 1}
    assert peak < 16 << 20

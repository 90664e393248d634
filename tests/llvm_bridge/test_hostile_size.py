"""Objects made to cost much: work and memory stay in proportion to the object's bytes."""

from __future__ import annotations

import tracemalloc

import pytest

from llvm_bridge import lint as lint_module
from llvm_bridge.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STT_FUNC,
    STT_NOTYPE,
    Elf,
    ObjectError,
    Section,
    Symbol,
    parse,
    serialise,
)
from llvm_bridge.lint import LONGEST_DETAIL, lint
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object

RETURN = bytes.fromhex("b7000000000000009500000000000000")
IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
CODE = SHF_ALLOC | SHF_EXECINSTR


class Maker:
    """An object put together section by section and symbol by symbol."""

    def __init__(self) -> None:
        self.names = bytearray(b"\0")
        self.sections = [Section("", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")]
        self.symbols = [Symbol("", 0, 0, 0, 0, 0, 0, 0)]

    def name(self, text: str) -> int:
        self.names += text.encode() + b"\0"
        return len(self.names) - len(text) - 1

    def code(self, name: str, data: bytes) -> int:
        self.sections.append(Section(name, self.name(name), SHT_PROGBITS, CODE, 0, 0, len(data), 0, 0, 8, 0, data))
        return len(self.sections) - 1

    def symbol(self, name: int, kind: int, section: int, value: int, size: int) -> None:
        self.symbols.append(Symbol("", name, kind, STB_GLOBAL, 0, section, value, size))

    def object(self) -> bytes:
        at = len(self.sections)
        names = self.name(".symtab"), self.name(".strtab")
        size = 24 * len(self.symbols)
        strings = bytes(self.names)
        self.sections += [
            Section(".symtab", names[0], SHT_SYMTAB, 0, 0, 1, size, at + 1, 1, 8, 24, b""),
            Section(".strtab", names[1], SHT_STRTAB, 0, 0, 2, len(strings), 0, 0, 1, 0, strings),
        ]
        return serialise(Elf("little", IDENT, 1, 0, at + 1, tuple(self.sections), tuple(self.symbols), at))


def test_functions_that_all_claim_the_whole_section(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 200
    maker = Maker()
    section = maker.code("xdp", RETURN * count)
    for number in range(count):
        maker.symbol(maker.name(f"f{number}"), STT_FUNC, section, 0, len(RETURN) * count)
    judged = []
    real = lint_module._instruction

    def counted(*arguments: object) -> object:
        judged.append(arguments)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lint_module, "_instruction", counted)
    found = lint(maker.object())
    assert sum(finding.rule == "function-overlap" for finding in found) == count - 1
    assert len(judged) == 2 * count


def test_every_section_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def object_of(count: int) -> bytes:
        maker = Maker()
        for number in range(count):
            section = maker.code(f"xdp/{number}", RETURN)
            maker.symbol(maker.name(f"f{number}"), STT_FUNC, section, 0, len(RETURN))
        return maker.object()

    calls: list[Elf] = []
    real = Elf.relocation_sections

    def counted(elf: Elf) -> dict[int, int]:
        calls.append(elf)
        return real(elf)

    monkeypatch.setattr(Elf, "relocation_sections", counted)
    counts = []
    for count in (3, 30):
        calls.clear()
        source = read_object(object_of(count))
        assert isinstance(source, Object)
        assert len(source.unit.functions) == count
        counts.append(len(calls))
    assert counts[0] == counts[1]


def _with_names(count: int, step: int) -> bytes:
    """Symbols whose names begin `step` bytes apart in one string of 4000 bytes."""
    maker = Maker()
    section = maker.code("xdp", RETURN)
    maker.symbol(maker.name("entry"), STT_FUNC, section, 0, len(RETURN))
    at = maker.name("a" * 4000)
    for number in range(count):
        maker.symbol(at + number * step % 4000, STT_NOTYPE, 0, 0, 0)
    return maker.object()


def test_one_long_name_is_held_once() -> None:
    data = _with_names(4000, 0)
    tracemalloc.start()
    source = read_object(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(source, Object)
    assert peak < 60 * len(data)


def test_names_within_names_are_refused() -> None:
    """Distinct names whose sum is out of all proportion to the table that holds them."""
    assert parse(_with_names(10, 1))
    data = _with_names(4000, 1)
    with pytest.raises(ObjectError, match="names overlap"):
        parse(data)
    assert isinstance(read_object(data), Untouched)


def test_findings_do_not_repeat_long_names() -> None:
    maker = Maker()
    section = maker.code("x" * 4000, RETURN)
    maker.symbol(maker.name("f"), STT_FUNC, section, 0, len(RETURN))
    for _ in range(50):
        maker.symbol(0, STT_NOTYPE, section, 17, 0)
    found = lint(maker.object())
    assert len([finding for finding in found if finding.rule == "symbol-bounds"]) == 50
    assert all(len(finding.detail) <= LONGEST_DETAIL for finding in found)

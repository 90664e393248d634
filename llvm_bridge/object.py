"""One object file taken apart: what the reader hands to the writer beside the unit itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from llvm_bridge.btf_ext import BtfExt
from llvm_bridge.elf import Elf, Relocation
from verifier_model.bpf.insn import CoreRecord, Insn, LineRecord, RefKind
from verifier_model.bpf.unit import Unit


@dataclass(frozen=True, slots=True)
class Untouched:
    """The object, or the one `function`, that has to stay as clang wrote it, and why."""

    reason: str
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A function that may move as a whole but not change: what in it depends on where things are.

    Its instructions with a symbolic operand other than a label, and its line and CO-RE records, each by its byte
    counted from the function's start, ascending.
    """

    references: tuple[tuple[int, Insn], ...]
    lines: tuple[tuple[int, LineRecord], ...]
    cores: tuple[tuple[int, CoreRecord], ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a function lies in its section: `start` and `size` in bytes, `symbol` its index in the symbol table.

    `type_record` holds the words of its .BTF.ext function record behind the offset, None without one.  `opaque` is set
    for a function that has no blocks in the unit and yet may move.
    """

    name: str
    start: int
    size: int
    symbol: int
    type_record: tuple[int, ...] | None = None
    opaque: Opaque | None = None


@dataclass(frozen=True, slots=True)
class CodeSection:
    """An executable section: its functions lie back to back, in order.

    `frozen` says why every byte offset in it has to stay (then only relocated immediates may be edited).  `marks` gives
    for each symbol inside a function the block it stands in front of.  `section_symbol` is the STT_SECTION symbol's
    index.
    """

    index: int
    name: str
    functions: tuple[Placed, ...]
    relocations: tuple[Relocation, ...]
    marks: Mapping[int, tuple[str, str]]
    section_symbol: int | None
    frozen: str | None = None

    def at(self, offset: int) -> Placed | None:
        """The function that holds the byte `offset`, None outside all functions."""
        where = bisect_right(self.functions, offset, key=_start) - 1
        if where < 0 or offset >= self.functions[where].start + self.functions[where].size:
            return None
        return self.functions[where]


def _start(placed: Placed) -> int:
    return placed.start


@dataclass(frozen=True, slots=True)
class Object:
    """An object file as values: `data` the bytes it came from, `unit` its programs, and what ties the two together.

    `places` tells where a named map, data section or external symbol lies: (section index, byte); section 0 for
    externals.
    """

    data: bytes
    elf: Elf
    unit: Unit
    code: Mapping[int, CodeSection]
    ext_section: int | None = None
    ext: BtfExt | None = None
    ext_relocations: int | None = None
    ext_relocation_type: int = 0
    ext_homes: Mapping[int, int] = field(default_factory=dict)
    places: Mapping[tuple[RefKind, str], tuple[int, int]] = field(default_factory=dict)

    def code_bytes(self) -> dict[str, bytes]:
        """The encoded instructions of each function by name, as they lie in the object."""
        return {
            placed.name: self.elf.sections[index].data[placed.start : placed.start + placed.size]
            for index, section in self.code.items()
            for placed in section.functions
        }

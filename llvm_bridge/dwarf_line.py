"""`.debug_line`: the line number programs, decoded to rows and encoded again at the rows' new addresses.

DWARF 5, section 6.2.  A row covers the instructions up to the next row.  Rows whose instructions are all gone go too;
the last row left in front of a kept instruction is the one that described it before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from llvm_bridge.dwarf_forms import Cursor, DwarfError, sleb, uleb
from llvm_bridge.elf import R_BPF_64_ABS64, Relocation
from verifier_model.bpf.insn import ByteOrder

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN, _NEGATE, _BLOCK = 1, 2, 3, 4, 5, 6, 7
_CONST_ADD_PC, _FIXED_ADVANCE, _PROLOGUE_END, _EPILOGUE_BEGIN, _SET_ISA = 8, 9, 10, 11, 12
_END_SEQUENCE, _SET_ADDRESS, _SET_DISCRIMINATOR = 1, 2, 4
_STANDARD_LENGTHS: Final = (0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)
_ADDRESS_BYTES: Final = 8
# A row may be as short as a byte; the largest object of the corpus has 50,000.
MOST_ROWS: Final = 400_000


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the line table; `address` in bytes from the start of its section."""

    address: int = 0
    file: int = 1
    line: int = 1
    column: int = 0
    is_stmt: bool = True
    basic_block: bool = False
    prologue_end: bool = False
    epilogue_begin: bool = False
    isa: int = 0
    discriminator: int = 0
    end: bool = False

    def at(self, address: int) -> Row:
        """The same row at another address."""
        return Row(
            address, self.file, self.line, self.column, self.is_stmt, self.basic_block, self.prologue_end,
            self.epilogue_begin, self.isa, self.discriminator, self.end,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sequence:
    """Rows of one run of code, which starts in the section of `symbol` (the number that its relocation names)."""

    symbol: int
    section: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What the program of one unit needs from its header; `start` and `end` bound the program in the section."""

    table: int
    start: int
    end: int
    minimum: int
    default_is_stmt: bool
    line_base: int
    line_range: int
    opcode_base: int


def tables(data: bytes, order: ByteOrder) -> Iterator[Header]:
    """The headers of all line tables of the section; raises DwarfError for what the rows could not be made of."""
    at = 0
    while at < len(data):
        cursor = Cursor(data, order, at)
        length = cursor.number(4)
        if length >= 0xFFFFFFF0:
            raise DwarfError("64-bit DWARF")
        end = cursor.at + length
        cursor = Cursor(data, order, cursor.at, end)
        version = cursor.number(2)
        if version not in (2, 3, 4, 5):
            raise DwarfError(f"line table of version {version}")
        if version == 5 and (cursor.number(1), cursor.number(1)) != (_ADDRESS_BYTES, 0):
            raise DwarfError("addresses of an unusual size")
        length = cursor.number(4)
        start = cursor.at + length
        minimum = cursor.number(1)
        if version >= 4 and cursor.number(1) != 1:
            raise DwarfError("a line table for instruction bundles")
        default = bool(cursor.number(1))
        line_base = cursor.number(1)
        line_range, opcode_base = cursor.number(1), cursor.number(1)
        lengths = tuple(cursor.take(max(opcode_base - 1, 0)))
        if lengths != _STANDARD_LENGTHS[: len(lengths)] or not line_range or not minimum or opcode_base < 10:
            raise DwarfError("a line table with unknown opcodes")
        if start > end:
            raise DwarfError("debug data is cut off")
        yield Header(at, start, end, minimum, default, (line_base ^ 0x80) - 0x80, line_range, opcode_base)
        at = end


@dataclass(slots=True)
class _Registers:
    """The state machine's registers: a row in the making."""

    address: int = 0
    file: int = 1
    line: int = 1
    column: int = 0
    is_stmt: bool = True
    basic_block: bool = False
    prologue_end: bool = False
    epilogue_begin: bool = False
    isa: int = 0
    discriminator: int = 0

    def emitted(self, end: bool) -> Row:
        """The row; what is said of one row alone is forgotten."""
        row = Row(
            self.address, self.file, self.line, self.column, self.is_stmt, self.basic_block, self.prologue_end,
            self.epilogue_begin, self.isa, self.discriminator, end,
        )  # fmt: skip
        self.basic_block = self.prologue_end = self.epilogue_begin = False
        self.discriminator = 0
        return row


class _Machine:
    """The line number state machine of section 6.2.2."""

    def __init__(self, header: Header, cursor: Cursor, relocations: Mapping[int, tuple[int, int, int]]) -> None:
        self.header, self.cursor, self.relocations = header, cursor, relocations
        self.left = MOST_ROWS
        self._reset()

    def _reset(self) -> None:
        self.row = _Registers(is_stmt=self.header.default_is_stmt)
        self.rows: list[Row] = []
        self.home: tuple[int, int] | None = None

    def sequences(self) -> Iterator[Sequence]:
        while not self.cursor.is_done:
            op = self.cursor.number(1)
            if op >= self.header.opcode_base:
                self._special(op - self.header.opcode_base)
                self._emit(end=False)
            elif op:
                self._standard(op)
            elif self._extended():
                if self.home is None:
                    raise DwarfError("a line sequence without a relocated address")
                yield Sequence(self.home[1], self.home[0], tuple(self.rows))
                self._reset()
        if self.rows:
            raise DwarfError("a line sequence without an end")

    def _emit(self, end: bool) -> None:
        self.left -= 1
        if self.left < 0:
            raise DwarfError("a line table of more rows than any program has")
        self.rows.append(self.row.emitted(end))

    def _advance(self, operations: int) -> None:
        self.row.address += operations * self.header.minimum

    def _special(self, adjusted: int) -> None:
        operations, lines = divmod(adjusted, self.header.line_range)
        self._advance(operations)
        self.row.line += self.header.line_base + lines

    def _standard(self, op: int) -> None:
        cursor, row = self.cursor, self.row
        if op == _COPY:
            self._emit(end=False)
        elif op == _ADVANCE_PC:
            self._advance(cursor.uleb())
        elif op == _ADVANCE_LINE:
            row.line += cursor.sleb()
        elif op == _SET_FILE:
            row.file = cursor.uleb()
        elif op == _SET_COLUMN:
            row.column = cursor.uleb()
        elif op == _NEGATE:
            row.is_stmt = not row.is_stmt
        elif op == _BLOCK:
            row.basic_block = True
        elif op == _CONST_ADD_PC:
            self._advance((255 - self.header.opcode_base) // self.header.line_range)
        elif op == _FIXED_ADVANCE:
            row.address += cursor.number(2)
        elif op == _PROLOGUE_END:
            row.prologue_end = True
        elif op == _EPILOGUE_BEGIN:
            row.epilogue_begin = True
        elif op == _SET_ISA:
            row.isa = cursor.uleb()
        else:
            raise DwarfError("an unknown opcode in a line table")

    def _extended(self) -> bool:
        """True at the end of a sequence."""
        length = self.cursor.uleb()
        stop = self.cursor.at + length
        op = self.cursor.number(1)
        if op == _SET_ADDRESS and length == _ADDRESS_BYTES + 1:
            found = self.relocations.get(self.cursor.at)
            if found is None or self.home is not None:
                raise DwarfError("a line sequence without a relocated address, or with two")
            self.cursor.skip(_ADDRESS_BYTES)
            section, symbol, address = found
            self.home = section, symbol
            self.row.address = address
        elif op == _SET_DISCRIMINATOR:
            self.row.discriminator = self.cursor.uleb()
        elif op == _END_SEQUENCE:
            self._emit(end=True)
        else:
            raise DwarfError("an unknown extended opcode in a line table")
        if self.cursor.at != stop:
            raise DwarfError("an extended opcode of an unusual length")
        return op == _END_SEQUENCE


def sequences(
    data: bytes, order: ByteOrder, header: Header, relocations: Mapping[int, tuple[int, int, int]]
) -> list[Sequence]:
    """The rows of a line program.

    `relocations` maps a place in the section to (section, symbol, address in that section) of what is relocated there.
    """
    return list(_Machine(header, Cursor(data, order, header.start, header.end), relocations).sequences())


def moved_rows(rows: tuple[Row, ...], position: Callable[[int], int]) -> tuple[Row, ...]:
    """The rows at their new addresses, without those whose instructions are gone.

    Raises DwarfError where the addresses do not ascend.
    """
    new: list[Row] = []
    marks = (False, False)  # of rows that went: they are said of the code that follows
    for group in _by_address(rows):
        address = position(group[0].address)
        if new and address < new[-1].address:
            raise DwarfError("rows of a line table that do not ascend")
        while new and new[-1].address == address and not group[0].end:
            gone = new.pop()
            marks = marks[0] or gone.basic_block, marks[1] or gone.prologue_end
        if group[0].end:
            while new and new[-1].address == address and len(new) > 1:
                new.pop()
        moved = [row.at(address) for row in group]
        if any(marks) and not group[0].end:
            last = moved[-1]
            moved[-1] = replace(
                last, basic_block=last.basic_block or marks[0], prologue_end=last.prologue_end or marks[1]
            )
            marks = (False, False)
        new += moved
    return tuple(new)


def _by_address(rows: tuple[Row, ...]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        if group and (row.address != group[0].address or row.end):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def encoded(
    header: Header, found: list[tuple[Sequence, int]], order: ByteOrder, at: int
) -> tuple[bytes, list[Relocation]]:
    """The program of the sequences and its relocations, for a program that starts at byte `at` of its section.

    With each sequence comes the value of its relocation's symbol: the address in place counts from there.
    """
    out = bytearray()
    relocations: list[Relocation] = []
    for sequence, base in found:
        now = Row(address=sequence.rows[0].address, is_stmt=header.default_is_stmt)
        out += bytes((0, _ADDRESS_BYTES + 1, _SET_ADDRESS))
        relocations.append(Relocation(at + len(out), sequence.symbol, R_BPF_64_ABS64))
        out += (now.address - base).to_bytes(_ADDRESS_BYTES, order)
        for row in sequence.rows:
            _encode_row(out, header, now, row)
            now = row
    return bytes(out), relocations


def _encode_row(out: bytearray, header: Header, now: Row, row: Row) -> None:
    operations, rest = divmod(row.address - now.address, header.minimum)
    if rest or operations < 0:
        raise DwarfError("rows of a line table that do not ascend by whole instructions")
    if row.end:
        if operations:
            out += bytes((_ADVANCE_PC,)) + uleb(operations)
        out += bytes((0, 1, _END_SEQUENCE))
        return
    for op, old, new in (
        (_SET_FILE, now.file, row.file), (_SET_COLUMN, now.column, row.column), (_SET_ISA, now.isa, row.isa)
    ):  # fmt: skip
        if old != new:
            if op >= header.opcode_base:
                raise DwarfError("a line table without the opcode for its rows")
            out += bytes((op,)) + uleb(new)
    if row.discriminator:
        number = uleb(row.discriminator)
        out += bytes((0, len(number) + 1, _SET_DISCRIMINATOR)) + number
    for op, wanted in (
        (_NEGATE, row.is_stmt != now.is_stmt), (_BLOCK, row.basic_block), (_PROLOGUE_END, row.prologue_end),
        (_EPILOGUE_BEGIN, row.epilogue_begin),
    ):  # fmt: skip
        if wanted:
            out.append(op)
    lines = row.line - now.line
    if not header.line_base <= lines < header.line_base + header.line_range:
        out += bytes((_ADVANCE_LINE,)) + sleb(lines)
        lines = 0
    special = lines - header.line_base + header.line_range * operations + header.opcode_base
    if operations and special > 255:
        out += bytes((_ADVANCE_PC,)) + uleb(operations)
        special = lines - header.line_base + header.opcode_base
    if 0 <= lines - header.line_base < header.line_range and special <= 255:
        out.append(special)
    else:
        out.append(_COPY)

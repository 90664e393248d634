"""How DWARF encodes values: LEB128, attribute forms, expression operators, as data (DWARF 5, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, ByteOrder


class DwarfError(Exception):
    """This debug information cannot be rewritten truthfully; the text is the reason."""


class Cursor:
    """Reads a section from `at` up to `end`; raises DwarfError when that is too short."""

    def __init__(self, data: bytes | bytearray, order: ByteOrder, at: int = 0, end: int | None = None) -> None:
        self.data, self.order, self.at = data, order, at
        self.end = len(data) if end is None else end
        if self.end > len(data):
            raise DwarfError("debug data is cut off")

    @property
    def is_done(self) -> bool:
        return self.at >= self.end

    def skip(self, count: int) -> int:
        """Go on by `count` bytes; returns where they start."""
        start = self.at
        if count < 0 or start + count > self.end:
            raise DwarfError("debug data is cut off")
        self.at = start + count
        return start

    def take(self, count: int) -> bytes:
        start = self.skip(count)
        return bytes(self.data[start : self.at])

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), self.order)

    def uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.skip(1)]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
            if shift > 70:
                raise DwarfError("a LEB128 number is too long")

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def string(self) -> bytes:
        end = self.data.find(b"\0", self.at, self.end)
        if end < 0:
            raise DwarfError("debug data is cut off")
        text = bytes(self.data[self.at : end])
        self.at = end + 1
        return text


def uleb(value: int, width: int = 0) -> bytes:
    """ULEB128, padded to `width` bytes; raises DwarfError where a wanted width is too small or the value negative."""
    if value < 0:
        raise DwarfError("a negative length")
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if not value and len(out) + 1 >= width:
            out.append(byte)
            break
        out.append(byte | 0x80)
    if width and len(out) != width:
        raise DwarfError("a number no longer fits into its place")
    return bytes(out)


def sleb(value: int) -> bytes:
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


# How the value of a form is read: a number of bytes, or a way of its own.
Reading = int | Literal["uleb", "sleb", "string", "block1", "block2", "block4", "block", "address", "implicit"]
FORMS: Final[dict[int, Reading]] = {
    0x01: "address", 0x03: "block2", 0x04: "block4", 0x05: 2, 0x06: 4, 0x07: 8, 0x08: "string", 0x09: "block",
    0x0A: "block1", 0x0B: 1, 0x0C: 1, 0x0D: "sleb", 0x0E: 4, 0x0F: "uleb", 0x10: 4, 0x11: 1, 0x12: 2, 0x13: 4,
    0x14: 8, 0x15: "uleb", 0x17: 4, 0x18: "block", 0x19: 0, 0x1A: "uleb", 0x1B: "uleb", 0x1E: 16, 0x1F: 4, 0x20: 8,
    0x21: "implicit", 0x22: "uleb", 0x23: "uleb", 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3,
    0x2C: 4,
}  # fmt: skip
FORM_ADDR: Final = 0x01
FORM_EXPRLOC: Final = 0x18
FORM_LOCLISTX: Final = 0x22
FORM_RNGLISTX: Final = 0x23
FORM_REF_ADDR: Final = 0x10
FORM_REF_UDATA: Final = 0x15
ADDRESS_INDEX_FORMS: Final = frozenset({0x1B, 0x29, 0x2A, 0x2B, 0x2C})
UNIT_REFERENCE_FORMS: Final = frozenset({0x11, 0x12, 0x13, 0x14, 0x15})
BLOCK_FORMS: Final = frozenset({0x03, 0x04, 0x09, 0x0A})
OFFSET_FORM: Final = 0x17
CONSTANT_FORMS: Final = frozenset({0x05, 0x06, 0x07, 0x0B, 0x0F})

# Operands of expression operators: digits are bytes, u and s LEB128, a an address, U a base type's offset in its unit,
# B a block with a one-byte length, E an expression with a ULEB128 length.
OPERANDS: Final[dict[int, str]] = {
    0x03: "a", 0x06: "", 0x08: "1", 0x09: "1", 0x0A: "2", 0x0B: "2", 0x0C: "4", 0x0D: "4", 0x0E: "8", 0x0F: "8",
    0x10: "u", 0x11: "s", **dict.fromkeys(range(0x12, 0x15), ""), 0x15: "1", **dict.fromkeys(range(0x16, 0x18), ""),
    **dict.fromkeys(range(0x19, 0x23), ""), 0x23: "u", **dict.fromkeys(range(0x24, 0x28), ""), 0x28: "2",
    **dict.fromkeys(range(0x29, 0x2F), ""), 0x2F: "2", **dict.fromkeys(range(0x30, 0x70), ""),
    **dict.fromkeys(range(0x70, 0x90), "s"), 0x90: "u", 0x91: "s", 0x92: "us", 0x93: "u", 0x94: "1", 0x96: "",
    0x9C: "", 0x9D: "uu", 0x9E: "E", 0x9F: "", 0xA1: "u", 0xA2: "u", 0xA3: "E", 0xA4: "UB", 0xA5: "uU", 0xA6: "1U",
    0xA8: "U", 0xA9: "U", 0xF3: "E",
}  # fmt: skip
OP_ADDR, OP_DEREF, OP_DEREF_SIZE, OP_DEREF_TYPE = 0x03, 0x06, 0x94, 0xA6
OP_REG0, OP_BREG0, OP_REGX, OP_FBREG, OP_BREGX, OP_PIECE = 0x50, 0x70, 0x90, 0x91, 0x92, 0x93
OP_BIT_PIECE, OP_IMPLICIT_VALUE, OP_STACK_VALUE, OP_ENTRY_VALUE, OP_GNU_ENTRY_VALUE = 0x9D, 0x9E, 0x9F, 0xA3, 0xF3
OP_REGVAL_TYPE: Final = 0xA5
FRAME_REGISTERS: Final = frozenset({10, 11})


@dataclass(frozen=True, slots=True)
class Need:
    """What has to hold the old program's values for an expression to tell the truth.

    `registers` by number; `stack`: the frame's bytes; `memory`: any other memory.  `is_plain`: the expression is the
    name of one register, so that of a smaller variable only the low bits matter.
    """

    registers: frozenset[int] = frozenset()
    stack: bool = False
    memory: bool = False
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Expression:
    """A decoded expression: what it needs (None: nobody knows), and the places of offsets of types in its bytes."""

    need: Need | None
    types: tuple[tuple[int, int, int], ...] = ()  # place, width in bytes, offset in the unit


def decode_expression(data: bytes, order: ByteOrder, address_size: int = 8) -> Expression:
    """Never raises: an operator that is not in the table makes the need unknown."""
    cursor = Cursor(data, order)
    registers: set[int] = set()
    of_piece: set[int] = set()
    types: list[tuple[int, int, int]] = []
    # A location that is neither a register nor a value is a place in memory; what it holds then matters as well.  A
    # place whose address comes from no register, that of a global variable, stays true whatever the code does.
    in_place = stack = memory = False
    operators = 0
    try:
        while not cursor.is_done:
            op = cursor.number(1)
            if op not in OPERANDS:
                return Expression(None, tuple(types))
            operators += 1
            operands = [_operand(cursor, kind, address_size, types) for kind in OPERANDS[op]]
            register = _register(op, operands)
            if register is not None:
                of_piece.add(register)
            is_piece = op in (OP_PIECE, OP_BIT_PIECE)
            if op in (OP_DEREF, OP_DEREF_SIZE, OP_DEREF_TYPE) or (in_place and is_piece):
                stack |= bool(of_piece & FRAME_REGISTERS)
                memory |= bool(of_piece - FRAME_REGISTERS)
            if is_piece:
                registers |= of_piece
                of_piece.clear()
            is_value = op in (OP_STACK_VALUE, OP_IMPLICIT_VALUE, OP_REGX) or OP_REG0 <= op < OP_BREG0
            in_place = not (is_piece or is_value)
    except DwarfError:
        return Expression(None, tuple(types))
    if in_place:
        stack |= bool(of_piece & FRAME_REGISTERS)
        memory |= bool(of_piece - FRAME_REGISTERS)
    others = frozenset((registers | of_piece) - FRAME_REGISTERS)
    if any(register >= REGISTER_COUNT for register in others):
        return Expression(None, tuple(types))
    return Expression(Need(others, stack, memory, operators == 1 and not memory and len(others) == 1), tuple(types))


def _register(op: int, operands: list[int]) -> int | None:
    if OP_REG0 <= op < OP_BREG0:
        return op - OP_REG0
    if OP_BREG0 <= op < OP_REGX:
        return op - OP_BREG0
    if op == OP_FBREG:
        return FRAME_POINTER
    return operands[0] if op in (OP_REGX, OP_BREGX, OP_REGVAL_TYPE) else None


def _operand(cursor: Cursor, kind: str, address_size: int, types: list[tuple[int, int, int]]) -> int:
    if kind.isdigit():
        return cursor.number(int(kind))
    if kind == "a":
        return cursor.number(address_size)
    if kind == "s":
        return cursor.sleb()
    if kind == "B":
        cursor.skip(cursor.number(1))
        return 0
    start = cursor.at
    value = cursor.uleb()
    if kind == "E":
        cursor.skip(value)
    elif kind == "U" and value:
        types.append((start, cursor.at - start, value))
    return value

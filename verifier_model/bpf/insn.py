"""The instruction as a value: flat, frozen, with symbols where the object has relocations and branch offsets.

`decode_slot` and `encode` are the only places that see bytes.  Branch targets and references stay symbolic until an
object is written, so instructions can be inserted and deleted freely (DESIGN.md, Nouns).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal, NewType

from verifier_model.bpf.isa import BY_CODE, BY_NAME, Kind, Row

ByteOffset = NewType("ByteOffset", int)
SlotOffset = NewType("SlotOffset", int)

SLOT_BYTES: Final = 8
FRAME_POINTER: Final = 10
REGISTER_COUNT: Final = 11
ByteOrder = Literal["little", "big"]
LineRecord = tuple[int, int, int]  # file name offset, line text offset, packed line and column (raw .BTF.ext words)
CoreRecord = tuple[int, int, int]  # BTF type id, access string offset, kind


class RefKind(Enum):
    """What a relocated or symbolic operand points at; the loader fills in the number after us."""

    LABEL = "label"  # a block of the same function
    FUNCTION = "function"  # a function of the same object: bpf-to-bpf call or callback address
    MAP = "map"  # a symbol of .maps or of the legacy maps section
    DATA = "data"  # an address inside .data, .bss, .rodata or .kconfig-like sections
    EXTERN = "extern"  # an undefined symbol: ksym, kfunc, kconfig


@dataclass(frozen=True, slots=True)
class Ref:
    """A symbolic operand.

    `name` is the label, function, map, section or symbol; `addend` counts bytes from its start.  `symbol` is the
    index into the object's symbol table and `relocation` the ELF relocation type, -1 where the object has none:
    together with the in-place addend they let the writer reproduce clang's own choice of symbol.
    """

    kind: RefKind
    name: str
    addend: int = 0
    symbol: int = -1
    relocation: int = -1


@dataclass(frozen=True, slots=True)
class Origin:
    """Records that ride along: `.BTF.ext` line record and CO-RE records.

    Words are kept raw, without the instruction offset, because nothing here may be edited (the strings and types they
    name live in .BTF, which we never touch).  An instruction with a CO-RE record is opaque to every optimisation.
    """

    line: LineRecord | None = None
    core: tuple[CoreRecord, ...] = ()


NO_ORIGIN: Final = Origin()


@dataclass(frozen=True, slots=True)
class Insn:
    """One instruction.  Fields that the row does not use are zero.

    `off` is a displacement in bytes for memory accesses and 0 otherwise; `imm` is signed 32 bit, or unsigned 64 bit
    for a wide load.  A branch, local call, or relocated operand carries `ref`, and then `imm`/`off` hold no number.
    """

    row: Row
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0
    ref: Ref | None = None
    origin: Origin = NO_ORIGIN

    @property
    def kind(self) -> Kind:
        return self.row.kind

    @property
    def slots(self) -> int:
        return self.row.slots

    @property
    def is_pinned(self) -> bool:
        """Must this instruction stay exactly as it is (CO-RE rider, or a self-move that an asm barrier left)?"""
        if self.origin.core:
            return True
        return self.row.name == "mov64_reg" and self.dst == self.src

    def without_origin(self) -> Insn:
        return replace(self, origin=NO_ORIGIN)


def make(name: str, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, ref: Ref | None = None) -> Insn:
    """An instruction by row name; raises KeyError for an unknown row."""
    return Insn(BY_NAME[name], dst, src, off, imm, ref)


def label(name: str) -> Ref:
    return Ref(RefKind.LABEL, name)


@dataclass(frozen=True, slots=True)
class RawSlot:
    """The fields of one 8-byte slot, as the encoding has them (off and imm signed)."""

    code: int
    dst: int
    src: int
    off: int
    imm: int


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Why a slot is not an instruction that the table knows: the function around it is left untouched."""

    slot: SlotOffset
    reason: str


def read_slot(data: bytes, at: ByteOffset, order: ByteOrder) -> RawSlot:
    code, regs, off, imm = struct.unpack_from("<BBhi" if order == "little" else ">BBhi", data, at)
    low, high = regs & 0xF, regs >> 4
    dst, src = (low, high) if order == "little" else (high, low)
    return RawSlot(code, dst, src, off, imm)


def write_slot(slot: RawSlot, order: ByteOrder) -> bytes:
    low, high = (slot.dst, slot.src) if order == "little" else (slot.src, slot.dst)
    layout = "<BBhi" if order == "little" else ">BBhi"
    return struct.pack(layout, slot.code, low | high << 4, slot.off, slot.imm)


def row_of(slot: RawSlot) -> Row | str:
    """The row that the slot encodes, or the reason why there is none."""
    candidates = BY_CODE.get(slot.code)
    if candidates is None:
        return f"opcode {slot.code:#04x} is not in the table"
    for row in candidates:
        if _matches(row, slot):
            return row
    return f"opcode {slot.code:#04x} with src {slot.src}, off {slot.off}, imm {slot.imm} is not in the table"


def _matches(row: Row, slot: RawSlot) -> bool:
    if slot.dst >= REGISTER_COUNT:
        return False
    if row.fixed_src is not None:
        if slot.src != row.fixed_src:
            return False
    elif slot.src >= REGISTER_COUNT or ("src" not in row.uses and slot.src):
        return False
    if "dst" not in row.uses and slot.dst:
        return False
    return _off_matches(row, slot) and _imm_matches(row, slot)


def _off_matches(row: Row, slot: RawSlot) -> bool:
    if "off" in row.uses or ("target" in row.uses and row.name != "gotol"):
        return True
    return row.name == "call_kfunc" or slot.off == (row.fixed_off or 0)


def _imm_matches(row: Row, slot: RawSlot) -> bool:
    if "imm" in row.uses or row.name == "gotol":
        return True
    return slot.imm == (row.fixed_imm or 0)


def decode_slot(slot: RawSlot, row: Row, high: RawSlot | None) -> Insn:
    """The instruction of a slot (two slots for a wide load: `high` is the second).

    Branches and local calls come out without `ref`: whoever knows the surroundings (reader, parser) turns the
    distance, found in `branch_distance`, into a label.
    """
    imm = slot.imm if "imm" in row.uses else 0
    if row.kind is Kind.LOAD_WIDE:
        assert high is not None
        imm = (high.imm & 0xFFFFFFFF) << 32 | slot.imm & 0xFFFFFFFF
    src = slot.src if "src" in row.uses else 0
    off = slot.off if "off" in row.uses or row.name == "call_kfunc" else 0
    return Insn(row, slot.dst, src, off, imm)


def branch_distance(slot: RawSlot, row: Row) -> SlotOffset:
    """Slots from the next instruction to the target of a branch row."""
    return SlotOffset(slot.imm if row.name == "gotol" else slot.off)


def encode(insn: Insn, order: ByteOrder, distance: SlotOffset | None = None) -> bytes:
    """The bytes of one instruction; `distance` (slots from the next instruction) fills in branches and local calls.

    Raises struct.error when a field is out of its range and ValueError when a distance is missing.
    """
    row = insn.row
    off = insn.off if "off" in row.uses or row.name == "call_kfunc" else (row.fixed_off or 0)
    imm = insn.imm if "imm" in row.uses else (row.fixed_imm or 0)
    src = insn.src if "src" in row.uses else (row.fixed_src or 0)
    if "target" in row.uses:
        if distance is None:
            raise ValueError(f"{row.name} needs the distance to its target")
        off, imm = (0, distance) if row.name == "gotol" else (distance, 0 if "imm" not in row.uses else imm)
    elif row.name == "call_local" and distance is not None:
        imm = distance
    if row.kind is not Kind.LOAD_WIDE:
        return write_slot(RawSlot(row.code, insn.dst, src, off, imm), order)
    low, high = _signed32(imm), _signed32(imm >> 32)
    return write_slot(RawSlot(row.code, insn.dst, src, 0, low), order) + write_slot(RawSlot(0, 0, 0, 0, high), order)


def _signed32(value: int) -> int:
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000

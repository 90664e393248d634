"""The `.BTF.ext` section: function, line and CO-RE records per code section (Documentation/bpf/btf.rst, section 4.2).

Records are kept as raw words after their first one, the instruction's offset in bytes from the start of its section.
A header or table that is not exactly as expected is an `ObjectError`: what cannot be read whole cannot be rewritten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from llvm_bridge.elf import ObjectError
from verifier_model.bpf.insn import ByteOrder

MAGIC: Final = 0xEB9F
HEADER_LENGTHS: Final = (24, 32)  # without and with the CO-RE table
RECORD_BYTES: Final = (8, 16, 16)  # function, line, CO-RE
FUNCTIONS, LINES, CORES = 0, 1, 2

Record = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subsection:
    """The records of one code section; `name_offset` names that section in .BTF's strings."""

    name_offset: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class BtfExt:
    """The three tables, indexed by FUNCTIONS, LINES and CORES."""

    order: ByteOrder
    version: int
    flags: int
    header_length: int
    tables: tuple[tuple[Subsection, ...], tuple[Subsection, ...], tuple[Subsection, ...]]


def parse(data: bytes, order: ByteOrder) -> BtfExt:
    """The tables; raises ObjectError."""
    mark = "<" if order == "little" else ">"
    if len(data) < HEADER_LENGTHS[0]:
        raise ObjectError(".BTF.ext: the header is cut off")
    magic, version, flags, length = struct.unpack_from(mark + "HBBI", data)
    if magic != MAGIC or version != 1 or length not in HEADER_LENGTHS or length > len(data):
        raise ObjectError(".BTF.ext: the header is not of a known form")
    spans = struct.unpack_from(mark + "II" * ((length - 8) // 8), data, 8)
    end = 0
    tables: list[tuple[Subsection, ...]] = [(), (), ()]
    for number in range(len(spans) // 2):
        offset, size = spans[2 * number], spans[2 * number + 1]
        if offset != end:
            raise ObjectError(".BTF.ext: tables overlap or leave gaps")
        if length + end + size > len(data):
            raise ObjectError(".BTF.ext: a table reaches beyond the section")
        tables[number] = _parse_table(data[length + end : length + end + size], RECORD_BYTES[number], mark)
        end += size
    if length + end != len(data):
        raise ObjectError(".BTF.ext: bytes behind the last table")
    return BtfExt(order, version, flags, length, (tables[0], tables[1], tables[2]))


def _parse_table(data: bytes, record_bytes: int, mark: str) -> tuple[Subsection, ...]:
    if not data:
        return ()
    if len(data) < 4 or struct.unpack_from(mark + "I", data)[0] != record_bytes:
        raise ObjectError(".BTF.ext: records of an unknown size")
    at = 4
    found = []
    layout = mark + "I" * (record_bytes // 4)
    while at < len(data):
        if at + 8 > len(data):
            raise ObjectError(".BTF.ext: a subsection is cut off")
        name, count = struct.unpack_from(mark + "II", data, at)
        at += 8
        end = at + count * record_bytes
        if not count or end > len(data):
            raise ObjectError(".BTF.ext: a subsection is empty or cut off")
        found.append(Subsection(name, tuple(struct.iter_unpack(layout, data[at:end]))))
        at = end
    return tuple(found)


def serialise(ext: BtfExt) -> bytes:
    """The section's bytes; empty subsections and tables leave no trace but a zero length."""
    mark = "<" if ext.order == "little" else ">"
    bodies = [_table_bytes(table, RECORD_BYTES[number], mark) for number, table in enumerate(ext.tables)]
    bodies = bodies[: (ext.header_length - 8) // 8]
    header = struct.pack(mark + "HBBI", MAGIC, ext.version, ext.flags, ext.header_length)
    at = 0
    for body in bodies:
        header += struct.pack(mark + "II", at, len(body))
        at += len(body)
    return header + b"".join(bodies)


def _table_bytes(table: tuple[Subsection, ...], record_bytes: int, mark: str) -> bytes:
    kept = [subsection for subsection in table if subsection.records]
    if not kept:
        return b""
    out = bytearray(struct.pack(mark + "I", record_bytes))
    pack = struct.Struct(mark + "I" * (record_bytes // 4)).pack
    for subsection in kept:
        out += struct.pack(mark + "II", subsection.name_offset, len(subsection.records))
        for record in subsection.records:
            out += pack(*record)
    return bytes(out)


def offset_positions(ext: BtfExt) -> Iterator[tuple[int, int, Record]]:
    """(place, name offset, record) of every record: where in the section its instruction offset is stored, in bytes."""
    at = ext.header_length
    for number, table in enumerate(ext.tables):
        if any(subsection.records for subsection in table):
            at += 4
        for subsection in table:
            if not subsection.records:
                continue
            at += 8
            for record in subsection.records:
                yield at, subsection.name_offset, record
                at += RECORD_BYTES[number]

"""Does a CO-RE record fit the instruction it stands on?

libbpf (src/relo_core.c) patches only the immediate of an ALU instruction or wide load, or the offset of a load or
store, and for most kinds insists that the old number is the one that the local type gives.  So a record that slipped
onto another instruction shows itself.
"""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.btf import Btf, BtfError, Kind, Type
from verifier_model.bpf.core import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    TYPE_EXISTS,
    TYPE_MATCHES,
    TYPE_SIZE,
    access_path,
)
from verifier_model.bpf.insn import CoreRecord, RawSlot
from verifier_model.bpf.isa import Kind as InsnKind
from verifier_model.bpf.isa import Operand, Row

_ALWAYS_ONE: Final = frozenset({FIELD_EXISTS, TYPE_EXISTS, ENUMVAL_EXISTS, TYPE_MATCHES})
_MOVES: Final = frozenset({InsnKind.LOAD, InsnKind.STORE, InsnKind.STORE_IMM})


def mismatch(graph: Btf, record: CoreRecord, row: Row, raw: RawSlot, high: RawSlot | None) -> str | None:
    """Why libbpf would refuse the record on this instruction, None when it would not; raises BtfError."""
    type_id, access, kind = record
    if not 0 < type_id < len(graph.types) or not 0 <= kind <= TYPE_MATCHES:
        return "a CO-RE record of an unknown type or kind"
    if row.kind in _MOVES:
        value = raw.off
    elif row.kind is InsnKind.ALU and row.operand is Operand.IMM:
        value = raw.imm
    elif row.kind is InsnKind.LOAD_WIDE and high is not None:
        value = (high.imm & 0xFFFFFFFF) << 32 | raw.imm & 0xFFFFFFFF
    else:
        return f"a CO-RE record on {row.name}"
    expected = _local_value(graph, type_id, graph.string(access), kind)
    mask = (1 << 64) - 1 if row.kind is InsnKind.LOAD_WIDE else (1 << 32) - 1
    if expected is not None and (value ^ expected) & mask:
        return f"a CO-RE record of kind {kind} expects {expected}, the instruction holds {value}"
    return None


def _local_value(graph: Btf, type_id: int, access: str, kind: int) -> int | None:
    """The number that the compiler must have written, None where libbpf does not compare (bit fields, shifts, type
    ids)."""
    if kind in _ALWAYS_ONE:
        return 1
    if kind == TYPE_SIZE:
        return graph.size_of(type_id)
    if kind == ENUMVAL_VALUE:
        members = graph.resolve(type_id).members
        index = access_path(access)[0]
        if index >= len(members):
            raise BtfError("a CO-RE record names an enumerator that does not exist")
        return members[index].value
    if kind in (FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE):
        place = _field(graph, type_id, access_path(access))
        return None if place is None else place[kind]
    return None


def _field(graph: Btf, type_id: int, path: list[int]) -> tuple[int, int] | None:
    """(offset, size) in bytes of the field that an access string names; None for bit fields."""
    offset = path[0] * graph.size_of(type_id) if path[0] else 0
    for index in path[1:]:
        found: Type = graph.resolve(type_id)
        if found.kind in (Kind.STRUCT, Kind.UNION):
            if index >= len(found.members):
                raise BtfError("a CO-RE record names a member that does not exist")
            member = found.members[index]
            if member.bits or member.value % 8:
                return None
            offset, type_id = offset + member.value // 8, member.type
        elif found.kind is Kind.ARRAY:
            offset, type_id = offset + index * graph.size_of(found.type), found.type
        else:
            raise BtfError("a CO-RE access string goes through a type without members")
    return offset, graph.size_of(type_id)

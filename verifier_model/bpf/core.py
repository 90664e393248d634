"""CO-RE records: which field of which type an access string names (libbpf, src/relo_core.c).

Offsets are those of the object's own types; the loader puts the running kernel's in their place.
"""

from __future__ import annotations

from dataclasses import dataclass

from verifier_model.bpf.btf import MAX_DEPTH, Btf, BtfError, Kind, essential_name
from verifier_model.bpf.insn import CoreRecord

# enum bpf_core_relo_kind in include/uapi/linux/bpf.h
FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_EXISTS = 0, 1, 2
FIELD_SIGNED, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64 = 3, 4, 5
TYPE_ID_LOCAL, TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE = 6, 7, 8, 9
ENUMVAL_EXISTS, ENUMVAL_VALUE, TYPE_MATCHES = 10, 11, 12


@dataclass(frozen=True, slots=True)
class Field:
    """A field by its way from the structure `root`; offsets and sizes in bytes.

    `owner` is the root's name without flavor, `member` the first name on the way and `within` the field's offset from
    that member, `name` the last name, `off` the offset from the root, `type_id` the field's type.  `through_union`: a
    union of several members lies on the way.
    """

    root: int
    owner: str
    member: str
    within: int
    name: str
    off: int
    type_id: int
    through_union: bool


def access_path(access: str) -> list[int]:
    """The numbers of an access string; raises BtfError."""
    parts = access.split(":")
    if len(parts) > MAX_DEPTH or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise BtfError("a CO-RE access string is malformed")
    return [int(part) for part in parts]


def field_of_record(types: Btf, record: CoreRecord) -> Field | None:
    """The field that a record names, None for a bit field or a type as a whole; raises BtfError."""
    type_id, access, _ = record
    path = access_path(types.string(access))
    off = path[0] * types.size_of(type_id) if path[0] else 0
    member, name, member_off, through_union = "", "", 0, False
    inner = type_id
    for index in path[1:]:
        found = types.resolve(inner)
        if found.kind in (Kind.STRUCT, Kind.UNION):
            if index >= len(found.members):
                raise BtfError("a CO-RE record names a member that does not exist")
            entry = found.members[index]
            if entry.bits or entry.value % 8:
                return None
            through_union = through_union or (found.kind is Kind.UNION and len(found.members) != 1)
            off, inner, name = off + entry.value // 8, entry.type, entry.name or name
            if entry.name and not member:
                member, member_off = entry.name, off
        elif found.kind is Kind.ARRAY:
            off, inner = off + index * types.size_of(found.type), found.type
        else:
            raise BtfError("a CO-RE access string goes through a type without members")
    if not member:
        return None
    owner = essential_name(_name(types, type_id))
    return Field(type_id, owner, member, off - member_off, name, off, inner, through_union)


def _name(types: Btf, type_id: int) -> str:
    """The name of the structure behind qualifiers, or of the typedef that names one without."""
    named = ""
    for _ in range(MAX_DEPTH):
        found = types.types[type_id]
        named = found.name or named
        if found.kind not in (Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG):
            return found.name or named
        type_id = found.type
    raise BtfError("a chain of typedefs does not end")

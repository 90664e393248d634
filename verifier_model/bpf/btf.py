"""The BTF type graph from bytes (Documentation/bpf/btf.rst, include/uapi/linux/btf.h).

Read only: nothing in k2 ever writes BTF.  `parse` checks every offset and index, so the graph that comes out can be
walked without surprises; cycles through pointers are normal, so walkers that follow sizes carry a step bound.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from verifier_model.bpf.insn import ByteOrder

MAGIC: Final = 0xEB9F
HEADER_BYTES: Final = 24
MAX_NAME_BYTES: Final = 4096
VOID: Final = 0
# Qualifiers and typedefs may be chained, and arrays nested, no deeper than this before a type counts as malformed.
MAX_DEPTH: Final = 64
FLAVOR: Final = "___"  # what follows is a local name for another version of a type (bpf_core_essential_name_len)
LINKAGE_STATIC, LINKAGE_GLOBAL, LINKAGE_EXTERN = 0, 1, 2


class BtfError(Exception):
    """The bytes are not BTF that we understand."""


class Kind(IntEnum):
    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Bytes that follow the 12-byte head: fixed part, and part per `vlen` entry.
_TAIL: Final[dict[Kind, tuple[int, int]]] = {
    Kind.INT: (4, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (4, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 12),
}
_ENTRY: Final[dict[Kind, str]] = {
    Kind.STRUCT: "III",
    Kind.UNION: "III",
    Kind.ENUM: "Ii",
    Kind.FUNC_PROTO: "II",
    Kind.DATASEC: "III",
    Kind.ENUM64: "III",
}
_MODIFIERS: Final = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
_SIZED: Final = frozenset({Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.DATASEC})


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a type: struct or union member, enumerator, parameter, or variable of a DATASEC.

    `type` is a type id (0 for enumerators).  `value` is the offset in bits for struct members, the number for
    enumerators, the offset in bytes for variables.  `size` in bytes is set for variables, `bits` for bit fields alone.
    """

    name: str
    type: int = 0
    value: int = 0
    size: int = 0
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Type:
    """One BTF type.

    `type` is the id it refers to (pointee, typedef target, array element, return type, a variable's type), `size` its
    size in bytes where the kind has one, `count` the length of an array, `linkage` that of a FUNC or VAR, `component`
    the member index of a DECL_TAG (-1: the whole).  `is_signed`: of an INT, or an enumeration with negative numbers.
    """

    kind: Kind
    name: str = ""
    size: int = 0
    type: int = 0
    count: int = 0
    linkage: int = 0
    component: int = -1
    flag: bool = False
    members: tuple[Member, ...] = ()
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class Prototype:
    """A function's signature as the kernel's calling convention sees it.

    `arguments` counts registers r1.. (16-byte values take two), None when it cannot be told (variadic, odd types).
    """

    arguments: int | None
    returns_void: bool


@dataclass(frozen=True)
class Btf:
    """The types of one object; index 0 is void."""

    types: tuple[Type, ...]
    strings: bytes
    _functions: dict[str, int] = field(default_factory=dict, compare=False)
    _names: dict[str, list[int]] = field(default_factory=dict, compare=False)
    _essential: dict[str, list[int]] = field(default_factory=dict, compare=False)

    def string(self, offset: int) -> str:
        """The string at `offset`; raises BtfError."""
        return _string(self.strings, offset)

    def resolve(self, index: int) -> Type:
        """The type behind typedefs, qualifiers and type tags; raises BtfError for a chain that does not end."""
        for _ in range(MAX_DEPTH):
            found = self.types[index]
            if found.kind not in _MODIFIERS:
                return found
            index = found.type
        raise BtfError("a chain of typedefs does not end")

    def size_of(self, index: int) -> int:
        """Size in bytes; raises BtfError for types without one."""
        scale = 1
        for _ in range(MAX_DEPTH):
            found = self.resolve(index)
            if found.kind is Kind.PTR:
                return 8 * scale
            if found.kind in _SIZED:
                return found.size * scale
            if found.kind is Kind.VAR:
                index = found.type
            elif found.kind is Kind.ARRAY:
                scale *= found.count
                index = found.type
            else:
                break
        raise BtfError("a type without a size")

    def function(self, name: str) -> int | None:
        """The id of the FUNC of that name."""
        return self._functions.get(name)

    def named(self, name: str, *kinds: Kind) -> int:
        """The first type of that name and of one of the kinds, 0 when there is none."""
        if not self._names:
            for index, entry in enumerate(self.types):
                if entry.name:
                    self._names.setdefault(entry.name, []).append(index)
        return next((index for index in self._names.get(name, ()) if self.types[index].kind in kinds), 0)

    def essential(self, name: str) -> tuple[int, ...]:
        """All types of that name, local versions of it ("name___flavor") included."""
        if not self._essential:
            for index, entry in enumerate(self.types):
                if entry.name:
                    self._essential.setdefault(essential_name(entry.name), []).append(index)
        return tuple(self._essential.get(name, ()))

    def prototype(self, function: int) -> Prototype | None:
        """The signature of the FUNC with that id, None when the id is no FUNC."""
        if not 0 < function < len(self.types) or self.types[function].kind is not Kind.FUNC:
            return None
        proto = self.types[self.types[function].type]
        if proto.kind is not Kind.FUNC_PROTO:
            return None
        total: int | None = 0
        for parameter in proto.members:
            registers = self._registers(parameter.type)
            total = None if registers is None or total is None else total + registers
        return Prototype(total if total is not None and total <= 5 else None, proto.type == VOID)

    def context(self, function: int) -> str:
        """Name of the structure that the FUNC with that id is given a pointer to and nothing else, "" without one."""
        if self.prototype(function) is None:
            return ""
        parameters = self.types[self.types[function].type].members
        if len(parameters) != 1:
            return ""
        pointer = self.resolve(parameters[0].type)
        target = self.resolve(pointer.type) if pointer.kind is Kind.PTR and pointer.type != VOID else Type(Kind.VOID)
        return target.name if target.kind in (Kind.STRUCT, Kind.FWD) else ""

    def _registers(self, index: int) -> int | None:
        try:
            size = self.size_of(index)
        except BtfError:
            return None
        return 1 if 0 < size <= 8 else 2 if 0 < size <= 16 else None


def essential_name(name: str) -> str:
    """A type's name without its flavor."""
    at = name.rfind(FLAVOR)
    return name[:at] if at > 0 and not name.endswith(FLAVOR) else name


def parse(data: bytes, order: ByteOrder) -> Btf:
    """The graph in a .BTF section; raises BtfError."""
    mark = "<" if order == "little" else ">"
    if len(data) < HEADER_BYTES:
        raise BtfError("the BTF header is cut off")
    magic, version, _, header, type_at, type_size, text_at, text_size = struct.unpack_from(mark + "HBBIIIII", data)
    if magic != MAGIC or version != 1 or header < HEADER_BYTES:
        raise BtfError("the BTF header is not of version 1")
    body = len(data) - header
    if type_at + type_size > body or text_at + text_size > body or body < 0:
        raise BtfError("BTF tables reach beyond the section")
    strings = data[header + text_at : header + text_at + text_size]
    types = _parse_types(data[header + type_at : header + type_at + type_size], strings, mark)
    functions: dict[str, int] = {}
    for index, entry in enumerate(types):
        if entry.kind is Kind.FUNC:
            functions.setdefault(entry.name, index)
    return Btf(types, strings, functions)


def _string(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset, offset + MAX_NAME_BYTES) if offset < len(strings) else -1
    if end < 0:
        raise BtfError("a BTF string is cut off")
    return strings[offset:end].decode("utf-8", "backslashreplace")


def _parse_types(data: bytes, strings: bytes, mark: str) -> tuple[Type, ...]:
    types = [Type(Kind.VOID)]
    at = 0
    while at < len(data):
        if at + 12 > len(data):
            raise BtfError("a BTF type is cut off")
        name_at, info, word = struct.unpack_from(mark + "III", data, at)
        number, vlen, flag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
        if number == 0 or number > max(Kind):
            raise BtfError(f"BTF kind {number} is unknown")
        kind = Kind(number)
        fixed, each = _TAIL[kind]
        tail = data[at + 12 : at + 12 + fixed + each * vlen]
        if len(tail) != fixed + each * vlen:
            raise BtfError("a BTF type is cut off")
        types.append(_make(kind, _string(strings, name_at), word, vlen, flag, tail, strings, mark))
        at += 12 + len(tail)
    for entry in types:
        if entry.type >= len(types) or any(member.type >= len(types) for member in entry.members):
            raise BtfError("a BTF type refers to a type that does not exist")
    return tuple(types)


def _make(kind: Kind, name: str, word: int, vlen: int, flag: bool, tail: bytes, strings: bytes, mark: str) -> Type:
    members = _members(kind, flag, tail, strings, mark) if kind in _ENTRY else ()
    if kind is Kind.ARRAY:
        element, _, count = struct.unpack(mark + "III", tail)
        return Type(kind, name, type=element, count=count)
    if kind is Kind.VAR:
        return Type(kind, name, type=word, linkage=struct.unpack(mark + "I", tail)[0])
    if kind is Kind.DECL_TAG:
        return Type(kind, name, type=word, component=struct.unpack(mark + "i", tail)[0])
    if kind is Kind.INT:
        return Type(kind, name, size=word, flag=flag, is_signed=bool(struct.unpack(mark + "I", tail)[0] >> 24 & 1))
    if kind in (Kind.ENUM, Kind.ENUM64):
        return Type(kind, name, size=word, flag=flag, members=members, is_signed=flag)
    if kind in _SIZED:
        return Type(kind, name, size=word, flag=flag, members=members)
    if kind is Kind.FWD:
        return Type(kind, name, flag=flag)
    return Type(kind, name, type=word, linkage=vlen if kind is Kind.FUNC else 0, flag=flag, members=members)


def _members(kind: Kind, flag: bool, tail: bytes, strings: bytes, mark: str) -> tuple[Member, ...]:
    entries = struct.iter_unpack(mark + _ENTRY[kind], tail)
    if kind in (Kind.STRUCT, Kind.UNION):
        # With the kind flag set, an offset's upper eight bits are a bit field's width (0: an ordinary member).
        low, shift = (0xFFFFFF, 24) if flag else (0xFFFFFFFF, 32)
        return tuple(Member(_string(strings, n), of, place & low, bits=place >> shift) for n, of, place in entries)
    if kind is Kind.ENUM:
        return tuple(Member(_string(strings, n), value=value) for n, value in entries)
    if kind is Kind.ENUM64:
        return tuple(Member(_string(strings, n), value=high << 32 | low) for n, low, high in entries)
    if kind is Kind.FUNC_PROTO:
        return tuple(Member(_string(strings, n), parameter) for n, parameter in entries)
    return tuple(Member("", variable, offset, size) for variable, offset, size in entries)

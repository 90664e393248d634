"""CO-RE as the loader does it: every record of a unit resolved against the BTF of one kernel (libbpf, src/relo_core.c).

`for_kernel` makes the unit that this kernel's verifier would see.  What cannot be resolved becomes the call of a helper
that no kernel has, as libbpf does it: the verifier refuses it where it can be reached.  Where candidates disagree
libbpf gives up the whole object; here the instruction is poisoned as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from verifier_model.bpf import core
from verifier_model.bpf.btf import VOID, Btf, BtfError, Kind, Member, Type, essential_name
from verifier_model.bpf.insn import NO_ORIGIN, CoreRecord, Insn, make
from verifier_model.bpf.isa import BY_NAME, LOAD_KINDS
from verifier_model.bpf.isa import Kind as InsnKind
from verifier_model.bpf.unit import Function, Unit
from verifier_model.contracts.kernel_types import STRUCTURES

POISON: Final = 0xBAD2310  # libbpf's number for "this should not be reached"
_ENUMS: Final = frozenset({Kind.ENUM, Kind.ENUM64})
_MAX_DEPTH: Final = 32  # BPF_CORE_SPEC_MAX_LEN is 64 accessors; types nest less deeply
_WIDTH_LETTERS: Final = {1: "b", 2: "h", 4: "w", 8: "dw"}
_FIELD_KINDS: Final = range(core.FIELD_BYTE_OFFSET, core.FIELD_RSHIFT_U64 + 1)
_TYPE_KINDS: Final = frozenset({core.TYPE_EXISTS, core.TYPE_SIZE, core.TYPE_ID_TARGET, core.TYPE_MATCHES})
_ALWAYS_ANSWERED: Final = frozenset({core.FIELD_EXISTS, core.ENUMVAL_EXISTS, *_TYPE_KINDS})


class UnresolvedError(Exception):
    """The record has no meaning on this kernel."""


@dataclass(frozen=True, slots=True)
class _Accessor:
    """One step of a way into a type: a named member, or an array's element when `name` is empty."""

    name: str
    index: int
    type_id: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a way ends: the bit it leads to, the type there, the width of a bit field (0: none), a member or not."""

    bit: int
    type_id: int
    bits: int
    is_member: bool


def for_kernel(unit: Unit, kernel: Btf) -> Unit:
    """The unit as the verifier of the kernel with these types gets to see it."""
    types = unit.types
    functions = unit.functions if types is None else tuple(_patched(f, types, kernel) for f in unit.functions)
    return replace(unit, functions=functions, kernel_types=kernel)


def _patched(function: Function, types: Btf, kernel: Btf) -> Function:
    blocks = tuple(
        replace(block, insns=tuple(_patch(insn, types, kernel) if insn.origin.core else insn for insn in block.insns))
        for block in function.blocks
    )
    return replace(function, blocks=blocks)


def _patch(insn: Insn, types: Btf, kernel: Btf) -> Insn:
    clean = replace(insn, origin=replace(insn.origin, core=()) if insn.origin.line else NO_ORIGIN)
    try:
        for record in insn.origin.core:
            clean = _apply(clean, record, types, kernel)
    except (BtfError, UnresolvedError):
        return replace(make("call_helper", imm=POISON), origin=clean.origin)
    return clean


def _apply(insn: Insn, record: CoreRecord, types: Btf, kernel: Btf) -> Insn:
    value, old_size, new_size = resolve(record, types, kernel)
    if insn.kind in LOAD_KINDS or insn.kind in (InsnKind.STORE, InsnKind.STORE_IMM):
        if not 0 <= value < 1 << 15:
            raise UnresolvedError("an offset that no instruction holds")
        if old_size != new_size:
            insn = _resized(insn, new_size)
        return replace(insn, off=value)
    if insn.kind is InsnKind.LOAD_WIDE:
        return replace(insn, imm=value & (1 << 64) - 1)
    return replace(insn, imm=(value & 0xFFFFFFFF ^ 1 << 31) - (1 << 31))


def _resized(insn: Insn, size: int) -> Insn:
    """The same load or store at another width."""
    stem, _, _ = insn.row.name.rpartition("_")
    row = BY_NAME.get(f"{stem}_{_WIDTH_LETTERS.get(size, '')}")
    if row is None:
        raise UnresolvedError(f"no instruction accesses {size} bytes")
    return replace(insn, row=row)


def resolve(record: CoreRecord, types: Btf, kernel: Btf) -> tuple[int, int, int]:
    """The number that the loader puts into an instruction, and the accessed bytes before and after.

    Raises UnresolvedError or BtfError where it poisons the instruction or gives up.
    """
    type_id, access, kind = record
    if kind == core.TYPE_ID_LOCAL:
        return type_id, 0, 0
    path = core.access_path(types.string(access))
    found = {
        _answer(kind, path, type_id, types, candidate, kernel) for candidate in _candidates(type_id, types, kernel)
    }
    found.discard(None)
    if not found:
        if kind in _ALWAYS_ANSWERED:
            return 0, 0, 0
        raise UnresolvedError("the kernel has nothing of the kind")
    if len({answer[0] for answer in found if answer is not None}) > 1:
        raise UnresolvedError("several types of the kernel fit and differ")
    return next(answer for answer in found if answer is not None)


def _candidates(type_id: int, types: Btf, kernel: Btf) -> list[int]:
    local = types.types[type_id]
    name = essential_name(local.name)
    if not name:
        raise UnresolvedError("a type without a name")
    kinds = _ENUMS if local.kind in _ENUMS else frozenset({local.kind})
    return [index for index in kernel.essential(name) if kernel.types[index].kind in kinds]


_Answer = tuple[int, int, int]


def _answer(kind: int, path: list[int], type_id: int, types: Btf, candidate: int, kernel: Btf) -> _Answer | None:
    """What one candidate of the kernel's types gives; None when it does not match."""
    if kind in _TYPE_KINDS:
        return _type_answer(kind, type_id, types, candidate, kernel)
    if kind in (core.ENUMVAL_EXISTS, core.ENUMVAL_VALUE):
        members = types.resolve(type_id).members
        if path[0] >= len(members):
            raise UnresolvedError("no such enumerator")
        name = essential_name(members[path[0]].name)
        for member in kernel.resolve(candidate).members:
            if essential_name(member.name) == name:
                return (1 if kind == core.ENUMVAL_EXISTS else member.value), 0, 0
        return None
    if kind not in _FIELD_KINDS:
        raise UnresolvedError(f"a record of kind {kind}")
    way, here = _local_way(types, type_id, path)
    there = _follow(way, types, kernel, candidate, path[0])
    return None if there is None else _field_answer(kind, here, there, types, kernel)


def _type_answer(kind: int, type_id: int, types: Btf, candidate: int, kernel: Btf) -> _Answer | None:
    if kind == core.TYPE_MATCHES:
        return (1, 0, 0) if _match(types, type_id, kernel, candidate, False, 0) else None
    if not _compatible(types, type_id, kernel, candidate, 0):
        return None
    if kind == core.TYPE_SIZE:
        return kernel.size_of(candidate), 0, 0
    return (candidate if kind == core.TYPE_ID_TARGET else 1), 0, 0


def _compatible(types: Btf, local: int, kernel: Btf, target: int, depth: int) -> bool:
    """bpf_core_types_are_compat: equal kinds all the way down, names only at the top."""
    if depth > _MAX_DEPTH:
        raise UnresolvedError("types are nested too deeply")
    a, b = types.resolve(local) if local != VOID else None, kernel.resolve(target) if target != VOID else None
    if a is None or b is None:
        return a is b
    if a.kind is not b.kind and not (a.kind in _ENUMS and b.kind in _ENUMS):
        return False
    if a.kind in (Kind.PTR, Kind.ARRAY):
        return _compatible(types, a.type, kernel, b.type, depth + 1)
    if a.kind is Kind.FUNC_PROTO:
        return (
            len(a.members) == len(b.members)
            and all(
                _compatible(types, x.type, kernel, y.type, depth + 1) for x, y in zip(a.members, b.members, strict=True)
            )
            and _compatible(types, a.type, kernel, b.type, depth + 1)
        )
    return True


def _match(types: Btf, local: int, kernel: Btf, target: int, behind: bool, depth: int) -> bool:
    """Has the kernel's type all that the local one has?  `behind` a pointer, the kind alone counts."""
    if depth > _MAX_DEPTH:
        raise UnresolvedError("types are nested too deeply")
    a = types.resolve(local) if local != VOID else Type(Kind.VOID)
    b = kernel.resolve(target) if target != VOID else Type(Kind.VOID)
    if essential_name(a.name) != essential_name(b.name):
        return False
    if a.kind in _ENUMS and b.kind in _ENUMS:
        names = {essential_name(member.name) for member in b.members}
        return len(a.members) <= len(b.members) and all(essential_name(m.name) in names for m in a.members)
    if behind and Kind.FWD in (a.kind, b.kind) and {a.kind, b.kind} & STRUCTURES:
        whole, declared = (a, b) if b.kind is Kind.FWD else (b, a)
        return (whole.kind is Kind.UNION) == declared.flag
    if a.kind is not b.kind:
        return False
    if a.kind in STRUCTURES:
        return behind or all(_member_matches(types, member, kernel, b, depth) for member in a.members)
    if a.kind is Kind.FWD:
        return a.flag == b.flag
    if a.kind is Kind.INT:
        return (a.size, a.is_signed) == (b.size, b.is_signed)
    if a.kind is Kind.FUNC_PROTO:
        pairs = [(a.type, b.type), *((x.type, y.type) for x, y in zip(a.members, b.members, strict=False))]
        return len(a.members) == len(b.members) and all(
            _match(types, x, kernel, y, behind, depth + 1) for x, y in pairs
        )
    if a.kind is Kind.ARRAY and a.count != b.count:
        return False
    if a.kind not in (Kind.PTR, Kind.ARRAY):
        return a.kind is Kind.VOID
    return _match(types, a.type, kernel, b.type, behind or a.kind is Kind.PTR, depth + 1)


def _member_matches(types: Btf, member: Member, kernel: Btf, owner: Type, depth: int) -> bool:
    name = essential_name(member.name)
    return any(
        essential_name(other.name) == name and _match(types, member.type, kernel, other.type, False, depth + 1)
        for other in owner.members
    )


def _local_way(types: Btf, type_id: int, path: list[int]) -> tuple[list[_Accessor], _Place]:
    """The named steps of an access string, as bpf_core_parse_spec keeps them, and where it ends locally."""
    way: list[_Accessor] = []
    bit, bits, is_member = path[0] * types.size_of(type_id) * 8 if path[0] else 0, 0, False
    inner = type_id
    for index in path[1:]:
        found = types.resolve(inner)
        if found.kind in STRUCTURES:
            if index >= len(found.members):
                raise BtfError("a CO-RE record names a member that does not exist")
            member = found.members[index]
            bit, bits, inner, is_member = bit + member.value, member.bits, member.type, True
            if member.name:
                way.append(_Accessor(member.name, index, member.type))
        elif found.kind is Kind.ARRAY:
            bit, bits, is_member = bit + index * types.size_of(found.type) * 8, 0, False
            inner = found.type
            way.append(_Accessor("", index, found.type))
        else:
            raise BtfError("a CO-RE access string goes through a type without members")
    return way, _Place(bit, inner, bits, is_member)


def _follow(way: list[_Accessor], types: Btf, kernel: Btf, target: int, first: int) -> _Place | None:
    """The same way through the kernel's type; None when it does not exist there (bpf_core_spec_match)."""
    place = _Place(first * kernel.size_of(target) * 8 if first else 0, target, 0, False)
    for step in way:
        found = kernel.resolve(place.type_id)
        if step.name:
            inner = _member(step, types, kernel, found, 0)
            if inner is None:
                return None
            place = replace(inner, bit=place.bit + inner.bit)
        else:
            if found.kind is not Kind.ARRAY or (found.count and step.index >= found.count):
                return None
            place = _Place(place.bit + step.index * kernel.size_of(found.type) * 8, found.type, 0, False)
    return place


def _member(step: _Accessor, types: Btf, kernel: Btf, owner: Type, depth: int) -> _Place | None:
    """A member by name, looked for in nested structures without a name, too (bpf_core_match_member)."""
    if owner.kind not in STRUCTURES or depth > _MAX_DEPTH:
        return None
    for member in owner.members:
        if not member.name:
            inner = _member(step, types, kernel, kernel.resolve(member.type), depth + 1)
            if inner is not None:
                return replace(inner, bit=inner.bit + member.value)
        elif member.name == step.name:
            fits = _fields_fit(types, step.type_id, kernel, member.type, 0)
            return _Place(member.value, member.type, member.bits, True) if fits else None
    return None


def _fields_fit(types: Btf, local: int, kernel: Btf, target: int, depth: int) -> bool:
    """bpf_core_fields_are_compat."""
    a, b = types.resolve(local), kernel.resolve(target)
    if depth > _MAX_DEPTH:
        return False
    if a.kind in STRUCTURES and b.kind in STRUCTURES:
        return True
    if a.kind is not b.kind and not (a.kind in _ENUMS and b.kind in _ENUMS):
        return False
    if a.kind is Kind.ARRAY:
        return _fields_fit(types, a.type, kernel, b.type, depth + 1)
    if a.kind in _ENUMS or a.kind is Kind.FWD:
        names = essential_name(a.name), essential_name(b.name)
        return not names[0] or not names[1] or names[0] == names[1]
    return a.kind in (Kind.PTR, Kind.FLOAT, Kind.INT)


def _field_answer(kind: int, here: _Place, there: _Place, types: Btf, kernel: Btf) -> _Answer:
    value = _field_number(kind, there, kernel)
    if kind != core.FIELD_BYTE_OFFSET or here.bits or there.bits:
        return value, 0, 0
    old, new = types.size_of(here.type_id), kernel.size_of(there.type_id)
    if old != new and not _resizable(types.resolve(here.type_id), kernel.resolve(there.type_id)):
        # libbpf complains only where an instruction accesses memory; elsewhere the sizes do not matter.
        return value, old, -1
    return value, old, new


def _resizable(here: Type, there: Type) -> bool:
    if here.kind is Kind.PTR and there.kind is Kind.PTR:
        return True
    return here.kind is Kind.INT and there.kind is Kind.INT and not here.is_signed and not there.is_signed


def _field_number(kind: int, place: _Place, kernel: Btf) -> int:
    if kind == core.FIELD_EXISTS:
        return 1
    size = kernel.size_of(place.type_id)
    off, bits = place.bit // 8, place.bits or size * 8
    if place.bits:
        off = place.bit // 8 // size * size
        while place.bit + bits - off * 8 > size * 8:
            if size >= 8:
                raise UnresolvedError("a bit field that no load can hold")
            size *= 2
            off = place.bit // 8 // size * size
    if kind == core.FIELD_BYTE_OFFSET:
        return off
    if kind == core.FIELD_BYTE_SIZE:
        return size
    if not place.is_member:
        raise UnresolvedError("a question about a field asked of an element")
    if kind == core.FIELD_SIGNED:
        return int(kernel.resolve(place.type_id).is_signed)
    if kind == core.FIELD_LSHIFT_U64:
        return 64 - (place.bit + bits - off * 8)
    return 64 - bits

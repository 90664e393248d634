"""What a load through a pointer to a kernel object gives: the kernel's walk over the BTF of its own types.

`walk` follows btf_struct_walk and btf_struct_access in kernel/bpf/btf.c (6.12) step by step; which pointers found on
the way are trusted follows check_ptr_to_btf_access in kernel/bpf/verifier.c.  The graph is the kernel's own BTF, or the
object's: then its types are taken to describe the kernel (see `checker.kernel_objects`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.btf import VOID, Btf, BtfError, Kind, Member, Type
from verifier_model.domains.registers import ObjectType, Trust

STRUCTURES: Final = frozenset({Kind.STRUCT, Kind.UNION})
_INTEGERS: Final = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64})
_STEPS: Final = 256  # nested structures, then arrays of them: no real type is deeper
_TAGS: Final[Mapping[str, Trust]] = MappingProxyType({"user": Trust.USER, "percpu": Trust.PERCPU, "rcu": Trust.RCU})

# Fields whose pointers keep their owner's trust, by structure (BTF_TYPE_SAFE_* in kernel/bpf/verifier.c, 6.12).
SAFE_RCU: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "task_struct": frozenset({"cpus_ptr", "cgroups", "real_parent", "group_leader"}),
        "cgroup": frozenset({"kn"}),
        "css_set": frozenset({"dfl_cgrp"}),
    }
)
SAFE_RCU_OR_NULL: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"mm_struct": frozenset({"exe_file"}), "sk_buff": frozenset({"sk"}), "request_sock": frozenset({"sk"})}
)
SAFE_TRUSTED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "bpf_iter_meta": frozenset({"seq"}),
        "bpf_iter__task": frozenset({"meta", "task"}),
        "linux_binprm": frozenset({"file"}),
        "file": frozenset({"f_inode"}),
        "dentry": frozenset({"d_inode"}),
    }
)
SAFE_TRUSTED_OR_NULL: Final[Mapping[str, frozenset[str]]] = MappingProxyType({"socket": frozenset({"sk"})})


@dataclass(frozen=True, slots=True)
class Step:
    """What lies behind a load: a number, or a pointer to the structure `type_id`.

    `owner` is the structure that holds the field, `field` its name.  `through_union`: the way led through a union of
    several members.  `tag`: what the pointer's type tag says.
    """

    type_id: int = 0
    owner: str = ""
    field: str = ""
    through_union: bool = False
    tag: Trust | None = None

    @property
    def is_pointer(self) -> bool:
        return self.type_id != 0


def walk(types: Btf, type_id: int, off: int, size: int) -> Step | str:
    """What a load of `size` bytes at `off` in the structure gives, or why the kernel refuses it.

    Raises BtfError for types that do not make sense.
    """
    through_union = False
    for _ in range(_STEPS):
        found = _level(types, type_id, off, size, through_union)
        if not isinstance(found, _Nested):
            return found
        type_id, off, through_union = found.type_id, found.off, found.through_union
    raise BtfError("structures are nested too deeply")


@dataclass(frozen=True, slots=True)
class _Nested:
    type_id: int
    off: int
    through_union: bool


def _level(types: Btf, type_id: int, off: int, size: int, through_union: bool) -> Step | _Nested | str:
    found = types.resolve(type_id)
    if found.kind not in STRUCTURES:
        return f"Type '{found.name}' is not a struct"
    through_union = through_union or (found.kind is Kind.UNION and len(found.members) != 1)
    if off + size > found.size:
        return _behind(types, found, off, size, through_union)
    for member in found.members:
        start = member.value // 8
        if off + size <= start:
            break
        if member.bits:
            if off <= start and (member.value + member.bits + 7) // 8 <= off + size:
                return Step(owner=found.name, field=member.name, through_union=through_union)
            continue
        if off < start:
            break
        if off < start + types.size_of(member.type):
            return _in_member(types, found, member, off, size, through_union)
    return f"struct {found.name} doesn't have field at offset {off}"


def _behind(types: Btf, found: Type, off: int, size: int, through_union: bool) -> Step | _Nested | str:
    """An access behind the structure: fine in the elements of an array of no stated length at its end."""
    last = found.members[-1] if found.members else None
    array = types.resolve(last.type) if last is not None else None
    if last is not None and array is not None and array.kind is Kind.ARRAY and array.count == 0:
        start, element = last.value // 8, types.resolve(array.type)
        if off >= start and element.kind is Kind.INT:
            return Step(owner=found.name, field=last.name, through_union=through_union)
        if off >= start and element.kind in STRUCTURES and element.size:
            return _Nested(array.type, (off - start) % element.size, through_union)
    return f"access beyond struct {found.name} at off {off} size {size}"


def _in_member(
    types: Btf, owner: Type, member: Member, off: int, size: int, through_union: bool
) -> Step | _Nested | str:
    start, inner = member.value // 8, member.type
    end = start + types.size_of(inner)
    while types.resolve(inner).kind is Kind.ARRAY:
        inner = types.resolve(inner).type
    element = types.resolve(inner)
    if types.resolve(member.type).kind is Kind.ARRAY:
        each = types.size_of(inner)
        start += (off - start) // each * each
    if element.kind in STRUCTURES:
        return _Nested(inner, off - start, through_union)
    if element.kind is Kind.PTR:
        if size != 8 or off != start:
            where = f"moff {start} in struct {owner.name} with off {off} size {size}"
            return f"cannot access ptr member {member.name} with {where}"
        target = types.resolve(element.type)
        if target.kind in STRUCTURES:
            tag = types.types[element.type]
            mark = _TAGS.get(tag.name) if tag.kind is Kind.TYPE_TAG else None
            return Step(_plain(types, element.type), owner.name, member.name, through_union, mark)
    if off + size > end and not through_union:
        where = f"(mend:{end}) in struct {owner.name} with off {off} size {size}"
        return f"access beyond the end of member {member.name} {where}"
    return Step(owner=owner.name, field=member.name, through_union=through_union)


def holds_at(types: Btf, type_id: int, off: int, name: str) -> bool:
    """Lies a structure of that name `off` bytes into the structure, itself or as a member of a member?"""
    for _ in range(_STEPS):
        found = types.resolve(type_id)
        if found.kind not in STRUCTURES or off < 0:
            return False
        if not off and found.name == name:
            return True
        for member in found.members:
            start, inner = member.value // 8, types.resolve(member.type)
            if not member.bits and inner.kind in STRUCTURES and start <= off < start + max(inner.size, 1):
                type_id, off = member.type, off - start
                break
        else:
            return False
    return False


def _plain(types: Btf, type_id: int) -> int:
    """The id behind qualifiers."""
    while types.types[type_id].kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPEDEF, Kind.TYPE_TAG):
        type_id = types.types[type_id].type
    return type_id


def pointee(types: Btf, type_id: int) -> int | None:
    """The structure that a pointer type points to; None for other types and pointers to something else."""
    found = types.resolve(type_id)
    if found.kind is not Kind.PTR or found.type == VOID:
        return None
    target = _plain(types, found.type)
    return target if types.types[target].kind in STRUCTURES | {Kind.FWD} else None


def is_number(types: Btf, type_id: int) -> bool:
    """Does the kernel take the type for a number (btf_type_is_small_int, btf_is_any_enum)?"""
    found = types.resolve(type_id)
    return found.kind in _INTEGERS and found.size in (1, 2, 4, 8)


def pointer_behind(owner: ObjectType, step: Step, in_rcu: bool, name: str) -> tuple[ObjectType, bool]:
    """The object that a loaded pointer field points to, and whether it has to be checked against NULL before use.

    `owner` is what was loaded through; `name` that of the structure pointed to; `in_rcu`: the program does not sleep
    here.
    """
    kind, field = owner.name, step.field
    trust, may_be_null = step.tag or Trust.PLAIN, False
    if owner.trust in (Trust.TRUSTED, Trust.RCU):
        if field in SAFE_TRUSTED.get(kind, ()):
            trust = Trust.TRUSTED
        elif field in SAFE_TRUSTED_OR_NULL.get(kind, ()):
            trust, may_be_null = Trust.TRUSTED, True
        elif not in_rcu:
            trust = Trust.UNTRUSTED
        elif field in SAFE_RCU.get(kind, ()):
            trust = Trust.RCU
        elif field in SAFE_RCU_OR_NULL.get(kind, ()):
            return ObjectType(name, step.type_id, Trust.RCU), True
        else:
            may_be_null = trust is Trust.RCU
    elif owner.trust is Trust.UNTRUSTED:
        trust = Trust.UNTRUSTED
    elif trust is Trust.RCU:
        trust = Trust.PLAIN
    if step.through_union:
        trust, may_be_null = Trust.UNTRUSTED, False
    return ObjectType(name, step.type_id, trust), may_be_null

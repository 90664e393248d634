"""Pointers that maps and objects of the program's own keep ("kptr": process_kptr_func, check_map_kptr_access and
btf_ld_kptr_type in kernel/bpf/verifier.c; btf_parse_kptr in kernel/bpf/btf.c).

A pointer goes in and out by bpf_kptr_xchg; reading a map's shows it, for as long as RCU keeps its object alive.
Followed for kernels since 6.6, in units that were patched for one of them: which structures are the kernel's decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.unit import MapDef
from verifier_model.checker.environment import UNINIT, UNKNOWN, Environment
from verifier_model.checker.kernel_objects import in_rcu_section, object_pointer
from verifier_model.checker.local_objects import (
    fields_behind,
    is_constant,
    is_nested_known,
    offset_of,
    target_of,
    value_fields,
)
from verifier_model.checker.references import acquired, is_local, released
from verifier_model.contracts.helpers import Helper
from verifier_model.contracts.local_types import local_fields
from verifier_model.contracts.map_fields import MapField
from verifier_model.contracts.maps import MAP_TYPES
from verifier_model.contracts.program_maps import map_problem
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.state import State

XCHG: Final = "kptr_xchg"
_POINTER: Final = 8
_NEWEST: Final = (6, 18, 0)
_SINCE: Final = (6, 6, 0)
_IN_OBJECTS_SINCE: Final = (6, 12, 0)
# Maps whose values may hold pointers (map_check_btf).
_HOLDERS: Final = frozenset(
    {
        "hash",
        "percpu_hash",
        "lru_hash",
        "lru_percpu_hash",
        "array",
        "percpu_array",
        "sk_storage",
        "inode_storage",
        "task_storage",
        "cgrp_storage",
    }
)
_REGIONS: Final = frozenset({Region.MAP_VALUE, Region.DATA})


def _is_followed(env: Environment, since: tuple[int, int, int] = _SINCE) -> bool:
    """Without a kernel in particular, as when work is counted, the newest one counts."""
    release = _NEWEST if env.knows is None else env.knows.release
    return env.unit.kernel_types is not None and release is not None and release >= since


def _kept_object(env: Environment, field: MapField) -> ObjectType | str:
    """What the field holds, as the kernel hands it out by exchange; or why the model does not follow it."""
    if field.kind != "kptr" or env.unit.kernel_types is None:
        return f"off={field.off} kptr isn't referenced kptr"
    if not field.is_direct and not is_nested_known(env):
        return f"older kernels do not find the kptr at offset={field.off}"
    kind = target_of(env, field)
    if isinstance(kind, str) or kind.trust is not Trust.LOCAL or env.unit.types is None:
        return kind
    fields = local_fields(env.unit.types, kind.type_id)
    return fields if isinstance(fields, str) else kind


def _holder_problem(env: Environment, definition: MapDef) -> str | None:
    """Why values of the map hold no pointers."""
    unusable = map_problem(env.unit, env.root, definition)
    kind = MAP_TYPES.get(definition.type)
    if unusable is None and (kind is None or kind.name not in _HOLDERS or definition.flags & ~1):
        return f"values of map {definition.name} hold no pointers"
    return unusable


def _field_at(env: Environment, register: Register) -> MapField | str:
    """The pointer that the register points to."""
    at = offset_of(register)
    if register.nullable or at is None:
        return "R1 doesn't have constant offset. kptr has to be at the constant offset"
    if is_local(register):
        if not _is_followed(env, _IN_OBJECTS_SINCE) or register.object is None:
            return "pointers in objects of the program's own are not followed"
        found = fields_behind(env, register)
    else:
        definition = env.unit.map(register.symbol) if register.region in _REGIONS else None
        if definition is None or not _is_followed(env) or is_constant(env, register):
            return "R1 has no valid kptr"
        found = _holder_problem(env, definition) or value_fields(env, definition)
    if isinstance(found, str):
        return found
    field = next((row for row in found if row.off == at and row.kind == "kptr"), None)
    return f"off={at} doesn't point to kptr" if field is None else field


def place_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the register does not point to a kept pointer."""
    register = state.regs[reg]
    if is_local(register) and register.id not in state.references:
        return f"R{reg} points to an object that the program does not own"
    field = _field_at(env, register)
    kind = field if isinstance(field, str) else _kept_object(env, field)
    return kind if isinstance(kind, str) else None


def source_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the register may not be given away to the place that the first argument names."""
    register, field = state.regs[reg], _field_at(env, state.regs[1])
    wanted = field if isinstance(field, str) else _kept_object(env, field)
    if isinstance(wanted, str):
        return wanted
    kind = register.object
    if register.region is not Region.OBJECT or kind is None or register.nullable or offset_of(register) != 0:
        return f"R{reg} must be a whole object"
    if register.id not in state.references:
        return f"R{reg} must be referenced when passed to release function"
    is_same = (kind.name, kind.type_id, is_local(register)) == (
        wanted.name,
        wanted.type_id,
        wanted.trust is Trust.LOCAL,
    )
    return None if is_same else f"invalid kptr access, R{reg} type={kind.name} expected=ptr_{wanted.name}"


def after_exchange(env: Environment, before: State, state: State) -> State:
    """The state behind an exchange that the kernel accepts: one reference goes, another one comes."""
    field = _field_at(env, before.regs[1])
    kind = field if isinstance(field, str) else _kept_object(env, field)
    source = before.regs[2]
    if source.is_pointer:
        state = released(state, source.id)
    if isinstance(kind, str):
        return replace(state, regs=(UNKNOWN, *[UNINIT] * 5, *state.regs[6:]))
    fresh = object_pointer(env, kind, nullable=True)
    fresh = replace(fresh, owner=fresh.id)
    return acquired(replace(state, regs=(fresh, *[UNINIT] * 5, *state.regs[6:])), fresh.id)


def shown(env: Environment, state: State, pointer: Register, off: int, size: int) -> Register | None:
    """What a plain load of a map's kept pointer gives; None where it is none, or none that the model follows."""
    if pointer.region not in _REGIONS or size != _POINTER or pointer.nullable or pointer.value.constant != 0:
        return None
    field = _field_at(env, replace(pointer, off=pointer.off + off))
    kind = field if isinstance(field, str) else _kept_object(env, field)
    if isinstance(kind, str) or kind.trust is Trust.LOCAL:
        return None
    trust = Trust.RCU if in_rcu_section(env, state) else Trust.UNTRUSTED
    return object_pointer(env, replace(kind, trust=trust), nullable=True)

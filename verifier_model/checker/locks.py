"""Spin locks and timers in map values (process_spin_lock and process_timer_func in kernel/bpf/verifier.c)."""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.unit import MapDef
from verifier_model.checker.access import type_name
from verifier_model.checker.environment import Environment
from verifier_model.checker.local_objects import TREE_ADD, fields_behind, is_nested_known, offset_of, value_fields
from verifier_model.checker.references import LOCK, acquired, holding, is_local, left, without_borrowed
from verifier_model.contracts.calls import map_of
from verifier_model.contracts.helpers import Helper
from verifier_model.contracts.map_fields import MapField
from verifier_model.contracts.program_maps import map_problem
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import Held, State

_HOLDERS: Final = frozenset({Region.MAP_VALUE, Region.DATA})


def _field(env: Environment, register: Register, reg: int, kind: str) -> tuple[MapDef, MapField] | str:
    """The map and its only field of that kind, at which the register points; else why not."""
    definition = env.unit.map(register.symbol) if register.region in _HOLDERS else None
    if definition is None or register.nullable:
        return f"R{reg} type={type_name(register)} expected=map_value"
    unusable = map_problem(env.unit, env.root, definition)
    if unusable is not None:
        return unusable
    at = register.constant_off
    if at is None:
        return f"R{reg} doesn't have constant offset. {kind} has to be at the constant offset"
    kept = value_fields(env, definition)
    if isinstance(kept, str):
        return kept
    fields = [row for row in kept if row.kind == kind]
    if len(fields) != 1 or not fields[0].is_plain or not (fields[0].is_direct or is_nested_known(env)):
        return f"map '{definition.name}' has no valid {kind}"
    if fields[0].off != at:
        return f"off {at} doesn't point to 'struct {kind}' that is at {fields[0].off}"
    return definition, fields[0]


def _region(register: Register) -> Held:
    return Held(LOCK, register.id, register.symbol, register.constant_off or 0)


def lock_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the lock may not be taken or given back."""
    register = state.regs[reg]
    problem = _lock_in_object(env, state, register) if is_local(register) else None
    found = _field(env, register, reg, "bpf_spin_lock") if not is_local(register) else ""
    if problem is not None or (isinstance(found, str) and found):
        return problem or str(found)
    if any(frame.callback == TREE_ADD for frame in state.callers):
        return "can't spin_{lock,unlock} in rbtree cb"
    held = holding(state, LOCK)
    if helper.name == "spin_lock":
        return None if held is None else "Locking two bpf_spin_locks are not allowed"
    if held is None:
        return "bpf_spin_unlock without taking a lock"
    return None if held == _region(register) else "bpf_spin_unlock of different lock"


def _lock_in_object(env: Environment, state: State, register: Register) -> str | None:
    """Why the register is no lock inside of an object that the program owns."""
    fields = fields_behind(env, register)
    if isinstance(fields, str):
        return fields
    if register.id not in state.references:
        return "allocated object must be referenced"
    at = offset_of(register)
    is_lock = any(row.kind == "bpf_spin_lock" and row.off == at for row in fields)
    return None if is_lock else f"off {at} doesn't point to 'struct bpf_spin_lock'"


def locked(state: State, helper: Helper, before: State) -> State:
    """The state behind spin_lock or spin_unlock, called in `before`."""
    region = _region(before.regs[1])
    if helper.name == "spin_lock":
        return acquired(state, region)
    return without_borrowed(left(state, region)) if region in state.references else state


def timer_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the register is no timer that the helper may be given."""
    register = state.regs[reg]
    found = _field(env, register, reg, "bpf_timer")
    if isinstance(found, str):
        return found
    if env.unit.maps.get(found[0].name) is not found[0]:
        return "the model does not follow timers in inner maps"
    if helper.name == "timer_init" and map_of(state.regs[2], env.unit) is not found[0]:
        return "timer pointer in R1 map_uid doesn't match map pointer in R2"
    return None

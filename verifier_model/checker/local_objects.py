"""Objects of a program's own, and the lists and trees that they are kept in (bpf_obj_new, bpf_list_*, bpf_rbtree_*,
bpf_refcount_acquire; check_kfunc_call in kernel/bpf/verifier.c).

Who allocates an object owns it: the reference has to be given back, or given away to a list or tree.  What was given
away may still be read and written as long as the lock around the list or tree is held.  Types are those of the object
file; a unit that was not patched for one kernel does not know the numbers by which a program names them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.btf import Kind
from verifier_model.bpf.unit import MapDef
from verifier_model.checker.access import type_name
from verifier_model.checker.environment import UNINIT, ZERO, Environment, each_register
from verifier_model.checker.kernel_calls import ABSENCES, FOLLOWED_ELSEWHERE, RULES, UNDER_LOCK
from verifier_model.checker.references import LOCK, acquired, holding, is_local, owner_of, released
from verifier_model.contracts.kfunc_signatures import KfuncArgument, Parameter
from verifier_model.contracts.kfuncs import Kfunc
from verifier_model.contracts.local_types import ROOTS, all_agree, local_fields
from verifier_model.contracts.map_fields import MapField, fields_of
from verifier_model.contracts.maps import MAP_TYPES
from verifier_model.contracts.program_maps import map_problem
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State

_ANY: Final = Register.scalar(Scalar.top())
_NEW, _DROP, _AGAIN = "bpf_obj_new_impl", "bpf_obj_drop_impl", "bpf_refcount_acquire_impl"
TREE_ADD: Final = "bpf_rbtree_add_impl"
_FIRST, _REMOVE = "bpf_rbtree_first", "bpf_rbtree_remove"
_GIVEN_AWAY: Final = frozenset({"bpf_list_push_front_impl", "bpf_list_push_back_impl", TREE_ADD})
_TAKEN_BACK: Final = frozenset({"bpf_list_pop_front", "bpf_list_pop_back", _REMOVE})
_GRAPH: Final = _GIVEN_AWAY | _TAKEN_BACK | {_FIRST}
LOCAL_CALLS: Final = _GRAPH | {_NEW, _DROP, _AGAIN}
FOLLOWED_ELSEWHERE.update(LOCAL_CALLS)
UNDER_LOCK.update(_GRAPH | {_AGAIN})
# Maps whose values may hold lists and trees (map_check_btf).
_HOLDERS: Final = frozenset({"hash", "lru_hash", "array"})
POINTERS: Final = frozenset({"kptr", "kptr_untrusted", "percpu_kptr"})
# Structures that maps know how to give back (register_btf_id_dtor_kfuncs); RCU protects all of them.
_RETURNABLE: Final = frozenset({"task_struct", "cgroup", "bpf_cpumask"})
_RETURNABLE_IF_THERE: Final = frozenset(
    {"prog_test_ref_kfunc", "bpf_crypto_ctx"}
)  # as part of the kernel, or in no BTF of it
_SINCE: Final = (6, 6, 0)
# Before, only programs of these types had the functions (generic_kfunc_set in kernel/bpf/helpers.c).
_EVERYWHERE_SINCE: Final = (6, 12, 0)
_FIRST_TYPES: Final = frozenset({"tracing", "sched_cls", "xdp"})
NESTED_SINCE: Final = (6, 12, 0)  # fields of structures inside a value or variable count, too


def is_nested_known(env: Environment) -> bool:
    """Does the kernel find fields in structures and arrays inside of a value?"""
    release = NESTED_SINCE if env.knows is None else env.knows.release
    return release is not None and release >= NESTED_SINCE


def is_constant(env: Environment, register: Register) -> bool:
    """Does the pointer lead into a section that nobody may write?  The loader makes no map with fields of it."""
    section = env.unit.data.get(register.symbol) if register.region is Region.DATA else None
    return section is not None and not section.is_writable


def absence(env: Environment, name: str) -> str | None:
    """Why the kernel does not give these functions to the program."""
    release = None if env.knows is None else env.knows.release
    if (
        release is None
        or release < _SINCE
        or (release < _EVERYWHERE_SINCE and env.root.program_type not in _FIRST_TYPES)
    ):
        return f"calling kernel function {name} is not allowed by older kernels"
    return None


def offset_of(register: Register) -> int | None:
    """Bytes from the start of what the pointer points into; None where that varies."""
    return register.off if register.value.constant == 0 else None


def fields_behind(env: Environment, register: Register) -> tuple[MapField, ...] | str:
    """The kernel's own fields of the map value or local object that a register points into."""
    types = env.unit.types
    if types is None or register.nullable:
        return "expected pointer to map value or allocated object"
    if is_local(register) and register.object is not None:
        return local_fields(types, register.object.type_id)
    definition = env.unit.map(register.symbol) if register.region in (Region.MAP_VALUE, Region.DATA) else None
    if definition is None or is_constant(env, register):
        return "expected pointer to map value or allocated object"
    unusable = map_problem(env.unit, env.root, definition)
    if unusable is not None:
        return unusable
    fields = value_fields(env, definition)
    if isinstance(fields, str):
        return fields
    kind = MAP_TYPES.get(definition.type)
    if definition.flags & ~1 and any(row.kind in ROOTS for row in fields):
        return f"the model does not follow the flags of map {definition.name}"
    if kind is None or (kind.name not in _HOLDERS and any(row.kind in ROOTS for row in fields)):
        return f"values of map {definition.name} hold no lists or trees"
    return fields


def value_fields(env: Environment, definition: MapDef) -> tuple[MapField, ...] | str:
    """What the kernel keeps in the map's values, or why it need not keep any of it."""
    types, fields = env.unit.types, fields_of(definition, env.unit)
    if types is None or fields is None or not all_agree(types, fields):
        return f"the value type of map {definition.name} is none that a kernel takes"
    targets = (target_of(env, row) for row in fields if row.kind in POINTERS)
    return next((kind for kind in targets if isinstance(kind, str)), fields)


def target_of(env: Environment, field: MapField) -> ObjectType | str:
    """What a kept pointer points to (btf_parse_kptr): the kernel's structure of that name, or else one of the object's.

    Where it is not known which kernel that is, only structures count that every kernel keeps.
    """
    types, kernel = env.unit.types, env.unit.kernel_types
    target = types.types[field.target] if types is not None else None
    if target is None or target.kind is not Kind.STRUCT or not target.name:
        return f"off={field.off} kptr points to no structure"
    theirs = kernel.named(target.name, Kind.STRUCT) if kernel is not None else 0
    if theirs or kernel is None:
        is_kept = target.name in _RETURNABLE or (theirs and target.name in _RETURNABLE_IF_THERE)
        is_kept = is_kept or (theirs and field.kind != "kptr")
        return ObjectType(target.name, theirs, Trust.TRUSTED) if is_kept else f"maps do not keep struct {target.name}"
    return ObjectType(target.name, field.target, Trust.LOCAL)


def _root_of(env: Environment, register: Register, kind: str) -> MapField | str:
    fields, at = fields_behind(env, register), offset_of(register)
    if isinstance(fields, str):
        return fields
    found = next((row for row in fields if row.kind == kind and row.off == at), None)
    if found is None or not found.is_plain or not found.element:
        return f"{kind} not found at offset={at}"
    if not found.is_direct and not is_nested_known(env):
        return f"older kernels do not find the {kind} at offset={at}"
    return found


def _root_problem(env: Environment, state: State, kfunc: Kfunc, kind: str) -> str | None:
    register = state.regs[1]
    found = _root_of(env, register, kind)
    if isinstance(found, str):
        return found
    if is_local(register) and not _is_owned(state, register):
        return "allocated object must be referenced"
    held = holding(state, LOCK)
    if held is None or (held.symbol, held.id) != (register.symbol, register.id):
        return f"bpf_spin_lock must be held for {kind}"
    return None


def _is_owned(state: State, register: Register) -> bool:
    is_whole = is_local(register) and register.object is not None and register.object.trust is Trust.LOCAL
    return is_whole and not register.nullable and register.id in state.references


def _node_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    """A root or head in the first argument, a node in the second."""
    if reg == 1:
        return _root_problem(env, state, kfunc, argument.name)
    register = state.regs[reg]
    root = _root_of(env, state.regs[1], "bpf_rb_root" if argument.name == "bpf_rb_node" else "bpf_list_head")
    if isinstance(root, str):
        return root
    if not is_local(register) or register.object is None or register.nullable:
        return f"arg#{reg - 1} expected pointer to allocated object"
    if kfunc.name == _REMOVE and register.object.trust is not Trust.BORROWED:
        return "rbtree_remove node input must be non-owning ref"
    if kfunc.name != _REMOVE and not _is_owned(state, register):
        return "allocated object must be referenced"
    if register.object.type_id != root.element or offset_of(register) != root.node:
        return f"arg#{reg - 1} is no {argument.name} that is kept there"
    return None


def _allocated_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register = state.regs[reg]
    if kfunc.name != _DROP:
        return f"the model does not follow calls of {kfunc.name}"
    if not _is_owned(state, register):
        return f"arg#{reg - 1} expected pointer to allocated object"
    return None if offset_of(register) == 0 else f"R{reg} must have zero offset when passed to release func"


def _counted_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register = state.regs[reg]
    if not is_local(register) or register.nullable or offset_of(register) != 0:
        return f"arg#{reg - 1} is neither owning or non-owning ref"
    fields = fields_behind(env, register)
    if isinstance(fields, str):
        return fields
    is_counted = any(row.kind == "bpf_refcount" for row in fields)
    return None if is_counted else f"arg#{reg - 1} doesn't point to a type with bpf_refcount field"


def _new_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register, types = state.regs[reg], env.unit.types
    constant = register.value.constant if register.is_scalar else None
    if constant is None:
        return f"R{reg} must be a known constant"
    if kfunc.name != _NEW:
        return None
    if types is None or env.unit.kernel_types is None:
        return "bpf_obj_new requires prog BTF"
    fields = local_fields(types, constant)
    return fields if isinstance(fields, str) else None


def _callback_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register = state.regs[reg]
    if kfunc.name != TREE_ADD or register.region is not Region.FUNCTION:
        return f"R{reg} type={type_name(register)} expected=func"
    found = next((function for function in env.unit.functions if function.name == register.symbol), None)
    is_static = found is not None and found.is_subprogram and not found.is_global and found.untouchable is None
    return None if found is not None and is_static and found.blocks else "callback function not static"


def after_local(env: Environment, name: str, before: State) -> State:
    """The state behind a call of one of these functions that the kernel accepts."""
    state, result = before, _ANY
    held = owner_of(before, before.regs[2 if name in _GIVEN_AWAY else 1])
    if name == _DROP:
        state, result = released(before, held), UNINIT
    elif name in _GIVEN_AWAY:
        state = _given_away(before, held)
    elif name in (_NEW, _AGAIN):
        result = _fresh(env, _kind_of(env, name, before), 0, name == _NEW or _is_borrowed(before.regs[1]))
    else:
        root = _root_of(env, before.regs[1], "bpf_list_head" if "list" in name else "bpf_rb_root")
        types = env.unit.types
        if not isinstance(root, str) and types is not None:
            trust = Trust.BORROWED if name == _FIRST else Trust.LOCAL
            result = _fresh(env, ObjectType(types.types[root.element].name, root.element, trust), root.node, True)
    state = replace(state, regs=(result, *[UNINIT] * 5, *state.regs[6:]))
    return acquired(state, result.id) if result.is_pointer and result.owner else state


def _is_borrowed(register: Register) -> bool:
    return register.object is not None and register.object.trust is Trust.BORROWED


def _kind_of(env: Environment, name: str, state: State) -> ObjectType | None:
    register, types = state.regs[1], env.unit.types
    if name == _AGAIN:
        return None if register.object is None else replace(register.object, trust=Trust.LOCAL)
    constant = register.value.constant if register.is_scalar else None
    if types is None or constant is None or constant >= len(types.types):
        return None
    return ObjectType(types.types[constant].name, constant, Trust.LOCAL)


def _fresh(env: Environment, kind: ObjectType | None, off: int, nullable: bool) -> Register:
    if kind is None:
        return Register.unknown()
    id = env.fresh()
    owner = id if kind.trust is Trust.LOCAL else 0
    return Register(Region.OBJECT, ZERO, off, id, env.fresh(), nullable, object=kind, owner=owner)


def _given_away(state: State, reference: int) -> State:
    """Of what went into a list or tree, all pointers stay as long as the lock is held."""

    def change(register: Register) -> Register:
        if not register.is_pointer or reference not in (register.id, register.owner) or register.object is None:
            return register
        return replace(register, owner=0, object=replace(register.object, trust=Trust.BORROWED))

    state = each_register(state, change)
    return replace(state, references=tuple(held for held in state.references if held != reference))


def tree_callback(env: Environment, state: State) -> tuple[Register, ...]:
    """What the function that compares two nodes gets: both are in the tree, or as good as."""
    root, types = _root_of(env, state.regs[1], "bpf_rb_root"), env.unit.types
    if isinstance(root, str) or types is None:
        return Register.unknown(), Register.unknown()
    kind = ObjectType(types.types[root.element].name, root.element, Trust.BORROWED)
    return _fresh(env, kind, root.node, False), _fresh(env, kind, root.node, False)


ABSENCES.update(dict.fromkeys(LOCAL_CALLS, absence))
RULES[Parameter.NODE] = _node_problem
RULES[Parameter.ALLOCATED] = _allocated_problem
RULES[Parameter.REFCOUNTED] = _counted_problem
RULES[Parameter.CONSTANT] = _new_problem
RULES[Parameter.CALLBACK] = _callback_problem

"""Accesses whose offsets the loader patches (CO-RE), in a unit that is meant for any kernel.

Such an instruction says itself which field it means.  The model **assumes** that the kernel's type has that field and
means the same by it, that the object's own types describe the kernel's, and that an argument of the context is what the
source takes it for.  The optimiser keeps these instructions verbatim, so the compiler's own object stands or falls with
the same relocations and types.  Facts assume nothing of it: the number that comes, and its width, are unknown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.btf import Btf, BtfError, Kind, essential_name
from verifier_model.bpf.core import FIELD_BYTE_OFFSET, Field, field_of_record
from verifier_model.bpf.insn import Insn
from verifier_model.checker.environment import UNKNOWN, Environment
from verifier_model.checker.kernel_objects import (
    BUFFER,
    GPL_LICENSES,
    in_rcu_section,
    lacks_license,
    may_store,
    object_pointer,
)
from verifier_model.checker.memory import context_value, load
from verifier_model.contracts.attach import BUFFERS
from verifier_model.contracts.contexts import VIEWS, ContextField, field_of
from verifier_model.contracts.kernel_types import Step, pointee, pointer_behind, walk
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State

_SLOT: Final = 8
_ANY: Final = Register.scalar(Scalar.top())
# Only these are the kernel's own; behind other pointers lies memory whose layout the program decides.
PATCHED: Final = frozenset({Region.CTX, Region.OBJECT})


def is_offset(insn: Insn) -> bool:
    """Does the loader put the offset of a field into the instruction?"""
    return len(insn.origin.core) == 1 and insn.origin.core[0][2] == FIELD_BYTE_OFFSET


def core_field(env: Environment, insn: Insn) -> Field | None:
    """The field that a load or store with a CO-RE record means; None where the record means something else."""
    types = env.unit.types
    if types is None or not is_offset(insn):
        return None
    try:
        return field_of_record(types, insn.origin.core[0])
    except BtfError:
        return None


def core_problem(env: Environment, reg: int, pointer: Register, insn: Insn, is_store: bool) -> str | None:
    """Why the kernel may refuse an access whose offset the loader patches; the field says what it becomes."""
    field, size = core_field(env, insn), insn.row.size
    if field is None:
        return "the loader patches the access and the model does not know to what"
    if pointer.region is Region.CTX and env.program is not None and not env.program.arguments:
        if pointer.off or pointer.value.constant != 0:
            return f"dereference of modified ctx ptr R{reg} off={pointer.off} disallowed"
        found = context_field(env, field, size, is_store)
        return None if found is not None else f"invalid bpf_context access to {field.owner}.{field.name} size={size}"
    if is_store:
        return None if _may_store(env, pointer, field, size) else "only read is supported"
    if pointer.region is Region.CTX and env.program is not None and env.program.arguments:
        whole = pointer.off == 0 and pointer.value.constant == 0
        return None if whole and field.off % _SLOT == 0 else "dereference of modified ctx ptr"
    if pointer.region is Region.OBJECT and not pointer.nullable and pointer.object is not None:
        return _core_object_problem(env, reg, pointer, pointer.object, field, size)
    return f"R{reg} is no pointer through which {field.owner}.{field.name} could be read"


def _may_store(env: Environment, pointer: Register, field: Field, size: int) -> bool:
    kind = pointer.object
    if pointer.region is not Region.OBJECT or pointer.nullable or kind is None or pointer.value.constant != 0:
        return False
    is_gpl = env.unit.license in GPL_LICENSES
    return is_gpl and pointer.off >= 0 and may_store(env, kind, pointer.off + field.off, size)


def _core_object_problem(
    env: Environment, reg: int, pointer: Register, kind: ObjectType, field: Field, size: int
) -> str | None:
    if pointer.value.constant != 0 or pointer.off < 0:
        return f"R{reg} is ptr_{kind.name} invalid variable offset"
    if kind.name in VIEWS:
        allowed = kind.name == _view_name(field.owner) and field_of(VIEWS[kind.name], field.off, size) is not None
        return None if allowed and not pointer.off else f"R{reg} invalid {kind.name} access off={field.off} size={size}"
    if lacks_license(env):
        return f"Cannot access kernel 'struct {kind.name}' from non-GPL compatible program"
    if kind.trust.name in ("USER", "PERCPU"):
        return f"R{reg} is ptr_{kind.name} access {kind.trust.value}memory"
    step = _core_step(env, kind, pointer.off, field, size)
    return step if isinstance(step, str) else None


def _core_step(env: Environment, kind: ObjectType, off: int, field: Field, size: int) -> Step | str:
    """What the source's own types say of an access to a field, `off` bytes into the object."""
    types = env.unit.types
    if types is None:
        return "no types are known"
    if kind.name and off == 0 and field.owner != kind.name:
        return f"the source reads {field.owner}.{field.name} from a {kind.name}"
    try:
        if off == 0:
            return walk(types, field.root, field.off, size)
        return walk(types, kind.type_id, off + field.off, size) if kind.type_id else "fields that are not known"
    except BtfError as error:
        return str(error)


def _view_name(owner: str) -> str:
    return "bpf_sock_common" if owner == "bpf_sock" else owner


def context_field(env: Environment, field: Field, size: int, is_store: bool) -> ContextField | None:
    """The context's row for a field that a CO-RE record names: its offset is the kernel's, whatever the source's is."""
    program = env.program
    if program is None:
        return None
    if program.opaque is not None:
        # Every name in it lies inside the part that may be read; only the width and the alignment are in question.
        return program.field_at(field.off, size, is_store) if field.off + size <= program.opaque[1] else None
    if field.owner != program.struct or program.fields is None:
        return None
    for row in program.fields:
        if row.name == field.member and row.allows(row.off + field.within, size, is_store):
            return row
    return None


def core_loaded(env: Environment, insn: Insn, state: State) -> Register:
    """What a load gives whose offset, and for numbers and pointers also whose width, the loader patches."""
    pointer, size = state.regs[insn.src], insn.row.size
    if pointer.region not in PATCHED:
        return load(env, state, pointer, insn.off, size, insn.row.sign) if env.modest else UNKNOWN
    field = core_field(env, insn)
    if field is None or insn.row.sign or env.program is None:
        return UNKNOWN
    is_argument = pointer.region is Region.CTX and env.program.arguments
    if pointer.region is Region.CTX and not is_argument:
        row = context_field(env, field, size, False)
        found = UNKNOWN if row is None else context_value(env, row, size)
        # The loader adjusts the width of numbers to the kernel's field.
        return _ANY if found.is_scalar else found
    if not env.modest or (pointer.object is None and not is_argument):
        return UNKNOWN
    return _typed_value(env, field, state, pointer, size)


def _typed_value(env: Environment, field: Field, state: State, pointer: Register, size: int) -> Register:
    """A load of a field of the kernel's, by what the source says of its type."""
    types = env.unit.types
    owner = pointer.object
    if types is None or (owner is not None and owner.name in VIEWS):
        return _ANY
    if owner is None:
        return _argument_value(env, types, field)
    step = _core_step(env, owner, pointer.off, field, size)
    if isinstance(step, str):
        return UNKNOWN
    if not step.is_pointer:
        target = pointee(types, field.type_id)
        if target is None:
            return _ANY
        step = replace(step, type_id=target)
    name = essential_name(types.types[step.type_id].name)
    owner = replace(owner, name=owner.name or field.owner)
    found, nullable = pointer_behind(owner, step, in_rcu_section(env, state), name)
    return object_pointer(env, replace(found, type_id=_defined(types, step.type_id)), nullable)


def _argument_value(env: Environment, types: Btf, field: Field) -> Register:
    """An argument of a context that the source declares as a structure (struct bpf_iter__task, ...)."""
    if (field.owner.removeprefix("bpf_iter__"), field.name) in BUFFERS:
        found = object_pointer(env, ObjectType(BUFFER, 0, Trust.TRUSTED), True)
        return replace(found, readonly=field.name == "key")
    target = pointee(types, field.type_id)
    if target is None:
        return _ANY
    name = essential_name(types.types[target].name)
    # The first argument of an iterator is its own state and never NULL.
    return object_pointer(env, ObjectType(name, _defined(types, target), Trust.TRUSTED), field.off > 0)


def _defined(types: Btf, type_id: int) -> int:
    return 0 if types.types[type_id].kind is Kind.FWD else type_id

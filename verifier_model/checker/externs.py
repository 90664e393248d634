"""Symbols that the loader finds outside of the object: configuration values and the kernel's own variables
(check_pseudo_btf_id in kernel/bpf/verifier.c; bpf_object__resolve_externs in libbpf).

Whatever their value, they are unknown; weak ones may be absent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.btf import VOID, Btf, BtfError, Kind
from verifier_model.bpf.insn import Ref
from verifier_model.checker.environment import UNKNOWN, ZERO, Environment
from verifier_model.contracts.kernel_types import STRUCTURES
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar

_ANY: Final = Register.scalar(Scalar.top())
_CONFIGURATION, _KERNEL = ".kconfig", ".ksyms"
_PER_CPU: Final = ".data..percpu"


def extern_value(env: Environment, ref: Ref) -> Register:
    """What a wide load of an external symbol gives, in the eyes of a kernel that accepts the program."""
    types = env.unit.types
    if types is None or ref.addend:
        return UNKNOWN
    variable = types.named(ref.name, Kind.VAR)
    section = _section_of(types, variable)
    try:
        if section == _CONFIGURATION:
            fresh = Register(Region.MEMORY, ZERO, id=env.fresh(), base=env.fresh())
            return replace(fresh, size=types.size_of(variable), readonly=True)
        return _of_kernel(env, types, variable, ref.name) if section == _KERNEL else UNKNOWN
    except BtfError:
        return UNKNOWN


def _section_of(types: Btf, variable: int) -> str:
    if not variable:
        return ""
    sections = (entry for entry in types.types if entry.kind is Kind.DATASEC)
    return next((entry.name for entry in sections if any(member.type == variable for member in entry.members)), "")


def _of_kernel(env: Environment, types: Btf, variable: int, name: str) -> Register:
    declared = types.types[variable].type
    if declared == VOID or types.resolve(declared).kind is Kind.VOID:
        return _ANY  # nothing but an address
    kernel = env.unit.kernel_types
    if kernel is None:
        return _typed(env, types, declared, is_per_cpu=True)
    there = kernel.named(name, Kind.VAR)
    if not there:
        return UNKNOWN
    return _typed(env, kernel, kernel.types[there].type, _section_of(kernel, there) == _PER_CPU)


def _typed(env: Environment, types: Btf, type_id: int, is_per_cpu: bool) -> Register:
    found = types.resolve(type_id)
    structure = types.named(found.name, Kind.STRUCT, Kind.UNION) if found.kind in STRUCTURES and found.name else 0
    fresh = Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh())
    if is_per_cpu:
        kind = ObjectType(found.name if structure else "number", structure, Trust.PERCPU)
        return replace(fresh, object=kind, size=types.size_of(type_id))
    if structure:
        return replace(fresh, object=ObjectType(found.name, structure, Trust.PLAIN))
    return replace(fresh, region=Region.MEMORY, size=types.size_of(type_id), readonly=True)


def on_this_cpu(env: Environment, pointer: Register, nullable: bool) -> Register:
    """What per_cpu_ptr and this_cpu_ptr make of a per-CPU variable's address."""
    kind = pointer.object
    if kind is None or kind.trust is not Trust.PERCPU:
        return UNKNOWN
    fresh = Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh(), nullable=nullable)
    if kind.type_id:
        return replace(fresh, object=replace(kind, trust=Trust.PLAIN))
    return replace(fresh, region=Region.MEMORY, size=pointer.size, readonly=True)

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
        if section != _KERNEL:
            return UNKNOWN
        return _ANY if _is_address(types, variable) else _typed(env, types, types.types[variable].type)
    except BtfError:
        return UNKNOWN


def _section_of(types: Btf, variable: int) -> str:
    if not variable:
        return ""
    sections = (entry for entry in types.types if entry.kind is Kind.DATASEC)
    return next((entry.name for entry in sections if any(member.type == variable for member in entry.members)), "")


def symbol_problem(env: Environment, ref: Ref) -> str | None:
    """Why a kernel may refuse the wide load: whatever its BTF says of a variable's type, it need not find the address
    (CONFIG_KALLSYMS_ALL), and then a weak symbol is no help either."""
    types = env.unit.types
    if types is None:
        return None
    variable = types.named(ref.name, Kind.VAR)
    if _section_of(types, variable) != _KERNEL or _is_address(types, variable):
        return None
    return f"ldimm64 may not find the address for kernel symbol '{ref.name}'"


def _is_address(types: Btf, variable: int) -> bool:
    """Is the symbol declared as nothing but an address (extern const void)?"""
    declared = types.types[variable].type
    return declared == VOID or types.resolve(declared).kind is Kind.VOID


def _typed(env: Environment, types: Btf, type_id: int) -> Register:
    """A variable of the kernel: BTF has types of per-CPU ones alone."""
    found = types.resolve(type_id)
    structure = types.named(found.name, Kind.STRUCT, Kind.UNION) if found.kind in STRUCTURES and found.name else 0
    fresh = Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh())
    kind = ObjectType(found.name if structure else "number", structure, Trust.PERCPU)
    return replace(fresh, object=kind, size=types.size_of(type_id))


def on_this_cpu(env: Environment, pointer: Register, nullable: bool) -> Register:
    """What per_cpu_ptr and this_cpu_ptr make of a per-CPU variable's address."""
    kind = pointer.object
    if kind is None or kind.trust is not Trust.PERCPU:
        return UNKNOWN
    fresh = Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh(), nullable=nullable)
    if kind.type_id:
        return replace(fresh, object=replace(kind, trust=Trust.PLAIN))
    return replace(fresh, region=Region.MEMORY, size=pointer.size, readonly=True)

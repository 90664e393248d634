"""Pointers to kernel objects and arguments in contexts (check_ptr_to_btf_access and btf_ctx_access of the kernel).

Two ways to know types.  A unit that was patched for one kernel (`contracts.relocation`) carries that kernel's BTF:
everything is looked up there, as the kernel does.  A unit that is meant for any kernel has only its own BTF: see
`checker.core_accesses` for what is then assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.btf import Btf, BtfError, Kind, essential_name
from verifier_model.checker.environment import UNKNOWN, ZERO, Environment
from verifier_model.checker.references import is_local
from verifier_model.contracts.attach import ContextArgument, Slot
from verifier_model.contracts.contexts import VIEWS, field_of
from verifier_model.contracts.kernel_types import Step, holds_at, pointer_behind, walk
from verifier_model.contracts.local_types import local_fields
from verifier_model.contracts.map_fields import overlapping
from verifier_model.contracts.maps import structure_of
from verifier_model.contracts.operations import OWNERS, may_write, may_write_connection
from verifier_model.contracts.programs import is_sleepable
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import Held, State

_LICENSED_SINCE: Final = (6, 2, 0)
_SLOT: Final = 8
_ANY: Final = Register.scalar(Scalar.top())
_SIZED: Final = {size: Register.scalar(Scalar.of_width(8 * size)) for size in (1, 2, 4, 8)}
GPL_LICENSES: Final = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)  # license_is_gpl_compatible in include/linux/license.h


def graph(env: Environment) -> Btf | None:
    """The types that the analysis goes by: the kernel's, or the object's in their place."""
    return env.unit.kernel_types or env.unit.types


def object_pointer(env: Environment, kind: ObjectType, nullable: bool) -> Register:
    return Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh(), nullable=nullable, object=kind)


def named(env: Environment, name: str) -> ObjectType:
    """A view, or the kernel's structure of that name as the kernel itself hands it out."""
    if name in VIEWS:
        return ObjectType(name, 0, Trust.TRUSTED)
    types = graph(env)
    return ObjectType(name, types.named(name, Kind.STRUCT) if types is not None else 0, Trust.TRUSTED)


# What helpers return, by the structure's name (ret_btf_id of their bpf_func_proto).
_RESULTS: Final[Mapping[str, ObjectType]] = MappingProxyType(
    {
        "get_current_task_btf": ObjectType("task_struct", trust=Trust.TRUSTED),
        "task_pt_regs": ObjectType("pt_regs"),
        "sock_from_file": ObjectType("socket"),
        "skc_to_tcp6_sock": ObjectType("tcp6_sock"),
        "skc_to_tcp_sock": ObjectType("tcp_sock"),
        "skc_to_tcp_timewait_sock": ObjectType("tcp_timewait_sock"),
        "skc_to_tcp_request_sock": ObjectType("tcp_request_sock"),
        "skc_to_udp6_sock": ObjectType("udp6_sock"),
        "skc_to_unix_sock": ObjectType("unix_sock"),
        "skc_to_mptcp_sock": ObjectType("mptcp_sock"),
    }
)


def helper_object(env: Environment, helper: str) -> ObjectType | None:
    """The kernel object that a helper returns; None where nothing tells its type."""
    kind, types = _RESULTS.get(helper), graph(env)
    if kind is None or types is None:
        return kind
    return replace(kind, type_id=types.named(kind.name, Kind.STRUCT))


# Structures that start with a struct sock_common: the object need not say so.
_SOCKETS: Final = frozenset(
    {
        "inet_connection_sock",
        "inet_request_sock",
        "inet_sock",
        "inet_timewait_sock",
        "mptcp_sock",
        "request_sock",
        "sock",
        "tcp6_sock",
        "tcp_request_sock",
        "tcp_sock",
        "tcp_timewait_sock",
        "udp6_sock",
        "udp_sock",
        "unix_sock",
    }
)
WRITABLE: Final = "(writable)"  # what a tracepoint lets programs write, of a size that is asked when they are attached
BUFFER: Final = "(buffer)"  # the memory of a map's element that an iterator shows


def in_rcu_section(env: Environment, state: State) -> bool:
    """Is the program where RCU keeps objects alive: as a whole when it may not sleep, else between lock and unlock?"""
    return not is_sleepable(env.root) or any(isinstance(held, Held) and held.kind == "rcu" for held in state.references)


def is_at(env: Environment, register: Register, name: str) -> bool:
    """Does the pointer point to a structure of that name, the object itself or one inside it (btf_struct_ids_match)?"""
    kind, types = register.object, graph(env)
    if kind is None or register.region is not Region.OBJECT or register.value.constant != 0:
        return False
    if not register.off and (kind.name == name or (name == "sock_common" and kind.name in _SOCKETS)):
        return True
    try:
        return types is not None and kind.type_id != 0 and holds_at(types, kind.type_id, register.off, name)
    except BtfError:
        return False


def is_number(register: Register) -> bool:
    """May it be calculated with: a number, or an argument that may well be one?"""
    return register.is_scalar or is_assumed(register)


def is_assumed(register: Register) -> bool:
    """Is it an argument whose type only the source knows?  It may then be calculated with, too."""
    return register.region is Region.OBJECT and register.object is not None and not register.object.name


def lacks_license(env: Environment, is_store: bool = False) -> bool:
    """Is the program's licence one under which it may not look into the kernel's objects?

    Kernels of the 6.1 series and older, which were asked, let every program read them; 6.12 does not.
    """
    release = None if env.knows is None else env.knows.release
    is_free = release is not None and release < _LICENSED_SINCE and not is_store
    return env.unit.license not in GPL_LICENSES and not is_free


def object_problem(env: Environment, reg: int, pointer: Register, off: int, size: int, is_store: bool) -> str | None:
    """Why the kernel refuses the access through a pointer to one of its objects; None when it does not."""
    kind = pointer.object
    if kind is not None and kind.name in (BUFFER, WRITABLE) and not pointer.nullable:
        return buffer_problem(reg, pointer, off, is_store)
    if kind is None or pointer.nullable:
        return f"R{reg} points to a kernel object of a type that is not known"
    off += pointer.off
    if pointer.value.constant != 0:
        return f"R{reg} is ptr_{kind.name} invalid variable offset: off={off}"
    if is_local(pointer):
        return local_problem(env, kind, off, size)
    fields = VIEWS.get(kind.name)
    if fields is not None:
        allowed = field_of(fields, off, size, is_store) is not None
        return None if allowed else f"R{reg} invalid {kind.name} access off={off} size={size}"
    if lacks_license(env, is_store):
        return f"Cannot access kernel 'struct {kind.name}' from non-GPL compatible program"
    if kind.trust.name in ("USER", "PERCPU"):
        return f"R{reg} is ptr_{kind.name} access {kind.trust.value}memory: off={off}"
    if is_store:
        return None if may_store(env, kind, off, size) else "only read is supported"
    if not kind.name and may_store(env, kind, off, size):
        return None
    if off < 0:
        return f"R{reg} is ptr_{kind.name} invalid negative access: off={off}"
    step = _step(env, kind, off, size)
    return step if isinstance(step, str) else None


def buffer_problem(reg: int, pointer: Register, off: int, is_store: bool) -> str | None:
    """Why an iterator's buffer may not be accessed there (__check_buffer_access)."""
    if pointer.value.constant != 0 or pointer.off + off < 0:
        return f"R{reg} invalid buffer access: off={pointer.off + off}"
    return f"R{reg} cannot write into rdonly_buf" if is_store and pointer.readonly else None


def local_problem(env: Environment, kind: ObjectType, off: int, size: int) -> str | None:
    """Why an object of the program's own may not be read or written there (btf_struct_access)."""
    types = env.unit.types
    fields = "no types are known" if types is None else local_fields(types, kind.type_id)
    if types is None or isinstance(fields, str) or off < 0:
        return f"invalid access to allocated {kind.name} at {off}: {fields}"
    touched = overlapping(fields, off, off + size)
    if touched is not None:
        return f"direct access to {touched.kind} is disallowed"
    try:
        step = walk(types, kind.type_id, off, size)
    except BtfError as error:
        return str(error)
    return step if isinstance(step, str) else None


def map_problem_at(env: Environment, reg: int, pointer: Register, off: int, size: int, is_store: bool) -> str | None:
    """Why the kernel's own structure of a map may not be accessed there (check_ptr_to_map_access)."""
    if pointer.nullable or pointer.value.constant != 0 or is_store or off + pointer.off < 0:
        return f"R{reg} invalid mem access 'map_ptr'"
    step = _map_step(env, pointer, off, size)
    return step if isinstance(step, str) else None


def _map_step(env: Environment, pointer: Register, off: int, size: int) -> Step | str:
    definition, kernel = env.unit.map(pointer.symbol), env.unit.kernel_types
    structure = "" if definition is None else structure_of(definition.type)
    type_id = kernel.named(structure, Kind.STRUCT) if kernel is not None and structure else 0
    if kernel is None or not type_id:
        return "map_ptr access not supported where the kernel's types are not known"
    try:
        return walk(kernel, type_id, off + pointer.off, size)
    except BtfError as error:
        return str(error)


def loaded_from_map(env: Environment, pointer: Register, off: int, size: int) -> Register:
    """What a load of a map's own structure gives."""
    unknown = _SIZED[size] if size < 4 else UNKNOWN
    step, kernel = _map_step(env, pointer, off, size), env.unit.kernel_types
    if isinstance(step, str) or kernel is None or pointer.nullable:
        return unknown
    if not step.is_pointer:
        return _SIZED[size]
    is_plain = step.tag is None and not step.through_union
    kind = ObjectType(kernel.types[step.type_id].name, step.type_id, Trust.PLAIN if is_plain else Trust.UNTRUSTED)
    return object_pointer(env, kind, False)


def may_store(env: Environment, kind: ObjectType, off: int, size: int) -> bool:
    """Is it a field that programs of these operations may write?  What the source alone knows is its owner, then."""
    types, operation = graph(env), env.root.operation
    if types is None or kind.trust in (Trust.UNTRUSTED, Trust.USER, Trust.PERCPU):
        return False
    if operation is None:
        is_known = env.unit.kernel_types is not None
        return is_known and may_write_connection(types, env.root.program_type, kind.name, off, size)
    owner = kind.name or OWNERS.get(operation[0], "")
    return may_write(types, operation[0], owner, off, size)


def _step(env: Environment, kind: ObjectType, off: int, size: int) -> Step | str:
    types = graph(env)
    if types is None or not kind.type_id:
        return f"the fields of struct {kind.name or '?'} are not known"
    try:
        return walk(types, kind.type_id, off, size)
    except BtfError as error:
        return str(error)


def loaded(env: Environment, state: State, pointer: Register, off: int, size: int) -> Register:
    """What a load through a pointer to a kernel object gives.

    Of what others may have changed nothing more is known than its width and that it is no memory of the program's: the
    objects of the kernel do not lead there.
    """
    kind = pointer.object
    unknown = _SIZED[size] if size < 4 else UNKNOWN
    if kind is None or pointer.nullable or pointer.value.constant != 0:
        return unknown
    off += pointer.off
    if kind.name in VIEWS or kind.name in (BUFFER, WRITABLE) or is_local(pointer):
        return _SIZED[size]
    if not kind.name and env.modest and may_store(env, kind, off, size):
        return _SIZED[size]
    step = _step(env, kind, off, size)
    if isinstance(step, str) or env.unit.license not in GPL_LICENSES or off < 0:
        return unknown
    if env.unit.kernel_types is None and not env.modest:
        # The object's own types need not be this kernel's.
        return unknown
    types = graph(env)
    if not step.is_pointer or types is None:
        return _SIZED[size]
    name = types.types[step.type_id].name
    name = essential_name(name) if env.unit.kernel_types is None else name
    found, nullable = pointer_behind(kind, step, in_rcu_section(env, state), name)
    return object_pointer(env, found, nullable)


def attach_problem(env: Environment) -> str | None:
    """Why one kernel has nothing that the program could be attached to, or does not let it (bpf_check_attach_target,
    check_struct_ops_btf_id)."""
    if env.program is None or not env.program.arguments or env.root.is_subprogram:
        return None
    if env.root.program_type == "struct_ops" and env.unit.license not in GPL_LICENSES:
        return "struct ops programs must have a GPL compatible license"
    return env.arguments if isinstance(env.arguments, str) else None


def argument_problem(env: Environment, off: int, size: int, is_store: bool) -> str | None:
    """Why the kernel refuses this access to a context that is an array of arguments."""
    if is_store:
        return f"invalid bpf_context access off={off} size={size}"
    found = _argument(env, off, size)
    return found if isinstance(found, str) else None


def _argument(env: Environment, off: int, size: int) -> ContextArgument | str:
    arguments = env.arguments
    if isinstance(arguments, str):
        return arguments
    if off < 0 or off % _SLOT or off // _SLOT >= len(arguments):
        return f"func '{env.root.name}' doesn't have {off // _SLOT + 1}-th argument"
    found = arguments[off // _SLOT]
    if found.slot is Slot.UNREADABLE:
        return f"func '{env.root.name}' arg{off // _SLOT} is not a struct"
    if size != _SLOT and found.slot not in (Slot.NUMBER, Slot.ASSUMED):
        return f"func '{env.root.name}' size {size} must be 8"
    return found


def is_writable_argument(env: Environment, off: int, size: int) -> bool:
    """Is it the argument through which a tracepoint can be told something (raw_tp_writable_prog_is_valid_access)?"""
    return env.modest and env.root.program_type == "raw_tracepoint_writable" and (off, size) == (0, _SLOT)


def writable_argument(env: Environment) -> Register:
    return object_pointer(env, ObjectType(WRITABLE, 0, Trust.TRUSTED), False)


def loaded_argument(env: Environment, off: int, size: int) -> Register:
    """What a load from a context that is an array of arguments gives."""
    found = _argument(env, off, size)
    unknown = _SIZED[size] if size < 4 else UNKNOWN
    if isinstance(found, str) or (found.slot is Slot.BUFFER and not env.modest):
        return unknown
    if found.slot is Slot.BUFFER:
        # Keys, which come third, may only be read; how far is asked when the program is attached.
        return replace(object_pointer(env, ObjectType(BUFFER, 0, Trust.TRUSTED), True), readonly=off <= 2 * _SLOT)
    if found.slot is Slot.NUMBER:
        return _SIZED[size]
    if found.slot is Slot.ASSUMED and (not env.modest or size != _SLOT):
        # A number or an address of any kind; narrow loads are taken for numbers' by the check alone.
        return _SIZED[size] if env.modest else unknown
    if found.object is None:
        return _ANY
    return object_pointer(env, found.object, found.nullable)

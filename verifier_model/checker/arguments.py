"""What each kind of helper argument must hold (check_func_arg in kernel/bpf/verifier.c)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from verifier_model.checker.access import access_problem, bounds_problem, owned_problem, stack_read_problem, type_name
from verifier_model.checker.environment import Environment
from verifier_model.checker.kernel_objects import BUFFER, is_assumed, is_at, object_problem
from verifier_model.checker.kernel_objects import buffer_problem as iterated_problem
from verifier_model.contracts.calls import map_of
from verifier_model.contracts.contexts import VIEWS
from verifier_model.contracts.helpers import ArgumentKind, Helper
from verifier_model.contracts.maps import READ_ONLY_FOR_PROGRAMS, SOCKET_MAPS, takes_helper
from verifier_model.contracts.programs import section_head
from verifier_model.domains.registers import Region, Register, Trust
from verifier_model.domains.state import STACK_BYTES, State

LARGEST_SIZE: Final = 1 << 29  # BPF_MAX_VAR_SIZ
_MEMORY: Final = frozenset(
    {Region.STACK, Region.PACKET, Region.PACKET_META, Region.MAP_VALUE, Region.DATA, Region.MEMORY}
)
# Helpers that take packet memory for a key, value or buffer in every kernel (bpf_func_proto.pkt_access).
_PACKET_HELPERS: Final = frozenset(
    {
        "csum_diff",
        "map_delete_elem",
        "map_lookup_elem",
        "map_lookup_percpu_elem",
        "map_push_elem",
        "map_update_elem",
        "sk_lookup_tcp",
        "sk_lookup_udp",
        "skc_lookup_tcp",
        "sock_hash_update",
        "sock_map_update",
        "tcp_check_syncookie",
        "tcp_gen_syncookie",
        "tcp_raw_check_syncookie_ipv4",
        "tcp_raw_check_syncookie_ipv6",
        "tcp_raw_gen_syncookie_ipv4",
        "tcp_raw_gen_syncookie_ipv6",
    }
)
# Whose programs may hand packet memory to helpers for reading, and for writing (may_access_direct_pkt_data).
_READS_PACKET: Final = frozenset(
    {"lwt_in", "lwt_out", "lwt_seg6local", "sk_reuseport", "flow_dissector", "cgroup_skb"}
    | {"sched_cls", "sched_act", "xdp", "lwt_xmit", "sk_skb", "sk_msg"}
)
WRITES_PACKET: Final = frozenset({"sched_cls", "sched_act", "xdp", "lwt_xmit", "sk_skb", "sk_msg"})
# Helpers that take the kernel's own structures of sockets, too (ARG_PTR_TO_BTF_ID_SOCK_COMMON).
_TAKES_STRUCTURES: Final = frozenset(
    {
        "get_socket_cookie",
        "map_update_elem",
        "getsockopt",
        "setsockopt",
        "sk_ancestor_cgroup_id",
        "sk_assign",
        "sk_cgroup_id",
        "sk_release",
        "sk_storage_delete",
        "sk_storage_get",
        "skc_to_tcp6_sock",
        "skc_to_tcp_request_sock",
        "skc_to_tcp_sock",
        "skc_to_tcp_timewait_sock",
        "skc_to_udp6_sock",
        "skc_to_unix_sock",
        "tcp_check_syncookie",
        "tcp_gen_syncookie",
    }
)
_SOCKET_VIEWS: Final = frozenset({"bpf_sock", "bpf_sock_common", "bpf_tcp_sock"})
# Helpers that take the context of these program types where others hand them a socket.
_CONTEXT_FOR_SOCKET: Final = {
    "setsockopt": frozenset({"sock_ops", "cgroup_sock_addr"}),
    "getsockopt": frozenset({"sock_ops", "cgroup_sock_addr"}),
}
# Helpers on kernel objects, and the structure that they take.
_STRUCTURES: Final = {
    "bprm_opts_set": "linux_binprm",
    "cgrp_storage_delete": "cgroup",
    "cgrp_storage_get": "cgroup",
    "copy_from_user_task": "task_struct",
    "d_path": "path",
    "find_vma": "task_struct",
    "get_task_stack": "task_struct",
    "ima_file_hash": "file",
    "ima_inode_hash": "inode",
    "inode_storage_delete": "inode",
    "inode_storage_get": "inode",
    "seq_printf": "seq_file",
    "seq_printf_btf": "seq_file",
    "seq_write": "seq_file",
    "skb_output": "sk_buff",
    "sock_from_file": "file",
    "task_pt_regs": "task_struct",
    "task_storage_delete": "task_struct",
    "task_storage_get": "task_struct",
    "tcp_send_ack": "tcp_sock",
    "xdp_output": "xdp_buff",
}
_CHECK_FOR_NULL: Final = frozenset(
    {
        "sk_storage_get",
        "sk_storage_delete",
        "task_storage_get",
        "task_storage_delete",
        "cgrp_storage_get",
        "cgrp_storage_delete",
        "inode_storage_get",
        "inode_storage_delete",
    }
)
PER_CPU: Final = frozenset({"per_cpu_ptr", "this_cpu_ptr"})
_TYPED: Final = frozenset({Trust.TRUSTED, Trust.RCU, Trust.PLAIN})
ArgumentRule = Callable[[Environment, State, Helper, int], "str | None"]


def argument_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the helper may not be given what register `reg` holds."""
    kind = helper.arguments[reg - 1].kind
    rule = ARGUMENTS.get(kind)
    if rule is None:
        return f"R{reg}: the model does not follow {kind.value} arguments of {helper.name}"
    return rule(env, state, helper, reg)


def _any(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    return None


def constant_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the register is not one known number that is a size of memory."""
    register = state.regs[reg]
    if not register.is_scalar or register.value.constant is None:
        return f"R{reg} is not a known constant"
    return None if register.value.constant < LARGEST_SIZE else f"R{reg} is too large a size"


def _size(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register, argument = state.regs[reg], helper.arguments[reg - 1]
    if not register.is_scalar:
        return f"R{reg} type={type_name(register)} expected=scalar"
    problem = size_bounds_problem(register, reg)
    if problem is not None:
        return problem
    if is_null(state.regs[reg - 1]):
        # NULL goes with no bytes alone, where both are allowed.
        is_allowed = helper.arguments[reg - 2].nullable and argument.zero and register.value.umax == 0
        return None if is_allowed else f"R{reg - 1} type=scalar expected=fp"
    return f"R{reg} invalid zero-sized read" if register.value.umin == 0 and not argument.zero else None


def size_bounds_problem(register: Register, reg: int) -> str | None:
    """Why the number may be no size of memory at all (check_mem_size_reg)."""
    if register.value.smin < 0:
        return f"R{reg} min value is negative, either use unsigned or 'var &= const'"
    if register.value.umax >= LARGEST_SIZE:
        return f"R{reg} unbounded memory access, use 'var &= const' or 'if (var < const)'"
    return None


def is_null(register: Register) -> bool:
    return register.is_scalar and register.value.constant == 0


def _context(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    if helper.name == "get_socket_cookie" and env.root.program_type == "tracing":
        return _socket(env, state, helper, reg)
    return context_problem(state.regs[reg], reg)


def context_problem(register: Register, reg: int) -> str | None:
    """Why the register is not the context as the program got it."""
    if register.region is not Region.CTX:
        return f"R{reg} type={type_name(register)} expected=ctx"
    is_whole = register.off == 0 and register.value.constant == 0
    return None if is_whole else f"dereference of modified ctx ptr R{reg} off={register.off} disallowed"


def _map(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    if register.region is not Region.MAP or register.nullable or register.constant_off != 0:
        return f"R{reg} type={type_name(register)} expected=map_ptr"
    definition = map_of(register, env.unit)
    if definition is None:
        return f"R{reg} is a map that is not known"
    if not takes_helper(definition.type, helper.name, _writer(env)):
        return f"cannot pass map_type {definition.type} into func bpf_{helper.name}"
    if definition.flags & READ_ONLY_FOR_PROGRAMS and helper.writes_map:
        return "write into map forbidden"
    return None


def _writer(env: Environment) -> str | None:
    """The program's type, where iterators count as one of their own."""
    is_iterator = env.root.program_type == "tracing" and section_head(env.root.section).startswith("iter")
    return "tracing_iter" if is_iterator else env.root.program_type


def _map_memory(is_key: bool, is_output: bool = False) -> ArgumentRule:
    def rule(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
        map_reg = helper.register_of(ArgumentKind.MAP)
        definition = map_of(state.regs[map_reg], env.unit) if map_reg is not None else None
        if definition is None:
            return "the map is not known"
        if not is_key and helper.name == "map_update_elem" and definition.type in SOCKET_MAPS:
            return _socket(env, state, helper, reg)
        size = definition.key_size if is_key else definition.value_size
        if size == 0 or (definition.has_assumed_value and not is_key):
            return f"R{reg}: the size of map {definition.name}'s {'keys' if is_key else 'values'} is not known"
        return buffer_problem(env, state, reg, size, is_output, is_output, helper.name in _PACKET_HELPERS)

    return rule


def _sized(is_store: bool, is_output: bool) -> ArgumentRule:
    def rule(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
        argument = helper.arguments[reg - 1]
        size, is_exact = argument.size, True
        size_reg = helper.size_register(reg)
        if not size and size_reg is not None and state.regs[size_reg].is_scalar:
            value = state.regs[size_reg].value
            size, is_exact = value.umax, value.constant is not None
        if not 0 <= size < LARGEST_SIZE:
            return f"R{reg} unbounded memory access, use 'var &= const' or 'if (var < const)'"
        if is_store and argument.size in (4, 8):
            misaligned = _alignment_problem(state.regs[reg], argument.size)
            if misaligned is not None:
                return misaligned
        if is_exact and size and not is_store and _is_trusted(env, state, state.regs[reg]):
            return object_problem(env, reg, state.regs[reg], 0, size, False)
        takes_packet = helper.name in _PACKET_HELPERS
        return buffer_problem(env, state, reg, size, is_store, is_output and is_exact, takes_packet)

    return rule


def _is_trusted(env: Environment, state: State, register: Register) -> bool:
    """Is it an object of the kernel's that helpers may read like memory (PTR_TO_BTF_ID | PTR_TRUSTED, since 6.6)?"""
    kind, release = register.object, None if env.knows is None else env.knows.release
    if register.region is not Region.OBJECT or kind is None or register.nullable or not kind.name:
        return False
    is_free = not register.owner and register.id not in state.references
    is_structure = kind.trust is Trust.TRUSTED and kind.type_id != 0 and kind.name not in VIEWS
    return is_free and is_structure and env.unit.kernel_types is not None and (release or (0, 0, 0)) >= (6, 6, 0)


def _alignment_problem(pointer: Register, size: int) -> str | None:
    # Results of integer types are written whole (MEM_ALIGNED).
    is_aligned = (pointer.off | pointer.value.bits_value | pointer.value.bits_mask) % size == 0
    return None if is_aligned else f"misaligned access off {pointer.off} size {size}"


def buffer_problem(
    env: Environment, state: State, reg: int, size: int, is_store: bool, is_output: bool, takes_packet: bool = True
) -> str | None:
    """Why a callee may not be given `size` bytes behind the register (check_helper_mem_access).

    `is_output`: it writes all of them and reads none, so they need not be initialised.
    """
    pointer = state.regs[reg]
    if pointer.object is not None and pointer.object.name == BUFFER and not pointer.nullable:
        return iterated_problem(reg, pointer, 0, is_store)
    if pointer.region not in _MEMORY or pointer.nullable:
        return f"R{reg} type={type_name(pointer)} expected=fp, pkt, pkt_meta, map_key, map_value, mem"
    if pointer.region in (Region.PACKET, Region.PACKET_META):
        allowed = WRITES_PACKET if is_store else _READS_PACKET
        if not takes_packet or env.root.program_type not in allowed:
            return "helper access to the packet is not allowed"
    if pointer.region is Region.STACK:
        low, high = pointer.off + pointer.value.smin, pointer.off + pointer.value.smax + size
        if low < -STACK_BYTES or low >= 0 or high > 0:
            return f"invalid indirect access to stack R{reg} off={low} size={size}"
        if is_output and pointer.value.constant is not None:
            env.touched.append((pointer.frame, low, high, False))
            return owned_problem(state, pointer, low, high)
        return _initialised(env, state, pointer, low, high)
    if pointer.region is Region.MEMORY:
        if is_store and pointer.readonly:
            return f"R{reg} cannot write into rdonly_mem"
        return bounds_problem(reg, pointer, 0, size)
    return access_problem(env, state, reg, 0, size, is_store)


def _initialised(env: Environment, state: State, pointer: Register, low: int, high: int) -> str | None:
    if env.knows is not None and env.knows.uninitialised_stack:
        # Then a helper may also be handed what was never written, and pointers (allow_ptr_leaks).
        env.touched.append((pointer.frame, low, high, True))
        return owned_problem(state, pointer, low, high)
    # A helper may be handed a spilled number but no spilled pointer, hence the one-byte reads.
    problem = stack_read_problem(env, state, pointer, low, high, 1)
    return None if problem is None else f"invalid indirect read from stack: {problem}"


def _record(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    is_whole = register.off == 0 and register.value.constant == 0 and not register.nullable
    if register.region is Region.MEMORY and is_whole and register.id in state.references:
        return None
    return f"R{reg} must be a reserved record"


def _socket(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    if is_null(register) and helper.name == "sk_assign" and env.root.program_type == "sk_lookup":
        return None
    if register.region is Region.CTX:
        if env.root.program_type in _CONTEXT_FOR_SOCKET.get(helper.name, ()):
            return context_problem(register, reg)
        return f"R{reg} type=ctx expected=sock_common, sock, tcp_sock, trusted_ptr_"
    register = _checked_later(env, helper, register)
    is_structure = is_assumed(register) or is_at(env, register, "sock_common")
    if helper.name in _TAKES_STRUCTURES and _is_usable(register) and is_structure:
        return None
    views = frozenset({"bpf_sock"}) if env.root.program_type == "sk_lookup" else _SOCKET_VIEWS
    return _named(env, register, reg, views)


def _checked_later(env: Environment, helper: Helper, register: Register) -> Register:
    """Some helpers on local storage take NULL themselves (ARG_PTR_TO_BTF_ID_OR_NULL, for all since 6.6)."""
    release = None if env.knows is None else env.knows.release
    is_taken = helper.name in _CHECK_FOR_NULL and (release or (0, 0, 0)) >= (6, 6, 0)
    is_taken = is_taken and (not helper.name.startswith("sk_") or env.root.program_type == "tracing")
    return replace(register, nullable=False) if is_taken and register.region is Region.OBJECT else register


def _object(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    if helper.name in PER_CPU:
        is_per_cpu = register.region is Region.OBJECT and register.object is not None and not register.off
        is_per_cpu = is_per_cpu and register.object is not None and register.object.trust is Trust.PERCPU
        return None if is_per_cpu else f"R{reg} type={type_name(register)} expected=percpu_ptr_"
    register = _checked_later(env, helper, register)
    wanted = _STRUCTURES.get(helper.name)
    if wanted is None:
        return f"R{reg}: the model does not know what bpf_{helper.name} takes"
    return None if is_assumed(register) and _is_usable(register) else _named(env, register, reg, frozenset({wanted}))


def _is_usable(register: Register) -> bool:
    kind = register.object
    return register.region is Region.OBJECT and not register.nullable and kind is not None and kind.trust in _TYPED


def _named(env: Environment, register: Register, reg: int, names: frozenset[str]) -> str | None:
    kind = register.object
    if register.region is Region.OBJECT and not register.nullable and kind is not None:
        if _is_usable(register) and any(is_at(env, register, name) for name in sorted(names)):
            return None
        return f"R{reg} is of type {kind.name} but {' or '.join(sorted(names))} is expected"
    return f"R{reg} type={type_name(register)} expected=ptr_"


def _string(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """A string that ends in a read-only section (check_reg_const_str)."""
    register = state.regs[reg]
    if register.region is not Region.DATA:
        return f"R{reg} type={type_name(register)} expected=map_value"
    section = env.unit.data.get(register.symbol)
    at = register.constant_off
    if section is None or section.is_writable or not section.name.startswith(".rodata"):
        return f"R{reg} does not point to a readonly map'"
    if at is None:
        return f"R{reg} is not a constant address'"
    if not 0 <= at < section.size:
        return f"R{reg} points outside of {section.name}"
    return None if at <= section.last_zero else "string is not zero-terminated"


ARGUMENTS: Final[Mapping[ArgumentKind, ArgumentRule]] = {
    ArgumentKind.SCALAR: _any,
    ArgumentKind.PEEK: _any,
    ArgumentKind.CTX: _context,
    ArgumentKind.MAP: _map,
    ArgumentKind.MAP_KEY: _map_memory(is_key=True),
    ArgumentKind.MAP_VALUE: _map_memory(is_key=False),
    ArgumentKind.MAP_VALUE_OUT: _map_memory(is_key=False, is_output=True),
    ArgumentKind.MEM_READ: _sized(is_store=False, is_output=False),
    ArgumentKind.MEM_WRITE: _sized(is_store=True, is_output=True),
    ArgumentKind.MEM_READ_WRITE: _sized(is_store=True, is_output=False),
    ArgumentKind.SIZE: _size,
    ArgumentKind.ALLOC_SIZE: constant_problem,
    ArgumentKind.RECORD: _record,
    ArgumentKind.STRING: _string,
    ArgumentKind.SOCKET: _socket,
    ArgumentKind.OBJECT: _object,
}

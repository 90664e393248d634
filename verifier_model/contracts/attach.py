"""The arguments of programs that are attached to kernel functions: their types, by the kernel's own BTF.

The context of such a program is an array of 8-byte slots (btf_ctx_access in kernel/bpf/btf.c, 6.12).  Where nothing is
known of the kernel, an argument is "whatever the source takes it for": see `checker.kernel_objects`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.btf import VOID, Btf, BtfError, Kind, Type
from verifier_model.bpf.unit import Function
from verifier_model.contracts.kernel_types import STRUCTURES, is_number, pointee
from verifier_model.contracts.operations import PROMOTED
from verifier_model.contracts.programs import section_head
from verifier_model.domains.registers import ObjectType, Trust

MAX_ARGUMENTS: Final = 12  # MAX_BPF_FUNC_ARGS


class Slot(Enum):
    """What an argument is."""

    NUMBER = "number"  # loads of any width
    ADDRESS = "address"  # a number to the verifier, but loaded whole (void *, int *)
    OBJECT = "object"
    BUFFER = "buffer"  # memory of a map that is iterated over
    UNREADABLE = "unreadable"
    ASSUMED = "assumed"  # the type is what the source takes it for


@dataclass(frozen=True, slots=True)
class ContextArgument:
    """`object` and `nullable` describe an OBJECT."""

    slot: Slot
    object: ObjectType | None = None
    nullable: bool = False


ASSUMED: Final = ContextArgument(Slot.ASSUMED, ObjectType("", 0, Trust.TRUSTED))
_NUMBER: Final = ContextArgument(Slot.NUMBER)
_ADDRESS: Final = ContextArgument(Slot.ADDRESS)
_UNREADABLE: Final = ContextArgument(Slot.UNREADABLE)

# Arguments of tracepoints that may be NULL (0x1) or an error in a pointer's place (0x2, a number to the verifier), four
# bits each, first argument lowest (raw_tp_null_args in kernel/bpf/btf.c, 6.12).
_RAW_TP_NULLS: Final = (
    (0x1, "sched_process_wait afs_protocol_error cachefiles_unlink cachefiles_rename cachefiles_prep_read "
          "cachefiles_mark_active cachefiles_mark_failed cachefiles_mark_inactive cachefiles_vfs_error "
          "cachefiles_io_error cachefiles_ondemand_open cachefiles_ondemand_copen cachefiles_ondemand_close "
          "cachefiles_ondemand_read cachefiles_ondemand_cread cachefiles_ondemand_fd_write "
          "cachefiles_ondemand_fd_release mm_collapse_huge_page_isolate mm_page_alloc mm_page_pcpu_drain "
          "mm_page_alloc_zone_locked rxrpc_recvdata xs_stream_read_data tmigr_update_events"),
    (0x10, "sched_pi_setprio afs_make_fs_call afs_make_fs_calli afs_make_fs_call1 afs_make_fs_call2 afs_flock_ev "
           "ext4_mballoc_discard ext4_mballoc_free posix_lock_inode fcntl_setlk locks_remove_posix flock_lock_inode "
           "break_lease_noblock break_lease_block break_lease_unblock generic_delete_lease time_out_leases "
           "mm_khugepaged_scan_pmd mm_khugepaged_scan_file mm_khugepaged_collapse_file netfs_failure "
           "device_pm_callback_start rxrpc_resend xprt_reserve_cong xprt_release_cong xprt_get_cong xprt_put_cong "
           "writeback_dirty_folio folio_wait_writeback"),
    (0x11, "tcp_send_reset"),
    (0x20, "signal_generate signal_deliver"),
    (0x100, "sched_stick_numa sched_swap_numa fib_table_lookup tegra_dma_tx_status"),
    (0x201, "cachefiles_lookup"),
    (0x1000, "qdisc_dequeue kfree_skb"),
    (0x2000, "mr_integ_alloc"),
    (0x10000, "host1x_cdma_push_gather"),
    # Not in 6.12: asked of 6.18 about every tracepoint that it has.
    (0x1, "xfs_blockgc_flush_all xfs_blockgc_start xfs_blockgc_stop xfs_blockgc_worker xfs_defer_add_item "
          "xfs_defer_cancel_item xfs_defer_cancel_list xfs_defer_create_intent xfs_defer_finish_item "
          "xfs_defer_isolate_paused xfs_defer_item_pause xfs_defer_item_unpause xfs_defer_pending_abort "
          "xfs_defer_pending_finish xfs_defer_relog_intent xfs_fs_sync_fs xfs_inodegc_flush xfs_inodegc_push "
          "xfs_inodegc_queue xfs_inodegc_start xfs_inodegc_stop xfs_inodegc_throttle"),
    (0x10, "hugetlbfs_alloc_inode xfs_blockgc_free_space xfs_ioc_free_eofblocks"),
    (0x100, "tcp_sendmsg_locked xfs_btree_overlapped_query_range xfs_btree_updkeys"),
    (0x10000, "xfs_map_blocks_alloc xfs_map_blocks_found"),
)  # fmt: skip
RAW_TP_NULLS: Final[Mapping[str, int]] = MappingProxyType(
    {name: mask for mask, names in _RAW_TP_NULLS for name in names.split()}
)
# Hooks whose arguments may be half made or half gone (untrusted_lsm_hooks in kernel/bpf/bpf_lsm.c, 6.12).
_UNTRUSTED_HOOKS: Final = frozenset(
    {
        "bpf_map_free",
        "bpf_prog_free",
        "file_alloc_security",
        "file_free_security",
        "sk_alloc_security",
        "sk_free_security",
        "task_free",
    }
)
# Iterators whose arguments are trusted (their ctx_arg_info, 6.12); the others' are plain.  All may be NULL but the
# first and the map whose elements are shown.
_TRUSTED_ITERATORS: Final = frozenset({"tcp", "udp", "cgroup", "task", "bpf_map"})
BUFFERS: Final = frozenset(
    {("sockmap", "key"), ("bpf_sk_storage_map", "value"), ("bpf_map_elem", "key"), ("bpf_map_elem", "value")}
)


# Sections that name a function of the kernel, or a hook or an iterator that is one.
_BY_FUNCTION: Final = ("fentry", "fexit", "fmod_ret", "fsession", "lsm", "iter")
# Names of the kernel functions that stand for hooks and iterators.
_PREFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lsm": "bpf_lsm_",
        "lsm.s": "bpf_lsm_",
        "lsm_cgroup": "bpf_lsm_",
        "iter": "bpf_iter_",
        "iter.s": "bpf_iter_",
    }
)


@dataclass(frozen=True, slots=True)
class _Target:
    """A kernel function: its parameters as the program sees them, and its result where that can be seen too."""

    names: tuple[str, ...]
    types: tuple[int, ...]
    result: int | None = None


def attach_name(function: Function) -> str:
    """What the section says the program is attached to."""
    return function.section.removeprefix("?").partition("/")[2]


def context_arguments(function: Function, kernel: Btf | None) -> tuple[ContextArgument, ...] | str:
    """The arguments in the context of a tracing or LSM program, or why they are not known.

    Without a kernel's BTF all are assumed to be what the source takes them for.
    """
    if kernel is None:
        return (ASSUMED,) * MAX_ARGUMENTS
    head, name = section_head(function.section), attach_name(function)
    try:
        if function.program_type == "struct_ops":
            return _of_operation(kernel, function.operation)
        target = _target(kernel, head, name)
        if isinstance(target, str):
            return target
        found = [
            _argument(kernel, head, name, at, *pair)
            for at, pair in enumerate(zip(target.names, target.types, strict=True))
        ]
        if target.result is not None:
            found.append(_typed(kernel, target.result, Trust.PLAIN, False))
        return tuple(found)
    except BtfError as error:
        return str(error)


def attach_id(function: Function, kernel: Btf) -> int:
    """The BTF id by which a program names what it is attached to, 0 for programs that name nothing."""
    head, name = section_head(function.section), attach_name(function)
    if head == "tp_btf":
        return kernel.named(f"btf_trace_{name}", Kind.TYPEDEF)
    if not head.startswith(_BY_FUNCTION):
        return 0
    return kernel.function(_PREFIXES.get(head, "") + name) or 0


def _target(kernel: Btf, head: str, name: str) -> _Target | str:
    if head == "tp_btf":
        typedef = kernel.named(f"btf_trace_{name}", Kind.TYPEDEF)
        pointer = kernel.types[kernel.types[typedef].type] if typedef else Type(Kind.VOID)
        proto = kernel.types[pointer.type]
        if proto.kind is not Kind.FUNC_PROTO:
            return f"no tracepoint {name} in the kernel's BTF"
        return _Target(tuple(p.name for p in proto.members[1:]), tuple(p.type for p in proto.members[1:]))
    if not head.startswith(_BY_FUNCTION):
        return f"the types of {head} programs' arguments are not known"
    function = kernel.function(_PREFIXES.get(head, "") + name)
    proto = kernel.types[kernel.types[function].type] if function else Type(Kind.VOID)
    if proto.kind is not Kind.FUNC_PROTO:
        return f"no function {name} in the kernel's BTF"
    sees_result = head.startswith(("fexit", "fmod_ret", "lsm", "fsession"))
    if any(kernel.resolve(p.type).kind in STRUCTURES for p in proto.members):
        return f"{name} takes structures by value"
    return _Target(
        tuple(p.name for p in proto.members), tuple(p.type for p in proto.members), proto.type if sees_result else None
    )


def _of_operation(kernel: Btf, operation: tuple[str, str] | None) -> tuple[ContextArgument, ...] | str:
    """The arguments of an operation: trusted, but for those that the kernel's stub for it marks."""
    if operation is None:
        return "the operation that the program implements is not known"
    structure, name = operation
    members = kernel.types[kernel.named(structure, Kind.STRUCT)].members
    pointer = next((kernel.resolve(member.type) for member in members if member.name == name), Type(Kind.VOID))
    proto = kernel.types[pointer.type] if pointer.kind is Kind.PTR else Type(Kind.VOID)
    if proto.kind is not Kind.FUNC_PROTO:
        return f"no operation {structure}.{name} in the kernel's BTF"
    stub = kernel.function(f"{structure}__{name}")
    marked = [p.name for p in kernel.types[kernel.types[stub].type].members] if stub else []
    found = []
    for at, parameter in enumerate(proto.members):
        mark = marked[at] if at < len(marked) else ""
        if mark.endswith("__ref"):
            return f"the model does not follow references handed to {structure}.{name}"
        argument = _typed(kernel, parameter.type, Trust.TRUSTED, mark.endswith("__nullable"))
        promoted = PROMOTED.get((structure, argument.object.name)) if argument.object is not None else None
        if promoted is not None:
            kind = ObjectType(promoted, kernel.named(promoted, Kind.STRUCT), Trust.TRUSTED)
            argument = replace(argument, object=kind)
        found.append(argument)
    return tuple(found)


def _argument(kernel: Btf, head: str, name: str, at: int, parameter: str, type_id: int) -> ContextArgument:
    nullable = parameter.endswith("__nullable")
    trust = Trust.PLAIN
    if head == "tp_btf":
        mask = RAW_TP_NULLS.get(name, 0) >> 4 * at
        found = _typed(kernel, type_id, Trust.TRUSTED, nullable or bool(mask & 1))
        return _ADDRESS if mask & 2 and found.slot is Slot.OBJECT else found
    if head.startswith("lsm"):
        trust = Trust.PLAIN if name in _UNTRUSTED_HOOKS else Trust.TRUSTED
    if head.startswith("iter"):
        if (name, parameter) in BUFFERS:
            return ContextArgument(Slot.BUFFER, nullable=True)
        is_given = at == 0 or (parameter == "map" and name != "bpf_map")
        trust = Trust.TRUSTED if is_given or name in _TRUSTED_ITERATORS else Trust.PLAIN
        nullable = nullable or not is_given
    return _typed(kernel, type_id, trust, nullable)


def _typed(kernel: Btf, type_id: int, trust: Trust, nullable: bool) -> ContextArgument:
    found = kernel.resolve(type_id) if type_id != VOID else Type(Kind.VOID)
    if is_number(kernel, type_id):
        return _NUMBER
    if found.kind is not Kind.PTR:
        return _UNREADABLE
    target = kernel.resolve(found.type) if found.type != VOID else Type(Kind.VOID)
    # A bare `void *` and pointers to integers are numbers to the verifier (is_int_ptr).
    if found.type == VOID or target.kind is Kind.INT:
        return _ADDRESS
    owner = pointee(kernel, type_id)
    if owner is None or kernel.types[owner].kind not in STRUCTURES:
        return _UNREADABLE
    tag = kernel.types[found.type]
    if tag.kind is Kind.TYPE_TAG and tag.name in ("user", "percpu"):
        trust = Trust.USER if tag.name == "user" else Trust.PERCPU
    return ContextArgument(Slot.OBJECT, ObjectType(kernel.types[owner].name, owner, trust), nullable)

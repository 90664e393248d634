"""Map types as rows of data (include/uapi/linux/bpf.h, enum bpf_map_type; operations in kernel/bpf/*map.c)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Lookup(Enum):
    """What bpf_map_lookup_elem returns when it finds something."""

    VALUE = "value"  # a pointer to value_size bytes
    INNER_MAP = "inner map"  # a map, of the inner map's type and sizes
    SOCKET = "socket"  # a referenced socket
    XDP_SOCKET = "xdp socket"  # struct bpf_xdp_sock
    NONE = "none"  # a program may not look up (check_map_func_compatibility)


@dataclass(frozen=True, slots=True)
class MapType:
    """One map type.

    `is_per_cpu`: a program sees its own CPU's copy; user space sees all, each rounded up to 8 bytes.
    `is_array`: keys are u32 indexes below max_entries; elements exist from the start and cannot be deleted.
    `value_writable`: may a program store through the pointer that a lookup returned?
    """

    number: int
    name: str
    lookup: Lookup
    is_per_cpu: bool = False
    is_array: bool = False
    value_writable: bool = True


MAP_TYPES: Final[dict[int, MapType]] = {
    row.number: row
    for row in (
        MapType(1, "hash", Lookup.VALUE),
        MapType(2, "array", Lookup.VALUE, is_array=True),
        MapType(3, "prog_array", Lookup.NONE, is_array=True),
        MapType(4, "perf_event_array", Lookup.NONE, is_array=True),
        MapType(5, "percpu_hash", Lookup.VALUE, is_per_cpu=True),
        MapType(6, "percpu_array", Lookup.VALUE, is_per_cpu=True, is_array=True),
        MapType(7, "stack_trace", Lookup.NONE),
        MapType(8, "cgroup_array", Lookup.NONE, is_array=True),
        MapType(9, "lru_hash", Lookup.VALUE),
        MapType(10, "lru_percpu_hash", Lookup.VALUE, is_per_cpu=True),
        MapType(11, "lpm_trie", Lookup.VALUE),
        MapType(12, "array_of_maps", Lookup.INNER_MAP, is_array=True),
        MapType(13, "hash_of_maps", Lookup.INNER_MAP),
        MapType(14, "devmap", Lookup.VALUE, is_array=True, value_writable=False),
        MapType(15, "sockmap", Lookup.SOCKET, is_array=True),
        MapType(16, "cpumap", Lookup.VALUE, is_array=True, value_writable=False),
        MapType(17, "xskmap", Lookup.XDP_SOCKET, is_array=True),
        MapType(18, "sockhash", Lookup.SOCKET),
        MapType(19, "cgroup_storage", Lookup.NONE),
        MapType(20, "reuseport_sockarray", Lookup.SOCKET, is_array=True),
        MapType(21, "percpu_cgroup_storage", Lookup.NONE, is_per_cpu=True),
        MapType(22, "queue", Lookup.NONE),
        MapType(23, "stack", Lookup.NONE),
        MapType(24, "sk_storage", Lookup.NONE),
        MapType(25, "devmap_hash", Lookup.VALUE, value_writable=False),
        MapType(26, "struct_ops", Lookup.NONE),
        MapType(27, "ringbuf", Lookup.NONE),
        MapType(28, "inode_storage", Lookup.NONE),
        MapType(29, "task_storage", Lookup.NONE),
        MapType(30, "bloom_filter", Lookup.NONE),
        MapType(31, "user_ringbuf", Lookup.NONE),
        MapType(32, "cgrp_storage", Lookup.NONE),
        MapType(33, "arena", Lookup.NONE),
    )
}
BY_NAME: Final[dict[str, MapType]] = {row.name: row for row in MAP_TYPES.values()}
# Helpers that a map type is made for, and that take (almost) no other (check_map_func_compatibility); types without a
# row take every helper that has no row either.
_SOCKET_MAP: Final = "sk_select_reuseport map_lookup_elem map_update_elem map_delete_elem"
_OWN_HELPERS: Final[dict[str, frozenset[str]]] = {
    name: frozenset(words.split())
    for name, words in (
        ("prog_array", "tail_call"),
        ("perf_event_array", "perf_event_read perf_event_output skb_output perf_event_read_value xdp_output"),
        ("ringbuf", "ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr ringbuf_submit_dynptr "
                    "ringbuf_discard_dynptr"),
        ("user_ringbuf", "user_ringbuf_drain"),
        ("stack_trace", "get_stackid"),
        ("cgroup_array", "skb_under_cgroup current_task_under_cgroup"),
        ("cgroup_storage", "get_local_storage"),
        ("percpu_cgroup_storage", "get_local_storage"),
        ("devmap", "redirect_map map_lookup_elem"),
        ("devmap_hash", "redirect_map map_lookup_elem"),
        ("cpumap", "redirect_map"),
        ("xskmap", "redirect_map map_lookup_elem"),
        ("array_of_maps", "map_lookup_elem"),
        ("hash_of_maps", "map_lookup_elem"),
        ("sockmap", f"sk_redirect_map sock_map_update msg_redirect_map {_SOCKET_MAP}"),
        ("sockhash", f"sk_redirect_hash sock_hash_update msg_redirect_hash {_SOCKET_MAP}"),
        ("reuseport_sockarray", "sk_select_reuseport"),
        ("queue", "map_peek_elem map_pop_elem map_push_elem"),
        ("stack", "map_peek_elem map_pop_elem map_push_elem"),
        ("bloom_filter", "map_peek_elem map_push_elem"),
        ("sk_storage", "sk_storage_get sk_storage_delete kptr_xchg"),
        ("inode_storage", "inode_storage_get inode_storage_delete kptr_xchg"),
        ("task_storage", "task_storage_get task_storage_delete kptr_xchg"),
        ("cgrp_storage", "cgrp_storage_get cgrp_storage_delete kptr_xchg"),
        ("struct_ops", ""),
        ("arena", ""),
    )
}  # fmt: skip
_GENERAL: Final = frozenset({"map_lookup_elem", "map_update_elem", "map_delete_elem", "kptr_xchg"})
_SPECIAL_HELPERS: Final = frozenset().union(*_OWN_HELPERS.values()) - _GENERAL
_PER_CPU_LOOKUP: Final = frozenset({"percpu_array", "percpu_hash", "lru_percpu_hash"})
_FOR_EACH: Final = _PER_CPU_LOOKUP | {"array", "hash", "lru_hash"}
# Programs that may put sockets into maps and take them out (may_update_sockmap).
_SOCKMAP_WRITERS: Final = frozenset(
    {"socket_filter", "sched_cls", "sched_act", "xdp", "sk_reuseport", "flow_dissector", "sk_lookup", "tracing_iter"}
)


SOCKET_MAPS: Final = frozenset({BY_NAME["sockmap"].number, BY_NAME["sockhash"].number})


def takes_helper(type: int, helper: str, program_type: str | None) -> bool:
    """May a program of that type ("tracing_iter": an iterator) hand a map of that type to the helper?"""
    row = MAP_TYPES.get(type)
    if row is None:
        return False
    if row.name in ("sockmap", "sockhash") and helper in ("map_update_elem", "map_delete_elem"):
        return program_type in _SOCKMAP_WRITERS or (program_type == "sock_ops" and helper == "map_delete_elem")
    own = _OWN_HELPERS.get(row.name)
    if own is not None:
        return helper in own
    if helper == "map_lookup_percpu_elem":
        return row.name in _PER_CPU_LOOKUP
    if helper == "for_each_map_elem":
        return row.name in _FOR_EACH
    return helper not in _SPECIAL_HELPERS


# The kernel's own structure behind a map, by type (map_btf_id of its bpf_map_ops).
_STRUCTURES: Final[dict[str, str]] = {
    name: structure
    for structure, names in (
        ("bpf_array", "array percpu_array prog_array perf_event_array cgroup_array array_of_maps"),
        ("bpf_htab", "hash percpu_hash lru_hash lru_percpu_hash hash_of_maps"),
        ("lpm_trie", "lpm_trie"),
        ("bpf_stack_map", "stack_trace"),
        ("bpf_queue_stack", "queue stack"),
        ("bpf_ringbuf_map", "ringbuf user_ringbuf"),
        ("bpf_dtab", "devmap devmap_hash"),
        ("bpf_cpu_map", "cpumap"),
        ("xsk_map", "xskmap"),
        ("bpf_stab", "sockmap"),
        ("bpf_shtab", "sockhash"),
        ("bpf_local_storage_map", "sk_storage inode_storage task_storage cgrp_storage"),
    )
    for name in names.split()
}


def structure_of(type: int) -> str:
    """The structure behind maps of that type, "" where it is not known."""
    row = MAP_TYPES.get(type)
    return "" if row is None else _STRUCTURES.get(row.name, "")


READ_ONLY_FOR_PROGRAMS: Final = 0x80  # BPF_F_RDONLY_PROG: loads only
WRITE_ONLY_FOR_PROGRAMS: Final = 0x100  # BPF_F_WRONLY_PROG

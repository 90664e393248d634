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
READ_ONLY_FOR_PROGRAMS: Final = 0x80  # BPF_F_RDONLY_PROG: loads only
WRITE_ONLY_FOR_PROGRAMS: Final = 0x100  # BPF_F_WRONLY_PROG

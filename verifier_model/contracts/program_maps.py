"""Which programs may use which maps at all (check_map_prog_compatibility in kernel/bpf/verifier.c)."""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.unit import Function, MapDef, Unit
from verifier_model.contracts.map_fields import fields_of
from verifier_model.contracts.maps import MAP_TYPES
from verifier_model.contracts.programs import is_sleepable

_TRACING: Final = frozenset({"kprobe", "tracepoint", "perf_event", "raw_tracepoint", "raw_tracepoint_writable"})
_NOT_IN_TRACING: Final = frozenset(
    {"bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_list_head", "bpf_rb_root"}
)
# What sleepable programs may use, in every kernel that has them.
_FOR_SLEEPERS: Final = frozenset(
    {
        "array",
        "hash",
        "lru_hash",
        "percpu_array",
        "percpu_hash",
        "lru_percpu_hash",
        "array_of_maps",
        "hash_of_maps",
        "ringbuf",
        "user_ringbuf",
        "inode_storage",
        "sk_storage",
        "task_storage",
        "cgrp_storage",
        "queue",
        "stack",
    }
)
_NO_PREALLOC: Final = 1  # BPF_F_NO_PREALLOC


def map_problem(unit: Unit, root: Function, definition: MapDef) -> str | None:
    """Why a program that loads the map's address is refused; `root` is the program."""
    kind = MAP_TYPES.get(definition.type)
    if kind is None:
        return f"map {definition.name} is of a type that is not known"
    if kind.name == "struct_ops":
        return "bpf_struct_ops map cannot be used in prog"
    fields = fields_of(definition, unit)
    if fields is None:
        return f"the value type of map {definition.name} is not known"
    kinds = {row.kind for row in fields}
    if root.program_type in _TRACING and kinds & _NOT_IN_TRACING:
        return f"tracing progs cannot use {min(kinds & _NOT_IN_TRACING)} yet"
    if root.program_type == "socket_filter" and kinds & {"bpf_spin_lock", "bpf_res_spin_lock"}:
        return "socket filter progs cannot use bpf_spin_lock yet"
    if is_sleepable(root) and kind.name not in _FOR_SLEEPERS:
        return "Sleepable programs can only use array, hash, ringbuf and local storage maps"
    if root.program_type == "perf_event" and "hash" in kind.name and definition.flags & _NO_PREALLOC:
        return "perf_event programs can only use preallocated hash map"
    return None

"""The maps that the kernel's own verifier cases use (do_test_fixup in tools/testing/selftests/bpf/test_verifier.c)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from verifier_model.bpf.unit import MapDef, inner_name
from verifier_model.contracts.maps import BY_NAME, READ_ONLY_FOR_PROGRAMS, WRITE_ONLY_FOR_PROGRAMS

NO_PREALLOC: Final = 1
_TEST_VALUE: Final = 48  # struct test_val: an index and eleven numbers


# Value types of the maps that have one, as numbers in `btf()`.
VALUE_TYPES: Final[Mapping[str, int]] = {"map_spin_lock": 3, "sk_storage_map": 3, "map_timer": 5, "map_kptr": 14}
KEY_TYPE: Final = 1
POINTERS: Final = "map_kptr"  # the one whose types point to the kernel's
_INT, _PTR, _STRUCT, _TYPE_TAG = 1, 2, 4, 18


def _map(
    name: str, type: str, key: int, value: int, entries: int = 1, flags: int = 0, inner: MapDef | None = None
) -> MapDef:
    return MapDef(
        name,
        BY_NAME[type].number,
        key,
        value,
        entries,
        flags,
        value_type=VALUE_TYPES.get(name, 0),
        inner=inner,
    )


# By the word behind "fixup_" in the cases.
MAPS: Final[Mapping[str, MapDef]] = {
    row.name: row
    for row in (
        _map("map_hash_8b", "hash", 8, 8, flags=NO_PREALLOC),
        _map("map_hash_48b", "hash", 8, _TEST_VALUE, flags=NO_PREALLOC),
        _map("map_hash_16b", "hash", 8, 16, flags=NO_PREALLOC),
        _map("map_array_48b", "array", 4, _TEST_VALUE),
        _map("prog1", "prog_array", 4, 4, 4),
        _map("prog2", "prog_array", 4, 4, 8),
        _map("map_in_map", "array_of_maps", 4, 4, inner=_map(inner_name("map_in_map"), "array", 4, 4)),
        _map("cgroup_storage", "cgroup_storage", 16, 64, 0),
        _map("percpu_cgroup_storage", "percpu_cgroup_storage", 16, 64, 0),
        _map("map_sockmap", "sockmap", 4, 4),
        _map("map_sockhash", "sockhash", 4, 4),
        _map("map_xskmap", "xskmap", 4, 4),
        _map("map_stacktrace", "stack_trace", 4, 8),
        _map("map_spin_lock", "array", 4, 8),
        _map("map_array_ro", "array", 4, _TEST_VALUE, flags=READ_ONLY_FOR_PROGRAMS),
        _map("map_array_wo", "array", 4, _TEST_VALUE, flags=WRITE_ONLY_FOR_PROGRAMS),
        _map("map_array_small", "array", 4, 1),
        _map("sk_storage_map", "sk_storage", 4, 8, 0, NO_PREALLOC),
        _map("map_event_output", "perf_event_array", 4, 4),
        _map("map_reuseport_array", "reuseport_sockarray", 4, 8),
        _map("map_ringbuf", "ringbuf", 0, 0, 4096),
        _map("map_timer", "array", 4, 16),
        _map("map_kptr", "array", 4, 24),
    )
}


def btf(with_pointers: bool) -> bytes:
    """The types of those values: struct val {int; struct bpf_spin_lock}, struct timer, and if wanted three kptrs.

    The kernel structures that these point to exist with its test module alone; without it their map cannot be made.
    """
    strings, offsets = bytearray(b"\0"), dict[str, int]()

    def text(word: str) -> int:
        if word and word not in offsets:
            offsets[word] = len(strings)
            strings.extend(word.encode() + b"\0")
        return offsets.get(word, 0)

    def record(word: str, kind: int, count: int, size_or_type: int, *tail: int) -> bytes:
        return struct.pack(f"<III{len(tail)}I", text(word), kind << 24 | count, size_or_type, *tail)

    def member(word: str, type: int, bits: int) -> tuple[int, int, int]:
        return text(word), type, bits

    records = (
        record("", _INT, 0, 4, 1 << 24 | 32),  # 1
        record("bpf_spin_lock", _STRUCT, 1, 4, *member("val", 1, 0)),
        record("val", _STRUCT, 2, 8, *member("cnt", 1, 0), *member("l", 2, 32)),
        record("bpf_timer", _STRUCT, 0, 16),
        record("timer", _STRUCT, 1, 16, *member("t", 4, 0)),  # 5
        record("prog_test_ref_kfunc", _STRUCT, 0, 0),
        record("prog_test_member", _STRUCT, 0, 0),
        record("kptr", _TYPE_TAG, 0, 6),
        record("kptr_ref", _TYPE_TAG, 0, 6),
        record("kptr_ref", _TYPE_TAG, 0, 7),  # 10
        record("", _PTR, 0, 8),
        record("", _PTR, 0, 9),
        record("", _PTR, 0, 10),
        record("btf_ptr", _STRUCT, 3, 24, *member("ptr", 11, 0), *member("ptr", 12, 64), *member("ptr", 13, 128)),
    )
    types = b"".join(records if with_pointers else records[:5])
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + bytes(strings)

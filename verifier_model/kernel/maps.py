"""Maps of the running kernel: read, write and compare their contents."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from verifier_model.contracts.maps import MAP_TYPES
from verifier_model.kernel.syscall import Command, address, attribute, bpf, byte_buffer, map_create

_BATCH: Final = 4096  # entries per batched read
ANY: Final = 0
_NO_CONTENTS: Final = frozenset(
    {"prog_array", "perf_event_array", "ringbuf", "user_ringbuf", "stack_trace", "cgroup_array"}
)


def possible_cpus() -> int:
    """How many CPUs a per-CPU value has copies for."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:  # noqa: PTH123
        text = file.read().strip()
    return max(int(part.split("-")[-1]) for part in text.split(",")) + 1


@dataclass
class KernelMap:
    """One map.  `value_size` is what a program sees; user space reads `stored_size` bytes per entry."""

    fd: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    owns_fd: bool = True
    cpus: int = field(default_factory=possible_cpus)
    _has_batch: bool = True

    @staticmethod
    def create(
        type: int, key_size: int, value_size: int, max_entries: int, flags: int = 0, name: str = "", inner_fd: int = 0
    ) -> KernelMap:
        fd = map_create(type, key_size, value_size, max_entries, flags, inner_fd, name)
        return KernelMap(fd, name, type, key_size, value_size, max_entries)

    @property
    def type_name(self) -> str:
        row = MAP_TYPES.get(self.type)
        return row.name if row else f"type {self.type}"

    @property
    def is_per_cpu(self) -> bool:
        row = MAP_TYPES.get(self.type)
        return row is not None and row.is_per_cpu

    @property
    def is_array(self) -> bool:
        return self.type_name in ("array", "percpu_array")

    @property
    def has_contents(self) -> bool:
        """Can user space read entries back by key?"""
        return self.type_name not in _NO_CONTENTS

    @property
    def stored_size(self) -> int:
        """Bytes of one value as user space reads it (include/linux/bpf.h: bpf_map_value_size)."""
        if self.is_per_cpu:
            return (self.value_size + 7) // 8 * 8 * self.cpus
        if self.type_name in ("array_of_maps", "hash_of_maps", "prog_array", "sockmap", "sockhash"):
            return 4
        return self.value_size

    def close(self) -> None:
        if self.owns_fd and self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Store `value` (`stored_size` bytes) under `key`."""
        if len(value) != self.stored_size or len(key) != self.key_size:
            raise ValueError(f"map {self.name}: key or value has the wrong size")
        key_buffer, value_buffer = byte_buffer(key), byte_buffer(value)
        layout = attribute("IIQQQ", self.fd, 0, address(key_buffer), address(value_buffer), flags)
        bpf(Command.MAP_UPDATE_ELEM, layout)

    def lookup(self, key: bytes) -> bytes | None:
        """The value under `key`, None when there is none."""
        key_buffer, value = byte_buffer(key), ctypes.create_string_buffer(max(self.stored_size, 8))
        try:
            bpf(Command.MAP_LOOKUP_ELEM, attribute("IIQQQ", self.fd, 0, address(key_buffer), address(value), 0))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return None
            raise
        return value.raw[: self.stored_size]

    def delete(self, key: bytes) -> bool:
        """Remove `key`; was it there?"""
        key_buffer = byte_buffer(key)
        try:
            bpf(Command.MAP_DELETE_ELEM, attribute("IIQQQ", self.fd, 0, address(key_buffer), 0, 0))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def keys(self) -> list[bytes]:
        """All keys, in the kernel's order."""
        found: list[bytes] = []
        key, following = None, ctypes.create_string_buffer(max(self.key_size, 1))
        while True:
            try:
                attr = attribute("IIQQQ", self.fd, 0, address(key), address(following), 0)
                bpf(Command.MAP_GET_NEXT_KEY, attr)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return found
                raise
            found.append(following.raw[: self.key_size])
            key = byte_buffer(found[-1])

    def dump(self) -> dict[bytes, bytes]:
        """Every entry, sorted by key.  Raises OSError where the kernel keeps no readable entries."""
        if self._has_batch:
            try:
                return dict(sorted(self._dump_batches()))
            except OSError as error:
                # ENOSPC: one hash bucket holds more than a batch; the others: no batched read for this type.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, 524):
                    raise
                self._has_batch = False
        entries = {}
        for key in self.keys():
            value = self.lookup(key)
            if value is not None:
                entries[key] = value
        return dict(sorted(entries.items()))

    def _dump_batches(self) -> Iterable[tuple[bytes, bytes]]:
        count = min(_BATCH, max(self.max_entries, 1))
        size = self.stored_size
        keys = ctypes.create_string_buffer(count * self.key_size)
        values = ctypes.create_string_buffer(count * size)
        token: ctypes.Array[ctypes.c_char] | None = None
        done = False
        while not done:
            after = ctypes.create_string_buffer(max(self.key_size, 8))
            fields = (address(token), address(after), address(keys), address(values), count, self.fd, 0, 0)
            attr = attribute("QQQQIIQQ", *fields)
            try:
                bpf(Command.MAP_LOOKUP_BATCH, attr)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                done = True
            (got,) = struct.unpack_from("=I", attr, 32)
            raw_keys, raw_values = keys.raw, values.raw
            for index in range(got):
                yield (
                    raw_keys[index * self.key_size : (index + 1) * self.key_size],
                    raw_values[index * size : (index + 1) * size],
                )
            token = after

    def fill(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in entries:
            self.update(key, value)

    def clear(self) -> None:
        """Back to the state of a new map: array values zero, other entries gone."""
        if self.is_array:
            self._zero()
            return
        if not self.has_contents:
            return
        for key in self.keys():
            self.delete(key)

    def _zero(self) -> None:
        count = self.max_entries
        keys = byte_buffer(struct.pack(f"={count}I", *range(count)))
        values = ctypes.create_string_buffer(count * self.stored_size)
        fields = (0, 0, address(keys), address(values), count, self.fd, 0, 0)
        try:
            bpf(Command.MAP_UPDATE_BATCH, attribute("QQQQIIQQ", *fields))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, 524):
                raise
            zero = bytes(self.stored_size)
            for index in range(count):
                self.update(struct.pack("=I", index), zero)

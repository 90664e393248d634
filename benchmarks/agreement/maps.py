"""Hash and array maps as the kernel keeps them, in any engine's memory (kernel/bpf/hashtab.c, arraymap.c).

A value of a hash map gets a new address when it is replaced, as an element of the kernel does; addresses are never
used twice in a run.  Errors are negative errno numbers, as helpers return them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from verifier_model.bpf.unit import MapDef
from verifier_model.contracts.maps import MAP_TYPES

ENOENT, E2BIG, EEXIST, EINVAL = -2, -7, -17, -22
NO_EXIST, EXIST = 1, 2
_STRIDE: Final = 16
HASHES: Final = frozenset({"hash", "percpu_hash", "lru_hash", "lru_percpu_hash"})
ARRAYS: Final = frozenset({"array", "percpu_array"})
TRIE: Final = "lpm_trie"


class Memory(Protocol):
    """What an engine's memory offers to a helper."""

    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, content: bytes) -> None: ...
    def map(self, address: int, content: bytes) -> None: ...


@dataclass
class MapModel:
    """One map.  `places` tells where the value of a key lies; `free` is the first unused address of its own area."""

    definition: MapDef
    free: int
    end: int
    places: dict[bytes, int] = field(default_factory=dict)
    spelled: dict[bytes, bytes] = field(
        default_factory=dict
    )  # a trie keeps keys as they were given, bits behind and all

    def __post_init__(self) -> None:
        self.start = self.free

    @property
    def stride(self) -> int:
        """Bytes from one value's address to the next's."""
        return max((self.definition.value_size + _STRIDE - 1) // _STRIDE * _STRIDE, _STRIDE)

    @property
    def kind(self) -> str:
        row = MAP_TYPES.get(self.definition.type)
        return row.name if row is not None else str(self.definition.type)

    @property
    def is_modelled(self) -> bool:
        return self.kind in HASHES | ARRAYS | {TRIE}

    def fill(self, memory: Memory, entries: Mapping[bytes, bytes]) -> None:
        """Set the contents before a run: an array has every element, a hash these."""
        self.places.clear()
        if self.kind in ARRAYS:
            for index in range(self.definition.max_entries):
                key = index.to_bytes(4, "little")
                self._new(memory, key, entries.get(key, bytes(self.definition.value_size)))
        else:
            for key, value in entries.items():
                self.update(memory, key, value, 0)

    def _new(self, memory: Memory, key: bytes, value: bytes) -> None:
        size = self.definition.value_size
        if self.free + size > self.end:
            raise MemoryError(f"no room for another value of {self.definition.name}")
        memory.map(self.free, value)
        self.places[key] = self.free
        self.free += self.stride

    def lookup(self, key: bytes) -> int:
        """The address of the value, 0 when there is none."""
        if self.kind != TRIE:
            return self.places.get(key, 0)
        for length in range(min(_prefix(key), 8 * (len(key) - 4)), -1, -1):
            found = self.places.get(_cut(length, key))
            if found is not None:
                return found
        return 0

    def update(self, memory: Memory, key: bytes, value: bytes, flags: int) -> int:
        if flags > EXIST or (self.kind == TRIE and _prefix(key) > 8 * (len(key) - 4)):
            return EINVAL
        key = self._own(key)
        known = self.places.get(key)
        if self.kind in ARRAYS:
            if known is None:
                return E2BIG
            if flags == NO_EXIST:
                return EEXIST
            memory.write(known, value)
            return 0
        if known is not None and flags == NO_EXIST:
            return EEXIST
        if known is None and flags == EXIST:
            return ENOENT
        if known is None and len(self.places) >= self.definition.max_entries:
            return E2BIG
        if "percpu" in self.kind and known is not None:
            memory.write(known, value)
        else:
            self._new(memory, key, value)
        return 0

    def delete(self, key: bytes) -> int:
        if self.kind in ARRAYS:
            return EINVAL
        return 0 if self.places.pop(self._own(key), None) is not None else ENOENT

    def _own(self, key: bytes) -> bytes:
        """The key under which an entry is kept."""
        if self.kind != TRIE:
            return key
        own = _cut(_prefix(key), key)
        self.spelled[own] = key
        return own

    def contents(self, memory: Memory) -> dict[bytes, bytes]:
        size = self.definition.value_size
        return {self.spelled.get(key, key): memory.read(place, size) for key, place in sorted(self.places.items())}


def _prefix(key: bytes) -> int:
    """The length in bits that a trie's key starts with (struct bpf_lpm_trie_key)."""
    return int.from_bytes(key[:4], "little")


def _cut(length: int, key: bytes) -> bytes:
    """The key of the prefix of that length, with the bits behind it cleared."""
    width = 8 * (len(key) - 4)
    bits = int.from_bytes(key[4:], "big") >> width - length << width - length if width else 0
    return length.to_bytes(4, "little") + bits.to_bytes(len(key) - 4, "big")

"""Random contents for maps of any type: keys from the packets' own addresses and ports, values mostly small numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.packets import IPV4, IPV6, PORTS

Entries = list[tuple[bytes, bytes]]
# (random, map, the packets that will meet these contents) -> entries, or None for `random_entries`
Contents = Callable[[Random, KernelMap, Sequence[bytes]], Entries | None]
_LOOPBACK: Final = 1  # interface number; TEST_RUN sends nothing there
_MOST: Final = 48


def random_entries(random: Random, map: KernelMap) -> Entries:
    """Entries for `map`; empty for types whose values are not plain bytes."""
    kind = map.type_name
    if kind in ("array", "percpu_array"):
        chosen = sorted(random.sample(range(map.max_entries), min(map.max_entries, _MOST)))
        return [(struct.pack("=I", index), _value(random, map)) for index in chosen]
    if kind in ("hash", "percpu_hash", "lru_hash", "lru_percpu_hash"):
        keys = {_key(random, map.key_size) for _ in range(random.randint(0, min(_MOST, map.max_entries // 2)))}
        return [(key, _value(random, map)) for key in sorted(keys)]
    if kind == "lpm_trie":
        return _prefixes(random, map)
    if kind in ("devmap", "devmap_hash"):
        value = struct.pack("=I", _LOOPBACK).ljust(map.value_size, b"\0")
        return [(struct.pack("=I", index), value) for index in range(min(map.max_entries, 8)) if random.random() < 0.6]
    return []


def _value(random: Random, map: KernelMap) -> bytes:
    one = bytearray()
    size = (map.value_size + 7) // 8 * 8
    while len(one) < size:
        word = random.choice((0, 1, 2, 3, random.randrange(256), random.randrange(1 << 32)))
        one += struct.pack("=I", word)
    if not map.is_per_cpu:
        return bytes(one[: map.value_size])
    padded = bytes(one[: map.value_size]).ljust(size, b"\0")
    return padded * map.cpus


def _key(random: Random, size: int) -> bytes:
    key = bytearray()
    while len(key) < size:
        kind = random.randrange(5)
        if kind == 0 and size - len(key) >= 16:
            key += random.choice(IPV6)
        elif kind == 1:
            key += random.choice(IPV4)
        elif kind == 2:
            key += struct.pack(">HH", random.choice(PORTS), random.choice(PORTS))
        else:
            key += struct.pack("=I", random.choice((0, 1, 2, 4, 6, 17)))
    return bytes(key[:size])


def _prefixes(random: Random, map: KernelMap) -> Entries:
    width = map.key_size - 4
    entries: dict[bytes, bytes] = {}
    for _ in range(random.randint(0, min(_MOST, map.max_entries // 2))):
        address = random.choice(IPV6 if width == 16 else IPV4) if width in (4, 16) else random.randbytes(width)
        entries[struct.pack("=I", random.randint(0, 8 * width)) + address] = _value(random, map)
    return sorted(entries.items())

"""Reading a BPF ring buffer through its pages (kernel/bpf/ringbuf.c: consumer page, producer page, data twice)."""

from __future__ import annotations

import mmap
import struct
from typing import Final

from verifier_model.kernel.maps import KernelMap

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEADER_BYTES: Final = 8


class RingReader:
    """The only consumer of one ring buffer map.  Close it before the map."""

    def __init__(self, ring: KernelMap) -> None:
        page = mmap.PAGESIZE
        self._size = ring.max_entries
        self._consumer = mmap.mmap(ring.fd, page)
        self._data = mmap.mmap(ring.fd, page + 2 * self._size, prot=mmap.PROT_READ, offset=page)

    def drain(self) -> list[bytes]:
        """All submitted records in order, without the discarded ones; the buffer is empty afterwards."""
        page = mmap.PAGESIZE
        (at,) = struct.unpack_from("=Q", self._consumer)
        (end,) = struct.unpack_from("=Q", self._data)
        records = []
        while at < end:
            start = page + at % self._size
            (word,) = struct.unpack_from("=I", self._data, start)
            if word & _BUSY:
                break
            length = word & ~(_BUSY | _DISCARDED)
            if not word & _DISCARDED:
                records.append(self._data[start + _HEADER_BYTES : start + _HEADER_BYTES + length])
            at += (_HEADER_BYTES + length + 7) // 8 * 8
        struct.pack_into("=Q", self._consumer, 0, at)
        return records

    def close(self) -> None:
        self._consumer.close()
        self._data.close()

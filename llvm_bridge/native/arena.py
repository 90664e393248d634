"""The memory of native runs: one flat piece of the host's, addressed from 0, in which every byte may be absent.

Addresses are below 2**32, so that a context's 32-bit packet fields hold them whole.
"""

from __future__ import annotations

import ctypes
from typing import Final

READABLE: Final = 1
WRITABLE: Final = 2
_PAD: Final = 8  # an access checks the rights of up to eight bytes at once


class Arena:
    """`size` bytes at addresses 0 to size - 1; nothing may be accessed until it is mapped."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.size = size
        self._bytes = bytearray(size + _PAD)
        self._rights = bytearray(size + _PAD)
        # The views keep the arrays from being moved or resized while native code holds their addresses.
        self._mapped: list[tuple[int, int]] = []
        self._views = [(ctypes.c_char * len(array)).from_buffer(array) for array in (self._bytes, self._rights)]
        self.host, self.rights = (ctypes.addressof(view) for view in self._views)

    def map(self, address: int, content: bytes, writable: bool = True) -> None:
        """Put `content` at an address and allow access to it."""
        end = self._end(address, len(content))
        self._mapped.append((address, end))
        self._bytes[address:end] = content
        self._rights[address:end] = bytes([READABLE | WRITABLE if writable else READABLE]) * len(content)

    def clear(self) -> None:
        """Unmap everything."""
        for address, end in self._mapped:
            self._rights[address:end] = bytes(end - address)
        self._mapped.clear()

    def read(self, address: int, size: int) -> bytes:
        """Bytes as they are, mapped or not."""
        return bytes(self._bytes[address : self._end(address, size)])

    def write(self, address: int, content: bytes) -> None:
        """Change bytes without a look at their rights."""
        self._bytes[address : self._end(address, len(content))] = content

    def may_read(self, address: int, size: int) -> bool:
        return self._allows(address, size, READABLE)

    def may_write(self, address: int, size: int) -> bool:
        return self._allows(address, size, WRITABLE)

    def _allows(self, address: int, size: int, right: int) -> bool:
        if address < 0 or address + size > self.size:
            return False
        return all(have & right for have in self._rights[address : address + size])

    def _end(self, address: int, size: int) -> int:
        if address < 0 or address + size > self.size:
            raise ValueError(f"{size} bytes at {address:#x} lie outside the arena of {self.size:#x}")
        return address + size

"""LZ4 in its legacy frame, as Debian compresses kernel images: a reader, so that no package is needed for one file.

Format: "LZ4 Frame Format", section Legacy frame, and "LZ4 Block Format", both in the documentation of the LZ4 project.
"""

from __future__ import annotations

import struct
from typing import Final

MAGIC: Final = b"\x02\x21\x4c\x18"
_LARGEST_BLOCK: Final = 8 << 20  # bytes, uncompressed


def unpack(data: bytes) -> bytes:
    """The contents of a legacy frame; raises ValueError for damaged data.  Whatever follows the last block is ignored.

    A block shorter than the largest is the last one, as the kernel's own decompressor (lib/decompress_unlz4.c) has it.
    """
    if not data.startswith(MAGIC):
        raise ValueError("no legacy LZ4 frame")
    out, at = [], len(MAGIC)
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        if not 0 < size <= len(data) - at - 4:
            break
        block = _block(data[at + 4 : at + 4 + size])
        out.append(block)
        at += 4 + size
        if len(block) < _LARGEST_BLOCK:
            break
    if not out:
        raise ValueError("a legacy LZ4 frame without blocks")
    return b"".join(out)


def _block(data: bytes) -> bytes:
    out, at, end = bytearray(), 0, len(data)
    try:
        while at < end:
            token = data[at]
            at += 1
            length, at = _length(data, token >> 4, at)
            out += data[at : at + length]
            at += length
            if at >= end:
                break
            distance = data[at] | data[at + 1] << 8
            length, at = _length(data, token & 15, at + 2)
            _repeat(out, distance, length + 4)
    except IndexError:
        raise ValueError("a damaged LZ4 block") from None
    return bytes(out)


def _length(data: bytes, start: int, at: int) -> tuple[int, int]:
    """A length of 15 goes on in bytes of 255, ended by a smaller one."""
    if start == 15:
        while data[at] == 255:
            start += 255
            at += 1
        start += data[at]
        at += 1
    return start, at


def _repeat(out: bytearray, distance: int, length: int) -> None:
    start = len(out) - distance
    if distance == 0 or start < 0:
        raise ValueError("an LZ4 match before the start of its block")
    if distance >= length:
        out += out[start : start + length]
        return
    piece = bytes(out[start:])
    out += (piece * (length // distance + 1))[:length]

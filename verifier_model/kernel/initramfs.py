"""Initial file systems for emulated kernels: cpio archives in the "newc" format.

Source: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Final

_TRAILER: Final = "TRAILER!!!"
_CONSOLE: Final = (5, 1)  # major and minor number of /dev/console


def archive(files: Mapping[str, bytes]) -> bytes:
    """An archive of executable files by path, with /dev/console; several archives may follow one another."""
    rows = [_entry("dev", stat.S_IFDIR | 0o755), _entry("dev/console", stat.S_IFCHR | 0o600, device=_CONSOLE)]
    rows += [_entry(name, stat.S_IFREG | 0o755, files[name]) for name in sorted(files)]
    return b"".join((*rows, _entry(_TRAILER, 0)))


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

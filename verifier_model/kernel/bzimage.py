"""The ELF file inside a compressed x86 kernel image."""

from __future__ import annotations

import lzma
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Final

from verifier_model.kernel import lz4
from verifier_model.kernel.packages import PackageError

# Documentation/x86/boot.rst: where the compressed kernel lies, counted from the protected-mode code.
_SETUP_SECTORS_AT: Final = 0x1F1
_PAYLOAD_AT: Final = 0x248
_DEFAULT_SETUP_SECTORS: Final = 4
_SECTOR_BYTES: Final = 512


def uncompressed_kernel(image: bytes) -> bytes:
    """The ELF file inside a bzImage (boot protocol 2.08 and later); raises PackageError."""
    if len(image) < _PAYLOAD_AT + 8 or image[0x202:0x206] != b"HdrS":
        raise PackageError("the kernel image has no boot header")
    sectors = image[_SETUP_SECTORS_AT] or _DEFAULT_SETUP_SECTORS
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = (sectors + 1) * _SECTOR_BYTES + offset
    payload = image[start : start + length]
    for magic, unpack in _FORMATS:
        if payload.startswith(magic):
            return unpack(payload)
    raise PackageError(f"the kernel image is compressed in an unknown way ({payload[:4].hex()})")


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload)


def _zstd(payload: bytes) -> bytes:
    done = subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True, timeout=60)
    if not done.stdout.startswith(b"\x7fELF"):  # the size behind the frame makes zstd complain after its work
        raise PackageError("zstd cannot unpack the kernel image (Debian package zstd)")
    return done.stdout


_FORMATS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\xfd7zXZ", _xz),
    (b"\x1f\x8b", _gzip),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (lz4.MAGIC, lz4.unpack),
)

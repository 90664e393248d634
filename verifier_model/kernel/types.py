"""The types of real kernels: of the running one, as it shows them itself, and of those in the emulator."""

from __future__ import annotations

import struct
import sys
from functools import cache
from pathlib import Path
from typing import Final

from verifier_model.bpf.btf import Btf, BtfError, parse
from verifier_model.kernel.images import image

_VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")
_SECTION: Final = b".BTF"
# Elf64_Ehdr and Elf64_Shdr (include/uapi/linux/elf.h).
_HEADER_AT, _HEADER_SIZE_AT = 0x28, 0x3A
_SECTION_HEADER: Final = struct.Struct("<IIQQQQ")


@cache
def running_kernel_types() -> Btf | None:
    """The BTF of the running kernel; None where it shows none that we understand."""
    try:
        return parse(_VMLINUX.read_bytes(), sys.byteorder)
    except (OSError, BtfError):
        return None


@cache
def image_types(series: str) -> Btf | None:
    """The BTF of the emulator's kernel of that series; raises OracleMissingError when there is no such image."""
    try:
        return parse(_btf_section(image(series).path.read_bytes()), "little")
    except BtfError:
        return None


def _btf_section(kernel: bytes) -> bytes:
    """The section .BTF of an uncompressed x86-64 kernel; raises BtfError."""
    (table,) = struct.unpack_from("<Q", kernel, _HEADER_AT)
    size, count, names_at = struct.unpack_from("<HHH", kernel, _HEADER_SIZE_AT)
    rows = [_SECTION_HEADER.unpack_from(kernel, table + size * index) for index in range(count)]
    for name, _, _, _, offset, length in rows:
        start = rows[names_at][4] + name
        if kernel[start : kernel.index(0, start)] == _SECTION:
            return kernel[offset : offset + length]
    raise BtfError("the kernel has no section .BTF")

"""bpf(2) by number: the running kernel as an oracle.  Nothing here pins or attaches.

Layouts: include/uapi/linux/bpf.h, union bpf_attr.  Sizes in bytes.  Failures raise OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

# Per architecture, from each one's syscall table.
_NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351, "ppc64le": 361}
_ATTR_BYTES: Final = 144
_NAME_BYTES: Final = 15
LOG_BYTES: Final = 1 << 20


class Command(IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    PROG_TEST_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    BTF_LOAD = 18
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def bpf(command: Command, attr: ctypes.Array[ctypes.c_char]) -> int:
    """The raw call; the kernel writes its answers into `attr`.  EAGAIN and EINTR are tried again, as by libbpf."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"no bpf(2) number is known for {platform.machine()}")
    for attempt in range(5):
        result = int(_libc().syscall(ctypes.c_long(number), int(command), attr, ctypes.c_uint(len(attr))))
        if result >= 0:
            return result
        error = ctypes.get_errno()
        if error not in (errno.EAGAIN, errno.EINTR) or attempt == 4:
            break
    raise OSError(error, f"bpf({command.name}): {os.strerror(error)}")


def attribute(layout: str, *values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    """A zero-padded attribute in the machine's byte order; `layout` in the words of `struct`, without its prefix."""
    packed = struct.pack("=" + layout, *values)
    return ctypes.create_string_buffer(packed.ljust(_ATTR_BYTES, b"\0"), _ATTR_BYTES)


def address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return 0 if buffer is None else ctypes.addressof(buffer)


def byte_buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, max(len(data), 1))


def map_create(
    type: int, key_size: int, value_size: int, max_entries: int, flags: int = 0, inner_fd: int = 0, name: str = ""
) -> int:
    """A new map's file descriptor."""
    text = name.encode()[:_NAME_BYTES]
    attr = attribute("7I16s", type, key_size, value_size, max_entries, flags, inner_fd, 0, text)
    return bpf(Command.MAP_CREATE, attr)


@dataclass(frozen=True, slots=True)
class Refused:
    """The kernel said no: which program, and the end of what it logged (bounded)."""

    program: str
    reason: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """`verified_insns`: instructions the verifier processed (0 before 5.16); `translated`: bytes after rewriting."""

    type: int
    id: int
    verified_insns: int
    translated: int


def prog_load(
    type: int, insns: bytes, license: str = "GPL", name: str = "", expected_attach_type: int = 0, attach_btf_id: int = 0
) -> int | Refused:
    """Load encoded instructions: a file descriptor, or the verifier's refusal.

    `attach_btf_id`: for programs that name a function of the kernel, its id in the kernel's BTF.
    Only the verifier's own refusals (EACCES, EINVAL, E2BIG, ...) are `Refused`; a lack of permission raises.
    """
    if not is_permitted():
        raise PermissionError(errno.EPERM, "bpf(2) does not allow this process to load programs")
    code, licence = byte_buffer(insns), byte_buffer(license.encode() + b"\0")
    count = len(insns) // 8
    text = name.encode()[:_NAME_BYTES]
    try:
        return bpf(
            Command.PROG_LOAD, _load_attr(type, count, code, licence, None, text, expected_attach_type, attach_btf_id)
        )
    except OSError as error:
        reason = str(error.strerror)
    log = ctypes.create_string_buffer(LOG_BYTES)
    try:
        fd = bpf(
            Command.PROG_LOAD, _load_attr(type, count, code, licence, log, text, expected_attach_type, attach_btf_id)
        )
    except OSError:
        return Refused(name, reason, tail(log.value.decode(errors="replace")))
    return fd


def _load_attr(
    type: int,
    count: int,
    code: ctypes.Array[ctypes.c_char],
    licence: ctypes.Array[ctypes.c_char],
    log: ctypes.Array[ctypes.c_char] | None,
    name: bytes,
    expected_attach_type: int,
    attach_btf_id: int = 0,
) -> ctypes.Array[ctypes.c_char]:
    level, size = (1, len(log)) if log is not None else (0, 0)
    return attribute(
        "IIQQIIQII16sIIIIQIIQII",
        type,
        count,
        address(code),
        address(licence),
        level,
        size,
        address(log),
        0,
        0,
        name,
        0,
        expected_attach_type,
        *(0,) * 7,  # BTF, function and line records
        attach_btf_id,
    )


def tail(log: str, lines: int = 40) -> str:
    """The last lines of a verifier log, where the reason stands."""
    return "\n".join(log.rstrip("\0\n ").splitlines()[-lines:])


def prog_info(fd: int) -> ProgramInfo:
    """What the kernel tells of a loaded program (struct bpf_prog_info)."""
    info = ctypes.create_string_buffer(256)
    attr = attribute("IIQ", fd, len(info), address(info))
    bpf(Command.OBJ_GET_INFO_BY_FD, attr)
    type_, id_ = struct.unpack_from("=II", info, 0)
    (translated,) = struct.unpack_from("=I", info, 20)
    (verified,) = struct.unpack_from("=I", info, 216)
    return ProgramInfo(type_, id_, verified, translated)


_RETURN_ZERO: Final = bytes.fromhex("b7000000000000009500000000000000")
_SOCKET_FILTER: Final = 1
_XDP: Final = 6


@cache
def is_permitted() -> bool:
    """May this process load an XDP program?  Asked once, by loading one that returns 0 and closing it."""
    if platform.machine() not in _NUMBERS:
        return False
    code, licence = byte_buffer(_RETURN_ZERO), byte_buffer(b"GPL\0")
    try:
        os.close(bpf(Command.PROG_LOAD, _load_attr(_XDP, 2, code, licence, None, b"", 0)))
    except OSError:
        return False
    return True

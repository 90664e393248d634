"""Loaded programs and BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass, field
from typing import Final

from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.syscall import Command, ProgramInfo, Refused, address, attribute, bpf, prog_info, prog_load

_ROOM: Final = 4096  # a packet under test fits one page, as does what the program makes of it
_RESULT_AT: Final = 4
_SIZE_OUT_AT: Final = 12
_DURATION_AT: Final = 36
_CONTEXT_SIZE_OUT_AT: Final = 44


@dataclass(frozen=True, slots=True)
class TestRun:
    """What one run did: r0, the packet afterwards, the context afterwards, and average nanoseconds per repetition.

    `error` is the kernel's errno when it did not run the program at all (a packet too short for its type), else 0.
    """

    __test__ = False  # not a pytest class

    result: int
    packet: bytes
    context: bytes = b""
    duration: int = 0
    error: int = 0


@dataclass
class LoadedProgram:
    """A program in the running kernel.  Buffers are kept between runs: a run allocates nothing."""

    fd: int
    name: str
    type: str
    owns_fd: bool = True
    _in: ctypes.Array[ctypes.c_char] = field(default_factory=lambda: ctypes.create_string_buffer(_ROOM), repr=False)
    _out: ctypes.Array[ctypes.c_char] = field(
        default_factory=lambda: ctypes.create_string_buffer(2 * _ROOM), repr=False
    )

    def info(self) -> ProgramInfo:
        return prog_info(self.fd)

    @property
    def verified_insns(self) -> int:
        return self.info().verified_insns

    def close(self) -> None:
        if self.owns_fd and self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def test_run(self, packet: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
        """Run on `packet` (and `context`, the program type's struct); raises ValueError for a packet over a page."""
        if len(packet) > _ROOM:
            raise ValueError(f"a packet of {len(packet)} bytes does not fit a page")
        ctypes.memmove(self._in, packet, len(packet))
        before = ctypes.create_string_buffer(context, len(context)) if context else None
        after = ctypes.create_string_buffer(len(context)) if context else None
        attr = attribute(
            "IIIIQQIIIIQQ",
            self.fd,
            0,
            len(packet),
            len(self._out),
            address(self._in),
            address(self._out),
            repeat,
            0,
            len(context),
            len(context),
            address(before),
            address(after),
        )
        try:
            bpf(Command.PROG_TEST_RUN, attr)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EBADF, errno.EFAULT):
                raise
            return TestRun(0, b"", error=error.errno or errno.EINVAL)
        (result,) = struct.unpack_from("=I", attr, _RESULT_AT)
        (size,) = struct.unpack_from("=I", attr, _SIZE_OUT_AT)
        (duration,) = struct.unpack_from("=I", attr, _DURATION_AT)
        (context_size,) = struct.unpack_from("=I", attr, _CONTEXT_SIZE_OUT_AT)
        written = after.raw[:context_size] if after is not None else b""
        return TestRun(result, ctypes.string_at(self._out, size), written, duration)


@dataclass
class LoadedObject:
    """All programs and maps of one object in the running kernel, by name.  A context manager: leaving closes all."""

    programs: dict[str, LoadedProgram]
    maps: dict[str, KernelMap]

    def close(self) -> None:
        for program in self.programs.values():
            program.close()
        for map in self.maps.values():
            map.close()

    def __enter__(self) -> LoadedObject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_insns(
    insns: bytes,
    program_type: int,
    name: str = "insns",
    license: str = "GPL",
    expected_attach_type: int = 0,
    attach_btf_id: int = 0,
) -> LoadedProgram | Refused:
    """Load encoded instructions, file descriptors already in place."""
    loaded = prog_load(program_type, insns, license, name, expected_attach_type, attach_btf_id)
    return loaded if isinstance(loaded, Refused) else LoadedProgram(loaded, name, str(program_type))

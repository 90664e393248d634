"""The running kernel asked about raw programs, thousands a second: the maps are made once, descriptors put in place."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from benchmarks.model.fixed_maps import KEY_TYPE, POINTERS, btf
from benchmarks.model.slots import SlotProgram
from verifier_model.bpf.insn import SLOT_BYTES
from verifier_model.bpf.unit import MapDef
from verifier_model.contracts.maps import BY_NAME
from verifier_model.kernel.syscall import Command, address, attribute, bpf, byte_buffer, map_create, prog_info

_WIDE, _MAP_SOURCES = 0x18, (1, 2)
_LOG_BYTES: Final = 1 << 20
# Errors that say nothing about the program.
_NO_VERDICT: Final = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class RawWord:
    """The kernel's word: `reason` is the last telling line of its log, asked for separately."""

    accepted: bool
    error: int = 0
    verified_insns: int = 0


class NoMapError(RuntimeError):
    """This kernel does not make such a map: nothing can be said about the program."""


class RawKernel:
    """Maps by name, made when first needed and kept until `close`.  Raises PermissionError where bpf(2) is closed."""

    def __init__(self) -> None:
        self._fds: dict[tuple[MapDef, int, int], int] = {}
        self._btfs: dict[bool, int] = {}
        self._license = byte_buffer(b"GPL\0")
        self._log = ctypes.create_string_buffer(_LOG_BYTES)

    def close(self) -> None:
        for fd in (*self._fds.values(), *self._btfs.values()):
            os.close(fd)
        self._fds, self._btfs = {}, {}

    def __enter__(self) -> RawKernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, program: SlotProgram, count_insns: bool = False) -> RawWord:
        """Load and close again.  Raises NoMapError where a map of the program's cannot be made here."""
        try:
            fd = self._load(program, None)
        except OSError as error:
            if error.errno in _NO_VERDICT:
                raise
            return RawWord(False, error.errno or errno.EINVAL)
        try:
            return RawWord(True, 0, prog_info(fd).verified_insns if count_insns else 0)
        finally:
            os.close(fd)

    def reason(self, program: SlotProgram) -> str:
        """Why the kernel refuses the program, "" when it does not."""
        self._log[0] = b"\0"
        try:
            os.close(self._load(program, self._log))
        except OSError as error:
            lines = self._log.value.decode(errors="replace").splitlines()
            told = [line for line in lines if line and not line.startswith(("processed ", "max_states"))]
            return f"{errno.errorcode.get(error.errno or 0, '?')}: {told[-1] if told else ''}"
        return ""

    def _load(self, program: SlotProgram, log: ctypes.Array[ctypes.c_char] | None) -> int:
        insns = bytearray(program.insns)
        for slot, row in program.maps.items():
            at = slot * SLOT_BYTES
            if at < len(insns) and insns[at] == _WIDE and insns[at + 1] >> 4 in _MAP_SOURCES:
                struct.pack_into("<i", insns, at + 4, self._map(row, program))
        code = byte_buffer(bytes(insns))
        level, size = (1, len(log)) if log is not None else (0, 0)
        attr = attribute(
            "IIQQIIQII16sII",
            program.type,
            len(insns) // SLOT_BYTES,
            address(code),
            address(self._license),
            level,
            size,
            address(log),
            0,
            program.flags,
            b"case",
            0,
            program.attach,
        )
        return bpf(Command.PROG_LOAD, attr)

    def _map(self, row: MapDef, program: SlotProgram) -> int:
        # A program array belongs to the type of the first program that used it.
        is_owned = row.type == BY_NAME["prog_array"].number
        key = (row, program.type, program.attach) if is_owned else (row, 0, 0)
        if key not in self._fds:
            try:
                self._fds[key] = self._create(row)
            except OSError as error:
                raise NoMapError(f"{row.name}: {error.strerror}") from error
        return self._fds[key]

    def _create(self, row: MapDef) -> int:
        if row.value_type:
            attr = attribute(
                "7I16sIIII",
                *(row.type, row.key_size, row.value_size, row.max_entries, row.flags, 0, 0),
                row.name.encode()[:15],
                *(0, self._types(row.name == POINTERS), KEY_TYPE, row.value_type),
            )
            return bpf(Command.MAP_CREATE, attr)
        inner = 0 if row.inner is None else self._create(row.inner)
        try:
            return map_create(row.type, row.key_size, row.value_size, row.max_entries, row.flags, inner, "case")
        finally:
            if inner:
                os.close(inner)

    def _types(self, with_pointers: bool) -> int:
        if with_pointers not in self._btfs:
            content = btf(with_pointers)
            data = byte_buffer(content)
            attr = attribute("QQIII", address(data), 0, len(content), 0, 0)
            self._btfs[with_pointers] = bpf(Command.BTF_LOAD, attr)
        return self._btfs[with_pointers]

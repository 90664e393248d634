"""What the running kernel makes of an object: accepted or not, and the translated instructions with their records.

Loaded with libbpf, never attached or pinned, gone at once.  Call from a process of its own: libbpf keeps state.
Layout of struct bpf_prog_info: include/uapi/linux/bpf.h.  Map numbers and addresses of kernel memory are replaced by
the order of their first use, since every load makes them anew.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from verifier_model.bpf.insn import SLOT_BYTES
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.programs import LoadedProgram
from verifier_model.kernel.syscall import Command, Refused, address, attribute, bpf

_INFO_BYTES: Final = 256
_TRANSLATED_LENGTH, _TRANSLATED = 20, 32
_FUNCTION_SIZE, _FUNCTIONS, _FUNCTION_COUNT = 132, 136, 144
_LINE_COUNT, _LINES, _LINE_SIZE = 148, 152, 172
_LINE_RECORD: Final = 16
_FUNCTION_RECORD: Final = 8
_LD_IMM64: Final = 0x18
# Direct map and vmalloc area of 64-bit kernels; not the image itself and small negative constants, which stay.
_KERNEL_DATA: Final = range(0xFFFF_0000_0000_0000, 0xFFFF_FFFF_0000_0000)
_IS_ADDRESS: Final = 0xFFFF_0000
_MAP_SOURCES: Final = (1, 2, 5, 6)  # BPF_PSEUDO_MAP_FD, _MAP_VALUE, _MAP_IDX, _MAP_IDX_VALUE


@dataclass(frozen=True, slots=True)
class Fate:
    """One program: `refusal` is "" when accepted; its translated instructions, line and function records."""

    program: str
    refusal: str = ""
    insns: bytes = b""
    lines: bytes = b""
    functions: bytes = b""


def fates(data: bytes, programs: tuple[str, ...]) -> tuple[Fate, ...]:
    """What happens to each main program: loaded with all others; alone where that fails, or where its section's name
    (SEC("?xdp")) says that it is not to be loaded with the others.  Empty when none is there."""
    together = load_object(data)
    found: list[Fate] = []
    if not isinstance(together, Refused):
        with together:
            found = [_fate(together.programs[name]) for name in programs if name in together.programs]
        return (*found, *_alone(data, [name for name in programs if name not in {fate.program for fate in found}]))
    if len(programs) > 1:
        return tuple(_alone(data, programs))
    return (Fate(programs[0] if programs else "", _word(together)),)


def _alone(data: bytes, programs: Sequence[str]) -> Iterator[Fate]:
    for name in programs:
        alone = load_object(data, LoadOptions(only=frozenset({name})))
        if isinstance(alone, Refused):
            yield Fate(name, _word(alone))
            continue
        with alone:
            if name in alone.programs:
                yield _fate(alone.programs[name])


def _word(refused: Refused) -> str:
    """The refusal without what differs from load to load: the last line of the log that gives a reason."""
    lines = [line for line in refused.log.splitlines() if line and not line.startswith(("processed ", "libbpf: "))]
    return f"{refused.reason}: {lines[-1] if lines else ''}"


def _fate(program: LoadedProgram) -> Fate:
    insns, lines, functions = _translated(program.fd)
    return Fate(program.name, "", _numbered(insns), lines, functions)


def _translated(fd: int) -> tuple[bytes, bytes, bytes]:
    """Translated instructions, line records and function records."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    bpf(Command.OBJ_GET_INFO_BY_FD, attribute("IIQ", fd, len(info), address(info)))
    (length,) = struct.unpack_from("=I", info, _TRANSLATED_LENGTH)
    (line_count,) = struct.unpack_from("=I", info, _LINE_COUNT)
    (function_count,) = struct.unpack_from("=I", info, _FUNCTION_COUNT)
    insns = ctypes.create_string_buffer(max(length, 1))
    lines = ctypes.create_string_buffer(max(line_count * _LINE_RECORD, 1))
    functions = ctypes.create_string_buffer(max(function_count * _FUNCTION_RECORD, 1))
    asked = ctypes.create_string_buffer(_INFO_BYTES)
    struct.pack_into("=I", asked, _TRANSLATED_LENGTH, length)
    struct.pack_into("=Q", asked, _TRANSLATED, address(insns))
    struct.pack_into("=I", asked, _FUNCTION_SIZE, _FUNCTION_RECORD)
    struct.pack_into("=Q", asked, _FUNCTIONS, address(functions))
    struct.pack_into("=I", asked, _FUNCTION_COUNT, function_count)
    struct.pack_into("=I", asked, _LINE_COUNT, line_count)
    struct.pack_into("=Q", asked, _LINES, address(lines))
    struct.pack_into("=I", asked, _LINE_SIZE, _LINE_RECORD)
    bpf(Command.OBJ_GET_INFO_BY_FD, attribute("IIQ", fd, len(asked), address(asked)))
    return (
        insns.raw[:length],
        lines.raw[: line_count * _LINE_RECORD],
        functions.raw[: function_count * _FUNCTION_RECORD],
    )


def _numbered(insns: bytes) -> bytes:
    """The instructions with map numbers and addresses of the kernel's data numbered from 0, each kind for itself."""
    out, maps, addresses, at = bytearray(insns), dict[int, int](), dict[int, int](), 0
    while at < len(out):
        if out[at] == _LD_IMM64:
            low, high = struct.unpack_from("=I", out, at + 4)[0], struct.unpack_from("=I", out, at + 12)[0]
            source, value = out[at + 1] >> 4, high << 32 | low
            if source in _MAP_SOURCES:
                struct.pack_into("=I", out, at + 4, maps.setdefault(low, len(maps)))
            elif source == 0 and value in _KERNEL_DATA:
                struct.pack_into("=I", out, at + 4, addresses.setdefault(value, len(addresses)))
                struct.pack_into("=I", out, at + 12, _IS_ADDRESS)
            at += SLOT_BYTES
        at += SLOT_BYTES
    return bytes(out)

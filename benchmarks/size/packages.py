"""Objects that Debian ships: those of xdp-tools as files, those of libbpf-tools out of the programs that hold them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from benchmarks.size.objects import Subject, function_slots
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from verifier_model.kernel.packages import cache_folder, unpack_deb

PACKAGES: Final = ("xdp-tools", "libbpf-tools")
_ELF: Final = b"\x7fELF\x02\x01\x01"
_EM_BPF: Final = 247
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_NOBITS: Final = 8


def package_objects(package: str) -> tuple[Subject, ...]:
    """The package's BPF objects whose functions can be counted, by name; raises PackageError."""
    folder = unpack_deb(package, cache_folder() / f"unpacked-{package}")
    found: dict[bytes, Subject] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        for number, data in enumerate(embedded(path.read_bytes())):
            name = path.name + (f"#{number}" if number else "")
            subject = _subject(name, data)
            if subject is not None:
                found.setdefault(data, subject)
    return tuple(found.values())


def _subject(name: str, data: bytes) -> Subject | None:
    try:
        functions = tuple(function_slots(data))
    except ValueError:
        return None
    source = read_object(data)
    cpu = "" if isinstance(source, Untouched) else f"v{source.unit.cpu_level}"
    return Subject(name, cpu, "as shipped", data, functions) if functions else None


def embedded(data: bytes) -> Iterator[bytes]:
    """Every BPF object inside a file, the file itself included: skeletons hold theirs as a constant."""
    at = data.find(_ELF)
    while at >= 0:
        size = _extent(data[at:])
        if size:
            yield data[at : at + size]
        at = data.find(_ELF, at + max(size, 1))


def _extent(data: bytes) -> int:
    """Bytes of the BPF object at the start of `data`, 0 when there is none."""
    if len(data) < _HEADER.size:
        return 0
    header = _HEADER.unpack_from(data)
    machine, table, entry, count = header[2], header[6], header[11], header[12]
    end = table + entry * count
    if machine != _EM_BPF or entry != _SECTION.size or not count or end > len(data):
        return 0
    for number in range(count):
        section = _SECTION.unpack_from(data, table + entry * number)
        if section[1] != _NOBITS:
            end = max(end, section[4] + section[5])
    return end if end <= len(data) else 0

"""The section that the pass plugin writes (llvm_bridge/plugin/plugin.cpp), and its removal from objects.

`parse_record` is for the object of a compilation that this very run started.  One found in an input object proves
nothing, whoever made it: `without_section` takes it out unread.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from llvm_bridge.dwarf import describes_addresses
from llvm_bridge.elf import (
    SHT_NOBITS,
    SHT_PROGBITS,
    Elf,
    ObjectError,
    Relocation,
    data_addend,
    parse,
    parse_relocations,
    put_addend,
    relocation_bytes,
    serialise,
    with_sections,
)
from llvm_bridge.lint import UNREADABLE, lint
from llvm_bridge.prune import drop_sections
from verifier_model.bpf import btf as btf_graph
from verifier_model.bpf.btf import Kind
from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.unit import AccessFacts

NAME: Final = ".k2.facts"
_HEADER: Final = b"k2 facts 2\n"
_BEHIND_NAME: Final = b"\1"  # in front of each annotation of a function
_VOLATILE, _ATOMIC, _BARRIER = 1, 2, 4  # `enum Access` of the plugin


def parse_record(data: bytes) -> dict[str, AccessFacts]:
    """The facts of every function that the compiler emitted, by symbol name; raises ObjectError for a wrong form."""
    found: dict[str, AccessFacts] = {}
    for bits, name, _ in _entries(data):
        if name in found:
            raise ObjectError(f"{NAME} is not of our form")
        found[name] = AccessFacts(bool(bits & _VOLATILE), bool(bits & _ATOMIC), bool(bits & _BARRIER))
    return found


def parse_annotations(data: bytes) -> dict[str, tuple[str, ...]]:
    """The texts that functions were annotated with, by symbol name; raises ObjectError for a wrong form."""
    return {name: texts for _, name, texts in _entries(data) if texts}


def _entries(data: bytes) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(bits, symbol, annotations) of every function."""
    if not data.startswith(_HEADER) or (len(data) > len(_HEADER) and data[-1]):
        raise ObjectError(f"{NAME} is not of our form")
    for entry in data[len(_HEADER) :].split(b"\0")[:-1]:
        name, *texts = entry[1:].split(_BEHIND_NAME)
        if not b"0" <= entry[:1] <= b"7" or not name:
            raise ObjectError(f"{NAME} is not of our form")
        yield int(entry[:1]), _decoded(name), tuple(_decoded(text) for text in texts)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def without_section(data: bytes) -> bytes:
    """The object without data sections of that name, their symbols, and what BTF and DWARF tie to them.

    An object that has none comes back as it is.  Raises ObjectError when code or data refers to one, or BtfError.
    """
    if NAME.encode() not in data:
        return data
    old = elf = parse(data)
    while (index := find(elf)) is not None:
        elf = drop_sections(_forget_btf(_forget_references(elf, index)), frozenset({index}))
    if elf is old:
        return data
    new = serialise(elf)
    findings = Counter(lint(new)) - Counter(finding for finding in lint(data) if finding.rule != UNREADABLE)
    if findings:
        raise ObjectError(f"without {NAME} the object fails the lint: {next(iter(findings))}")
    return new


def find(elf: Elf) -> int | None:
    """The first data section of that name, None without one."""
    for index, section in enumerate(elf.sections):
        if section.name == NAME and section.type in (SHT_PROGBITS, SHT_NOBITS) and not section.is_code:
            return index
    return None


def _forget_references(elf: Elf, section: int) -> Elf:
    """References from DWARF and BTF alone go; a dead address reads 0, as after linking without the section."""
    new: dict[int, bytes] = {}
    for target, table in elf.relocation_sections().items():
        home = elf.sections[target]
        if not (describes_addresses(home.name) or home.name == ".BTF"):
            continue
        entries = parse_relocations(elf, table)
        kept = tuple(entry for entry in entries if elf.symbols[entry.symbol].section != section)
        if len(kept) == len(entries):
            continue
        contents = bytearray(home.data)
        for entry in entries:
            if entry not in kept and data_addend(elf, target, entry):
                put_addend(contents, elf.order, entry, 0)
        new[target] = bytes(contents)
        new[table] = relocation_bytes(kept, elf.order)
    return with_sections(elf, new)


def _forget_btf(elf: Elf) -> Elf:
    """The object without the DATASEC of that name: libbpf refuses one whose section is missing.

    The variables in it stay as types that nobody uses, so that no type that anything refers to gets another number.
    """
    at = elf.section_index(".BTF")
    if at is None:
        return elf
    data = elf.sections[at].data
    graph = btf_graph.parse(data, elf.order)
    index = next((i for i, found in enumerate(graph.types) if found.kind is Kind.DATASEC and found.name == NAME), None)
    if index is None:
        return elf
    if any(found.kind is not Kind.DATASEC for found in graph.types[index:]):
        raise ObjectError(f"the types behind {NAME}'s would get other numbers")
    start, size = _datasec_bounds(data, graph, index, elf.order)
    new = {at: _cut(data, start, size, elf.order)}
    table = elf.relocation_sections().get(at)
    if table is not None:
        entries = parse_relocations(elf, table)
        if any(start <= entry.offset < start + size for entry in entries):
            raise ObjectError(f"BTF ties the types of {NAME} to another section")
        new[table] = relocation_bytes((_shifted(entry, start, size) for entry in entries), elf.order)
    return with_sections(elf, new)


def _datasec_bounds(data: bytes, graph: btf_graph.Btf, index: int, order: ByteOrder) -> tuple[int, int]:
    """(first byte in the .BTF section, size in bytes) of the DATASEC with that type id, which only DATASECs follow."""
    mark = "<" if order == "little" else ">"
    _, _, _, header, type_at, type_size = struct.unpack_from(mark + "HBBIII", data)
    sizes = [12 + 12 * len(found.members) for found in graph.types[index:]]
    return header + type_at + type_size - sum(sizes), sizes[0]


def _cut(data: bytes, start: int, size: int, order: ByteOrder) -> bytes:
    """A .BTF section without `size` bytes of its type table from byte `start` on."""
    mark = "<" if order == "little" else ">"
    head = list(struct.unpack_from(mark + "HBBIIIII", data))
    if head[6] < head[4] + head[5]:
        raise ObjectError("BTF strings in front of the types")
    head[5] -= size
    head[6] -= size
    cut = bytearray(data[:start] + data[start + size :])
    struct.pack_into(mark + "HBBIIIII", cut, 0, *head)
    return bytes(cut)


def _shifted(entry: Relocation, start: int, size: int) -> Relocation:
    return replace(entry, offset=entry.offset - size) if entry.offset >= start + size else entry

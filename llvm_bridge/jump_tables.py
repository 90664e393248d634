"""Jump tables of LLVM 22: the section `.jumptables`, read by code that ends in `gotox` (toolchain-conventions, 6.5).

An entry is the label's offset in bytes from the start of its *section*, without a relocation.  libbpf finds a table by
the symbol that a wide load names.  A function with a computed jump is not changed, because its blocks cannot be known
from its instructions alone, but it may move; then its tables move along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from llvm_bridge.elf import STT_OBJECT, Elf, ObjectError
from verifier_model.bpf.insn import Insn, RawSlot, RefKind

SECTION: Final = ".jumptables"
ENTRY_BYTES: Final = 8
_GOTOX: Final = 0x0D  # BPF_JMP | BPF_JA | BPF_X: go to the address in dst


def is_computed_jump(raw: RawSlot) -> bool:
    return raw.code == _GOTOX and not (raw.src or raw.off or raw.imm)


def table_sizes(elf: Elf) -> dict[int, int]:
    """Size in bytes of every table by its place in the section; raises ObjectError for what libbpf would refuse."""
    index = elf.section_index(SECTION)
    if index is None:
        return {}
    if index in elf.relocation_sections():
        raise ObjectError(f"{SECTION} has relocations")
    found: dict[int, int] = {}
    for symbol in elf.symbols:
        if symbol.section == index and symbol.type == STT_OBJECT:
            if symbol.value % ENTRY_BYTES or symbol.size % ENTRY_BYTES or not symbol.size:
                raise ObjectError(f"the jump table {symbol.name} has no whole number of entries")
            if symbol.value + symbol.size > len(elf.sections[index].data) or symbol.value in found:
                raise ObjectError(f"the jump table {symbol.name} has no place of its own")
            found[symbol.value] = symbol.size
    return found


def is_table(insn: Insn) -> bool:
    """Does the instruction load the address of a jump table?"""
    return insn.ref is not None and insn.ref.kind is RefKind.DATA and insn.ref.name == SECTION


def entries(elf: Elf, table: int, size: int) -> Iterator[tuple[int, int]]:
    """(place in the section, label's offset from the start of its code section) of a table at byte `table`."""
    index = elf.section_index(SECTION)
    assert index is not None
    data = elf.sections[index].data
    for at in range(table, table + size, ENTRY_BYTES):
        yield at, int.from_bytes(data[at : at + ENTRY_BYTES], elf.order)


def moved_tables(elf: Elf, moves: Iterable[tuple[Insn, int]]) -> dict[int, bytes]:
    """New contents of the section, by its index: the table that each instruction loads, moved by that many bytes."""
    index = elf.section_index(SECTION)
    moves = [(insn, by) for insn, by in moves if by]
    if index is None or not moves:
        return {}
    data, sizes = bytearray(elf.sections[index].data), table_sizes(elf)
    for insn, by in moves:
        assert insn.ref is not None
        for at, label in entries(elf, insn.ref.addend, sizes[insn.ref.addend]):
            data[at : at + ENTRY_BYTES] = (label + by).to_bytes(ENTRY_BYTES, elf.order)
    return {index: bytes(data)}

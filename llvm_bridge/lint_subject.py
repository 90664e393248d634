"""An object under the lint: its parts as the rules need them, each found once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from llvm_bridge.elf import STT_FUNC, Elf, Relocation, parse_relocations
from llvm_bridge.slots import slot_at
from llvm_bridge.type_graph import type_graph
from verifier_model.bpf.btf import Btf
from verifier_model.bpf.insn import SLOT_BYTES, ByteOffset, RawSlot, read_slot
from verifier_model.bpf.isa import Row


@dataclass(frozen=True, slots=True)
class Slot:
    """One decoded instruction of a section: `high` is the second half of a wide load."""

    row: Row
    raw: RawSlot
    high: RawSlot | None


class Subject:
    """An object under the lint, with what several rules need, computed once."""

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        self.code = [index for index, section in enumerate(elf.sections) if section.is_code]
        self.functions: dict[int, list[tuple[int, int, str]]] = {index: [] for index in self.code}
        for symbol in elf.symbols:
            if symbol.type == STT_FUNC and symbol.section in self.functions:
                self.functions[symbol.section].append((symbol.value, symbol.size, symbol.name))
        for found in self.functions.values():
            found.sort()

    @cached_property
    def starts(self) -> dict[int, set[int]]:
        return {index: {start for start, _, _ in found} for index, found in self.functions.items()}

    @cached_property
    def relocations(self) -> dict[int, tuple[Relocation, ...]]:
        tables = self.elf.relocation_sections()
        return {target: parse_relocations(self.elf, table) for target, table in tables.items()}

    @cached_property
    def slots(self) -> dict[int, dict[int, Slot | None]]:
        """Per code section: byte offset -> instruction; None where no row fits (then the slot is taken as one)."""
        return {index: self._decode(index) for index in self.code}

    def _decode(self, index: int) -> dict[int, Slot | None]:
        data = self.elf.sections[index].data
        found: dict[int, Slot | None] = {}
        at = 0
        while at + SLOT_BYTES <= len(data):
            raw, row = slot_at(data, at, self.elf.order)
            if isinstance(row, str):
                found[at] = None
                at += SLOT_BYTES
                continue
            high = None
            if row.slots == 2 and at + 2 * SLOT_BYTES <= len(data):
                high = read_slot(data, ByteOffset(at + SLOT_BYTES), self.elf.order)
            found[at] = Slot(row, raw, high)
            at += row.slots * SLOT_BYTES
        return found

    @cached_property
    def graph(self) -> Btf | None:
        return type_graph(self.elf)

"""Where everything lies after functions changed their length: old byte offsets to new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llvm_bridge.elf import STT_SECTION
from llvm_bridge.object import CodeSection, Object, Placed
from verifier_model.bpf.insn import SLOT_BYTES
from verifier_model.bpf.unit import Function


class MisfitError(Exception):
    """`function` (None: the whole object) cannot be written as it is asked for."""

    def __init__(self, reason: str, function: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.function = function


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A function's new bounds in bytes, and its blocks' first slots counted from its start."""

    section: int
    start: int
    size: int
    blocks: Mapping[str, int]


@dataclass(frozen=True)
class Layout:
    """New bounds of all functions by name, the new sizes of code sections in bytes, and which functions `changed`."""

    source: Object
    places: Mapping[str, NewPlace]
    sizes: Mapping[int, int]
    old_labels: Mapping[str, tuple[str, ...]]
    changed: frozenset[str]
    _slots: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def is_moved(self) -> bool:
        """Does any function start elsewhere or have another length than before?"""
        return any(
            self.places[placed.name].start != placed.start or self.places[placed.name].size != placed.size
            for section in self.source.code.values()
            for placed in section.functions
        )

    def code_byte(self, section: CodeSection, old: int) -> int:
        """The new offset of the old byte offset `old`, which starts a function or lies in one that did not change."""
        if section.frozen is not None:
            return old
        placed = section.at(old)
        if placed is None:
            return self.sizes[section.index]
        return self.places[placed.name].start + old - placed.start

    def symbol_value(self, number: int) -> int:
        """The new st_value of a symbol."""
        symbol = self.source.elf.symbols[number]
        section = self.source.code.get(symbol.section)
        if section is None or symbol.type == STT_SECTION:
            return symbol.value
        mark = section.marks.get(number)
        if section.frozen is None and mark is not None:
            name, label = mark
            return self.places[name].start + SLOT_BYTES * self._block_slot(name, label)
        return self.code_byte(section, symbol.value)

    def _block_slot(self, name: str, label: str) -> int:
        """The slot of a block, or of the next old block that still exists, or the function's end."""
        found = self._slots.get(name)
        if found is None:
            place = self.places[name]
            slot, found = place.size // SLOT_BYTES, {}
            for old in reversed(self.old_labels[name]):
                slot = found[old] = place.blocks.get(old, slot)
            self._slots[name] = found
        return found[label]


def plan(source: Object, functions: Mapping[str, Function], changed: frozenset[str]) -> Layout:
    """Lay the functions of every section back to back in their old order; frozen sections keep every offset."""
    places: dict[str, NewPlace] = {}
    sizes: dict[int, int] = {}
    for index, section in source.code.items():
        at = 0
        for placed in section.functions:
            if section.frozen is not None:
                places[placed.name] = NewPlace(index, placed.start, placed.size, {})
                continue
            if placed.opaque is not None:
                places[placed.name] = NewPlace(index, at, placed.size, {})
            else:
                places[placed.name] = _place(functions[placed.name], placed, index, at)
            at += places[placed.name].size
        sizes[index] = len(source.elf.sections[index].data) if section.frozen is not None else at
    old_labels = {f.name: tuple(block.label for block in f.blocks) for f in source.unit.functions}
    return Layout(source, places, sizes, old_labels, changed)


def _place(function: Function, placed: Placed, section: int, start: int) -> NewPlace:
    blocks: dict[str, int] = {}
    slot = 0
    for block in function.blocks:
        if block.label in blocks:
            raise MisfitError(f"two blocks are called {block.label}", function.name)
        blocks[block.label] = slot
        slot += block.slots
    if not slot:
        raise MisfitError("a function without instructions", placed.name)
    return NewPlace(section, start, slot * SLOT_BYTES, blocks)

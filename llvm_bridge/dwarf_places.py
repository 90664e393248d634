"""What is relocated where in the debug sections: addresses of code by place, all entries in order."""

from __future__ import annotations

from functools import cached_property

from llvm_bridge.dwarf_lists import Address
from llvm_bridge.elf import Elf, Relocation, data_addend, parse_relocations


class Places:
    """The relocations of an object's debug sections, parsed once."""

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        self._relocations: dict[str, tuple[Relocation, ...]] = {}
        self._addresses: dict[str, dict[int, Address]] = {}

    @cached_property
    def tables(self) -> dict[int, int]:
        return self.elf.relocation_sections()

    @cached_property
    def code(self) -> frozenset[int]:
        return frozenset(index for index, section in enumerate(self.elf.sections) if section.is_code)

    def relocations(self, name: str) -> tuple[Relocation, ...]:
        """The entries for the section of that name, by place; raises ObjectError."""
        if name not in self._relocations:
            index = self.elf.section_index(name)
            table = None if index is None else self.tables.get(index)
            found = () if table is None else parse_relocations(self.elf, table)
            self._relocations[name] = tuple(sorted(found, key=lambda entry: entry.offset))
        return self._relocations[name]

    def addresses(self, name: str) -> dict[int, Address]:
        """Places of the section that hold an address in another section that is no debug section."""
        if name not in self._addresses:
            index = self.elf.section_index(name)
            found: dict[int, Address] = {}
            for entry in self.relocations(name):
                symbol = self.elf.symbols[entry.symbol]
                if index is not None and symbol.is_defined and symbol.section in self.code:
                    byte = symbol.value + data_addend(self.elf, index, entry)
                    found[entry.offset] = Address(symbol.section, byte, entry.symbol)
            self._addresses[name] = found
        return self._addresses[name]

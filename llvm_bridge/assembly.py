"""From the blocks of a section's functions to bytes, relocations and records at their new offsets."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from llvm_bridge.elf import R_BPF_64_32, R_BPF_64_64, STT_SECTION, Relocation
from llvm_bridge.layout import Layout, MisfitError
from llvm_bridge.object import CodeSection, Opaque, Placed
from llvm_bridge.references import call_immediate
from verifier_model.bpf.insn import SLOT_BYTES, Insn, LineRecord, Ref, RefKind, SlotOffset, encode
from verifier_model.bpf.isa import BY_NAME, Kind
from verifier_model.bpf.unit import Function

_SHORT = range(-(1 << 15), 1 << 15)
_LONG = range(-(1 << 31), 1 << 31)
GOTOL_LEVEL = BY_NAME["gotol"].level


@dataclass(slots=True)
class Assembled:
    """One code section ready to be written; offsets in bytes from its start, everything ascending."""

    data: bytearray = field(default_factory=bytearray)
    relocations: list[Relocation] = field(default_factory=list)
    types: list[tuple[int, ...]] = field(default_factory=list)
    lines: list[tuple[int, ...]] = field(default_factory=list)
    cores: list[tuple[int, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Assembler:
    """Writes instructions of one object under a layout.

    `level` is the unit's CPU level; above it only instructions that the object already has (inline assembly) may stand.
    """

    layout: Layout
    level: int
    present: frozenset[str]

    def section(self, section: CodeSection, functions: dict[str, Function]) -> Assembled:
        """All functions of a section that is not frozen; raises MisfitError."""
        out = Assembled()
        for placed in section.functions:
            if placed.type_record is not None:
                out.types.append((len(out.data), *placed.type_record))
            if placed.opaque is not None:
                self._opaque(placed, placed.opaque, functions[placed.name], section, out)
            else:
                self._function(functions[placed.name], section, out)
        return out

    def _opaque(self, placed: Placed, opaque: Opaque, function: Function, section: CodeSection, out: Assembled) -> None:
        """The function's bytes as they were, but for what names other places."""
        start = len(out.data)
        out.data += self.layout.source.elf.sections[section.index].data[placed.start : placed.start + placed.size]
        for at, insn in opaque.references:
            assert insn.ref is not None
            moved, distance = self._elsewhere(insn, insn.ref, function, section, start + at, out)
            new = encode(moved, self.layout.source.elf.order, distance)
            out.data[start + at : start + at + len(new)] = new
        out.lines += [(start + at, *record) for at, record in opaque.lines]
        out.cores += [(start + at, *record) for at, record in opaque.cores]

    def _function(self, function: Function, section: CodeSection, out: Assembled) -> None:
        first_line = self._first_line(function)
        for block in function.blocks:
            for index, insn in enumerate(block.insns):
                if insn.row.is_block_end and index + 1 < len(block.insns):
                    raise MisfitError(f"{insn.row.name} in the middle of a block", function.name)
                if insn.row.level > self.level and insn.row.name not in self.present:
                    raise MisfitError(f"{insn.row.name} is above CPU level v{self.level}", function.name)
                line = insn.origin.line or first_line
                first_line = None
                self._insn(insn, line, function, section, out)
        last = next(block.insns[-1].kind for block in reversed(function.blocks) if block.insns)
        if function.untouchable is None and last not in (Kind.EXIT, Kind.JUMP):
            raise MisfitError("control may run off the function's end", function.name)

    def _first_line(self, function: Function) -> LineRecord | None:
        """The kernel wants a line record on the first instruction of every function that has any."""
        old = self.layout.source.unit.function(function.name)
        return next((insn.origin.line for _, insn in old.insns()), None)

    def _insn(
        self, insn: Insn, line: LineRecord | None, function: Function, section: CodeSection, out: Assembled
    ) -> None:
        at = len(out.data)
        distance: SlotOffset | None = None
        ref = insn.ref
        if ref is not None:
            if ref.kind is RefKind.LABEL:
                insn, distance = self._branch(insn, ref, function, at)
            else:
                insn, distance = self._elsewhere(insn, ref, function, section, at, out)
        elif "target" in insn.row.uses or insn.row.name == "call_local":
            raise MisfitError(f"{insn.row.name} without a target", function.name)
        if line is not None:
            out.lines.append((at, *line))
        out.cores += [(at, *record) for record in insn.origin.core]
        try:
            out.data += encode(insn, self.layout.source.elf.order, distance)
        except (struct.error, ValueError):
            raise MisfitError(f"an operand of {insn.row.name} does not fit", function.name) from None

    def _elsewhere(
        self, insn: Insn, ref: Ref, function: Function, section: CodeSection, at: int, out: Assembled
    ) -> tuple[Insn, SlotOffset | None]:
        """The instruction at the new byte `at` whose operand lies outside its function; a relocation if it needs one.

        The distance is that of a call inside the section.
        """
        if self._is_near_call(insn, ref, section):
            return insn, SlotOffset((self.layout.places[ref.name].start + ref.addend - at) // SLOT_BYTES - 1)
        symbol, insn = self._relocated(insn, ref, function)
        out.relocations.append(Relocation(at, symbol, R_BPF_64_32 if insn.kind is Kind.CALL else R_BPF_64_64))
        return insn, None

    def _branch(self, insn: Insn, target: Ref, function: Function, at: int) -> tuple[Insn, SlotOffset]:
        place = self.layout.places[function.name]
        slot = place.blocks.get(target.name)
        if slot is None or slot * SLOT_BYTES >= place.size or "target" not in insn.row.uses:
            raise MisfitError(f"no instruction to go to at {target.name}", function.name)
        distance = SlotOffset(slot - (at - place.start) // SLOT_BYTES - 1)
        if distance not in (_LONG if insn.row.name == "gotol" else _SHORT):
            if insn.row.name != "ja" or self.level < GOTOL_LEVEL:
                raise MisfitError("a branch is too far for its instruction", function.name)
            insn = replace(insn, row=BY_NAME["gotol"])
        return insn, distance

    def _is_near_call(self, insn: Insn, ref: Ref, section: CodeSection) -> bool:
        """Is this a call inside the section that needs no relocation?"""
        if insn.row.name != "call_local" or ref.kind is not RefKind.FUNCTION or ref.symbol >= 0:
            return False
        return ref.name in self.layout.places and self.layout.places[ref.name].section == section.index

    def _relocated(self, insn: Insn, ref: Ref, function: Function) -> tuple[int, Insn]:
        """The symbol for the relocation, and the instruction with the in-place addend in its immediate."""
        home, target = self._target(ref, function)
        number = ref.symbol if ref.symbol >= 0 else self._symbol_for(home, ref, function)
        if number >= len(self.layout.source.elf.symbols):
            raise MisfitError(f"a reference to {ref.name} by a symbol that does not exist", function.name)
        symbol = self.layout.source.elf.symbols[number]
        if (symbol.section if symbol.is_defined else 0) != home:
            raise MisfitError(f"a reference to {ref.name} by a symbol of another section", function.name)
        addend = target - (self.layout.symbol_value(number) if home else 0)
        if insn.kind is Kind.LOAD_WIDE and insn.row.fixed_src == 0:
            if addend not in _LONG:
                raise MisfitError(f"an address in {ref.name} is out of range", function.name)
            return number, replace(insn, imm=addend & 0xFFFFFFFF)
        if insn.row.name == "call_local" and ref.kind in (RefKind.FUNCTION, RefKind.EXTERN):
            return number, replace(insn, imm=call_immediate(addend))
        raise MisfitError(f"{insn.row.name} cannot carry a relocation", function.name)

    def _target(self, ref: Ref, function: Function) -> tuple[int, int]:
        """(section, new byte offset in it) of what a reference names."""
        if ref.kind is RefKind.FUNCTION:
            place = self.layout.places.get(ref.name)
            if place is None:
                raise MisfitError(f"no function is called {ref.name}", function.name)
            return place.section, place.start + ref.addend
        found = self.layout.source.places.get((ref.kind, ref.name))
        if found is None:
            raise MisfitError(f"nothing is called {ref.name}", function.name)
        return found[0], found[1] + ref.addend

    def _symbol_for(self, home: int, ref: Ref, function: Function) -> int:
        """A symbol for a reference that a rewrite made: the map's or external's own, else the section's."""
        for number, symbol in enumerate(self.layout.source.elf.symbols):
            wanted = (
                symbol.type == STT_SECTION
                if home and ref.kind in (RefKind.DATA, RefKind.FUNCTION)
                else symbol.name == ref.name
            )
            if wanted and (symbol.section if symbol.is_defined else 0) == home and number:
                return number
        raise MisfitError(f"no symbol for {ref.name}", function.name)

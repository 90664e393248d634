"""Shaking an object: no-ops (`goto` the next instruction) come and go at random places; everything else must follow."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from llvm_bridge import elf as elf_file
from llvm_bridge.dwarf import describes_addresses
from llvm_bridge.object import Object, Untouched
from llvm_bridge.writer import write_object
from verifier_model.bpf.insn import FRAME_POINTER, Insn, label, make
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function


@dataclass(frozen=True, slots=True)
class Shaken:
    """An object with no-ops: `places` counts them per function among its instructions."""

    data: bytes
    places: Mapping[str, tuple[int, ...]]


def with_no_ops(function: Function, chance: float, rng: random.Random) -> tuple[Function, tuple[int, ...]]:
    """The function with no-ops in front of random instructions, and their places among its instructions.

    None comes between a call and the spills and fills around it: the kernel knows those of `bpf_fastcall` by their
    sitting side by side, and would translate them in another way.
    """
    blocks: list[Block] = []
    places: list[int] = []
    count = 0
    for block in function.blocks:
        name, run = block.label, list[Insn]()
        for number, insn in enumerate(block.insns):
            if rng.random() < chance and not (number and _may_be_fastcall(block.insns[number - 1], insn)):
                following = f"{block.label}_{number}"
                blocks.append(Block(name, (*run, make("ja", ref=label(following)))))
                places.append(count)
                name, run = following, []
                count += 1
            run.append(insn)
            count += 1
        blocks.append(Block(name, tuple(run)))
    return replace(function, blocks=tuple(blocks)), tuple(places)


def _may_be_fastcall(left: Insn, right: Insn) -> bool:
    """Are these two neighbours of a run of 8-byte spills, a call, and 8-byte fills?"""
    return _is_spill_call_or_fill(left) and _is_spill_call_or_fill(right)


def _is_spill_call_or_fill(insn: Insn) -> bool:
    if insn.row.name == "stx_dw":
        return insn.dst == FRAME_POINTER
    if insn.row.name == "ldx_dw":
        return insn.src == FRAME_POINTER
    return insn.kind is Kind.CALL


def without(function: Function, places: Iterable[int]) -> Function:
    """The function without the instructions at those places."""
    gone = set(places)
    blocks: list[Block] = []
    count = 0
    for block in function.blocks:
        kept = [insn for number, insn in enumerate(block.insns) if count + number not in gone]
        blocks.append(Block(block.label, tuple(kept)))
        count += len(block.insns)
    return replace(function, blocks=tuple(blocks))


def shake(source: Object, chance: float, rng: random.Random) -> Shaken | Untouched:
    """No-ops into every function that may change; functions whose shaken form does not fit stay as they were."""
    unit, places = source.unit, dict[str, tuple[int, ...]]()
    for function in source.unit.functions:
        if function.untouchable is None:
            changed, places[function.name] = with_no_ops(function, chance, rng)
            unit = unit.with_function(changed)
    data = write_object(source, unit)
    return data if isinstance(data, Untouched) else Shaken(data, places)


def taken_out(shaken: Object, places: Mapping[str, Iterable[int]]) -> bytes | Untouched:
    """The object without the instructions at those places of its functions."""
    unit = shaken.unit
    for name, gone in places.items():
        unit = unit.with_function(without(unit.function(name), gone))
    return write_object(shaken, unit)


def contents(data: bytes) -> dict[str, object]:
    """Everything but debug sections, and symbols and relocations by name instead of number."""
    elf = elf_file.parse(data)
    found: dict[str, object] = {}
    for number, section in enumerate(elf.sections):
        if describes_addresses(section.name.removeprefix(".rel")):
            continue
        if section.type == elf_file.SHT_REL:
            entries = elf_file.parse_relocations(elf, number)
            found[section.name] = [(e.offset, e.type, _name_of(elf, e.symbol)) for e in entries]
        elif section.type not in (elf_file.SHT_SYMTAB, elf_file.SHT_LLVM_ADDRSIG) and section.name:
            found[section.name] = section.data
    found["symbols"] = [
        (_name_of(elf, number), s.type, s.binding, s.other, s.value, s.size)
        for number, s in enumerate(elf.symbols)
        if not (s.is_defined and describes_addresses(elf.sections[s.section].name.removeprefix(".rel")))
    ]
    return found


def _name_of(elf: elf_file.Elf, number: int) -> str:
    symbol = elf.symbols[number]
    home = elf.sections[symbol.section].name if symbol.is_defined else str(symbol.section)
    return f"{home}:{symbol.name}"

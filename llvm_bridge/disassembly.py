"""From the bytes of one function to blocks with labels.

What cannot be decoded without doubt raises ObjectError; the reader then freezes the section around it, because an
instruction that we cannot read may hold a relative call that we cannot fix.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from llvm_bridge import jump_tables
from llvm_bridge.elf import ObjectError, Relocation
from llvm_bridge.object import CodeSection, Opaque, Placed
from llvm_bridge.references import References, call_target
from llvm_bridge.slots import slot_at
from verifier_model.bpf.insn import (
    NO_ORIGIN,
    SLOT_BYTES,
    ByteOffset,
    ByteOrder,
    CoreRecord,
    Insn,
    LineRecord,
    Origin,
    RawSlot,
    Ref,
    RefKind,
    branch_distance,
    decode_slot,
    label,
    read_slot,
)
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one section by instruction offset in bytes."""

    lines: Mapping[int, LineRecord]
    cores: Mapping[int, tuple[CoreRecord, ...]]
    places: Sequence[int]  # all offsets, ascending

    def between(self, start: int, stop: int) -> Sequence[int]:
        return self.places[bisect_left(self.places, start) : bisect_left(self.places, stop)]


@dataclass(frozen=True)
class Surroundings:
    """What a function's bytes mean depends on: its section, that section's relocations by offset, its records."""

    section: CodeSection
    data: bytes
    order: ByteOrder
    relocations: Mapping[int, Relocation]
    records: Records
    names: References


def block_label(slot: int) -> str:
    """The label of the block at that slot of its function."""
    return f"L{slot}"


def read_function(placed: Placed, around: Surroundings, marks: Iterable[int]) -> tuple[Block, ...] | Opaque:
    """The blocks of a function; a block begins at every branch target and at every byte of `marks`.

    A function with computed jumps has no blocks that could be known: it comes back opaque.
    """
    insns, targets, computed = _decode(placed, around)
    for offset in around.records.between(placed.start, placed.start + placed.size):
        slot, rest = divmod(offset - placed.start, SLOT_BYTES)
        if rest or not (slot in insns or slot in computed):
            raise ObjectError(f"a .BTF.ext record at byte {offset} is on no instruction")
    leaders = {0} | set(targets.values()) | {(byte - placed.start) // SLOT_BYTES for byte in marks}
    if not leaders <= insns.keys() | computed:
        raise ObjectError("a jump or symbol points between instructions or out of the function")
    _check_tables(placed, around, insns, computed)
    if computed:
        return _opaque(placed, around, insns)
    return _blocks(insns, targets, leaders)


def _check_tables(placed: Placed, around: Surroundings, insns: Mapping[int, Insn], computed: Set[int]) -> None:
    """Raises ObjectError unless every label of the function's jump tables is one of its instructions."""
    sizes = around.names.jump_tables
    for insn in insns.values():
        if insn.ref is None or not jump_tables.is_table(insn):
            continue
        if not computed:
            raise ObjectError("a jump table in a function without computed jumps")
        for _, label_at in jump_tables.entries(around.names.elf, insn.ref.addend, sizes[insn.ref.addend]):
            slot, rest = divmod(label_at - placed.start, SLOT_BYTES)
            if rest or not (slot in insns or slot in computed):
                raise ObjectError("a jump table that leads out of its function")


def _opaque(placed: Placed, around: Surroundings, insns: Mapping[int, Insn]) -> Opaque:
    references = tuple(
        (slot * SLOT_BYTES, insn)
        for slot, insn in insns.items()
        if insn.ref is not None and insn.ref.kind is not RefKind.LABEL
    )
    places = around.records.between(placed.start, placed.start + placed.size)
    lines, cores = around.records.lines, around.records.cores
    return Opaque(
        references,
        tuple((at - placed.start, lines[at]) for at in places if at in lines),
        tuple((at - placed.start, record) for at in places for record in cores.get(at, ())),
    )


def _decode(placed: Placed, around: Surroundings) -> tuple[dict[int, Insn], dict[int, int], set[int]]:
    """Instructions by slot, the slots that branches among them go to, and the slots of computed jumps."""
    insns: dict[int, Insn] = {}
    targets: dict[int, int] = {}
    computed: set[int] = set()
    slot, total = 0, placed.size // SLOT_BYTES
    lines, cores = around.records.lines, around.records.cores
    while slot < total:
        at = placed.start + slot * SLOT_BYTES
        raw, row = slot_at(around.data, at, around.order)
        if isinstance(row, str):
            if not jump_tables.is_computed_jump(raw) or at in around.relocations:
                raise ObjectError(f"{placed.name}, instruction {slot}: {row}")
            computed.add(slot)
            slot += 1
            continue
        high = None
        if row.slots == 2:
            if slot + 2 > total:
                raise ObjectError(f"{placed.name}: a wide load is cut off")
            high = read_slot(around.data, ByteOffset(at + SLOT_BYTES), around.order)
            if high != RawSlot(0, 0, 0, 0, high.imm) or at + SLOT_BYTES in around.relocations or raw.off:
                raise ObjectError(f"{placed.name}, instruction {slot}: the second half of a wide load is odd")
        insn = decode_slot(raw, row, high)
        ref = _reference(insn, at, raw, high, around)
        imm = insn.imm if ref is None else 0
        if "target" in row.uses:
            if row.kind is not Kind.BRANCH and raw.imm and row.name != "gotol":
                raise ObjectError(f"{placed.name}, instruction {slot}: a jump with an immediate")
            targets[slot] = slot + 1 + branch_distance(raw, row)
            ref = label(block_label(targets[slot])) if ref is None else ref
        line, core = lines.get(at), cores.get(at, ())
        origin = Origin(line, core) if line or core else NO_ORIGIN
        insns[slot] = Insn(row, insn.dst, insn.src, insn.off, imm, ref, origin)
        slot += row.slots
    return insns, targets, computed


def _reference(insn: Insn, at: int, raw: RawSlot, high: RawSlot | None, around: Surroundings) -> Ref | None:
    """What the operand of a relocated instruction or of a call inside the section names."""
    entry = around.relocations.get(at)
    if entry is not None:
        return around.names.of_relocation(entry, insn.row, raw, high)
    if insn.row.name == "call_local":
        return around.names.function(around.section.index, at + call_target(raw.imm), -1, -1)
    return None


def _blocks(insns: Mapping[int, Insn], targets: Mapping[int, int], leaders: set[int]) -> tuple[Block, ...]:
    blocks: list[Block] = []
    start, run = 0, list[Insn]()
    for slot, insn in insns.items():
        if slot in leaders and run:
            blocks.append(Block(block_label(start), tuple(run)))
            run = []
        if not run:
            start = slot
        run.append(insn)
        if insn.row.is_block_end:
            blocks.append(Block(block_label(start), tuple(run)))
            run = []
    if run:
        blocks.append(Block(block_label(start), tuple(run)))
    return tuple(blocks)

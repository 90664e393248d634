"""Every single-bit and single-field change of a run of instructions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from verifier_model.bpf.insn import (
    REGISTER_COUNT,
    ByteOffset,
    Insn,
    RefKind,
    SlotOffset,
    decode_slot,
    encode,
    read_slot,
    row_of,
)
from verifier_model.bpf.isa import ROWS, Kind
from verifier_model.bpf.unit import Function

Program = tuple[Insn, ...]
_STAND_IN = SlotOffset(0)  # a branch's distance, which the writer fills in
_NUMBERS = (0, 1, -1, 2, 7, 8, 31, 32, 255, 0xFFFF, (1 << 31) - 1, -(1 << 31))


def mutants(program: Program, function: Function | None = None) -> Iterator[Program]:
    """Each mutant once, never the program itself.

    Bits that a relocation or a branch's label fills in are not the program's and stay; a change that gives no
    instruction at all is none.
    """
    labels = [block.label for block in function.blocks] if function is not None else []
    seen = {program}
    for at, insn in enumerate(program):
        for changed in (*_bit_changes(insn), *_field_changes(insn, labels)):
            yield from _fresh((*program[:at], changed, *program[at + 1 :]), seen)
        yield from _fresh((*program[:at], *program[at + 1 :]), seen)
        yield from _fresh((*program[: at + 1], *program[at:]), seen)
        if at + 1 < len(program):
            yield from _fresh((*program[:at], program[at + 1], insn, *program[at + 2 :]), seen)


def _fresh(program: Program, seen: set[Program]) -> Iterator[Program]:
    """The program, unless it was there or goes on behind an instruction that ends a block."""
    if program not in seen and not any(insn.row.is_block_end for insn in program[:-1]):
        seen.add(program)
        yield program


def _bit_changes(insn: Insn) -> Iterator[Insn]:
    code = encode(insn, "little", _STAND_IN if insn.ref is not None else None)
    for bit in range(8 * len(code)):
        data = bytearray(code)
        data[bit // 8] ^= 1 << bit % 8
        slot = read_slot(bytes(data), ByteOffset(0), "little")
        row = row_of(slot)
        if isinstance(row, str) or row.slots != insn.slots:
            continue
        high = read_slot(bytes(data), ByteOffset(8), "little") if row.slots == 2 else None
        if high is not None and (high.code, high.dst, high.src, high.off) != (0, 0, 0, 0):
            continue
        changed = decode_slot(slot, row, high)
        if insn.ref is None:
            if "target" not in row.uses:  # a branch to nowhere in particular
                yield changed
        elif _holds_a_symbol_alike(insn, changed):
            yield replace(changed, ref=insn.ref, imm=insn.imm if insn.kind is not Kind.BRANCH else changed.imm)


def _holds_a_symbol_alike(insn: Insn, changed: Insn) -> bool:
    """Is the symbol still in the same place, and meant the same way, so that only other fields have changed?"""
    if changed.row.kind is not insn.row.kind or changed.row.uses != insn.row.uses:
        return False
    if insn.kind is Kind.LOAD_WIDE:
        return changed.row is insn.row and changed.imm == insn.imm
    if insn.kind is Kind.CALL:
        return changed.row is insn.row and changed.imm == insn.imm
    return True


def _field_changes(insn: Insn, labels: list[str]) -> Iterator[Insn]:
    yield from _row_changes(insn)
    yield from _register_changes(insn)
    yield from _number_changes(insn)
    yield from _symbol_changes(insn, labels)


def _row_changes(insn: Insn) -> Iterator[Insn]:
    row = insn.row
    for other in ROWS:
        if other is not row and other.kind is row.kind and other.uses == row.uses and insn.kind is not Kind.LOAD_WIDE:
            yield replace(insn, row=other)


def _register_changes(insn: Insn) -> Iterator[Insn]:
    for number in range(REGISTER_COUNT):
        if "dst" in insn.row.uses and number != insn.dst:
            yield replace(insn, dst=number)
        if "src" in insn.row.uses and number != insn.src:
            yield replace(insn, src=number)


def _number_changes(insn: Insn) -> Iterator[Insn]:
    if "off" in insn.row.uses:
        for step in (-8, -insn.row.size, -1, 1, insn.row.size, 8):
            if -(1 << 15) <= insn.off + step < 1 << 15:
                yield replace(insn, off=insn.off + step)
    if "imm" in insn.row.uses and (insn.ref is None or insn.kind is Kind.BRANCH):
        low, limit = (0, 1 << 64) if insn.kind is Kind.LOAD_WIDE else (-(1 << 31), 1 << 31)
        for number in (*_NUMBERS, insn.imm + 1, insn.imm - 1, -insn.imm):
            if low <= number < limit:
                yield replace(insn, imm=number)


def _symbol_changes(insn: Insn, labels: list[str]) -> Iterator[Insn]:
    ref = insn.ref
    if ref is not None and ref.kind is RefKind.LABEL:
        yield from (replace(insn, ref=replace(ref, name=name)) for name in labels if name != ref.name)
    elif ref is not None and ref.kind is RefKind.DATA:
        yield replace(insn, ref=replace(ref, addend=ref.addend + 1))

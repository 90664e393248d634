"""Registers that an instruction reads and writes, and how to rename them: derived from the fields of its row."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import Kind, Operand

CALLER_SAVED: Final = frozenset(range(6))
_FRESH_DST: Final = frozenset({Kind.LOAD, Kind.LOAD_ACQUIRE, Kind.LOAD_WIDE, Kind.CAST})
_NO_WRITE: Final = frozenset({Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE, Kind.BRANCH, Kind.JUMP, Kind.MAY_GOTO})
_OPAQUE: Final = frozenset({Kind.LEGACY_LOAD, Kind.CALL, Kind.EXIT})


def reads_dst(insn: Insn) -> bool:
    """Is the dst field a source too (two-address ALU, base of a store, left side of a branch)?"""
    if "dst" not in insn.row.uses or insn.kind in _FRESH_DST:
        return False
    return not (insn.kind is Kind.ALU and insn.row.op.startswith("mov"))


def reads_src(insn: Insn) -> bool:
    return "src" in insn.row.uses


def explicit_reads(insn: Insn) -> frozenset[int]:
    """Registers that the instruction's own fields read; calls and exits read more (see `BlockView.reads`)."""
    found = set()
    if reads_dst(insn):
        found.add(insn.dst)
    if reads_src(insn):
        found.add(insn.src)
    return frozenset(found)


def writes_dst(insn: Insn) -> bool:
    return "dst" in insn.row.uses and insn.kind not in _NO_WRITE and insn.kind is not Kind.ATOMIC


def writes(insn: Insn) -> frozenset[int]:
    """Registers that the instruction may change; a call leaves r1 to r5 without a value."""
    if insn.kind in (Kind.CALL, Kind.LEGACY_LOAD):
        return CALLER_SAVED
    if insn.kind is Kind.ATOMIC:
        if insn.row.op == "cmpxchg":
            return frozenset({0})
        return frozenset({insn.src}) if insn.row.fetch else frozenset()
    return frozenset({insn.dst}) if writes_dst(insn) else frozenset()


def is_opaque(insn: Insn) -> bool:
    """Does it read or write registers that are not among its fields?"""
    return insn.kind in _OPAQUE or (insn.kind is Kind.ATOMIC and insn.row.op == "cmpxchg")


def is_plain_move(insn: Insn) -> bool:
    return insn.kind is Kind.ALU and insn.row.op == "mov" and insn.row.operand is Operand.REG


def renamed(insn: Insn, old: int, new: int) -> Insn:
    """The instruction with register `old` replaced by `new` in every field that names a register."""
    dst = new if "dst" in insn.row.uses and insn.dst == old else insn.dst
    src = new if "src" in insn.row.uses and insn.src == old else insn.src
    return insn if (dst, src) == (insn.dst, insn.src) else replace(insn, dst=dst, src=src)


def base_register(insn: Insn) -> int:
    """The register that holds a memory access's address before `off` is added."""
    return insn.src if insn.kind in (Kind.LOAD, Kind.LOAD_ACQUIRE) else insn.dst


def is_frame_pointer(reg: int) -> bool:
    return reg == FRAME_POINTER

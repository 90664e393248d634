"""Operands of two-address instructions and of comparisons: whichever of them is free takes the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from synth.webs.form import FIRST_WEB, Form, Line, Piece, live_after, liveness
from synth.webs.setting import Setting
from verifier_model.bpf.isa import Kind, Operand

_COMMUTATIVE: Final = frozenset({"add", "and", "or", "xor", "mul"})
_EQUALITIES: Final = frozenset({"jeq", "jne"})


def commute(form: Form, setting: Setting) -> Iterator[Form]:
    """`r3 = r6; r3 += r2` with r2 dead behind as `r2 += r6`: the other operand's register takes the result."""
    live = liveness(form)
    for number, piece in enumerate(form.pieces):
        after = live_after(piece, live)
        for at, line in enumerate(piece.lines):
            insn = line.insn
            if insn.row.op not in _COMMUTATIVE or insn.row.operand is not Operand.REG or insn.is_pinned:
                continue
            if insn.kind is not Kind.ALU or insn.src < FIRST_WEB or insn.src == insn.dst:
                continue
            copy = _copy_before(piece, at, insn.dst)
            if copy is None or piece.lines[copy].insn.row.width < insn.row.width:
                continue
            other = piece.lines[copy].insn.src
            if after[at] >> insn.src & 1:
                continue
            if _is_written(piece, copy, at, insn.src) or _is_written(piece, copy, at, other):
                continue
            result = form.copy()
            lines = result.pieces[number].lines
            lines[copy] = replace(lines[copy], insn=replace(lines[copy].insn, src=insn.src))
            lines[at] = replace(line, insn=replace(insn, src=other))
            yield result


def _copy_before(piece: Piece, at: int, web: int) -> int | None:
    """The copy into the web that nothing but the line `at` looks at in between."""
    for index in range(at - 1, -1, -1):
        line = piece.lines[index]
        if web in line.defs:
            return index if line.is_copy and line.insn.dst == web else None
        if web in line.uses:
            return None
    return None


def _is_written(piece: Piece, first: int, last: int, web: int) -> bool:
    return any(web in line.defs for line in piece.lines[first + 1 : last])


def compare_unswapped(form: Form, setting: Setting) -> Iterator[Form]:
    """`r3 = be16 r3; if w3 == 0x800` as `if w3 == 0x8`, where all readers compare with numbers."""
    sites, uses = form.definitions(), form.uses()
    for number, piece in enumerate(form.pieces):
        for at, line in enumerate(piece.lines):
            insn = line.insn
            if insn.kind is not Kind.ENDIAN or insn.dst < FIRST_WEB or len(sites[insn.dst]) != 2:
                continue
            copy = _copy_before(piece, at, insn.dst)
            width = insn.row.width
            if copy is None or width > 32 or not _swaps(setting, insn.row.op):
                continue
            if not (_is_short(setting, line, width) or _is_loaded(form, sites, piece.lines[copy].insn.src, width)):
                continue
            readers = [place for place in uses[insn.dst] if place != (piece, at)]
            turned = {(p.label, k): _turned(p.lines[k], insn.dst, width) for p, k in readers}
            if not turned or any(new is None for new in turned.values()):
                continue
            result = form.copy()
            for other in result.pieces:
                other.lines = [turned.get((other.label, k)) or old for k, old in enumerate(other.lines)]
            del result.pieces[number].lines[at]
            yield result


def _is_short(setting: Setting, line: Line, width: int) -> bool:
    """Is the number that is swapped known to have no bits above its width?"""
    if line.point is None:
        return False
    original = setting.function.block(line.point.label).insns[line.point.at]
    fact = setting.facts.before(line.point).regs[original.dst]
    return fact.is_scalar and fact.value.umax < 1 << width


def _is_loaded(form: Form, sites: dict[int, list[tuple[Piece, int]]], web: int, width: int) -> bool:
    """Does every definition of the web load no more than so many bits?"""
    lines = [piece.lines[at] for piece, at in sites.get(web, ())]
    while lines and all(line.is_copy and line.insn.src >= FIRST_WEB for line in lines):
        lines = [piece.lines[at] for line in lines for piece, at in sites.get(line.insn.src, ())]
    return bool(lines) and all(
        line.insn.kind is Kind.LOAD and not line.insn.row.sign and line.insn.row.width <= width for line in lines
    )


def _swaps(setting: Setting, op: str) -> bool:
    return op == "bswap" or op == ("be" if setting.unit.byte_order == "little" else "le")


def _turned(line: Line, web: int, width: int) -> Line | None:
    """The comparison with the number's bytes in the other order."""
    insn = line.insn
    if insn.kind is not Kind.BRANCH or insn.row.op not in _EQUALITIES or insn.row.operand is not Operand.IMM:
        return None
    number = insn.imm & ((1 << insn.row.width) - 1)
    if insn.dst != web or insn.is_pinned or number >> width:
        return None
    imm = int.from_bytes(number.to_bytes(width // 8, "little"), "big")
    if imm >> 31 and insn.row.width == 64:
        return None
    return replace(line, insn=replace(insn, imm=imm - (1 << 32) if imm >> 31 else imm))

"""Rotations of 32-bit numbers on 64-bit registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from synth.passes.block_view import BlockView, Line
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import make

_JOINING = ("or32_reg", "add32_reg", "xor32_reg")


class Half(NamedTuple):
    """`w_reg = w_source; w_reg <<= distance` (or `>>=`), at these two places."""

    move: int
    shift: int
    source: int
    distance: int


def rotate(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`w5 = w4; w5 >>= 25; w2 = w4; w2 <<= 7; w2 |= w5` as `r2 = r4; r2 <<= 32; r2 |= r4; r2 >>= 25`.

    The number's upper half must be zero, and nobody may look at the result's.
    """
    for index, insn in enumerate(view.insns):
        if insn.row.name not in _JOINING or insn.dst == insn.src or view.is_frozen(index):
            continue
        demand = view.demand_after(index)
        if demand.regs[insn.dst] >> 32 or demand.is_live(insn.src):
            continue
        left, right = _half(view, index, insn.dst), _half(view, index, insn.src)
        if left is None or right is None:
            continue
        names = {view.insns[left.shift].row.name, view.insns[right.shift].row.name}
        if names != {"lsh32_imm", "rsh32_imm"} or left.distance + right.distance != 32:
            continue
        number = view.value(left.move, left.source)
        if number != view.value(right.move, right.source) or number != view.value(index, left.source):
            continue
        if any(number[4:]) or left.source in (insn.dst, insn.src):
            continue
        count = right.distance if view.insns[right.shift].row.op == "rsh" else left.distance
        dst, source = insn.dst, left.source
        lines = (
            Line(make("mov64_reg", dst=dst, src=source), None),
            Line(make("lsh64_imm", dst=dst, imm=32), None),
            Line(make("or64_reg", dst=dst, src=source), None),
            Line(make("rsh64_imm", dst=dst, imm=count), None),
        )
        changes: dict[int, tuple[Line, ...]] = dict.fromkeys((*left[:2], *right[:2]), ())
        rewrite = view.finish(view.draft({**changes, index: lines}), "rotate", "a rotation on 64 bits")
        if rewrite is not None:
            yield rewrite


def _half(view: BlockView, index: int, reg: int) -> Half | None:
    shift = _last_writer(view, index, reg)
    if shift is None or view.insns[shift].row.name not in ("lsh32_imm", "rsh32_imm"):
        return None
    move = _last_writer(view, shift, reg)
    if move is None or view.insns[move].row.name not in ("mov32_reg", "mov64_reg"):
        return None
    if view.is_frozen(shift) or view.is_frozen(move):
        return None
    return Half(move, shift, view.insns[move].src, view.insns[shift].imm)


def _last_writer(view: BlockView, index: int, reg: int) -> int | None:
    """The instruction that gave `reg` its value, when nobody else looks at it before `index`."""
    for at in range(index - 1, -1, -1):
        if reg in view.writes(at):
            return at
        if reg in view.reads(at):
            return None
    return None

"""Masks that cost a wide load, as shifts: of adjacent bits, with or without a shift behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from synth.passes.block_view import BlockView, Line
from synth.passes.bytewise import constant_of
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import make
from verifier_model.bpf.isa import BY_NAME

_LOW: Final = (1 << 32) - 1


def shifts_for_mask(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r2 = 0xf0000000 ll; r1 &= r2; r1 >>= 28` as `r1 <<= 32; r1 >>= 60`, or `w1 >>= 28` where that is allowed."""
    for index, insn in enumerate(view.insns):
        if insn.row.name not in ("and64_reg", "and32_reg") or view.is_frozen(index):
            continue
        mask = constant_of(view.value(index, insn.src))
        if mask is None or not mask or insn.src == insn.dst:
            continue
        if insn.row.width == 32:
            mask &= _LOW
        low, high = (mask & -mask).bit_length() - 1, mask.bit_length()
        if mask != (1 << high) - (1 << low):
            continue
        behind = _shift_behind(view, index, insn.dst)
        ways: list[tuple[int, dict[int, tuple[Line, ...]]]] = [(0, {index: ()})]
        if behind is not None:
            ways.insert(0, (behind[1], {index: (), behind[0]: ()}))
        for count, changes in ways:
            rewrite = _rewritten(view, insn.dst, low, high, count, changes)
            if rewrite is not None:
                yield rewrite
                break


def _shift_behind(view: BlockView, index: int, reg: int) -> tuple[int, int] | None:
    """The shift to the right that is the next to look at the register, and by how much."""
    for at in range(index + 1, len(view.insns)):
        insn = view.insns[at]
        if reg in view.reads(at) | view.writes(at):
            is_shift = insn.row.name == "rsh64_imm" and insn.dst == reg and not view.is_frozen(at)
            return (at, insn.imm) if is_shift else None
    return None


def _rewritten(
    view: BlockView, reg: int, low: int, high: int, count: int, changes: dict[int, tuple[Line, ...]]
) -> Rewrite | None:
    """Bits [low, high) of the register moved down by `count`."""
    if count < low:
        return None
    last = max(changes)
    has_alu32 = view.unit.cpu_level >= BY_NAME["rsh32_imm"].level
    if high == 64:
        names = [make("rsh64_imm", dst=reg, imm=count)]
    elif high == 32 and has_alu32:
        names = [make("rsh32_imm", dst=reg, imm=count) if count else make("mov32_reg", dst=reg, src=reg)]
    else:
        names = [make("lsh64_imm", dst=reg, imm=64 - high), make("rsh64_imm", dst=reg, imm=64 - high + count)]
    draft = view.draft({**changes, last: tuple(Line(insn, None) for insn in names)})
    return view.finish(draft, "shifts-for-mask", "shifts need no number that takes a wide load")

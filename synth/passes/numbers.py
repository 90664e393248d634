"""Numbers of 64 bits that are not worth two slots: what they are there for can be said shorter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from synth.passes.block_view import BlockView, Line
from synth.passes.bytewise import constant_of
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import Insn, make
from verifier_model.bpf.isa import BY_NAME, Kind, Operand

_TOP: Final = 1 << 31
_LOW_ONES: Final = (1 << 32) - 1
_TESTS: Final = {"jne": ("jslt", "jset"), "jeq": ("jsge", "")}


def branch_on_mask(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 = 0x80000000 ll; r1 &= r0; if r1 != 0` as `if w0 s< 0`; other masks of the low half as `if w0 & mask`."""
    last = len(view.insns) - 1
    branch = view.insns[last]
    if branch.kind is not Kind.BRANCH or branch.row.operand is not Operand.IMM or view.is_frozen(last):
        return
    if branch.row.op not in _TESTS or branch.imm != 0 or view.demand_after(last).is_live(branch.dst):
        return
    at = _writer(view, last, branch.dst)
    if at is None or view.insns[at].row.name != "and64_reg":
        return
    insn = view.insns[at]
    for source, mask in ((insn.src, insn.dst), (insn.dst, insn.src)):
        number = constant_of(view.value(at, mask))
        if number is None or not _TOP <= number <= _LOW_ONES or source == mask:
            continue
        yield from _tested(view, at, source, number)


def _tested(view: BlockView, at: int, source: int, number: int) -> Iterator[Rewrite]:
    last = len(view.insns) - 1
    branch, insn = view.insns[last], view.insns[at]
    signed, masked = _TESTS[branch.row.op]
    is_kept = not any(source in view.writes(k) for k in range(at, last))
    tested = source if is_kept else insn.dst
    lines = [] if tested == source else [Line(make("mov64_reg", dst=tested, src=source), None)]
    if view.unit.cpu_level >= BY_NAME["jslt32_imm"].level:
        if number == _TOP:
            short = replace(branch, row=BY_NAME[f"{signed}32_imm"], dst=tested)
        elif masked:
            short = replace(branch, row=BY_NAME["jset32_imm"], dst=tested, imm=number - (1 << 32))
        else:
            return
    elif number == _TOP:
        lines = [] if insn.dst == source else [Line(make("mov64_reg", dst=insn.dst, src=source), None)]
        lines.append(Line(make("lsh64_imm", dst=insn.dst, imm=32), None))
        short = replace(branch, row=BY_NAME[f"{signed}64_imm"])
    else:
        return
    draft = view.draft({at: tuple(lines), last: (Line(short, None),)})
    rewrite = view.finish(draft, "test-of-mask", "the branch can test the bits itself")
    if rewrite is not None:
        yield rewrite


def low_ones(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r3 <<= 32; r2 = 0xffffffff ll; r3 |= r2` as `r3 += 1; r3 <<= 32; r3 += -1`."""
    for at, insn in enumerate(view.insns):
        if insn.row.name not in ("or64_reg", "add64_reg", "xor64_reg") or view.is_frozen(at) or insn.src == insn.dst:
            continue
        for moved, ones in ((insn.dst, insn.src), (insn.src, insn.dst)):
            if constant_of(view.value(at, ones)) != _LOW_ONES:
                continue
            shift = _writer(view, at, moved)
            if shift is None or not _is_shift(view.insns[shift]) or view.is_frozen(shift):
                continue
            if any(moved in view.reads(k) for k in range(shift + 1, at)):
                continue
            if moved == insn.src and view.demand_after(at).is_live(moved):
                continue
            lines = [Line(make("add64_imm", dst=moved, imm=-1), None)]
            if moved == insn.src:
                lines = [Line(make("mov64_reg", dst=insn.dst, src=moved), None), *lines]
                lines[-1] = Line(make("add64_imm", dst=insn.dst, imm=-1), None)
            first = (Line(make("add64_imm", dst=moved, imm=1), None), view.line(shift))
            draft = view.draft({shift: first, at: tuple(lines)})
            rewrite = view.finish(draft, "low-ones", "32 ones below a number are the next number less one")
            if rewrite is not None:
                yield rewrite


def _is_shift(insn: Insn) -> bool:
    return insn.row.name == "lsh64_imm" and insn.imm == 32


def _writer(view: BlockView, index: int, reg: int) -> int | None:
    """The instruction in front of `index` that gave `reg` its value; None where it came into the block or must stay."""
    for at in range(index - 1, -1, -1):
        if reg in view.writes(at):
            return None if view.is_frozen(at) else at
    return None


def short_constant(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r2 = 0xffffffff ll` as `w2 = -1`: a move of 32 bits clears the others."""
    if view.unit.cpu_level < BY_NAME["mov32_imm"].level:
        return
    for at, insn in enumerate(view.insns):
        if insn.kind is not Kind.LOAD_WIDE or insn.ref is not None or view.is_frozen(at) or insn.imm > _LOW_ONES:
            continue
        imm = (insn.imm ^ _TOP) - _TOP
        line = Line(make("mov32_imm", dst=insn.dst, imm=imm), None)
        rewrite = view.finish(view.draft({at: (line,)}), "short-constant", "a move of 32 bits clears the others")
        if rewrite is not None:
            yield rewrite

"""Branches that can test what the instruction in front of them computes only for their sake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from synth.passes.block_view import BlockView, Line
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import BY_NAME, Kind, Operand


def test_bits(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 &= 5; if r1 != 0` as `if r1 & 5`; `r1 >>= 3; if r1 == 0` as `if r1 < 8`: r1 itself must be dead behind."""
    last = len(view.insns) - 1
    branch = view.insns[last]
    if branch.kind is not Kind.BRANCH or branch.row.operand is not Operand.IMM or view.is_frozen(last):
        return
    if view.demand_after(last).is_live(branch.dst):
        return
    at = _definition(view, last, branch.dst)
    if at is None or view.is_frozen(at):
        return
    combined = _combined(view.insns[at], branch)
    if combined is None or combined.row.level > max(view.unit.cpu_level, branch.row.level):
        return
    draft = view.draft({at: (), last: (Line(combined, None),)})
    rewrite = view.finish(draft, "test-bits", "the branch can test the bits itself")
    if rewrite is not None:
        yield rewrite


def _definition(view: BlockView, last: int, reg: int) -> int | None:
    """The instruction that gave `reg` its last value, when nothing between it and the branch looks at it."""
    for index in range(last - 1, -1, -1):
        if reg in view.writes(index):
            return index
        if reg in view.reads(index):
            return None
    return None


def _combined(insn: Insn, branch: Insn) -> Insn | None:
    if insn.kind is not Kind.ALU or insn.row.operand is not Operand.IMM or insn.dst != branch.dst:
        return None
    width = min(insn.row.width, branch.row.width)
    if insn.row.op == "and":
        return _masked(insn, branch, width)
    if insn.row.op == "rsh" and (insn.row.width == branch.row.width or insn.row.width == 32):
        return _shifted(insn, branch)
    return None


def _masked(insn: Insn, branch: Insn, width: int) -> Insn | None:
    if branch.row.op != "jne" or branch.imm != 0:
        return None
    return replace(branch, row=BY_NAME[f"jset{width}_imm"], imm=insn.imm)


def _shifted(insn: Insn, branch: Insn) -> Insn | None:
    """The comparison of the unshifted register; an immediate must stay below the sign bit."""
    width, count = insn.row.width, insn.imm
    if branch.row.op == "jset":
        mask = branch.imm << count
        is_whole = branch.imm > 0 and mask < 1 << 31
        return replace(branch, row=BY_NAME[f"jset{width}_imm"], imm=mask) if is_whole else None
    if branch.imm != 0 or not 0 < count < 31:
        return None
    if branch.row.op == "jeq":
        return replace(branch, row=BY_NAME[f"jlt{width}_imm"], imm=1 << count)
    if branch.row.op == "jne":
        return replace(branch, row=BY_NAME[f"jgt{width}_imm"], imm=(1 << count) - 1)
    return None

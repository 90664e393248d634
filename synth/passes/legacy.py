"""Indirect packet loads (BPF_LD | BPF_IND): the instruction adds a number itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from synth.passes.block_view import BlockView, Line
from synth.passes.operands import is_plain_move
from synth.passes.places import INT32
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.isa import Kind


def fold_into_packet_load(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 = r8; r1 += 12; r0 = *(u32 *)skb[r1 + 0]` as `r0 = *(u32 *)skb[r8 + 12]`."""
    for index, insn in enumerate(view.insns):
        if insn.kind is not Kind.LEGACY_LOAD or "src" not in insn.row.uses or view.is_frozen(index):
            continue
        changes = _changes(view, index)
        if changes is None:
            continue
        rewrite = view.finish(view.draft(changes), "packet-offset", "the load adds the number itself")
        if rewrite is not None:
            yield rewrite


def _changes(view: BlockView, index: int) -> dict[int, tuple[Line, ...]] | None:
    """What the load needs no more, and the load with the number in it."""
    insn = view.insns[index]
    at = _writer(view, index, insn.src)
    if at is None or view.insns[at].row.name != "add64_imm":
        return None
    imm = insn.imm + view.insns[at].imm
    if imm not in INT32:
        return None
    copy = _writer(view, at, insn.src)
    if copy is not None and is_plain_move(view.insns[copy]) and view.insns[copy].row.width == 64:
        source = view.insns[copy].src
        if not any(source in view.writes(k) for k in range(copy, index)):
            return {index: (view.line(index)._replace(insn=replace(insn, src=source, imm=imm)),)}
    is_needed = view.demand_after(index).is_live(insn.src) and insn.src not in view.writes(index)
    if is_needed or any(insn.src in view.reads(k) for k in range(at + 1, index)):
        return None
    return {at: (), index: (view.line(index)._replace(insn=replace(insn, imm=imm)),)}


def _writer(view: BlockView, index: int, reg: int) -> int | None:
    """The instruction in front of `index` that gave `reg` its value; None where it came into the block or must stay."""
    for at in range(index - 1, -1, -1):
        if reg in view.writes(at):
            return None if view.is_frozen(at) else at
    return None

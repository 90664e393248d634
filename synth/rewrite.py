"""A rewrite: instructions picked in one block and what should stand there instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

from verifier_model.bpf.insn import Insn, LineRecord
from verifier_model.bpf.unit import Block, Function


@dataclass(frozen=True, slots=True)
class Window:
    """The run of instructions [start, stop) of the block `label`, counted in instructions."""

    label: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A proposal: replace the window by `after`.

    `proposer` names the rule, pass or search and its seed ("pass:store-immediate", "enumerate", "stochastic:seed=7");
    `why` is one plain sentence for the report.
    """

    window: Window
    before: tuple[Insn, ...]
    after: tuple[Insn, ...]
    proposer: str
    why: str

    @property
    def slots_saved(self) -> int:
        return sum(insn.slots for insn in self.before) - sum(insn.slots for insn in self.after)


def apply(function: Function, rewrite: Rewrite) -> Function:
    """The function with the rewrite in place; raises ValueError when the window no longer holds `before`.

    Line records are taken as they stand now: an earlier rewrite may have handed the window one.
    """
    block = function.block(rewrite.window.label)
    start, stop = rewrite.window.start, rewrite.window.stop
    present = block.insns[start:stop]
    if not _same_code(present, rewrite.before):
        raise ValueError(f"the window {rewrite.window} no longer holds the instructions of {rewrite.proposer}")
    middle, pending = carry_records(present, rewrite.after)
    insns = list(block.insns[:start] + middle + block.insns[stop:])
    function = function.with_block(Block(block.label, tuple(insns)))
    if pending is None:
        return function
    return _place_record(function, rewrite.window.label, start + len(middle), pending)


def carry_records(before: tuple[Insn, ...], after: tuple[Insn, ...]) -> tuple[tuple[Insn, ...], LineRecord | None]:
    """`after` with the line records of `before`, and the record that the instruction behind it needs.

    A line record holds until the next one (.BTF.ext), so a record whose instruction goes away moves to the next
    survivor.  Kept instructions are the longest common prefix and suffix; in between the i-th new instruction takes
    the record of the i-th old one, and the last record left over is handed on.
    """
    head, tail = kept(before, after)
    old = before[head : len(before) - tail]
    new = [replace(insn, origin=replace(insn.origin, line=None)) for insn in after[head : len(after) - tail]]
    pending: LineRecord | None = None
    for index, insn in enumerate(old):
        if insn.origin.line is not None:
            pending = insn.origin.line
        if index < len(new) and pending is not None:
            new[index] = replace(new[index], origin=replace(new[index].origin, line=pending))
            pending = None
    kept_tail = list(before[len(before) - tail :])
    if kept_tail and pending is not None:
        if kept_tail[0].origin.line is None:
            kept_tail[0] = replace(kept_tail[0], origin=replace(kept_tail[0].origin, line=pending))
        pending = None
    return (*before[:head], *new, *kept_tail), pending


def kept(before: tuple[Insn, ...], after: tuple[Insn, ...]) -> tuple[int, int]:
    """How many instructions at the start and at the end are the same, line records apart."""
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and _same(before[head], after[head]):
        head += 1
    tail = 0
    while tail < shorter - head and _same(before[-1 - tail], after[-1 - tail]):
        tail += 1
    return head, tail


def _same_code(a: tuple[Insn, ...], b: tuple[Insn, ...]) -> bool:
    """Are these the same instructions, line records apart?"""
    return len(a) == len(b) and all(_same(*pair) for pair in zip(a, b, strict=True))


def _same(a: Insn, b: Insn) -> bool:
    return a.without_origin() == b.without_origin() and a.origin.core == b.origin.core


def _place_record(function: Function, label: str, index: int, line: LineRecord) -> Function:
    """Give `line` to the first instruction at or after the point in layout order, unless it has a record."""
    reached = False
    for block in function.blocks:
        if block.label == label:
            reached = True
        elif not reached:
            continue
        at = index if block.label == label else 0
        if at < len(block.insns):
            insn = block.insns[at]
            if insn.origin.line is not None:
                return function
            marked = replace(insn, origin=replace(insn.origin, line=line))
            return function.with_block(Block(block.label, (*block.insns[:at], marked, *block.insns[at + 1 :])))
    return function

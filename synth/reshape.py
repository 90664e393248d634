"""A proposal about a whole function: other blocks, another layout, other registers, for one and the same behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from synth.rewrite import Rewrite, kept
from synth.settings import Settings
from verifier_model.bpf.insn import Insn, LineRecord
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.facts import Facts
from verifier_model.verdict import CutPoint


@dataclass(frozen=True, slots=True)
class Reshape:
    """A proposal: let `blocks` stand for the function's blocks `old`, both without line records.

    `cuts` is the relation that the proposer believes in, None where the prover is to guess one.  `proposer` and `why`
    are as in `synth.rewrite.Rewrite`; so are `before`, `after` and `slots_saved`, for the report.
    """

    old: tuple[Block, ...]
    blocks: tuple[Block, ...]
    proposer: str
    why: str
    cuts: tuple[CutPoint, ...] | None = None

    @property
    def before(self) -> tuple[Insn, ...]:
        return tuple(insn for block in self.old for insn in block.insns)

    @property
    def after(self) -> tuple[Insn, ...]:
        return tuple(insn for block in self.blocks for insn in block.insns)

    @property
    def slots_saved(self) -> int:
        return sum(block.slots for block in self.old) - sum(block.slots for block in self.blocks)


Change = Rewrite | Reshape
Reshaper = Callable[[Function, Facts, Unit, Settings], Iterator[Reshape]]


def plain_blocks(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The blocks without line records, as a proposal and a certificate name them."""
    return tuple(Block(block.label, tuple(_plain(insn) for insn in block.insns)) for block in blocks)


def _plain(insn: Insn) -> Insn:
    return insn if insn.origin.line is None else replace(insn, origin=replace(insn.origin, line=None))


def reshape(function: Function, proposal: Reshape) -> Function:
    """The function with the proposal in place; raises ValueError when it no longer holds `old`.

    Instructions keep the line that held at them: in a block that keeps its label where they are the same, elsewhere
    that of the first such instruction of the old function.
    """
    if plain_blocks(function.blocks) != proposal.old:
        raise ValueError(f"the function is no longer the one that {proposal.proposer} was about")
    lined = _with_every_line(function)
    known = {block.label: block.insns for block in lined.blocks}
    lines: dict[Insn, LineRecord | None] = {}
    for _, insn in lined.insns():
        lines.setdefault(_plain(insn), insn.origin.line)
    blocks = []
    current: LineRecord | None = None
    for block in proposal.blocks:
        insns: list[Insn] = []
        before = known.get(block.label, ())
        head, tail = kept(before, block.insns)
        for at, insn in enumerate(block.insns):
            line = lines.get(insn)
            if at < head:
                line = before[at].origin.line
            elif at >= len(block.insns) - tail:
                line = before[at - len(block.insns)].origin.line
            insns.append(_plain(insn) if line == current else replace(insn, origin=replace(insn.origin, line=line)))
            current = line or current
        blocks.append(Block(block.label, tuple(insns)))
    return replace(function, blocks=tuple(blocks), is_reshaped=True)


def _with_every_line(function: Function) -> Function:
    """Every instruction with the record that holds at it (a record holds until the next one, .BTF.ext)."""
    line: LineRecord | None = None
    blocks = []
    for block in function.blocks:
        insns = []
        for insn in block.insns:
            line = insn.origin.line or line
            insns.append(replace(insn, origin=replace(insn.origin, line=line)))
        blocks.append(Block(block.label, tuple(insns)))
    return replace(function, blocks=tuple(blocks))

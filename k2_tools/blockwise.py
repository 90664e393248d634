"""One function turned into another block by block, each step proved on the program that it is applied to.

Blocks are paired by the shape of the two control-flow graphs.  The last program refines the first because every step
does; where it is the second function too, that one is proved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from synth.certificate import question
from synth.composition import reads_no_more
from synth.pipeline import Step
from synth.rewrite import Rewrite, Window, apply
from verifier_model.bpf.flow import falls_through, successors
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.facts import analyse
from verifier_model.prover import DEFAULT, Limits, prove

Wanted = dict[str, tuple[Insn, ...]]  # what should stand in each block
Paired = dict[str, str | None]  # block of the first -> block of the second, None where nothing is left of it


@dataclass(frozen=True, slots=True)
class Progress:
    """`function`: the first with some of its blocks replaced by `steps`; `is_whole`: it is the second now."""

    function: Function
    steps: tuple[Step, ...]
    is_whole: bool


def turned(unit: Unit, before: Function, after: Function, limits: Limits = DEFAULT) -> Progress:
    """As much of `after` as can be reached from `before`, a function of `unit`, by proved replacements of blocks."""
    pairs = paired(before, after)
    if pairs is None:
        return Progress(before, (), False)
    wanted = {label: _wanted(label, before, after, pairs) for label in pairs}
    current, steps = before, list[Step]()
    while changed := _round(unit, current, wanted, len(steps), limits):
        current = changed[-1].function
        steps += changed
    return Progress(current, tuple(steps), _agrees(current, wanted))


def agrees(before: Function, current: Function, after: Function) -> bool:
    """Is `current`, which is `before` with other instructions in its blocks, the function `after`?"""
    pairs = paired(before, after)
    return pairs is not None and _agrees(current, {label: _wanted(label, before, after, pairs) for label in pairs})


def _agrees(current: Function, wanted: Wanted) -> bool:
    return not any(_is_open(current.block(label), insns) for label, insns in wanted.items())


def _round(unit: Unit, current: Function, wanted: Wanted, basis: int, limits: Limits) -> list[Step]:
    """The replacements that are proved under the facts of `current` and can stand with each other."""
    facts = analyse(unit.with_function(current), current)
    made: list[Step] = []
    for label, insns in wanted.items():
        block = current.block(label)
        if not _is_open(block, insns) or not block.insns:
            continue
        rewrite = Rewrite(
            Window(label, 0, len(block.insns)), block.insns, insns, "block", "as the second object has it"
        )
        verdict = prove(question(facts, rewrite), limits)
        if not verdict.is_proved:
            continue
        if reads_no_more(rewrite, facts):
            after = apply(made[-1].function if made else current, rewrite)
            made.append(Step(rewrite, verdict.method, after, basis))
        elif not made:
            return [Step(rewrite, verdict.method, apply(current, rewrite), basis)]
    return made


def _is_open(block: Block, insns: tuple[Insn, ...]) -> bool:
    return [_plain(insn) for insn in block.insns] != [_plain(insn) for insn in insns]


def _plain(insn: Insn) -> Insn:
    """The instruction without what only rides along; symbols by their name."""
    plain = replace(insn, origin=replace(insn.origin, line=None))
    return plain if insn.ref is None else replace(plain, ref=replace(insn.ref, symbol=-1, relocation=-1))


# ---- pairs of blocks ----


@dataclass
class _Walk:
    """Both graphs from their entries, in step; `pairs` grows, nothing in it is taken back."""

    before: Function
    after: Function
    pairs: Paired = field(default_factory=dict)
    partners: dict[str, str] = field(default_factory=dict)

    def run(self) -> bool:
        """Do the shapes fit, but for blocks of which nothing is left?"""
        blocks = ({b.label: b for b in self.before.blocks}, {b.label: b for b in self.after.blocks})
        edges = successors(self.before), successors(self.after)
        pending = [(self.before.blocks[0].label, self.after.blocks[0].label)]
        while pending:
            old, new = pending.pop()
            if old in self.pairs:
                if self.resolved(old, edges[0]) != new:
                    return False
                continue
            one, two = edges[0][old], edges[1][new]
            if _end(blocks[0][old]) == _end(blocks[1][new]) and len(one) == len(two) and new not in self.partners:
                self.pairs[old] = new
                self.partners[new] = old
                pending += zip(one, two, strict=True)
            elif len(one) == 1:
                self.pairs[old] = None
                pending.append((one[0], new))
            else:
                return False
        return True

    def resolved(self, label: str, edges: dict[str, tuple[str, ...]]) -> str | None:
        """The partner of a block, or of the first behind it that has one."""
        for _ in range(len(self.pairs)):
            if label not in self.pairs or self.pairs[label] is not None:
                break
            label = edges[label][0]
        return self.pairs.get(label)


def paired(before: Function, after: Function) -> Paired | None:
    """The pairs of all blocks that can be reached, None when the graphs do not fit."""
    walk = _Walk(before, after)
    return walk.pairs if walk.run() else None


def _end(block: Block) -> str:
    """How control leaves the block."""
    last = block.insns[-1].kind if block.insns else None
    if last in (Kind.BRANCH, Kind.MAY_GOTO, Kind.EXIT):
        return str(last)
    return "falls" if falls_through(block) else "jumps"


def _wanted(label: str, before: Function, after: Function, pairs: Paired) -> tuple[Insn, ...]:
    """What should stand in the block, with the labels of the first function."""
    partner = pairs[label]
    if partner is None:
        return ()
    insns = after.block(partner).insns
    old = before.block(label).insns
    if not insns or insns[-1].ref is None or insns[-1].ref.kind is not RefKind.LABEL:
        return insns
    target = old[-1].ref
    assert target is not None
    return (*insns[:-1], replace(insns[-1], ref=target))

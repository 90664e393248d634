"""Which instructions of a function were kept: a diff of old and new, block by block.

E. W. Myers, "An O(ND) difference algorithm and its variations" (1986), with a bound on D: where more than that differs
the middle of a block counts as rewritten as a whole, which loses detail and never tells a lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function

MOST_DIFFERENCES: Final = 400


@dataclass(frozen=True, slots=True)
class Stretch:
    """A block of the old function and what stands in its place: new blocks [first, stop), instructions as numbers.

    `kept` pairs instructions counted from the stretch's starts, ascending.  `is_straight`: the new code runs from its
    start to its end whenever it is entered, and nothing else jumps into it.
    """

    label: str
    old: tuple[Insn, ...]
    new: tuple[Insn, ...]
    kept: tuple[tuple[int, int], ...]
    is_straight: bool
    _spans: list[tuple[int, int, int, int, bool]] = field(default_factory=list, compare=False)

    @property
    def spans(self) -> Sequence[tuple[int, int, int, int, bool]]:
        """(i, j, k, m, is kept): old instructions [i, j) became new ones [k, m), in order; kept ones each alone."""
        if not self._spans:
            self._spans.extend(self._find_spans())
        return self._spans

    def _find_spans(self) -> Iterator[tuple[int, int, int, int, bool]]:
        at_old = at_new = 0
        for old, new in (*self.kept, (len(self.old), len(self.new))):
            if at_old < old or at_new < new:
                yield at_old, old, at_new, new, False
            if old < len(self.old):
                yield old, old + 1, new, new + 1, True
            at_old, at_new = old + 1, new + 1


def aligned(old: Function, new: Function) -> tuple[Stretch, ...]:
    """The stretches of the function in layout order; one without anything kept where the order of blocks changed."""
    known = {block.label for block in old.blocks}
    groups: dict[str, list[Block]] = {}
    group: list[Block] = []
    for block in new.blocks:
        if block.label in known:
            group = groups.setdefault(block.label, [])
        group.append(block)
    order = [block.label for block in old.blocks if block.label in groups]
    if order != list(groups) or new.blocks[0].label != old.blocks[0].label:
        everything = tuple(insn for _, insn in old.insns()), tuple(insn for _, insn in new.insns())
        return (Stretch(old.blocks[0].label, *everything, (), False),)
    entered = _entered(new)
    return tuple(_stretch(block, groups.get(block.label, []), entered) for block in old.blocks)


def _entered(function: Function) -> dict[str, int]:
    """How many branches go to each label."""
    count: dict[str, int] = {}
    for _, insn in function.insns():
        if insn.ref is not None and insn.ref.kind is RefKind.LABEL:
            count[insn.ref.name] = count.get(insn.ref.name, 0) + 1
    return count


def _stretch(old: Block, blocks: list[Block], entered: dict[str, int]) -> Stretch:
    is_straight = bool(blocks)
    for block, following in pairwise(blocks):
        last = block.insns[-1] if block.insns else None
        jumps = 0
        if last is not None and last.row.is_block_end:
            jumps = int(last.kind is Kind.JUMP and last.ref is not None and last.ref.name == following.label)
            is_straight &= bool(jumps)
        is_straight &= entered.get(following.label, 0) == jumps
    new = tuple(insn for block in blocks for insn in block.insns)
    return Stretch(old.label, old.insns, new, tuple(_diff(old.insns, new)), is_straight)


def _diff(old: Sequence[Insn], new: Sequence[Insn]) -> list[tuple[int, int]]:
    if old == new:
        return [(i, i) for i in range(len(old))]
    a, b = [_sense(insn) for insn in old], [_sense(insn) for insn in new]
    shorter, head, tail = min(len(a), len(b)), 0, 0
    while head < shorter and a[head] == b[head]:
        head += 1
    while tail < shorter - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    middle = _myers(a[head : len(a) - tail], b[head : len(b) - tail])
    return [
        *((i, i) for i in range(head)),
        *((head + i, head + j) for i, j in middle),
        *((len(a) - tail + i, len(b) - tail + i) for i in range(tail)),
    ]


def _sense(insn: Insn) -> tuple[object, ...]:
    """What makes an instruction the same one: all but its line."""
    return insn.row, insn.dst, insn.src, insn.off, insn.imm, insn.ref, insn.origin if insn.origin.core else None


def _myers(a: Sequence[object], b: Sequence[object]) -> list[tuple[int, int]]:
    furthest = {1: 0}
    trace: list[dict[int, int]] = []
    for differences in range(min(len(a) + len(b), MOST_DIFFERENCES) + 1):
        trace.append({k: furthest[k] for k in range(-differences - 1, differences + 2) if k in furthest})
        for k in range(-differences, differences + 1, 2):
            down = k == -differences or (k != differences and furthest[k - 1] < furthest[k + 1])
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            y = x - k
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            furthest[k] = x
            if x >= len(a) and y >= len(b):
                return _walk_back(trace, len(a), len(b))
    return []


def _walk_back(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for differences in range(len(trace) - 1, -1, -1):
        furthest, k = trace[differences], x - y
        down = k == -differences or (k != differences and furthest[k - 1] < furthest[k + 1])
        before = furthest[k + 1] if down else furthest[k - 1]
        start = before if down else before + 1
        while x > start and x > 0 and y > 0:
            x, y = x - 1, y - 1
            kept.append((x, y))
        x, y = before, before - (k + 1 if down else k - 1)
    kept.reverse()
    return kept

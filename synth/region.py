"""Pieces of a function that a search may replace across forward branches: blocks of the layout, entered at one point.

A region starts inside one block and goes on through the blocks that follow it in the layout, as long as only the region
itself leads there; every branch in it leads forwards, to a place of its own or out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from synth.window import SearchWindow, is_searchable, loaded_facts, narrowed, scratch_registers
from verifier_model.bpf.demand import NOTHING, Demand
from verifier_model.bpf.flow import falls_through, predecessors, successors
from verifier_model.bpf.insn import Insn, Ref, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function, Point, Unit
from verifier_model.domains.state import State
from verifier_model.verdict import RegionObligation

if TYPE_CHECKING:
    from verifier_model.facts import Facts

MOST_EXITS: Final = 6  # besides the end
END: Final = "k2.end"  # the place behind a region that stops inside a block


@dataclass(frozen=True, slots=True)
class Span:
    """The instructions from `start` of the block at index `first` up to `stop` of the block at index `last`."""

    first: int
    start: int
    last: int
    stop: int

    def pieces(self, function: Function) -> tuple[Block, ...]:
        """The region's own blocks."""
        blocks = function.blocks[self.first : self.last + 1]
        found = []
        for index, block in enumerate(blocks, self.first):
            start = self.start if index == self.first else 0
            stop = self.stop if index == self.last else len(block.insns)
            found.append(Block(block.label, block.insns[start:stop]))
        return tuple(found)

    def next_label(self, function: Function) -> str:
        """Where the region's end is."""
        if self.stop < len(function.blocks[self.last].insns) or self.last + 1 == len(function.blocks):
            return END
        return function.blocks[self.last + 1].label


@dataclass(frozen=True, slots=True)
class Region:
    """A region with what a search of it needs; `exits` names the labels behind exits 1, 2, ... of the window."""

    span: Span
    window: SearchWindow
    exits: tuple[str, ...]


def spans(function: Function, longest: int, lead: int) -> Iterator[Span]:
    """For each block with a branch at its end, the region of the last `lead` instructions and what follows.

    Of up to `longest` instructions; in the order of the layout.
    """
    before = predecessors(successors(function))
    order = {block.label: index for index, block in enumerate(function.blocks)}
    for first, block in enumerate(function.blocks):
        if not block.insns or block.insns[-1].kind is not Kind.BRANCH or not _may_hold(block.insns[-1]):
            continue
        start = len(block.insns) - 1
        while start > 0 and len(block.insns) - start <= lead and is_searchable(block.insns[start - 1]):
            start -= 1
        left = longest - (len(block.insns) - start)
        last, stop = first, len(block.insns)
        while last + 1 < len(function.blocks) and left > 0 and falls_through_or_joins(function, last, first, order):
            following = function.blocks[last + 1]
            if not all(first <= order[label] <= last for label in before[following.label]):
                break
            taken = _prefix(following.insns, left)
            if taken == 0:
                break
            last, stop, left = last + 1, taken, left - taken
            if taken < len(following.insns):
                break
        yield Span(first, start, last, stop)


def falls_through_or_joins(function: Function, last: int, first: int, order: dict[str, int]) -> bool:
    """Does control get from the region, as far as it goes, to the block behind it?"""
    following = function.blocks[last + 1].label
    edges = successors(function)
    return falls_through(function.blocks[last]) or any(
        following in edges[block.label] for block in function.blocks[first : last + 1]
    )


def _prefix(insns: Sequence[Insn], most: int) -> int:
    """How many instructions from the front may be in a region."""
    for at, insn in enumerate(insns[:most]):
        if not is_searchable(insn) and not _may_hold(insn):
            return at
    return min(most, len(insns))


def _may_hold(insn: Insn) -> bool:
    if insn.kind not in (Kind.BRANCH, Kind.JUMP) or insn.is_pinned:
        return False
    return insn.row.name != "may_goto" and insn.ref is not None and insn.ref.kind is RefKind.LABEL


def region_of(function: Function, facts: Facts, unit: Unit, span: Span) -> Region | None:
    """The region with its facts; None where one is missing, or a branch leads back into the region."""
    pieces = span.pieces(function)
    if not all(facts.is_reachable(Point(piece.label, 0)) for piece in pieces[1:]):
        return None
    starts, count = {}, 0
    for piece in pieces:
        starts[piece.label] = count
        count += len(piece.insns)
    end = span.next_label(function)
    starts[end] = count
    insns: list[Insn] = []
    targets: list[int] = []
    exits: list[str] = []
    for piece in pieces:
        for insn in piece.insns:
            at = 0
            if insn.kind in (Kind.BRANCH, Kind.JUMP):
                assert insn.ref is not None
                label = insn.ref.name
                if label == pieces[0].label:
                    return None
                if label not in starts and label not in exits:
                    exits.append(label)
                at = starts[label] if label in starts else -1 - exits.index(label)
                if 0 <= at <= len(insns):
                    return None
            insns.append(insn.without_origin())
            targets.append(at)
    if len(exits) > MOST_EXITS:
        return None
    return _with_facts(function, facts, unit, span, Region(span, _bare(insns, targets, unit), tuple(exits)))


def _bare(insns: list[Insn], targets: list[int], unit: Unit) -> SearchWindow:
    level = max([unit.cpu_level, *(insn.row.level for insn in insns)])
    entry = State((), {})
    return SearchWindow(tuple(insns), entry, (), NOTHING, (), level, unit.byte_order, (), tuple(targets))


def _with_facts(function: Function, facts: Facts, unit: Unit, span: Span, region: Region) -> Region | None:
    results = []
    for index, piece in enumerate(span.pieces(function)):
        offset = span.start if index == 0 else 0
        found = loaded_facts(facts, piece.label, offset, piece.insns)
        if found is None:
            return None
        results += found
    demands = demands_of(function, facts, span, region.exits)
    behind, *others = demands
    wanted = Demand(
        tuple(_union(demand.regs[reg] for demand in demands) for reg in range(len(behind.regs))), frozenset()
    )
    first = function.blocks[span.first]
    window = replace(
        region.window,
        entry=facts.before(Point(first.label, span.start)),
        results=tuple(results),
        demand=behind,
        scratch=scratch_registers(function, region.window.insns, wanted),
        exits=tuple(others),
    )
    return replace(region, window=narrowed(window))


def _union(masks: Iterator[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def demands_of(function: Function, facts: Facts, span: Span, exits: Sequence[str]) -> list[Demand]:
    """What is looked at behind the end, then behind each exit."""
    last = function.blocks[span.last]
    behind = facts.demand_before(Point(last.label, span.stop))
    if span.stop == len(last.insns) and span.last + 1 < len(function.blocks):
        behind = facts.demand_before(Point(function.blocks[span.last + 1].label, 0))
    return [behind, *(facts.demand_before(Point(label, 0)) for label in exits)]


def rebuilt(function: Function, region: Region, program: Sequence[Insn], targets: Sequence[int]) -> tuple[Block, ...]:
    """The region's blocks when `program` stands for it; a branch's target as in `SearchWindow.targets`."""
    span = region.span
    end = span.next_label(function)
    inner = sorted({at for insn, at in zip(program, targets, strict=True) if _leads_on(insn) and 0 < at < len(program)})
    cuts = sorted({*inner, *(at + 1 for at, insn in enumerate(program) if _leads_on(insn))} - {len(program)})
    names = _names(function, span, len(cuts))
    labels = {0: function.blocks[span.first].label, **dict(zip(cuts, names, strict=True))}
    blocks = []
    for start, stop in zip([0, *cuts], [*cuts, len(program)], strict=True):
        insns = []
        for insn, at in zip(program[start:stop], targets[start:stop], strict=True):
            if _leads_on(insn):
                label = region.exits[-1 - at] if at < 0 else end if at == len(program) else labels[at]
                insn = replace(insn, ref=Ref(RefKind.LABEL, label))
            insns.append(insn)
        blocks.append(Block(labels[start], tuple(insns)))
    return tuple(blocks)


def _leads_on(insn: Insn) -> bool:
    return insn.kind in (Kind.BRANCH, Kind.JUMP)


def _names(function: Function, span: Span, count: int) -> list[str]:
    """Labels for the blocks of a region behind its first: those that it has, then fresh ones."""
    taken = {block.label for block in function.blocks}
    names = [block.label for block in function.blocks[span.first + 1 : span.last + 1]]
    if span.next_label(function) == END:
        names = names[:-1]  # the rest of the last block keeps its name
    number = 0
    while len(names) < count:
        name = f"{function.blocks[span.first].label}.{number}"
        number += 1
        if name not in taken:
            names.append(name)
    return names[:count]


def spliced(function: Function, region: Region, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """All blocks of the function with those in the region's place."""
    span = region.span
    first, last = function.blocks[span.first], function.blocks[span.last]
    head, tail = first.insns[: span.start], last.insns[span.stop :]
    middle = [Block(first.label, (*head, *blocks[0].insns)), *blocks[1:]]
    if span.next_label(function) == END:
        rest = last.label if span.last > span.first else f"{last.label}.rest"
        middle = [_retargeted(block, rest) for block in middle]
        middle.append(Block(rest, tail))
    return (*function.blocks[: span.first], *middle, *function.blocks[span.last + 1 :])


def _retargeted(block: Block, rest: str) -> Block:
    insns = tuple(
        replace(insn, ref=Ref(RefKind.LABEL, rest))
        if _leads_on(insn) and insn.ref is not None and insn.ref.name == END
        else insn
        for insn in block.insns
    )
    return Block(block.label, insns)


def obligation_of(
    function: Function, facts: Facts, unit: Unit, region: Region, after: tuple[Block, ...]
) -> RegionObligation:
    """The question whether those blocks may stand in the region's place."""
    span = region.span
    before = tuple(Block(b.label, tuple(i.without_origin() for i in b.insns)) for b in span.pieces(function))
    first = function.blocks[span.first]
    end = span.next_label(function)
    behind, *others = demands_of(function, facts, span, region.exits)
    demands = {end: behind, **dict(zip(region.exits, others, strict=True))}
    entry = facts.before(Point(first.label, span.start))
    return RegionObligation(before, after, end, entry, demands, unit, function)

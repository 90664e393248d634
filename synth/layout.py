"""Fewer jumps and no code twice: branches turned round, jumps threaded, equal blocks run once.

These steps move control flow, not computation, so no window of one block holds them; they are right by construction,
and inside the trust wall.  A step keeps the sequence of instructions that every execution runs, but for unconditional
jumps, and but for a branch that is turned round and tests the complementary condition (`COMPLEMENTS`).  Two blocks are
equal when they run equal instructions and go on, under equal conditions, to equal blocks: the coarsest such relation is
found by refinement, as for automata.  No path gets longer: nothing is ever reached by a new jump.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from synth.rewrite import Rewrite, Window, apply
from verifier_model.bpf.flow import falls_through, successors
from verifier_model.bpf.insn import Insn, label
from verifier_model.bpf.isa import BY_NAME, Kind
from verifier_model.bpf.unit import Block, Function

_PAIRS: Final = (("jeq", "jne"), ("jgt", "jle"), ("jge", "jlt"), ("jsgt", "jsle"), ("jsge", "jslt"))
COMPLEMENTS: Final[Mapping[str, str]] = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True)
class LayoutStep:
    """The function after one step, and the instruction that changed with its replacement ((): it is gone)."""

    function: Function
    before: tuple[Insn, ...]
    after: tuple[Insn, ...]
    why: str


def steps(function: Function, cpu_level: int) -> Iterator[LayoutStep]:
    """Steps that each save slots, every one from `function` as it is: take one, then ask again.

    Yields nothing for a function with a `gotol` or `may_goto`, whose jumps are not counted like others.
    """
    if function.untouchable or any(insn.row.name in ("gotol", "may_goto") for _, insn in function.insns()):
        return
    seen = set()
    redirected = _redirected(function)
    for step in (redirected, *_turned(redirected.function, cpu_level), *_without_idle_jumps(function)):
        if step.function.slots < function.slots and step.function.blocks not in seen:
            seen.add(step.function.blocks)
            yield step


# --- equal blocks ---


def classes(function: Function) -> dict[str, int]:
    """A number for each block; equal numbers only for blocks from which execution goes on in the same way."""
    final = {block.label: _threaded(function, block.label) for block in function.blocks}
    following: dict[str, str | None] = {}
    for at, block in enumerate(function.blocks):
        behind = _next_label(function, at)
        following[block.label] = None if behind is None else final[behind]
    number = dict.fromkeys(following, 0)
    count = 1
    while True:
        keys = {block.label: _key(block, following, final, number) for block in function.blocks}
        names: dict[Hashable, int] = {}
        # The old number is part of the key, so classes only ever split.
        number = {at: names.setdefault((number[at], key), len(names)) for at, key in keys.items()}
        if len(names) == count:
            return number
        count = len(names)


def _next_label(function: Function, at: int) -> str | None:
    """Where control goes behind block `at` when its branch is not taken; None behind an exit."""
    block = function.blocks[at]
    last = block.insns[-1] if block.insns else None
    if last is not None and last.kind is Kind.JUMP:
        return last.ref.name if last.ref is not None else None
    if not falls_through(block) or at + 1 >= len(function.blocks):
        return None
    return function.blocks[at + 1].label


def _key(
    block: Block, following: Mapping[str, str | None], final: Mapping[str, str], number: Mapping[str, int]
) -> Hashable:
    insns = block.insns
    target: int | None = None
    if insns and insns[-1].kind is Kind.JUMP:
        insns = insns[:-1]
    elif insns and insns[-1].kind is Kind.BRANCH and insns[-1].ref is not None:
        target = number[final[insns[-1].ref.name]]
        insns = (*insns[:-1], replace(insns[-1], ref=None))
    behind = following[block.label]
    body = tuple(replace(insn, origin=replace(insn.origin, line=None)) for insn in insns)
    # A patched instruction is equal to itself alone: each has a record of its own in the object.
    own = block.label if any(insn.origin.core for insn in insns) else ""
    return body, own, target, None if behind is None else number[behind]


# --- steps ---


def _redirected(function: Function) -> LayoutStep:
    """Send every jump to one block of each class; the others are then unreachable, if nothing falls into them."""
    number = classes(function)
    final = {block.label: _threaded(function, block.label) for block in function.blocks}
    members: dict[int, list[str]] = {}
    for block in function.blocks:
        if block.insns:
            members.setdefault(number[block.label], []).append(block.label)
    chosen = {key: _representative(function, labels) for key, labels in members.items()}
    targets = {at: chosen.get(number[where], where) for at, where in final.items()}
    changed: list[tuple[Insn, Insn]] = []
    blocks = []
    for block in function.blocks:
        last = block.insns[-1] if block.insns else None
        if last is not None and last.ref is not None and last.kind in (Kind.BRANCH, Kind.JUMP):
            new = replace(last, ref=label(targets[last.ref.name]))
            if new != last and not last.origin.core:
                changed.append((last, new))
                block = Block(block.label, (*block.insns[:-1], new))
        blocks.append(block)
    result = _without_unreachable(replace(function, blocks=tuple(blocks)))
    before, after = tuple(pair[0] for pair in changed), tuple(pair[1] for pair in changed)
    return LayoutStep(result, before, after, "equal blocks run once")


def _representative(function: Function, labels: list[str]) -> str:
    """The block of a class that stays: one that control falls into, else the shortest, else the first."""
    at = {block.label: index for index, block in enumerate(function.blocks)}

    def rank(name: str) -> tuple[bool, int, int]:
        index = at[name]
        is_fallen_into = index == 0 or falls_through(function.blocks[index - 1])
        return not is_fallen_into, function.blocks[index].slots, index

    return min(labels, key=rank)


def _threaded(function: Function, start: str) -> str:
    """The first block with work to do that a jump to `start` leads to."""
    at = {block.label: index for index, block in enumerate(function.blocks)}
    seen, name = {start}, start
    while True:
        block = function.blocks[at[name]]
        is_idle = not block.insns or (block.insns[0].kind is Kind.JUMP and not block.insns[0].origin.core)
        following = _next_label(function, at[name]) if is_idle else None
        if following is None or following in seen:
            return name
        seen.add(following)
        name = following


def _turned(function: Function, cpu_level: int) -> Iterator[LayoutStep]:
    """`if c goto X; <B>; X:` where B is as good as a block elsewhere: `if not c goto elsewhere; X:`."""
    number = classes(function)
    for at, block in enumerate(function.blocks[:-1]):
        last = block.insns[-1] if block.insns else None
        if last is None or last.kind is not Kind.BRANCH or last.origin.core or last.row.op not in COMPLEMENTS:
            continue
        row = BY_NAME[f"{COMPLEMENTS[last.row.op]}{last.row.width}_{last.row.operand.value}"]
        if row.level > max(cpu_level, last.row.level) or last.ref is None:
            continue
        fallen = _threaded(function, function.blocks[at + 1].label)
        for other in function.blocks:
            if number[other.label] != number[fallen] or not other.insns:
                continue
            new = replace(last, row=row, ref=label(other.label))
            turned = function.with_block(Block(block.label, (*block.insns[:-1], new)))
            # Until the blocks in between are gone, control would fall into them: they must all be unreachable now.
            result = _fallen_to(turned, at, last.ref.name)
            if result is not None:
                yield LayoutStep(result, (last,), (new,), "the branch skips to where the code in between led")


def _fallen_to(function: Function, at: int, target: str) -> Function | None:
    """The function without the blocks between `at` and `target`, when nothing but falling behind `at` reaches them."""
    labels = [block.label for block in function.blocks]
    goal = labels.index(target)
    if goal <= at:
        return None
    between = set(labels[at + 1 : goal])
    edges = successors(function)
    source = function.blocks[at].label
    for name, following in edges.items():
        if name in between:
            continue
        jumped = _target(function, at) if name == source else following
        if between & set(jumped):
            return None
    for name in labels[at + 1 : goal]:
        function = _emptied(function, name)
    return _without_unreachable(function)


def _target(function: Function, at: int) -> tuple[str, ...]:
    ref = function.blocks[at].insns[-1].ref
    return () if ref is None else (ref.name,)


def _without_idle_jumps(function: Function) -> Iterator[LayoutStep]:
    """Drop a jump to what stands next anyway."""
    for at, block in enumerate(function.blocks):
        last = block.insns[-1] if block.insns else None
        if last is None or last.kind is not Kind.JUMP or last.ref is None or last.origin.core:
            continue
        if last.ref.name in _next_places(function, at):
            window = Window(block.label, len(block.insns) - 1, len(block.insns))
            result = apply(function, Rewrite(window, (last,), (), "layout", ""))
            yield LayoutStep(result, (last,), (), "the target is next")


def _next_places(function: Function, at: int) -> list[str]:
    places = []
    for block in function.blocks[at + 1 :]:
        places.append(block.label)
        if block.insns:
            break
    return places


def _without_unreachable(function: Function) -> Function:
    edges = successors(function)
    reached, waiting = set(), [function.blocks[0].label]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(edges[name])
    for block in function.blocks:
        if block.label not in reached and block.insns:
            function = _emptied(function, block.label)
    return function


def _emptied(function: Function, name: str) -> Function:
    insns = function.block(name).insns
    if not insns:
        return function
    return apply(function, Rewrite(Window(name, 0, len(insns)), insns, (), "layout", ""))

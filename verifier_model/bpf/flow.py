"""Control flow inside one function: blocks from flat code, edges between blocks, orders and dominators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function

Edges = Mapping[str, tuple[str, ...]]


def split_blocks(insns: Sequence[Insn], labels: Mapping[int, Sequence[str]]) -> tuple[Block, ...]:
    """Cut straight code into blocks: a new one at each label and after each instruction that ends a block.

    `labels[i]` names the places just before instruction `i`; several names of one place give empty blocks in front.
    Places without a name get `B<index of the instruction>`, with underscores added until the name is new.
    """
    taken = {name for names in labels.values() for name in names}
    blocks: list[Block] = []
    current: list[Insn] = []
    name = ""

    def close(next_names: Iterable[str]) -> None:
        nonlocal current, name
        for next_name in next_names:
            if name:
                blocks.append(Block(name, tuple(current)))
            current, name = [], next_name

    for index, insn in enumerate(insns):
        close(labels.get(index, ()))
        if not name or (current and current[-1].row.is_block_end):
            close((_fresh(index, taken),))
        current.append(insn)
    close((*labels.get(len(insns), ()), ""))
    return tuple(blocks)


def _fresh(index: int, taken: set[str]) -> str:
    name = f"B{index}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def successors(function: Function) -> dict[str, tuple[str, ...]]:
    """For each block, in layout order, the blocks that may run next: the one it falls into first, then its target.

    Raises ValueError for a branch without a label of this function and for a block with an end in its middle.
    """
    blocks = function.blocks
    known = {block.label for block in blocks}
    edges: dict[str, tuple[str, ...]] = {}
    for index, block in enumerate(blocks):
        if any(insn.row.is_block_end for insn in block.insns[:-1]):
            raise ValueError(f"{function.name}: block {block.label} goes on behind its end")
        last = block.insns[-1] if block.insns else None
        following: list[str] = []
        if index + 1 < len(blocks) and falls_through(block):
            following.append(blocks[index + 1].label)
        if last is not None and "target" in last.row.uses:
            target = _target(function, block, last)
            if target not in known:
                raise ValueError(f"{function.name}: block {block.label} jumps to {target}, which does not exist")
            following.append(target)
        edges[block.label] = tuple(dict.fromkeys(following))
    return edges


def _target(function: Function, block: Block, insn: Insn) -> str:
    if insn.ref is None or insn.ref.kind is not RefKind.LABEL:
        raise ValueError(f"{function.name}: the branch at the end of block {block.label} has no label")
    return insn.ref.name


def falls_through(block: Block) -> bool:
    """May control go on to the next block of the layout?"""
    return not block.insns or block.insns[-1].kind not in (Kind.JUMP, Kind.EXIT)


def predecessors(edges: Edges) -> dict[str, tuple[str, ...]]:
    """The edges turned round; both ends in layout order."""
    before: dict[str, list[str]] = {label: [] for label in edges}
    for label, following in edges.items():
        for next_label in following:
            before[next_label].append(label)
    return {label: tuple(labels) for label, labels in before.items()}


def reverse_post_order(function: Function, edges: Edges | None = None) -> tuple[str, ...]:
    """The blocks that the entry reaches, each before its successors except along back edges."""
    if not function.blocks:
        return ()
    edges = successors(function) if edges is None else edges
    entry = function.blocks[0].label
    seen, finished = {entry}, []
    stack = [(entry, iter(reversed(edges[entry])))]
    while stack:
        label, rest = stack[-1]
        for next_label in rest:
            if next_label not in seen:
                seen.add(next_label)
                stack.append((next_label, iter(reversed(edges[next_label]))))
                break
        else:
            finished.append(label)
            stack.pop()
    return tuple(reversed(finished))


def reachable(function: Function) -> frozenset[str]:
    """The labels of the blocks that the entry reaches."""
    return frozenset(reverse_post_order(function))


def immediate_dominators(function: Function) -> dict[str, str | None]:
    """For each reachable block the closest block that every path from the entry passes before it; the entry has none.

    Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001).
    """
    edges = successors(function)
    order = reverse_post_order(function, edges)
    rank = {label: index for index, label in enumerate(order)}
    before = predecessors(edges)
    closest: dict[str, str] = {order[0]: order[0]} if order else {}

    def meet(a: str, b: str) -> str:
        while a != b:
            if rank[a] > rank[b]:
                a = closest[a]
            else:
                b = closest[b]
        return a

    changed = True
    while changed:
        changed = False
        for label in order[1:]:
            known = [other for other in before[label] if other in closest]
            new = known[0]
            for other in known[1:]:
                new = meet(new, other)
            if closest.get(label) != new:
                closest[label] = new
                changed = True
    return {label: None if label == order[0] else closest[label] for label in order}


def dominators(function: Function) -> dict[str, frozenset[str]]:
    """For each reachable block the blocks that every path from the entry to it passes, itself included."""
    result: dict[str, frozenset[str]] = {}
    for label, parent in immediate_dominators(function).items():
        result[label] = frozenset({label}) | (result[parent] if parent is not None else frozenset())
    return result

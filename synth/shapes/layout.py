"""From a graph to blocks: as many nodes as possible directly behind one that goes on to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from synth.shapes.graph import Graph, Node, inverse, is_invertible
from verifier_model.bpf.insn import Insn, label, make
from verifier_model.bpf.unit import Block

DEEPEST: Final = 64  # nodes that make way for one


@dataclass(frozen=True)
class Layout:
    """Which node each falls into (those that are missing need a jump), and the order of all."""

    falls: dict[str, str]
    order: list[str]


def slots(graph: Graph) -> int:
    """Slots of the function that `blocks` makes of the graph."""
    falls = _falls(graph)
    jumps = sum(1 for name, node in graph.nodes.items() if not node.is_exit and name not in falls)
    return sum(node.slots for node in graph.nodes.values()) + jumps


def blocks(graph: Graph) -> tuple[Block, ...]:
    """The function's blocks; jumps to a bare exit are exits themselves."""
    layout = _layout(graph)
    made: list[Block] = []
    taken = set(graph.nodes)
    for name in layout.order:
        node = graph.nodes[name]
        following = layout.falls.get(name)
        if not node.is_branch:
            made.append(Block(name, (*node.insns, *(() if node.is_exit or following else (_jump(graph, node),)))))
            continue
        made.append(Block(name, (*node.body, _branch(node, following))))
        if following is None:
            extra = name + "_go"
            while extra in taken:
                extra += "_"
            taken.add(extra)
            made.append(Block(extra, (_jump(graph, node),)))
    return tuple(made)


def _branch(node: Node, following: str | None) -> Insn:
    assert node.end is not None
    other = inverse(node.end)
    if following is not None and following != node.onward and other is not None:
        return replace(other, ref=label(node.onward))
    return replace(node.end, ref=label(node.taken))


def _jump(graph: Graph, node: Node) -> Insn:
    target = graph.nodes[node.onward]
    if target.is_exit and not target.body and target.end is not None and not target.end.origin.core:
        return target.end
    return make("ja", ref=label(node.onward))


def _candidates(node: Node) -> tuple[str, ...]:
    """The nodes that may come next without a jump, the likelier first."""
    if node.is_exit:
        return ()
    if node.end is not None and not is_invertible(node.end):
        return (node.onward,)
    return node.successors


def _falls(graph: Graph) -> dict[str, str]:
    """A largest matching of nodes with successors (Kuhn), from what lies together already; cycles are cut open."""
    names = list(graph.nodes)
    falls: dict[str, str] = {}
    holder: dict[str, str] = {}
    for name, following in pairwise(names):
        if following in _candidates(graph.nodes[name]):
            falls[name], holder[following] = following, name

    def place(name: str, tried: set[str], depth: int = 0) -> bool:
        for target in _candidates(graph.nodes[name]):
            if target == graph.entry or target == name or target in tried or depth > DEEPEST:
                continue
            tried.add(target)
            if target not in holder or place(holder[target], tried, depth + 1):
                falls[name], holder[target] = target, name
                return True
        return False

    for name in names:
        if name not in falls:
            place(name, set())
    _cut_cycles(falls, names)
    return falls


def _cut_cycles(falls: dict[str, str], names: list[str]) -> None:
    done: set[str] = set()
    for start in names:
        path: list[str] = []
        at: str | None = start
        while at is not None and at not in done and at not in path:
            path.append(at)
            at = falls.get(at)
        if at is not None and at in path:
            del falls[path[-1]]
        done.update(path)


def _layout(graph: Graph) -> Layout:
    """Chains of nodes that fall into one another, in the order of their first nodes."""
    falls = _falls(graph)
    heads = [name for name in graph.nodes if name not in set(falls.values())]
    waiting = sorted(heads, key=list(graph.nodes).index)
    order: list[str] = []
    for head in [graph.entry, *(head for head in waiting if head != graph.entry)]:
        at: str | None = head
        while at is not None:
            order.append(at)
            at = falls.get(at)
    return Layout(falls, order)

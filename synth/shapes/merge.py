"""Equal ends of nodes, once: whole nodes that are the same, and cross-jumping into the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

from synth.shapes.clean import same_merged
from synth.shapes.graph import Graph, Node
from synth.shapes.layout import slots
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind

MOST_PAIRS: Final = 400


def exits_apart(graph: Graph) -> Graph:
    """Every node that goes on to a bare exit exits by itself."""
    changed: dict[str, Node] = {}
    moved: set[str] = set()
    for name, node in graph.nodes.items():
        target = graph.nodes.get(node.onward)
        if node.end is None and target is not None and target.is_exit and not target.body:
            changed[name] = Node(node.body, target.end)
            moved.add(node.onward)
    return graph.updated(changed, moved) if changed else graph


def merged(graph: Graph) -> Graph:
    """The graph with equal ends of nodes merged wherever that saves slots."""
    graph = same_merged(exits_apart(graph))
    size = slots(graph)
    while True:
        for one, two, length in sorted(_pairs(graph), key=lambda pair: -pair[2]):
            candidate = _crossed(graph, one, two, length)
            found = slots(candidate)
            if found < size:
                graph, size = candidate, found
                break
        else:
            return graph


def _pairs(graph: Graph) -> Iterator[tuple[str, str, int]]:
    """Nodes that go on alike, and how many instructions at their ends are the same."""
    groups: dict[tuple[Insn | None, str, str], list[str]] = {}
    for name, node in graph.nodes.items():
        if node.end is None or not node.end.origin.core:
            groups.setdefault((node.end, node.taken, node.onward), []).append(name)
    count = 0
    for (end, _, _), names in groups.items():
        for one, two in combinations(names, 2):
            length = _common_end(graph.nodes[one].body, graph.nodes[two].body)
            if length or (end is not None and end.kind is Kind.EXIT):
                yield one, two, length
                count += 1
                if count > MOST_PAIRS:
                    return


def _common_end(a: tuple[Insn, ...], b: tuple[Insn, ...]) -> int:
    length = 0
    while length < min(len(a), len(b)) and a[-1 - length] == b[-1 - length] and not a[-1 - length].is_pinned:
        length += 1
    return length


def _crossed(graph: Graph, one: str, two: str, length: int) -> Graph:
    """Two nodes with their last `length` instructions in one place."""
    first, second = graph.nodes[one], graph.nodes[two]
    if len(second.body) == length:
        first, second, one, two = second, first, two, one
    if len(first.body) == length and one != graph.entry:
        return graph.updated({two: Node(second.body[: len(second.body) - length], onward=one)}, [one])
    name = graph.fresh(one)
    tail = Node(first.body[len(first.body) - length :], first.end, first.taken, first.onward)
    return graph.updated(
        {
            one: Node(first.body[: len(first.body) - length], onward=name),
            two: Node(second.body[: len(second.body) - length], onward=name),
            name: tail,
        }
    )

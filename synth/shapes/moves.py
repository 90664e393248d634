"""Single changes of a graph that may pay once it is cleaned and merged again; each is right, none need be good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from synth.shapes.clean import is_pure
from synth.shapes.constants import UNLIKE, Fact, Number, after, along, constants, number_in
from synth.shapes.graph import Graph, Node
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import Kind, Operand

LONGEST_COPY: Final = 12  # instructions that a node copied for one way may have
MOST_COPIED: Final = 96  # instructions copied by one change
DEPTHS: Final = (0, 1, 2, 3, 4, 6, 8)  # nodes in a row that are copied
_COPIED: Final = frozenset({Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE, Kind.LOAD, Kind.STORE, Kind.STORE_IMM})


def apart(graph: Graph) -> Iterator[Graph]:
    """For each join that ways reach with different numbers in registers: a copy of what follows for each of them."""
    known = constants(graph)
    live = graph.live_in()
    before = graph.predecessors()
    for name in graph.nodes:
        if len(before[name]) > 1 and name in known and _is_copied(graph.nodes[name]):
            copied = 0
            for depth in DEPTHS:
                copies = _Copies(graph, known, live)
                found = copies.of(name, [other for other in before[name] if other in known], depth)
                if found is None or len(copies.made) == copied:
                    break
                copied = len(copies.made)
                yield found


def _is_copied(node: Node) -> bool:
    if len(node.body) > LONGEST_COPY or (node.end is not None and node.end.origin.core):
        return False
    return all(insn.kind in _COPIED and not insn.is_pinned for insn in node.body)


class _Copies:
    """Copies of nodes for the numbers that they are entered with; equal numbers share a copy."""

    def __init__(self, graph: Graph, known: dict[str, dict[int, Fact]], live: dict[str, int]) -> None:
        self.graph, self.known, self.live = graph, known, live
        self.left = MOST_COPIED
        self.made: dict[tuple[str, tuple[tuple[int, Fact], ...]], str] = {}
        self.new: dict[str, Node] = {}

    def of(self, name: str, before: list[str], depth: int) -> Graph | None:
        changed: dict[str, Node] = {}
        for other in before:
            node = self.graph.nodes[other]
            copy = self.target(name, along(self.graph, node, self.known[other], name), depth)
            if copy != name:
                changed[other] = node.redirected({name: copy})
        if not changed:
            return None
        return self.graph.updated({**changed, **self.new}, [copied for copied, _ in self.made])

    def target(self, name: str, numbers: dict[int, Fact], depth: int) -> str:
        """The node to go to with these numbers: a copy where they tell more than is known at the node itself."""
        own = self.known.get(name, {})
        more = {r: n for r, n in numbers.items() if self.live[name] >> r % UNLIKE & 1 and own.get(r) != n}
        node = self.graph.nodes[name]
        key = (name, tuple(sorted(more.items())))
        if key in self.made:
            return self.made[key]
        if depth < 0 or not more or not _is_copied(node) or len(node.body) + 1 > self.left:
            return name
        self.left -= len(node.body) + 1
        copy = f"{name}_c{len(self.made)}"
        while copy in self.graph.nodes:
            copy += "_"
        self.made[key] = copy
        self.new[copy] = node
        names = {
            other: self.target(other, along(self.graph, node, numbers, other), depth - 1)
            for other in node.successors
            if other in self.known
        }
        self.new[copy] = node.redirected(names)
        return copy


def sunk(graph: Graph) -> Iterator[Graph]:
    """Results that only one way out of a branch needs are computed there; all that are the same on the way to one node
    at once, so that they can be one."""
    live = graph.live_in()
    groups: dict[tuple[Insn, str], list[tuple[str, int]]] = {}
    for name, node in graph.nodes.items():
        for at, target in _sinkable(graph, node, live):
            groups.setdefault((node.body[at], target), []).append((name, at))
    for (insn, target), places in groups.items():
        changed: dict[str, Node] = {}
        edge = graph.fresh(target)
        for name, at in places:
            node = graph.nodes[name]
            rest = (*node.body[:at], *node.body[at + 1 :])
            changed[name] = replace(node, body=rest).redirected({target: edge})
        end = graph.nodes[target]
        changed[edge] = Node((insn,), end.end) if end.is_exit and not end.body else Node((insn,), onward=target)
        yield graph.updated(changed, [target] if end.is_exit else [])


def on_edges(graph: Graph) -> Iterator[Graph]:
    """Numbers that a node is reached with are set on the ways to it, all equal ones at one place: then whatever set
    them earlier may be needless."""
    known, live = constants(graph), graph.live_in()
    before = graph.predecessors()
    setters = _setters(graph)
    for target, node in graph.nodes.items():
        for reg in range(FRAME_POINTER):
            if not live[target] >> reg & 1 or len(before[target]) < 2:
                continue
            edges: dict[Insn, list[str]] = {}
            for name in before[target]:
                facts = along(graph, graph.nodes[name], known[name], target) if name in known else {}
                number = number_in(facts, reg)
                setter = setters.get((reg, number)) if number is not None else None
                if setter is not None and number is not None and number.is_whole:
                    edges.setdefault(setter, []).append(name)
            choices = [[setter] for setter in edges] + ([list(edges)] if len(edges) > 1 else [])
            for choice in choices:
                yield _with_edges(graph, target, node, {setter: edges[setter] for setter in choice})


def _setters(graph: Graph) -> dict[tuple[int, Number], Insn]:
    """For every number that some instruction simply sets, the first such instruction."""
    found: dict[tuple[int, Number], Insn] = {}
    for node in graph.nodes.values():
        for insn in node.body:
            if insn.kind is Kind.ALU and insn.row.op == "mov" and insn.row.operand is Operand.IMM:
                number = number_in(after({}, (insn,)), insn.dst)
                if number is not None and not insn.is_pinned:
                    found.setdefault((insn.dst, number), insn)
    return found


def _with_edges(graph: Graph, target: str, node: Node, edges: dict[Insn, list[str]]) -> Graph:
    changed: dict[str, Node] = {}
    for number, (setter, names) in enumerate(edges.items()):
        edge = f"{target}_e{number}"
        while edge in graph.nodes:
            edge += "_"
        is_exit = node.is_exit and not node.body
        changed[edge] = Node((setter,), node.end) if is_exit else Node((setter,), onward=target)
        for name in names:
            changed[name] = graph.nodes[name].redirected({target: edge})
    return graph.updated(changed, [target] if node.is_exit else [])


def _sinkable(graph: Graph, node: Node, live: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Instructions of the body that can move down to one of the branch's ways, and which."""
    if node.end is None or not node.is_branch or node.taken == node.onward:
        return
    read, written = graph.uses.of(node.end)
    for at in range(len(node.body) - 1, -1, -1):
        insn = node.body[at]
        reads, writes = graph.uses.of(insn)
        if is_pure(insn) and insn.kind is not Kind.LOAD and not writes & (read | written) and not reads & written:
            wanted = [target for target in node.successors if writes & live[target]]
            if len(wanted) == 1:
                yield at, wanted[0]
        read |= reads
        written |= writes


def hoisted(graph: Graph) -> Iterator[Graph]:
    """What both ways out of a branch begin with stands in front of it."""
    before = graph.predecessors()
    for name, node in graph.nodes.items():
        if not node.is_branch or node.end is None or node.taken == node.onward:
            continue
        one, two = graph.nodes[node.taken], graph.nodes[node.onward]
        if before[node.taken] != [name] or before[node.onward] != [name]:
            continue
        length = 0
        while length < min(len(one.body), len(two.body)) and one.body[length] == two.body[length]:
            insn = one.body[length]
            clashes = graph.uses.of(insn)[1] & graph.uses.of(node.end)[0]
            if insn.is_pinned or clashes or node.end.kind is not Kind.BRANCH:
                break
            length += 1
        if length:
            yield graph.updated(
                {
                    name: replace(node, body=node.body + one.body[:length]),
                    node.taken: replace(one, body=one.body[length:]),
                    node.onward: replace(two, body=two.body[length:]),
                },
                [node.taken, node.onward],
            )


def ahead(graph: Graph) -> Iterator[Graph]:
    """Numbers that one way out of a branch sets, set in front of it: that way may then need no node of its own.

    The other way gets slower.
    """
    live = graph.live_in()
    before = graph.predecessors()
    for name, node in graph.nodes.items():
        if not node.is_branch or node.end is None or node.taken == node.onward:
            continue
        for target, other in ((node.taken, node.onward), (node.onward, node.taken)):
            way = graph.nodes[target]
            if before[target] != [name] or way.end is not None or len(way.body) != 1:
                continue
            insn = way.body[0]
            if is_pure(insn) and not graph.uses.of(insn)[1] & (live[other] | graph.uses.of(node.end)[0]):
                yield graph.updated({name: replace(node, body=(*node.body, insn)), target: replace(way, body=())})

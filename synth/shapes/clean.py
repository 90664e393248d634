"""What is always worth doing with a graph: nothing here makes any path longer, apart from jumps."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from synth.passes.operands import is_plain_move, renamed, writes
from synth.shapes.constants import constants, decided
from synth.shapes.constants import after as known_after
from synth.shapes.graph import Graph, Node
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import Kind

_PURE: Final = frozenset({Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE})
MOST_TURNS: Final = 20


def is_pure(insn: Insn) -> bool:
    """Has it no effect but its result?  Loads from the own frame are of that sort, too."""
    return (insn.kind in _PURE or (insn.kind is Kind.LOAD and insn.src == FRAME_POINTER)) and not insn.is_pinned


def cleaned(graph: Graph) -> Graph:
    """The graph without branches that are decided, detours, unreachable nodes and results that nobody reads."""
    for _ in range(MOST_TURNS):
        before = graph.nodes
        graph = _joined(_without_detours(_reachable(_decided(graph))))
        graph = _without_dead(_with_tests_of_sources(graph))
        if graph.nodes == before:
            return graph
    return graph


def _decided(graph: Graph) -> Graph:
    known = constants(graph)
    changed: dict[str, Node] = {}
    for name, node in graph.nodes.items():
        if not node.is_branch or node.end is None or node.end.kind is not Kind.BRANCH or node.end.origin.core:
            continue
        if node.taken == node.onward:
            changed[name] = Node(node.body, onward=node.onward)
        elif name in known and (answer := decided(node.end, known_after(known[name], node.body))) is not None:
            changed[name] = Node(node.body, onward=node.taken if answer else node.onward)
    return graph.updated(changed)


def _reachable(graph: Graph) -> Graph:
    seen, waiting = {graph.entry}, [graph.entry]
    while waiting:
        for name in graph.nodes[waiting.pop()].successors:
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    if len(seen) == len(graph.nodes):
        return graph
    return replace(graph, nodes={name: node for name, node in graph.nodes.items() if name in seen})


def _without_detours(graph: Graph) -> Graph:
    """Nodes that do nothing are passed by."""
    names: dict[str, str] = {}
    for name, node in graph.nodes.items():
        if not node.body and node.end is None and name != graph.entry and node.onward != name:
            names[name] = node.onward
    for name in names:
        target, seen = names[name], {name}
        while target in names and target not in seen:
            seen.add(target)
            target = names[target]
        if target in seen:
            return graph  # a loop that does nothing
        names[name] = target
    if not names:
        return graph
    nodes = {name: node.redirected(names) for name, node in graph.nodes.items() if name not in names}
    return replace(graph, nodes=nodes)


def _joined(graph: Graph) -> Graph:
    """A node and the only one that goes on to it are one node."""
    nodes = dict(graph.nodes)
    count = {name: 0 for name in nodes}
    for node in nodes.values():
        for other in node.successors:
            count[other] += 1
    for name in list(nodes):
        while name in nodes:
            node = nodes[name]
            target = node.onward
            if node.end is not None or not target or target in (name, graph.entry) or count[target] != 1:
                break
            tail = nodes.pop(target)
            nodes[name] = Node(node.body + tail.body, tail.end, tail.taken, tail.onward)
    return replace(graph, nodes=nodes) if len(nodes) != len(graph.nodes) else graph


def _without_dead(graph: Graph) -> Graph:
    live_in = graph.live_in()
    changed: dict[str, Node] = {}
    for name, node in graph.nodes.items():
        live = graph.live_behind(node, live_in)
        if node.end is not None:
            live = graph.live_before((node.end,), live)
        kept: list[Insn] = []
        for insn in reversed(node.body):
            read, written = graph.uses.of(insn)
            if not written & live and is_pure(insn):
                continue
            live = live & ~written | read
            kept.append(insn)
        if len(kept) != len(node.body):
            changed[name] = replace(node, body=tuple(kept[::-1]))
    return graph.updated(changed) if changed else graph


def _with_tests_of_sources(graph: Graph) -> Graph:
    """`r1 = r0; if r1 == 0` as `r1 = r0; if r0 == 0`: then r1 may be dead."""
    live_in = graph.live_in()
    changed: dict[str, Node] = {}
    for name, node in graph.nodes.items():
        if node.end is None or node.end.kind is not Kind.BRANCH or node.end.origin.core:
            continue
        dead = graph.uses.of(node.end)[0] & ~graph.live_behind(node, live_in)
        end = node.end
        for reg in range(FRAME_POINTER):
            source = _copied_from(node.body, reg) if dead >> reg & 1 else None
            if source is not None:
                end = renamed(end, reg, source)
        if end is not node.end:
            changed[name] = replace(node, end=end)
    return graph.updated(changed) if changed else graph


def _copied_from(body: tuple[Insn, ...], reg: int) -> int | None:
    """The register that still holds what `reg` was made a copy of, whole."""
    written: set[int] = set()
    for insn in reversed(body):
        if reg in writes(insn):
            is_copy = is_plain_move(insn) and insn.row.width == 64 and not insn.row.fixed_off and not insn.is_pinned
            return insn.src if is_copy and insn.src not in written and insn.src != 10 else None
        written |= writes(insn)
    return None

"""What is always worth doing with a graph: nothing here makes any path longer, apart from jumps."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Final

from synth.passes.operands import is_plain_move, renamed, writes
from synth.shapes.constants import Known, after, constants, decided, number_in
from synth.shapes.graph import Graph, Node
from verifier_model.bpf.insn import FRAME_POINTER, Insn, make
from verifier_model.bpf.isa import Kind, Operand

_PURE: Final = frozenset({Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE})
MOST_TURNS: Final = 20


def is_pure(insn: Insn) -> bool:
    """Has it no effect but its result?  Loads from the own frame are of that sort, too."""
    return (insn.kind in _PURE or (insn.kind is Kind.LOAD and insn.src == FRAME_POINTER)) and not insn.is_pinned


def settled(graph: Graph) -> Graph:
    """The graph without branches that are decided, detours, unreachable nodes, results that nobody reads, and nodes
    that are there twice; results that are known numbers are set and not computed, so that ways to one look alike."""
    for _ in range(MOST_TURNS):
        before = graph.nodes
        graph = _joined(_without_detours(_reachable(_known(graph))))
        graph = same_merged(_without_dead(graph))
        if graph.nodes == before:
            return graph
    return graph


def _known(graph: Graph) -> Graph:
    known = constants(graph)
    changed: dict[str, Node] = {}
    for name, node in graph.nodes.items():
        if name in known:
            made = _with_numbers(graph, node, known[name])
            if made is not node:
                changed[name] = made
    return graph.updated(changed) if changed else graph


def _with_numbers(graph: Graph, node: Node, known: Known) -> Node:
    key = graph.uses.key(node, ("numbers", frozenset(known.items())))
    if key not in graph.uses.results:
        body, numbers = [], known
        for insn in node.body:
            numbers = after(numbers, (insn,))
            body.append(_folded(insn, numbers))
        made = node if tuple(body) == node.body else replace(node, body=tuple(body))
        if node.taken and node.taken == node.onward and node.end is not None and node.end.kind is Kind.BRANCH:
            made = Node(made.body, onward=node.onward)
        elif node.end is not None and (answer := decided(node.end, numbers)) is not None:
            made = Node(made.body, onward=node.taken if answer else node.onward)
        graph.uses.results[key] = made
    result: Node = graph.uses.results[key]
    return result


def _folded(insn: Insn, numbers: Known) -> Insn:
    number = number_in(numbers, insn.dst)
    if insn.kind is not Kind.ALU or insn.is_pinned or number is None or not number.is_whole:
        return insn
    if insn.row.op == "mov" and insn.row.operand is Operand.IMM:
        return insn
    if insn.row.width == 32:
        return make("mov32_imm", insn.dst, imm=(number.value ^ 1 << 31) - (1 << 31))
    signed = (number.value ^ 1 << 63) - (1 << 63)
    return make("mov64_imm", insn.dst, imm=signed) if -(1 << 31) <= signed < 1 << 31 else insn


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
    count = dict.fromkeys(nodes, 0)
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
        made = _without_dead_in(graph, node, graph.live_behind(node, live_in))
        if made is not node:
            changed[name] = made
    return graph.updated(changed) if changed else graph


def _without_dead_in(graph: Graph, node: Node, live: int) -> Node:
    key = graph.uses.key(node, ("live", live))
    if key not in graph.uses.results:
        graph.uses.results[key] = _pruned(graph, _with_test_of_source(graph, node, live), live)
    made: Node = graph.uses.results[key]
    return made


def _pruned(graph: Graph, node: Node, live: int) -> Node:
    if node.end is not None:
        live = graph.live_before((node.end,), live)
    kept: list[Insn] = []
    for insn in reversed(node.body):
        read, written = graph.uses.of(insn)
        if not written & live and is_pure(insn):
            continue
        live = live & ~written | read
        kept.append(insn)
    return node if len(kept) == len(node.body) else replace(node, body=tuple(kept[::-1]))


def _with_test_of_source(graph: Graph, node: Node, live: int) -> Node:
    """`r1 = r0; if r1 == 0` as `r1 = r0; if r0 == 0`: then r1 may be dead."""
    if node.end is None or node.end.kind is not Kind.BRANCH or node.end.origin.core:
        return node
    dead = graph.uses.of(node.end)[0] & ~live
    end = node.end
    for reg in range(FRAME_POINTER):
        source = _copied_from(node.body, reg) if dead >> reg & 1 else None
        if source is not None:
            end = renamed(end, reg, source)
    return node if end is node.end else replace(node, end=end)


def _copied_from(body: tuple[Insn, ...], reg: int) -> int | None:
    """The register that still holds what `reg` was made a copy of, whole."""
    written: set[int] = set()
    for insn in reversed(body):
        if reg in writes(insn):
            is_copy = is_plain_move(insn) and insn.row.width == 64 and not insn.row.fixed_off and not insn.is_pinned
            return insn.src if is_copy and insn.src not in written and insn.src != 10 else None
        written |= writes(insn)
    return None


def same_merged(graph: Graph) -> Graph:
    """Nodes that do the same and go on to the same are one node."""
    while True:
        first: dict[Hashable, str] = {}
        names: dict[str, str] = {}
        for name, node in graph.nodes.items():
            if any(insn.origin.core for insn in node.insns):
                continue
            key = (graph.uses.code(node), node.taken, node.onward)
            kept = first.setdefault(key, name)
            if kept != name:
                names[name] = kept
        if not names:
            return graph
        nodes = {name: node.redirected(names) for name, node in graph.nodes.items() if name not in names}
        graph = replace(graph, nodes=nodes, twins={**graph.twins, **names})

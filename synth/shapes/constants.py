"""Numbers that registers are known to hold at a node's start, and branches that are decided by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from synth.passes.operands import is_plain_move, writes
from synth.shapes.graph import Graph, Node
from verifier_model.bpf.concrete import alu, taken
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind, Operand

_LOW: Final = 0xFFFFFFFF
_PARTIAL: Final = frozenset({"mov", "add", "sub", "mul", "and", "or", "xor", "neg"})


class Number(NamedTuple):
    """A register's content; only its low 32 bits where `is_whole` is false."""

    value: int
    is_whole: bool = True


class Unlike(NamedTuple):
    """What a register's content is not: numbers, each with the bits that were compared."""

    numbers: frozenset[tuple[int, int]]


Fact = Number | Unlike
Known = Mapping[int, Fact]
"""Facts by register; an `Unlike` of register n stands at n + `UNLIKE`."""
UNLIKE: Final = 16


def number_in(known: Known, register: int) -> Number | None:
    found = known.get(register)
    return found if isinstance(found, Number) else None


def after(known: Known, insns: Iterable[Insn]) -> dict[int, Fact]:
    """What is known behind the instructions."""
    found = dict(known)
    for insn in insns:
        if not found and insn.kind not in (Kind.ALU, Kind.LOAD_WIDE):
            continue
        number, unlike = _result(insn, found), _copied(insn, found)
        for reg in writes(insn):
            found.pop(reg, None)
            found.pop(reg + UNLIKE, None)
        if number is not None:
            found[insn.dst] = number
        if unlike is not None:
            found[insn.dst + UNLIKE] = unlike
    return found


def _copied(insn: Insn, known: Known) -> Unlike | None:
    """What a plain move makes known of its result."""
    found = known.get(insn.src + UNLIKE) if is_plain_move(insn) and not insn.origin.core else None
    if not isinstance(found, Unlike):
        return None
    kept = frozenset(pair for pair in found.numbers if insn.row.width == 64 or pair[1] == 32)
    return Unlike(kept) if kept else None


def _result(insn: Insn, known: Known) -> Number | None:
    if insn.origin.core or insn.ref is not None:
        return None
    if insn.kind is Kind.LOAD_WIDE:
        return Number(insn.imm)
    if insn.kind is not Kind.ALU:
        return None
    source = Number(insn.imm & (1 << 64) - 1) if insn.row.operand is not Operand.REG else number_in(known, insn.src)
    if insn.row.op in ("mov", "neg") and insn.row.operand is Operand.IMM:
        dst: Number | None = Number(0)
    else:
        dst = Number(0) if insn.row.op == "mov" else number_in(known, insn.dst)
    if source is None or dst is None:
        return None
    if not (source.is_whole and dst.is_whole) and insn.row.op not in _PARTIAL:
        return None
    is_whole = insn.row.width == 32 or (source.is_whole and dst.is_whole)
    return Number(alu(insn.row, dst.value, source.value), is_whole)


def decided(branch: Insn, known: Known) -> bool | None:
    """Is the branch taken?  None where that is not known."""
    if branch.kind is not Kind.BRANCH or branch.origin.core:
        return None
    dst = number_in(known, branch.dst)
    is_number = branch.row.operand is not Operand.REG
    source = Number(branch.imm & (1 << 64) - 1) if is_number else number_in(known, branch.src)
    unlike = known.get(branch.dst + UNLIKE)
    if isinstance(unlike, Unlike) and is_number and branch.row.op in ("jeq", "jne"):
        wanted = {(branch.imm & _LOW, 32), (branch.imm & (1 << branch.row.width) - 1, branch.row.width)}
        if wanted & unlike.numbers:
            return branch.row.op == "jne"
    if dst is None or source is None:
        return None
    if branch.row.width == 64 and not (dst.is_whole and source.is_whole):
        return None
    return taken(branch.row, dst.value, source.value)


def along(graph: Graph, node: Node, known: Known, target: str) -> dict[int, Fact]:
    """What is known when `node` was entered with `known` and goes on to `target`; not to be changed."""
    key = graph.uses.key(node, (target, frozenset(known.items())))
    found: dict[int, Fact] | None = graph.uses.results.get(key)
    if found is None:
        found = graph.uses.results[key] = _along(graph, node, known, target)
    return found


def _along(graph: Graph, node: Node, known: Known, target: str) -> dict[int, Fact]:
    found = after(known, node.body)
    end = node.end
    if end is None or end.kind is not Kind.BRANCH or node.taken == node.onward or end.row.operand is Operand.REG:
        return found
    is_taken = target == node.taken
    if end.row.op not in ("jeq", "jne") or end.origin.core:
        return found
    old = number_in(found, end.dst)
    if end.row.op != ("jeq" if is_taken else "jne"):
        if end.imm in graph.uses.tested and old is None:
            unlike = found.get(end.dst + UNLIKE)
            pairs = unlike.numbers if isinstance(unlike, Unlike) else frozenset[tuple[int, int]]()
            pair = (end.imm & (1 << end.row.width) - 1, end.row.width)
            found[end.dst + UNLIKE] = Unlike(pairs | {pair})
    elif end.row.width == 64:
        found[end.dst] = Number(end.imm & (1 << 64) - 1)
    elif old is None or not old.is_whole:
        found[end.dst] = Number(end.imm & _LOW, is_whole=False)
    return found


def constants(graph: Graph) -> dict[str, dict[int, Fact]]:
    """What is known at the start of every node that the entry reaches."""
    found: dict[str, dict[int, Fact]] = {graph.entry: {}}
    waiting = [graph.entry]
    while waiting:
        name = waiting.pop(0)
        node = graph.nodes[name]
        for target in node.successors:
            known = along(graph, node, found[name], target)
            old = found.get(target)
            new = known if old is None else _in_common(old, known)
            if new != old:
                found[target] = new
                waiting.append(target)
    return found


def _in_common(old: Known, new: Known) -> dict[int, Fact]:
    found: dict[int, Fact] = {}
    for place, fact in old.items():
        other = new.get(place)
        if other == fact:
            found[place] = fact
        elif isinstance(fact, Unlike) and isinstance(other, Unlike) and fact.numbers & other.numbers:
            found[place] = Unlike(fact.numbers & other.numbers)
    return found

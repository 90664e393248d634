"""Numbers that registers are known to hold at a node's start, and branches that are decided by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from synth.passes.operands import writes
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


Known = Mapping[int, Number]
NOTHING: Final[Known] = {}


def after(known: Known, insns: Iterable[Insn]) -> dict[int, Number]:
    """What is known behind the instructions."""
    found = dict(known)
    for insn in insns:
        number = _result(insn, found)
        if number is not None:
            found[insn.dst] = number
        elif found:
            for reg in writes(insn):
                found.pop(reg, None)
    return found


def _result(insn: Insn, known: Known) -> Number | None:
    if insn.origin.core or insn.ref is not None:
        return None
    if insn.kind is Kind.LOAD_WIDE:
        return Number(insn.imm)
    if insn.kind is not Kind.ALU:
        return None
    source = Number(insn.imm & (1 << 64) - 1) if insn.row.operand is not Operand.REG else known.get(insn.src)
    if insn.row.op in ("mov", "neg") and insn.row.operand is Operand.IMM:
        dst: Number | None = Number(0)
    else:
        dst = Number(0) if insn.row.op == "mov" else known.get(insn.dst)
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
    dst = known.get(branch.dst)
    source = Number(branch.imm & (1 << 64) - 1) if branch.row.operand is not Operand.REG else known.get(branch.src)
    if dst is None or source is None:
        return None
    if branch.row.width == 64 and not (dst.is_whole and source.is_whole):
        return None
    return taken(branch.row, dst.value, source.value)


def along(graph: Graph, node: Node, known: Known, target: str) -> dict[int, Number]:
    """What is known when `node` was entered with `known` and goes on to `target`; not to be changed."""
    key = graph.uses.key(node, (target, frozenset(known.items())))
    found: dict[int, Number] | None = graph.uses.results.get(key)
    if found is None:
        found = graph.uses.results[key] = _along(node, known, target)
    return found


def _along(node: Node, known: Known, target: str) -> dict[int, Number]:
    found = after(known, node.body)
    end = node.end
    if end is None or end.kind is not Kind.BRANCH or node.taken == node.onward or end.row.operand is Operand.REG:
        return found
    is_taken = target == node.taken
    if end.row.op != ("jeq" if is_taken else "jne"):
        return found
    if end.row.width == 64:
        found[end.dst] = Number(end.imm & (1 << 64) - 1)
    elif end.dst not in found or not found[end.dst].is_whole:
        found[end.dst] = Number(end.imm & _LOW, is_whole=False)
    return found


def constants(graph: Graph) -> dict[str, dict[int, Number]]:
    """What is known at the start of every node that the entry reaches."""
    found: dict[str, dict[int, Number]] = {graph.entry: {}}
    waiting = [graph.entry]
    while waiting:
        name = waiting.pop(0)
        node = graph.nodes[name]
        for target in node.successors:
            known = along(graph, node, found[name], target)
            old = found.get(target)
            new = known if old is None else {reg: n for reg, n in old.items() if known.get(reg) == n}
            if new != old:
                found[target] = new
                waiting.append(target)
    return found

"""The program as the kernel's verifier walks it: numbered instructions, where it may stop to compare states, and which
registers are alive there (check_cfg and compute_live_registers in kernel/bpf/verifier.c).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from verifier_model.bpf.insn import FRAME_POINTER, Insn, RefKind
from verifier_model.bpf.isa import LOAD_KINDS, Kind, Operand
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.callbacks import is_callback_call
from verifier_model.checker.callgraph import callee_of, handed_over
from verifier_model.checker.calls import helper_of
from verifier_model.checker.iterators import is_next_call
from verifier_model.checker.kernel_calls import kfunc_name
from verifier_model.contracts.kfunc_signatures import Signature, signature

CALLER_SAVED: Final = 0b111111
_FRAME_BIT: Final = 1 << FRAME_POINTER


@dataclass(slots=True)
class Node:
    """One instruction of a walk.  `index` numbers all functions' instructions through; -1 stands for no node.

    `is_stop`: a state may be compared and kept here.  `is_jump`: arriving here is an entry of the jump history.
    `is_forced`: a state is always kept here.  `live`: bits of the registers that may be read from here on.  `callee`:
    the static function that is called; `handed`: the one whose address is taken.
    """

    index: int
    insn: Insn
    function: Function
    label: str
    at: int
    following: int = -1
    target: int = -1
    callee: Function | None = None
    handed: Function | None = None
    is_stop: bool = False
    is_jump: bool = False
    is_forced: bool = False
    live: int = 0


@dataclass(frozen=True, slots=True)
class Control:
    """All nodes that a root reaches; `entries` and `ranges` by function name."""

    nodes: tuple[Node, ...]
    entries: dict[str, int]
    ranges: dict[str, range]


def control(unit: Unit, root: Function) -> Control:
    """The nodes of `root` and of the static subprograms below it."""
    nodes: list[Node] = []
    entries: dict[str, int] = {}
    ranges: dict[str, range] = {}
    waiting = [root]
    while waiting:
        function = waiting.pop(0)
        if function.name in entries:
            continue
        first = entries[function.name] = len(nodes)
        waiting.extend(_number(unit, function, nodes))
        ranges[function.name] = range(first, len(nodes))
    for node in nodes:
        _mark(nodes, entries, node)
    for span in ranges.values():
        _find_live(unit, nodes, span)
    return Control(tuple(nodes), entries, ranges)


def _number(unit: Unit, function: Function, nodes: list[Node]) -> list[Function]:
    """Append the function's nodes; its static callees."""
    starts: dict[str, int] = {}
    at = len(nodes)
    for block in function.blocks:
        starts[block.label] = at
        at += len(block.insns)
    end, found = at, []
    for block in function.blocks:
        for position, insn in enumerate(block.insns):
            index = len(nodes)
            node = Node(index, insn, function, block.label, position)
            if insn.ref is not None and insn.ref.kind is RefKind.LABEL:
                # A label behind the last instruction leads nowhere.
                node.target = starts[insn.ref.name] if starts[insn.ref.name] < end else -1
            if insn.kind is Kind.JUMP:
                node.following = node.target
            elif insn.kind is not Kind.EXIT and index + 1 < end:
                node.following = index + 1
            if insn.kind is Kind.CALL:
                callee = callee_of(unit, insn)
                if callee is not None and any(block.insns for block in callee.blocks):
                    node.callee = callee
                    found.append(callee)
            handed = handed_over(unit, insn)
            if handed is not None and any(block.insns for block in handed.blocks):
                node.handed = handed
                found.append(handed)
            nodes.append(node)
    return found


def _mark(nodes: list[Node], entries: dict[str, int], node: Node) -> None:
    kind, insn = node.insn.kind, node.insn
    is_local = insn.row.name == "call_local" and kfunc_name(insn) is None
    is_function_address = kind is Kind.LOAD_WIDE and insn.ref is not None and insn.ref.kind is RefKind.FUNCTION
    if kind is Kind.JUMP:
        _meet(nodes, node.target)
    elif kind in (Kind.BRANCH, Kind.MAY_GOTO):
        node.is_stop = True
        node.is_forced = kind is Kind.MAY_GOTO
        _meet(nodes, node.target)
    elif kind is Kind.CALL or is_function_address:
        _meet(nodes, node.following)
        node.is_stop = node.is_stop or is_local or is_function_address
        if node.callee is not None:
            _meet(nodes, entries[node.callee.name])
        if node.handed is not None:
            _meet(nodes, entries[node.handed.name])
        if kind is Kind.CALL and is_next_call(insn):
            node.is_stop = node.is_forced = True
        if is_callback_call(insn):
            node.is_stop = node.is_jump = node.is_forced = True


def _meet(nodes: list[Node], index: int) -> None:
    if index >= 0:
        nodes[index].is_stop = nodes[index].is_jump = True


def _kfunc_parameters(unit: Unit, node: Node) -> int:
    """How many registers the kernel function that the node calls takes (get_call_summary); 5 where nobody knows."""
    name = kfunc_name(node.insn)
    declared = None if name is None else signature(unit, name, node.function)
    return len(declared.arguments) if isinstance(declared, Signature) else 5


def reads_and_writes(insn: Insn, parameters: int = 5) -> tuple[int, int]:
    """Bits of the registers that the instruction reads and overwrites, as the kernel counts them.

    `parameters`: of what is called, unless it is a helper.
    """
    kind, row = insn.kind, insn.row
    dst, src = 1 << insn.dst, 1 << insn.src if "src" in row.uses else 0
    if kind is Kind.ALU:
        is_move = row.op.startswith("mov")
        return (src if row.operand is Operand.REG else 0) | (0 if is_move else dst), dst
    if kind in (Kind.ENDIAN, Kind.CAST):
        return (dst if kind is Kind.ENDIAN else src), dst
    if kind is Kind.LOAD_WIDE:
        return 0, dst
    if kind in LOAD_KINDS:
        return src, dst
    if kind is Kind.ATOMIC:
        result = 1 if row.op == "cmpxchg" else src
        return dst | src | (1 if row.op == "cmpxchg" else 0), result if row.fetch else 0
    if kind is Kind.LEGACY_LOAD:
        return 1 << 6 | src, CALLER_SAVED
    if kind is Kind.CALL:
        helper = helper_of(insn)
        return (2 << (parameters if helper is None else len(helper.arguments))) - 2, CALLER_SAVED
    if kind is Kind.EXIT:
        return 1, 0
    return (dst if "dst" in row.uses else 0) | src, 0


def _find_live(unit: Unit, nodes: list[Node], span: range) -> None:
    uses = [reads_and_writes(nodes[index].insn, _kfunc_parameters(unit, nodes[index])) for index in span]
    changed = True
    while changed:
        changed = False
        for index in reversed(span):
            node = nodes[index]
            after = nodes[node.following].live if node.following >= 0 else 0
            if node.target >= 0:
                after |= nodes[node.target].live
            reads, writes = uses[index - span.start]
            live = after & ~writes | reads | _FRAME_BIT
            if live != node.live:
                node.live = live
                changed = True

"""A function as a graph of nodes without a layout: what changes of control flow are made on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from synth.passes.operands import explicit_reads, writes
from verifier_model.bpf.flow import falls_through
from verifier_model.bpf.insn import FRAME_POINTER, Insn, label
from verifier_model.bpf.isa import BY_NAME, Kind, Operand
from verifier_model.bpf.unit import Function

_INVERSE: Final = {
    "jeq": "jne",
    "jne": "jeq",
    "jgt": "jle",
    "jle": "jgt",
    "jlt": "jge",
    "jge": "jlt",
    "jsgt": "jsle",
    "jsle": "jsgt",
    "jslt": "jsge",
    "jsge": "jslt",
}


@dataclass(frozen=True)
class Node:
    """Straight code, and where control goes from there.

    `end`: a conditional branch (or may_goto), which goes to `taken` and else to `onward`; an exit, with neither; None
    where control simply goes `onward`.  The branch's own label is not looked at.
    """

    body: tuple[Insn, ...]
    end: Insn | None = None
    taken: str = ""
    onward: str = ""

    @property
    def is_branch(self) -> bool:
        return self.end is not None and self.end.kind is not Kind.EXIT

    @property
    def is_exit(self) -> bool:
        return self.end is not None and self.end.kind is Kind.EXIT

    @cached_property
    def successors(self) -> tuple[str, ...]:
        if not self.onward:
            return ()
        return (self.onward,) if self.taken in ("", self.onward) else (self.onward, self.taken)

    @property
    def slots(self) -> int:
        return sum(insn.slots for insn in self.body) + (self.end is not None)

    @property
    def insns(self) -> tuple[Insn, ...]:
        return self.body if self.end is None else (*self.body, self.end)

    def redirected(self, names: Mapping[str, str]) -> Node:
        """The node with some of the labels it goes to replaced."""
        taken, onward = names.get(self.taken, self.taken), names.get(self.onward, self.onward)
        return self if (taken, onward) == (self.taken, self.onward) else replace(self, taken=taken, onward=onward)


class Uses:
    """Registers that instructions read and write, as bit sets, each worked out once for all graphs of a search.

    `arguments`: the registers that each call reads, by the call without its records.  `tested`: numbers that more than
    one branch compares something with.
    """

    def __init__(self, arguments: Mapping[Insn, frozenset[int]], tested: frozenset[int]) -> None:
        self._arguments = arguments
        self.tested = tested
        self._insns: dict[int, tuple[Insn, int, int]] = {}
        self._nodes: dict[int, tuple[Node, int, int]] = {}
        self._codes: dict[Hashable, int] = {}
        self.results: dict[tuple[int, Hashable], Any] = {}  # of other questions about a node, by its id

    def of(self, insn: Insn) -> tuple[int, int]:
        """(read, written)."""
        found = self._insns.get(id(insn))
        if found is None:
            found = self._insns[id(insn)] = (insn, _bits(self._reads(insn)), _bits(writes(insn)))
        return found[1], found[2]

    def key(self, node: Node, question: Hashable) -> tuple[int, Hashable]:
        """A key of `results`, good for as long as this object is."""
        self.of_node(node)
        return id(node), question

    def code(self, node: Node) -> int:
        """A number for the node's instructions, the same for all nodes with the same ones."""
        key = self.key(node, "code")
        if key not in self.results:
            self.results[key] = self._codes.setdefault((node.body, node.end), len(self._codes))
        number: int = self.results[key]
        return number

    def of_node(self, node: Node) -> tuple[int, int]:
        """(read before it is written, written)."""
        found = self._nodes.get(id(node))
        if found is None:
            read = written = 0
            for insn in reversed(node.insns):
                reads, write = self.of(insn)
                read, written = read & ~write | reads, written | write
            found = self._nodes[id(node)] = (node, read, written)
        return found[1], found[2]

    def _reads(self, insn: Insn) -> frozenset[int]:
        if insn.kind is Kind.CALL:
            return self._arguments.get(insn, frozenset(range(1, 6)))
        found = explicit_reads(insn)
        if insn.kind is Kind.EXIT or (insn.kind is Kind.ATOMIC and insn.row.op == "cmpxchg"):
            found |= {0}
        elif insn.kind is Kind.LEGACY_LOAD:
            found |= {6}
        return found - {FRAME_POINTER}


def _bits(registers: frozenset[int]) -> int:
    return sum(1 << register for register in registers)


@dataclass(frozen=True)
class Graph:
    """Nodes by label, the entry first, the others in the order in which they should preferably be laid out.

    How it came about from the function: labels in `moved` no longer stand for the same program point, and what was in
    front of a label of `twins` is now in front of the other one.
    """

    nodes: Mapping[str, Node]
    uses: Uses
    moved: frozenset[str] = frozenset()
    twins: Mapping[str, str] = field(default_factory=dict)

    @property
    def entry(self) -> str:
        return next(iter(self.nodes))

    def updated(self, changed: Mapping[str, Node], moved: Iterable[str] = ()) -> Graph:
        """Some nodes replaced; new ones come last."""
        return replace(self, nodes={**self.nodes, **changed}, moved=self.moved.union(moved))

    def predecessors(self) -> dict[str, list[str]]:
        before: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, node in self.nodes.items():
            for other in node.successors:
                before[other].append(name)
        return before

    def fresh(self, stem: str) -> str:
        """A label that no node has."""
        number = 0
        while f"{stem}_{number}" in self.nodes:
            number += 1
        return f"{stem}_{number}"

    def live_before(self, insns: tuple[Insn, ...], live: int) -> int:
        """The bit set of registers that are read from the instructions on when `live` ones are read behind them."""
        for insn in reversed(insns):
            read, written = self.uses.of(insn)
            live = live & ~written | read
        return live

    def live_in(self) -> dict[str, int]:
        """Registers that may be read from each node's start on, as bit sets."""
        live = dict.fromkeys(self.nodes, 0)
        nodes = [(name, node.successors, *self.uses.of_node(node)) for name, node in self.nodes.items()][::-1]
        is_done = False
        while not is_done:  # most edges lead forward in the order of the nodes, so few turns do
            is_done = True
            for name, successors, read, written in nodes:
                found = 0
                for other in successors:
                    found |= live[other]
                found = found & ~written | read
                if found != live[name]:
                    live[name] = found
                    is_done = False
        return live

    @staticmethod
    def live_behind(node: Node, live_in: Mapping[str, int]) -> int:
        found = 0
        for other in node.successors:
            found |= live_in[other]
        return found


def is_invertible(branch: Insn) -> bool:
    return branch.kind is Kind.BRANCH and branch.row.op in _INVERSE and not branch.origin.core


def inverse(branch: Insn) -> Insn | None:
    """The branch that is taken where this one is not; None where there is none."""
    if not is_invertible(branch):
        return None
    return replace(branch, row=BY_NAME[branch.row.name.replace(branch.row.op, _INVERSE[branch.row.op], 1)])


def graph_of(function: Function, arguments: Mapping[Insn, frozenset[int]]) -> Graph:
    """The function's blocks as nodes, jumps dissolved.  Raises ValueError where control may run off its end."""
    nodes: dict[str, Node] = {}
    blocks = function.blocks
    for block, following in zip(blocks, (*(b.label for b in blocks[1:]), ""), strict=True):
        last = block.insns[-1] if block.insns else None
        if falls_through(block) and not following:
            raise ValueError(f"{function.name}: control may run off the end")
        if last is None or not last.row.is_block_end:
            nodes[block.label] = Node(block.insns, onward=following)
        elif last.kind is Kind.EXIT:
            nodes[block.label] = Node(block.insns[:-1], last)
        else:
            assert last.ref is not None
            if last.kind is Kind.JUMP:
                nodes[block.label] = Node(block.insns[:-1], onward=last.ref.name)
            else:
                unlabelled = replace(last, ref=label(""))
                nodes[block.label] = Node(block.insns[:-1], unlabelled, last.ref.name, following)
    ends = [node.end for node in nodes.values() if node.end is not None]
    count = Counter(end.imm for end in ends if end.row.op in ("jeq", "jne") and end.row.operand is Operand.IMM)
    return Graph(nodes, Uses(arguments, frozenset(number for number, times in count.items() if times > 1)))

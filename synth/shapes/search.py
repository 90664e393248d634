"""Hill climbing over changes of control flow, on graphs alone; what comes out is a proposal like any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from synth.reshape import Reshape, plain_blocks
from synth.settings import Settings
from synth.shapes.clean import settled
from synth.shapes.graph import Graph, graph_of
from synth.shapes.layout import blocks, slots
from synth.shapes.merge import merged
from synth.shapes.table import AHEAD, MOVES, Move
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function, Point, Unit
from verifier_model.domains.registers import Region
from verifier_model.facts import Facts
from verifier_model.verdict import CutPoint, Equality, InRegister

WORK: Final = (60_000, 60_000, 400_000, 2_000_000)  # by effort: instructions that candidates of one search have
MOST_PROPOSALS: Final = 3  # of each search; one where the function has LARGE slots or more
LARGE: Final = 600


def shrunk(graph: Graph, is_eager: bool = True) -> Graph:
    """The graph after everything that saves slots, jumps counted; where `is_eager`, also what makes a path longer."""
    graph = settled(graph)
    size = slots(graph)
    crossed = merged(graph)
    if slots(crossed) < size:
        graph, size = crossed, slots(crossed)
    while is_eager:
        for candidate in AHEAD.propose(graph):
            made = settled(candidate)
            if slots(made) < size:
                graph, size = made, slots(made)
                break
        else:
            break
    return graph


class Found(NamedTuple):
    """A graph, its slots, and the names of the moves that made it."""

    graph: Graph
    slots: int
    moves: tuple[str, ...] = ()


@dataclass
class Search:
    """Changes that pay, one after the other, until none does or the work is spent."""

    graph: Graph
    settings: Settings
    is_eager: bool = True
    work: int = field(init=False)

    def __post_init__(self) -> None:
        self.work = WORK[self.settings.effort]

    def states(self) -> Iterator[Found]:
        """Every graph that is smaller than the one before it."""
        graph = shrunk(self.graph, self.is_eager)
        best = Found(graph, slots(graph))
        yield best
        at, idle = 0, 0
        while idle < len(MOVES) and self.work > 0:
            found = self._better(MOVES[at], best)
            if found is None:
                at, idle = (at + 1) % len(MOVES), idle + 1
                continue
            best, idle = found, 0
            yield best

    def _better(self, move: Move, best: Found) -> Found | None:
        for candidate in move.propose(best.graph):
            self.work -= sum(len(node.body) + 1 for node in candidate.nodes.values())
            if self.work < 0:
                return None
            made = shrunk(candidate, self.is_eager)
            size = slots(made)
            if size < best.slots:
                return Found(made, size, tuple(dict.fromkeys((*best.moves, move.name))))
        return None


def reshape_control_flow(function: Function, facts: Facts, unit: Unit, settings: Settings) -> Iterator[Reshape]:
    """Fewer slots by other control flow: the best state of the search first, then the earlier ones, and all that again
    without what makes paths longer (which the goal may forbid, and the kernel's checker find more work)."""
    if function.untouchable or facts.incomplete is not None:
        return
    old = plain_blocks(function.blocks)
    graph = graph_of(replace(function, blocks=old), call_arguments(function, facts))
    proposed: set[tuple[Block, ...]] = set()
    for is_eager in (True, False):
        states = [Found(graph, slots(graph)), *Search(graph, settings, is_eager).states()]
        left = MOST_PROPOSALS if function.slots < LARGE else 1
        for state in reversed(states):
            if state.slots >= function.slots or not left:
                break
            made = blocks(state.graph)
            if sum(block.slots for block in made) >= function.slots or made in proposed:
                continue
            proposed.add(made)
            left -= 1
            name = "shape:" + "+".join(state.moves or ("layout",))
            why = "the same decisions by fewer branches and jumps"
            yield Reshape(old, made, name, why, relation(graph, state.graph, facts))


def relation(before: Graph, after: Graph, facts: Facts) -> tuple[CutPoint, ...]:
    """Where both stand at the same point of the program, and that every register which is still read holds the same.

    Not where a register that may be read was never set: what calls are handed in it differs from program to program;
    nor at a bare exit, which jumps to it may become.
    """
    joins = _joins(before) | _joins(after)
    live = after.live_in()
    cuts = []
    for label in before.nodes:
        other = label
        while other in after.twins and other not in after.nodes:
            other = after.twins[other]
        if other in after.nodes and not {label, other} & after.moved and {label, other} & joins:
            state = facts.before(Point(label, 0))
            registers = [number for number in range(FRAME_POINTER) if live[other] >> number & 1]
            is_exit = any(node.is_exit and not node.body for node in (before.nodes[label], after.nodes[other]))
            if not is_exit and not any(state.regs[number].region is Region.UNINIT for number in registers):
                places = [InRegister(number) for number in registers]
                cuts.append(CutPoint(label, other, tuple(Equality(place, place) for place in places)))
    return tuple(cuts)


def _joins(graph: Graph) -> frozenset[str]:
    return frozenset(name for name, others in graph.predecessors().items() if len(others) > 1)


def call_arguments(function: Function, facts: Facts) -> dict[Insn, frozenset[int]]:
    """The registers that each call of the function may read."""
    found: dict[Insn, frozenset[int]] = {}
    for block in plain_blocks(function.blocks):
        for at, insn in enumerate(block.insns):
            if insn.kind is Kind.CALL:
                arguments = frozenset(facts.effects(Point(block.label, at)).arguments)
                found[insn] = found.get(insn, frozenset()) | arguments
    return found

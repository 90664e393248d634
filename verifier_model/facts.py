"""What holds at each point of a function on every path: the exploration's states joined, and replayed inside blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from verifier_model.bpf.demand import (
    ANY_STACK_ACCESS,
    EVERYTHING,
    NO_STACK_ACCESS,
    Demand,
    StackAccess,
)
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.liveness import Liveness, liveness
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.checker.callbacks import is_callback_call
from verifier_model.checker.callgraph import callee_of, depth, is_address_taken, roots_of
from verifier_model.checker.environment import NOTHING_KNOWN, Environment
from verifier_model.checker.explore import Explorer
from verifier_model.checker.stack_access import call_stack_access, insn_stack_access
from verifier_model.checker.transfer import step
from verifier_model.contracts.calls import call_effects
from verifier_model.contracts.effects import CallEffects
from verifier_model.domains.lattice import join
from verifier_model.domains.state import State

_REPLAY_IDS: Final = 1 << 40
_IDS_PER_BLOCK: Final = 1 << 20


class Facts:
    """Facts of one function, over all paths.

    `incomplete` says why nothing is known (then every state is empty and every point counts as reachable), else None.
    """

    def __init__(
        self, unit: Unit, function: Function, entries: dict[tuple[str, int], State], incomplete: str | None
    ) -> None:
        self.unit = unit
        self.function = function
        self.incomplete = incomplete
        self._entries = entries
        self._live: Liveness | None = None
        self._replayed: dict[str, list[State | None]] = {}
        self._index = {block.label: at for at, block in enumerate(function.blocks)}

    def before(self, point: Point) -> State:
        """What holds just before the instruction; at the block's end, before the next block.

        Raises KeyError for a label that the function has not.  At an unreachable point nothing is known.
        """
        return self._at(point) or NOTHING_KNOWN

    def is_reachable(self, point: Point) -> bool:
        """False only when no execution gets there."""
        return self.incomplete is not None or self._at(point) is not None

    def effects(self, point: Point) -> CallEffects:
        """What the call at the point may do; raises ValueError when there is no call."""
        insn = self.function.block(point.label).insns[point.at]
        return call_effects(insn, self.before(point), self.unit, self.function)

    def stack_access(self, point: Point) -> StackAccess:
        """Which bytes of the function's own frame the instruction may read, and which it overwrites for certain."""
        insn = self.function.block(point.label).insns[point.at]
        state = self._at(point)
        if (state is None or self.incomplete is not None) and _may_touch_stack(insn):
            return ANY_STACK_ACCESS
        return NO_STACK_ACCESS if state is None else self._access_in(insn, state)

    def _access_in(self, insn: Insn, state: State) -> StackAccess:
        if not _may_touch_stack(insn):
            return NO_STACK_ACCESS
        if insn.origin.core:
            return ANY_STACK_ACCESS
        if insn.kind is Kind.CALL:
            return call_stack_access(state, call_effects(insn, state, self.unit, self.function))
        return insn_stack_access(insn, state)

    def stack_accesses(self, point: Point, insns: Sequence[Insn]) -> list[StackAccess]:
        """The same for instructions that would run, in a straight line, from the point on."""
        state = self._at(point)
        if state is None or self.incomplete is not None:
            return [ANY_STACK_ACCESS] * len(insns)
        env = Environment(self.unit, self.function, first_id=_REPLAY_IDS << 1)
        accesses = []
        for insn in insns:
            accesses.append(self._access_in(insn, state))
            if not insn.row.is_block_end:
                state = step(env, insn, state)
        return accesses

    def demand_after(self, point: Point) -> Demand:
        """What may still be looked at once the instruction at the point has run."""
        return EVERYTHING if self.incomplete is not None else self._liveness().after(point)

    def demand_before(self, point: Point) -> Demand:
        """What may still be looked at from the point on."""
        return EVERYTHING if self.incomplete is not None else self._liveness().before(point)

    def _liveness(self) -> Liveness:
        if self._live is None:
            self._live = liveness(self.function, self.stack_access)
        return self._live

    def _at(self, point: Point) -> State | None:
        states = self._replayed.get(point.label)
        if states is None:
            states = self._replayed[point.label] = self._replay(point.label)
        return states[point.at]

    def _replay(self, label: str) -> list[State | None]:
        """The states before each instruction of the block and at its end, from the join at its start."""
        insns = self.function.blocks[self._index[label]].insns
        if self.incomplete is not None:
            return [NOTHING_KNOWN] * (len(insns) + 1)
        env = Environment(self.unit, self.function, first_id=_REPLAY_IDS + self._index[label] * _IDS_PER_BLOCK)
        state = self._entries.get((label, 0))
        states = [state]
        for at, insn in enumerate(insns):
            if insn.row.is_block_end:
                pass
            elif callee_of(self.unit, insn) is not None or is_callback_call(insn):
                state = self._entries.get((label, at + 1))
            elif state is not None:
                state = step(env, insn, state)
            states.append(state)
        return states


def _may_touch_stack(insn: Insn) -> bool:
    return insn.row.is_memory_access or insn.kind is Kind.CALL


def analyse(unit: Unit, function: Function) -> Facts:
    """The facts of `function`, seen from every program and global function that reaches it."""
    if function.untouchable is not None:
        return Facts(unit, function, {}, function.untouchable)
    entries: dict[tuple[str, int], State] = {}
    roots = roots_of(unit, function)
    if not roots or (function not in roots and is_address_taken(unit, function.name)):
        roots = (*roots, function)
    next_id = _REPLAY_IDS >> 8
    for root in roots:
        if depth(unit, root) is None:
            return Facts(unit, function, {}, "calls are recursive or too deep")
        explorer = Explorer(Environment(unit, root))
        trouble = explorer.run()
        if trouble is not None:
            return Facts(unit, function, {}, trouble)
        env = Environment(unit, root, first_id=next_id)
        for place, state in explorer.entries.items():
            if place.function == function.name:
                key = (place.label, place.at)
                entries[key] = join(entries[key], state, env.fresh) if key in entries else state
        next_id = env.next_id
    return Facts(unit, function, entries, None)

"""Which stack slots a state still matters by: what no path behind it reads may be anything (clean_verifier_state).

Slots are found to be read while paths are followed, so the answer is good for states whose paths have all been followed
to their ends, and for these it is exact for every path that they cover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import MEMORY_KINDS, STORE_KINDS, Kind
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.callgraph import callee_of
from verifier_model.checker.control import control
from verifier_model.checker.environment import Environment
from verifier_model.checker.equivalence import slot_number
from verifier_model.checker.iterators import is_iterating
from verifier_model.checker.reads import Calls, StackReads
from verifier_model.domains.registers import Region
from verifier_model.domains.state import SLOT_SIZE, STACK_BYTES, StackSlot, State

_ALL_SLOTS: Final = (1 << STACK_BYTES // SLOT_SIZE) - 1


class AliveSlots:
    """Reads and overwrites of one exploration, by instruction and chain of calls."""

    def __init__(self, unit: Unit, root: Function) -> None:
        program = control(unit, root)
        self._index = {(node.function.name, node.label, node.at): node.index for node in program.nodes}
        self._reads = StackReads(program)

    def note(self, env: Environment, function: str, label: str, at: int, insn: Insn, state: State) -> None:
        """Take in what the instruction, whose conditions hold, looked at of the stack (`env.touched`, emptied here)."""
        if insn.kind not in MEMORY_KINDS and insn.kind is not Kind.CALL:
            return
        calls = self._calls(state)
        index = self._index.get((function, label, at))
        if calls is None or index is None:
            env.touched.clear()
            return
        depth = len(calls)
        if insn.kind in MEMORY_KINDS:
            self._reads.note(calls, index, depth, 0, _overwritten(insn, state) if insn.kind in STORE_KINDS else 0)
        elif callee_of(env.unit, insn) is None:
            for register in state.regs[1:6]:
                # What is handed over and not looked at here may be read whole.
                low = register.off + register.value.smin
                known = any((register.frame, low) == (frame, start) for frame, start, _, _ in env.touched)
                if register.region is Region.STACK and not known:
                    self._reads.note(calls, index, depth - register.frame, _ALL_SLOTS, 0)
        for frame, low, high, is_read in env.touched:
            if is_read:
                self._reads.note(calls, index, depth - frame, _mask(low, high), 0)
        env.touched.clear()

    def without_dead(self, place: tuple[str, str, int], state: State) -> State:
        """The state without what nothing behind it reads; all paths from it have been followed."""
        calls, index = self._calls(state), self._index.get(place)
        if calls is None or index is None or any(frame.callback for frame in state.callers) or is_iterating(state):
            # Turns end at states above them: what comes behind these is not all known yet.
            return state
        alive = self._reads.alive_before(calls, index)
        callers = tuple(
            replace(frame, stack=_kept(frame.stack, alive[len(calls) - 1 - at]))
            for at, frame in enumerate(state.callers)
        )
        return State(state.regs, _kept(state.stack, alive[-1]), callers, state.references)

    def _calls(self, state: State) -> Calls | None:
        """Indexes of the open calls, outermost first; None in what runs on its own."""
        calls = []
        for frame in reversed(state.callers):
            index = self._index.get((frame.function, frame.label, frame.at - (not frame.callback)))
            if index is None:
                return None
            calls.append(index)
        return tuple(calls)


def _kept(stack: Mapping[int, StackSlot], alive: int) -> dict[int, StackSlot]:
    return {off: slot for off, slot in stack.items() if slot.is_owned or alive >> slot_number(off) & 1}


def _mask(low: int, high: int) -> int:
    mask = 0
    for first in range(low & -SLOT_SIZE, min(high, 0), SLOT_SIZE):
        mask |= 1 << slot_number(first)
    return mask


def _overwritten(insn: Insn, state: State) -> int:
    """The slot of the own frame that a store writes whole, as a mask."""
    pointer = state.regs[insn.dst]
    at = pointer.constant_off if pointer.region is Region.STACK and pointer.frame == 0 else None
    is_whole = at is not None and insn.row.size == SLOT_SIZE and (at + insn.off) % SLOT_SIZE == 0
    return 1 << slot_number(at + insn.off) if is_whole and at is not None and not insn.origin.core else 0

"""Which stack slots of a function are still read behind an instruction, as far as the walk has seen
(kernel/bpf/liveness.c).

What is seen on one path counts for all paths through the same instruction in the same chain of calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from verifier_model.bpf.isa import Kind
from verifier_model.checker.control import Control
from verifier_model.checker.equivalence import slot_number
from verifier_model.domains.state import StackSlot, State

Calls = tuple[int, ...]


def without_dead(state: State, alive: list[int]) -> State:
    """The state without the slots that are not in the masks (outermost frame first)."""

    def kept(stack: Mapping[int, StackSlot], mask: int) -> dict[int, StackSlot]:
        return {off: slot for off, slot in stack.items() if mask >> slot_number(off) & 1}

    depth = len(state.callers)
    callers = tuple(
        replace(frame, stack=kept(frame.stack, alive[depth - 1 - at])) for at, frame in enumerate(state.callers)
    )
    return State(state.regs, kept(state.stack, alive[depth]), callers, state.references)


class StackReads:
    """Reads and complete overwrites by slot masks; a callee's accesses count at the call."""

    def __init__(self, program: Control) -> None:
        self.program = program
        self._frames: dict[Calls, _Frame] = {}

    def note(self, calls: Calls, index: int, frame: int, read: int, written: int) -> None:
        """One visit of instruction `index` under `calls` read and overwrote these slots of frame `frame`."""
        if frame < len(calls):
            calls, index, written = calls[:frame], calls[frame], 0
        known = self._frames.get(calls)
        if known is None:
            known = self._frames[calls] = _Frame(self.program, index)
        known.note(index, read, written)

    def alive_before(self, calls: Calls, index: int) -> list[int]:
        """Per frame, outermost first, the slots that may be read from instruction `index` on."""
        found = []
        for frame in range(len(calls) + 1):
            known = self._frames.get(calls[:frame])
            at = calls[frame] if frame < len(calls) else index
            found.append(0 if known is None else known.alive(at))
        return found


class _Frame:
    def __init__(self, program: Control, index: int) -> None:
        self.program = program
        self.span = program.ranges[program.nodes[index].function.name]
        self.reads: dict[int, int] = {}
        self.writes: dict[int, int] = {}
        self.is_stale = True
        self.live = [0] * len(self.span)

    def note(self, index: int, read: int, written: int) -> None:
        if read & ~self.reads.get(index, 0):
            self.reads[index] = self.reads.get(index, 0) | read
            self.is_stale = True
        certain = self.writes.get(index)
        now = written if certain is None else certain & written
        if now != (certain or 0):
            self.is_stale = True
        self.writes[index] = now

    def alive(self, index: int) -> int:
        if self.is_stale:
            self._solve()
            self.is_stale = False
        return self.live[index - self.span.start]

    def _solve(self) -> None:
        nodes, start = self.program.nodes, self.span.start
        live = self.live = [0] * len(self.span)
        changed = bool(self.reads)
        while changed:
            changed = False
            for index in reversed(self.span):
                node = nodes[index]
                after = live[node.following - start] if node.following >= 0 else 0
                if node.target >= 0 and node.insn.kind is not Kind.JUMP:
                    after |= live[node.target - start]
                now = after & ~self.writes.get(index, 0) | self.reads.get(index, 0)
                if now != live[index - start]:
                    live[index - start] = now
                    changed = True

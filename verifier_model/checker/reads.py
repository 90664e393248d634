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
        # What runs on its own has no calls above it either, but is another function.
        self._frames: dict[tuple[Calls, str], _Frame] = {}

    def note(self, calls: Calls, index: int, frame: int, read: int, written: int) -> None:
        """One visit of instruction `index` under `calls` read and overwrote these slots of frame `frame`."""
        if frame < len(calls):
            calls, index, written = calls[:frame], calls[frame], 0
        key = calls, self.program.nodes[index].function.name
        known = self._frames.get(key)
        if known is None:
            known = self._frames[key] = _Frame(self.program, index)
        known.note(index, read, written)

    def alive_before(self, calls: Calls, index: int) -> list[int]:
        """Per frame, outermost first, the slots that may be read from instruction `index` on."""
        found = []
        for frame in range(len(calls) + 1):
            at = calls[frame] if frame < len(calls) else index
            known = self._frames.get((calls[:frame], self.program.nodes[at].function.name))
            found.append(0 if known is None else known.alive(at))
        return found


class _Frame:
    """One function under one chain of calls; lists are indexed from its first instruction."""

    def __init__(self, program: Control, index: int) -> None:
        span = program.ranges[program.nodes[index].function.name]
        self.start = span.start
        self.reads = [0] * len(span)
        self.writes: list[int | None] = [None] * len(span)
        self.is_stale = False
        # Behind the last instruction nothing is alive: what leads nowhere leads there.
        self.live = [0] * (len(span) + 1)
        nowhere = len(span)
        self.edges = [
            (
                at - span.start,
                node.following - span.start if node.following >= 0 else nowhere,
                node.target - span.start if node.target >= 0 and node.insn.kind is not Kind.JUMP else nowhere,
            )
            for at in reversed(span)
            for node in (program.nodes[at],)
        ]

    def note(self, index: int, read: int, written: int) -> None:
        at = index - self.start
        if read & ~self.reads[at]:
            self.reads[at] |= read
            self.is_stale = True
        certain = self.writes[at]
        now = written if certain is None else certain & written
        if now != (certain or 0):
            self.is_stale = True
        self.writes[at] = now

    def alive(self, index: int) -> int:
        if self.is_stale:
            self._solve()
            self.is_stale = False
        return self.live[index - self.start]

    def _solve(self) -> None:
        reads, kept = self.reads, [~(mask or 0) for mask in self.writes]
        live = self.live = [0] * len(self.live)
        changed = any(reads)
        while changed:
            changed = False
            for at, following, target in self.edges:
                now = (live[following] | live[target]) & kept[at] | reads[at]
                if now != live[at]:
                    live[at] = now
                    changed = True

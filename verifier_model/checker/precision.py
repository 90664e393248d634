"""Which numbers the kernel relied on: precision marks traced back through the instructions (mark_chain_precision).

A mark is asked for where a number decides something (a branch, an address, a size).  It travels back through copies,
spills, fills and arithmetic to the states kept on the way, where it makes later comparisons strict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind, Operand
from verifier_model.checker.callgraph import MAX_FRAMES
from verifier_model.checker.control import Node
from verifier_model.checker.equivalence import slot_number
from verifier_model.checker.linked import base_of
from verifier_model.domains.state import State

_ARGUMENTS: Final = 0b111110
ALL: Final = -1

# (frame, register or -1, slot or -1)
Linked = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction that a path went through, since the last kept state; `before` is the one before it.

    `depth`: of the frame it ran in, 0 outermost.  `access`: (frame, slot) of a spill or fill.  `linked`: what a branch
    taught the same range, since all of it held one number.  `turn`: it led into a callback, or out of one.
    """

    before: Step | None
    node: Node
    depth: int
    access: tuple[int, int] | None = None
    linked: Linked = ()
    turn: bool = False


@dataclass(slots=True, eq=False)
class Kept:
    """A state kept at a stop.  `calls`: indexes of the calls that are open, outermost first.

    `branches`: paths through it that have not ended.  `regs` and `slots`: the precise ones, a mask per frame.
    `loop`: the state at the head of a loop that paths from here came back to.
    """

    state: State
    index: int
    calls: tuple[int, ...]
    parent: Kept | None
    history: Step | None
    branches: int = 1
    hits: int = 0
    misses: int = 0
    is_clean: bool = False
    regs: list[int] = field(default_factory=lambda: [0] * MAX_FRAMES)
    slots: list[int] = field(default_factory=lambda: [0] * MAX_FRAMES)
    loop: Kept | None = None


@dataclass(slots=True)
class Wanted:
    """Registers and slots whose exact value mattered, a mask per frame."""

    regs: list[int] = field(default_factory=lambda: [0] * MAX_FRAMES)
    slots: list[int] = field(default_factory=lambda: [0] * MAX_FRAMES)

    @property
    def is_empty(self) -> bool:
        return not any(self.regs) and not any(self.slots)


def trace(wanted: Wanted, history: Step | None, kept: Kept | None) -> None:
    """Mark what the wanted values were computed from in `kept` and the states before it; `wanted` is used up.

    `history` holds the instructions since `kept`, without the one that asks.
    """
    nearest = kept
    while not wanted.is_empty:
        step = history
        while step is not None:
            if not _back(wanted, step):
                _mark_everything(nearest)
                return
            if wanted.is_empty:
                return
            step = step.before
        if kept is None:
            _mark_everything(nearest)
            return
        _mark(kept, wanted)
        history, kept = kept.history, kept.parent


def relied_on(old: Kept, live: list[int]) -> Wanted:
    """What was relied on behind a kept state, to be traced back on the path that it now covers."""
    wanted = Wanted()
    depth = len(old.calls)
    for at in range(depth + 1):
        frame = old.state if at == depth else old.state.callers[depth - 1 - at]
        if old.regs[at]:
            for reg, register in enumerate(frame.regs):
                if old.regs[at] >> reg & 1 and live[at] >> reg & 1 and register.is_scalar:
                    wanted.regs[at] |= 1 << reg
        if old.slots[at]:
            for off, slot in frame.stack.items():
                if slot.spill is not None and slot.spill.is_scalar and old.slots[at] >> slot_number(off) & 1:
                    wanted.slots[at] |= 1 << slot_number(off)
    return wanted


def holders(state: State, ids: set[int]) -> Linked:
    """Registers and slots of every frame that hold a number with one of `ids`, or at a distance from it."""
    families = {base_of(number) for number in ids}
    found: list[tuple[int, int, int]] = []
    depth = len(state.callers)
    for at in range(depth + 1):
        frame = state if at == depth else state.callers[depth - 1 - at]
        for reg, register in enumerate(frame.regs):
            if register.is_scalar and register.id and base_of(register.id) in families:
                found.append((at, reg, -1))
        for off, slot in frame.stack.items():
            if slot.spill is not None and slot.spill.is_scalar and slot.spill.id and base_of(slot.spill.id) in families:
                found.append((at, -1, slot_number(off)))
    return tuple(found)


def _mark(kept: Kept, wanted: Wanted) -> None:
    """Move what `kept` still has to be told into its masks; the rest was known or is no number."""
    depth = len(kept.state.callers)
    for at in range(MAX_FRAMES):
        if at > depth:
            wanted.regs[at] = wanted.slots[at] = 0
            continue
        if not (wanted.regs[at] or wanted.slots[at]):
            continue
        frame = kept.state if at == depth else kept.state.callers[depth - 1 - at]
        numbers = sum(1 << reg for reg, register in enumerate(frame.regs) if register.is_scalar)
        spills = 0
        for off, slot in frame.stack.items():
            if slot.spill is not None and slot.spill.is_scalar:
                spills |= 1 << slot_number(off)
        wanted.regs[at] &= numbers & ~kept.regs[at]
        wanted.slots[at] &= spills & ~kept.slots[at]
        kept.regs[at] |= wanted.regs[at]
        kept.slots[at] |= wanted.slots[at]


def _mark_everything(kept: Kept | None) -> None:
    while kept is not None:
        kept.regs[:] = [ALL] * MAX_FRAMES
        kept.slots[:] = [ALL] * MAX_FRAMES
        kept = kept.parent


def _back(wanted: Wanted, step: Step) -> bool:
    """Turn what is wanted behind the instruction into what is wanted before it; False where that cannot be told."""
    _link(wanted, step.linked)
    known = _back_through(wanted, step)
    _link(wanted, step.linked)
    return known


def _link(wanted: Wanted, linked: Linked) -> None:
    if any(
        (wanted.regs[frame] >> reg & 1) if reg >= 0 else (wanted.slots[frame] >> slot & 1)
        for frame, reg, slot in linked
    ):
        for frame, reg, slot in linked:
            if reg >= 0:
                wanted.regs[frame] |= 1 << reg
            else:
                wanted.slots[frame] |= 1 << slot


def _back_through(wanted: Wanted, step: Step) -> bool:
    rule = _RULES.get(step.node.insn.kind)
    return rule is None or rule(wanted, step)


def _source(insn: Insn) -> int:
    # The frame pointer is never a number.
    return 1 << insn.src if insn.src != FRAME_POINTER else 0


def _alu(wanted: Wanted, step: Step) -> bool:
    insn, depth = step.node.insn, step.depth
    mine = wanted.regs[depth]
    if mine >> insn.dst & 1:
        if insn.row.op.startswith("mov"):
            mine &= ~(1 << insn.dst)
        wanted.regs[depth] = mine | (_source(insn) if insn.row.operand is Operand.REG else 0)
    return True


def _loaded(wanted: Wanted, step: Step, register: int) -> bool:
    if wanted.regs[step.depth] & register:
        wanted.regs[step.depth] &= ~register
        if step.access is not None:
            wanted.slots[step.access[0]] |= 1 << step.access[1]
    return True


def _load(wanted: Wanted, step: Step) -> bool:
    return _loaded(wanted, step, 1 << step.node.insn.dst)


def _atomic(wanted: Wanted, step: Step) -> bool:
    insn = step.node.insn
    if insn.row.fetch:
        return _loaded(wanted, step, 1 if insn.row.op == "cmpxchg" else _source(insn))
    return _store(wanted, step)


def _store(wanted: Wanted, step: Step) -> bool:
    insn, depth = step.node.insn, step.depth
    if wanted.regs[depth] >> insn.dst & 1:
        # An address is wanted as a number: pointers were subtracted.
        return False
    if step.access is not None:
        frame, bit = step.access[0], 1 << step.access[1]
        if wanted.slots[frame] & bit:
            wanted.slots[frame] &= ~bit
            wanted.regs[depth] |= 0 if insn.kind is Kind.STORE_IMM else _source(insn)
    return True


def _fresh(wanted: Wanted, step: Step) -> bool:
    wanted.regs[step.depth] &= ~(1 << step.node.insn.dst)
    return True


def _legacy(wanted: Wanted, step: Step) -> bool:
    return not wanted.regs[step.depth] & 1


def _call(wanted: Wanted, step: Step) -> bool:
    regs, depth = wanted.regs, step.depth
    if step.turn:
        # What a callback gets comes from whoever calls it.
        regs[depth + 1] = wanted.slots[depth + 1] = 0
    elif step.node.callee is None:
        regs[depth] &= ~1
        if depth:
            # After a tail call the caller goes on with a result that comes from elsewhere.
            regs[depth - 1] &= ~1
    else:
        regs[depth] |= regs[depth + 1] & _ARGUMENTS
        regs[depth + 1] = wanted.slots[depth + 1] = 0
    return True


def _exit(wanted: Wanted, step: Step) -> bool:
    regs, depth = wanted.regs, step.depth
    if step.turn:
        regs[depth - 1] &= ~(_ARGUMENTS | 1)
    elif depth and regs[depth - 1] & 1:
        regs[depth - 1] &= ~1
        regs[depth] |= 1
    return True


def _branch(wanted: Wanted, step: Step) -> bool:
    insn = step.node.insn
    both = 1 << insn.dst | _source(insn)
    if insn.row.operand is Operand.REG and wanted.regs[step.depth] & both:
        wanted.regs[step.depth] |= both
    return True


_RULES: Final[Mapping[Kind, Callable[[Wanted, Step], bool]]] = {
    Kind.ALU: _alu,
    **dict.fromkeys(LOAD_KINDS, _load),
    **dict.fromkeys(STORE_KINDS, _store),
    Kind.ATOMIC: _atomic,
    Kind.LOAD_WIDE: _fresh,
    Kind.CAST: _fresh,
    Kind.LEGACY_LOAD: _legacy,
    Kind.CALL: _call,
    Kind.EXIT: _exit,
    Kind.BRANCH: _branch,
}

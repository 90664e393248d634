"""Numbers that a loop changes and that nothing has relied on, forgotten at its next turn (widen_imprecise_scalars)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from verifier_model.checker.equivalence import slot_number
from verifier_model.checker.precision import Kept
from verifier_model.domains.registers import Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import EMPTY_SLOT, StackSlot, State

_ANY: Final = Register.scalar(Scalar.top())


def forgotten(old: Kept, state: State) -> State:
    """The state with numbers forgotten that differ from the kept state's, unless they are precise there.

    `state` has the same calls as `old`.
    """
    depth = len(old.state.callers)
    regs, stack = _frame(old, depth, (old.state.regs, old.state.stack), (state.regs, state.stack))
    callers = []
    for at, frame in enumerate(state.callers):
        was = old.state.callers[at]
        outer_regs, outer_stack = _frame(old, depth - 1 - at, (was.regs, was.stack), (frame.regs, frame.stack))
        callers.append(replace(frame, regs=outer_regs, stack=outer_stack))
    return replace(state, regs=regs, stack=stack, callers=tuple(callers))


_Frame = tuple[tuple[Register, ...], Mapping[int, StackSlot]]


def _frame(old: Kept, at: int, before: _Frame, now: _Frame) -> _Frame:
    regs = tuple(
        _widened(was, register, bool(old.regs[at] >> reg & 1))
        for reg, (was, register) in enumerate(zip(before[0], now[0], strict=True))
    )
    stack = dict(now[1])
    for off, slot in now[1].items():
        was = before[1].get(off, EMPTY_SLOT)
        if slot.spill is None or slot.is_owned or was.spill is None or slot.marks.count("s") != 8:
            continue
        spill = _widened(was.spill, slot.spill, bool(old.slots[at] >> slot_number(off) & 1))
        if spill is not slot.spill:
            stack[off] = replace(slot, spill=spill)
    return regs, stack


def _widened(was: Register, now: Register, is_precise: bool) -> Register:
    if is_precise or not was.is_scalar or not now.is_scalar or was.value == now.value:
        return now
    return _ANY

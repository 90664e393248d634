"""Stores to and loads from the stack at known offsets, slot by slot as the kernel keeps them
(check_stack_write_fixed_off, check_stack_read_fixed_off): narrow spills keep their number, and zero bytes cost
precision.

A slot with a number of fewer than eight bytes has "s" in its lowest bytes only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from verifier_model.checker.environment import ZERO, Environment, with_reg
from verifier_model.checker.linked import distance_of
from verifier_model.checker.memory import frame_stack, move_frames, with_stack
from verifier_model.domains.registers import Register
from verifier_model.domains.scalar import Scalar, keep_low, sign_extend
from verifier_model.domains.state import EMPTY_SLOT, SLOT_SIZE, StackSlot, State

_BROKEN: Final = str.maketrans("s", "m")
_ZERO: Final = Register.scalar(ZERO)
_ANY: Final = Register.scalar(Scalar.top())


class Access(NamedTuple):
    """What came of an access.  `slot`: the first byte of the slot that was spilled to or filled from, else None.

    `wants_source`: the stored register must be exactly 0 for what is now believed of the slot.
    """

    state: State
    slot: int | None = None
    wants_source: bool = False


def width(value: Scalar) -> int:
    """Bits of the largest number."""
    return value.umax.bit_length()


def with_number_id(env: Environment, state: State, reg: int) -> State:
    """The state in which the unknown number in `reg` has an id that copies can share."""
    register = state.regs[reg]
    if register.is_scalar and distance_of(register.id):
        # Only the number itself is copied, no longer its distance from another.
        register = Register.scalar(register.value)
        state = with_reg(state, reg, register)
    if register.is_scalar and register.id == 0 and register.value.bits_mask:
        return with_reg(state, reg, Register.scalar(register.value, env.fresh()))
    return state


def store(env: Environment, state: State, frame: int, off: int, size: int, source: int | Register) -> Access:
    """A store of `size` bytes at `off` from the frame's r10, of register number `source` or of an immediate."""
    first, within = off & -SLOT_SIZE, off & SLOT_SIZE - 1
    is_number = (state.regs[source] if isinstance(source, int) else source).is_scalar
    if within == 0 and is_number and isinstance(source, int) and width(state.regs[source].value) <= 8 * size:
        state = with_number_id(env, state, source)
    value = state.regs[source] if isinstance(source, int) else source
    stack = frame_stack(state, frame)
    if stack is None:
        return Access(state)
    old = stack.get(first, EMPTY_SLOT)
    if within == 0 and is_number:
        kept = value
        if size < SLOT_SIZE and width(value.value) > 8 * size:
            kept = Register.scalar(keep_low(8 * size, value.value))
        marks = "s" * size + old.marks[size:].translate(_BROKEN)
        return Access(with_stack(state, frame, {**stack, first: StackSlot(marks, kept)}), first)
    if not is_number and size == SLOT_SIZE and within == 0:
        slot = StackSlot("ssssssss", move_frames(value, -frame))
        return Access(with_stack(state, frame, {**stack, first: slot}), first)
    is_zero = is_number and value.value.constant == 0
    marks = old.marks.translate(_BROKEN)
    marks = (marks[:within] + ("0" if is_zero else "m") * size + marks[within + size :])[:SLOT_SIZE]
    state = with_stack(state, frame, {**stack, first: StackSlot(marks)})
    return Access(state, None, is_zero and isinstance(source, int))


def load(state: State, frame: int, off: int, size: int, is_signed: bool) -> tuple[Register, int | None]:
    """What a load gives, and the first byte of the slot when it is a fill."""
    stack = frame_stack(state, frame)
    first, within = off & -SLOT_SIZE, off & SLOT_SIZE - 1
    slot = EMPTY_SLOT if stack is None else stack.get(first, EMPTY_SLOT)
    loaded, filled = _ANY, None
    marks = slot.marks[within : within + size]
    if slot.spill is not None and slot.marks[0] == "s":
        spill, spilled = slot.spill, slot.marks.count("s")
        if size == SLOT_SIZE == spilled:
            return move_frames(spill, frame), first
        if spill.is_scalar and within == 0 and size <= spilled:
            loaded, filled = spill, first
            if width(spill.value) > 8 * size:
                loaded = Register.scalar(spill.value)
        elif spill.is_scalar and marks == "s" * size and spill.value.constant == 0:
            loaded, filled = _ZERO, first
        elif marks == "0" * size:
            loaded = _ZERO
    elif marks == "0" * size:
        loaded = _ZERO
    return _sized(loaded, size, is_signed), filled


def _sized(register: Register, size: int, is_signed: bool) -> Register:
    if size == SLOT_SIZE:
        return register
    if is_signed:
        return Register.scalar(sign_extend(8 * size, register.value))
    low = keep_low(8 * size, register.value)
    return register if low is register.value else Register.scalar(low, register.id)

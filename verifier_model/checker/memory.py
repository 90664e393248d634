"""What loads, stores and calls do to the stack, and what a load gives in each region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import ByteOrder
from verifier_model.checker import kernel_objects
from verifier_model.checker.environment import META_START, PACKET_END, PACKET_START, UNKNOWN, ZERO, Environment
from verifier_model.contracts.contexts import ContextField
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar, alu, keep_low, sign_extend
from verifier_model.domains.state import EMPTY_SLOT, SLOT_SIZE, STACK_BYTES, StackSlot, State

Stack = Mapping[int, StackSlot]
_SPILLED: Final = "ssssssss"
_SOFTEN: Final = str.maketrans("0s", "mm")
_SIZED: Final = {size: Register.scalar(Scalar.of_width(8 * size)) for size in (1, 2, 4, 8)}
_STARTS: Final = {
    Region.PACKET: PACKET_START,
    Region.PACKET_META: META_START,
    Region.PACKET_END: PACKET_END,
}


def stack_span(pointer: Register, off: int, size: int) -> tuple[int, int] | None:
    """[lowest byte, end) that an access may touch, counted from its frame's r10; None when it may leave the frame."""
    value = pointer.value
    low, high = pointer.off + off + value.smin, pointer.off + off + value.smax + size
    return (low, high) if low >= -STACK_BYTES and high <= 0 else None


def frame_stack(state: State, frame: int) -> Stack | None:
    if frame == 0:
        return state.stack
    return state.callers[frame - 1].stack if frame <= len(state.callers) else None


def with_stack(state: State, frame: int, stack: Stack) -> State:
    if frame == 0:
        return State(state.regs, stack, state.callers, state.references)
    callers = list(state.callers)
    callers[frame - 1] = replace(callers[frame - 1], stack=stack)
    return State(state.regs, state.stack, tuple(callers), state.references)


def owner_of_frame(env: Environment, state: State, frame: int) -> str:
    """The function whose frame it is, "" where that is not known."""
    if frame == 0:
        return env.function.name
    return state.callers[frame - 1].function if frame <= len(state.callers) else ""


def holds_no_pointer(env: Environment, state: State, frame: int, first: int) -> bool:
    """May the kernel read the slot in parts, and as numbers, wherever it was not written?

    It may, as long as no path puts a pointer there: of a slot that paths left differently nothing is known but that.
    """
    knows, owner = env.knows, owner_of_frame(env, state, frame)
    if knows is None or not knows.uninitialised_stack or not owner or (owner, first) in env.pointer_slots:
        return False
    stack = frame_stack(state, frame)
    if stack is None or (not knows.unallocated_stack and first < min(stack, default=0)):
        return False
    env.plain_slots.add((owner, first))
    return True


def move_frames(register: Register, up: int) -> Register:
    """The same address seen from `up` frames further in (negative: further out)."""
    return replace(register, frame=register.frame + up) if register.region is Region.STACK else register


def read_stack(state: State, pointer: Register, off: int, size: int, order: ByteOrder) -> Register:
    """What a load of `size` bytes gives, zero-extended."""
    stack, span = frame_stack(state, pointer.frame), stack_span(pointer, off, size)
    if stack is None or span is None or span[1] - span[0] != size:
        return _SIZED[size] if size < SLOT_SIZE else UNKNOWN
    first, within = span[0] & -SLOT_SIZE, span[0] & SLOT_SIZE - 1
    slot = stack.get(first, EMPTY_SLOT)
    if within + size > SLOT_SIZE:
        return _SIZED[size] if size < SLOT_SIZE else UNKNOWN
    if slot.is_owned:
        return _SIZED[size] if size < SLOT_SIZE else UNKNOWN
    if slot.spill is None:
        marks = slot.marks[within : within + size]
        if marks == "0" * size:
            return Register.scalar(ZERO)
        return UNKNOWN if size == SLOT_SIZE and "?" in marks else _SIZED[size]
    if size == SLOT_SIZE:
        return move_frames(slot.spill, pointer.frame)
    if not slot.spill.is_scalar:
        return _SIZED[size]
    shift = 8 * (within if order == "little" else SLOT_SIZE - size - within)
    moved = alu("rsh", 64, slot.spill.value, Scalar.const(shift)) if shift else slot.spill.value
    return Register.scalar(keep_low(8 * size, moved))


def spill(state: State, frame: int, off: int, register: Register) -> State:
    """The state after an aligned 8-byte store of `register` at `off`."""
    stack = frame_stack(state, frame)
    if stack is None:
        return state
    return with_stack(state, frame, {**stack, off: StackSlot(_SPILLED, move_frames(register, -frame))})


def mark(state: State, frame: int, low: int, high: int, with_mark: str) -> State:
    """The state after bytes [low, high) were certainly written: `with_mark` is "0" or "m"."""
    stack = frame_stack(state, frame)
    if stack is None:
        return state
    changed = dict(stack)
    for first in range(low & -SLOT_SIZE, high, SLOT_SIZE):
        marks = list(plain_marks(changed.get(first, EMPTY_SLOT)))
        for at in range(max(low, first), min(high, first + SLOT_SIZE)):
            marks[at - first] = with_mark
        changed[first] = StackSlot("".join(marks))
    return with_stack(state, frame, changed)


def plain_marks(slot: StackSlot) -> str:
    """The slot's marks once its spilled register is broken up by a partial write."""
    if slot.spill is None:
        return slot.marks
    return "00000000" if slot.spill.is_scalar and slot.spill.value.constant == 0 else "mmmmmmmm"


def soften(state: State, frame: int, low: int, high: int) -> State:
    """The state after bytes of [low, high) may have been written with anything."""
    stack = frame_stack(state, frame)
    if stack is None:
        return state
    changed = dict(stack)
    for first, slot in stack.items():
        if first < high and first + SLOT_SIZE > low and not slot.is_owned:
            marks = slot.marks
            if slot.spill is not None:
                # The whole register may have been replaced; a pointer's bytes are then no number for certain.
                soft = "m" * SLOT_SIZE if slot.spill.is_scalar else "?" * SLOT_SIZE
            else:
                soft = "".join(
                    mark.translate(_SOFTEN) if low <= first + at < high else mark for at, mark in enumerate(marks)
                )
            if soft != marks:
                changed[first] = StackSlot(soft)
    return with_stack(state, frame, changed)


def soften_all(state: State) -> State:
    """The state after anything may have been written to any frame."""
    for frame in range(len(state.callers) + 1):
        state = soften(state, frame, -STACK_BYTES, 0)
    return state


def write(state: State, pointer: Register, off: int, size: int, value: Register) -> State:
    """The state after a store of the low `size` bytes of `value` through `pointer` + `off`."""
    if pointer.region is Region.STACK:
        span = stack_span(pointer, off, size)
        if span is None:
            return soften_all(state)
        if span[1] - span[0] != size:
            return soften(state, pointer.frame, *span)
        if size == SLOT_SIZE and span[0] % SLOT_SIZE == 0:
            return spill(state, pointer.frame, span[0], value)
        low = keep_low(8 * size, value.value) if value.is_scalar else None
        return mark(state, pointer.frame, *span, "0" if low is not None and low.constant == 0 else "m")
    return state if is_inside(pointer, off, size) else soften_all(state)


def is_inside(pointer: Register, off: int, size: int) -> bool:
    """Do the facts alone show that the access stays inside the pointer's object (never true of the stack)?"""
    if pointer.nullable:
        return False
    if pointer.region is Region.CTX:
        # No context reaches a page, and nothing of the stack lies in one.
        at = pointer.constant_off
        return at is not None and 0 <= at + off <= 4096 - size
    value = pointer.value
    low = pointer.off + off + value.smin
    if pointer.region in (Region.PACKET, Region.PACKET_META):
        return value.smin >= 0 and pointer.off + off >= 0 and pointer.off + off + size <= pointer.packet_range
    if pointer.region in (Region.MAP_VALUE, Region.DATA, Region.MEMORY):
        return low >= 0 and pointer.off + off + value.smax + size <= pointer.size
    return False


def first_slot(pointer: Register) -> int | None:
    """Bytes from its frame's r10 to the slot that the pointer is the start of; None for any other pointer."""
    at = pointer.constant_off if pointer.region is Region.STACK else None
    return None if at is None or at % SLOT_SIZE else at


def load(env: Environment, state: State, pointer: Register, off: int, size: int, is_signed: bool) -> Register:
    """What a load gives.  Nothing read from memory that others may change or patch is ever a constant."""
    loaded = _load(env, state, pointer, off, size)
    if is_signed and size < SLOT_SIZE:
        value = loaded.value if loaded.is_scalar else Scalar.of_width(8 * size)
        return Register.scalar(sign_extend(8 * size, value))
    return loaded


def _load(env: Environment, state: State, pointer: Register, off: int, size: int) -> Register:
    region = pointer.region
    if region is Region.STACK:
        loaded = read_stack(state, pointer, off, size, env.unit.byte_order)
        if loaded is UNKNOWN and env.modest and _is_unwritten(env, state, pointer, off):
            return _SIZED[SLOT_SIZE]
        # Not every kernel knows what part of a spilled number or of a zeroed slot holds.
        is_number = size < SLOT_SIZE or pointer.value.constant is None
        # At an address that it does not know, a kernel takes whatever it finds for a number.
        return _SIZED[size] if env.modest and is_number else loaded
    if region is Region.CTX:
        return _load_context(env, pointer, off, size)
    if region is Region.DATA and env.unit.has_known_constants:
        return _constant(env, pointer, off, size)
    if region in (Region.PACKET, Region.PACKET_META, Region.MAP_VALUE, Region.DATA, Region.MEMORY):
        return _SIZED[size]
    if region is Region.MAP:
        return kernel_objects.loaded_from_map(env, pointer, off, size)
    if region is Region.OBJECT:
        return kernel_objects.loaded(env, state, pointer, off, size)
    # Behind an unknown pointer there may be a context, a spilled pointer or a kernel object's pointer field.
    return _SIZED[size] if size < 4 else UNKNOWN


def _constant(env: Environment, pointer: Register, off: int, size: int) -> Register:
    """What frozen data holds there (verifier.c, bpf_map_direct_read)."""
    section, at = env.unit.data.get(pointer.symbol), pointer.constant_off
    if section is None or at is None or not 0 <= at + off <= len(section.constants) - size:
        return _SIZED[size]
    content = section.constants[at + off : at + off + size]
    return Register.scalar(Scalar.const(int.from_bytes(content, env.unit.byte_order)))


def _is_unwritten(env: Environment, state: State, pointer: Register, off: int) -> bool:
    """Is this a whole slot that holds no pointer, nor anything of the kernel's?"""
    at = first_slot(pointer)
    if at is None or off % SLOT_SIZE:
        return False
    slot = (frame_stack(state, pointer.frame) or {}).get(at + off, EMPTY_SLOT)
    return slot.spill is None and holds_no_pointer(env, state, pointer.frame, at + off)


def _load_context(env: Environment, pointer: Register, off: int, size: int) -> Register:
    at = pointer.constant_off
    field = None
    if at is not None and kernel_objects.is_writable_argument(env, at + off, size):
        return kernel_objects.writable_argument(env)
    if at is not None and env.program is not None:
        if env.program.arguments:
            return kernel_objects.loaded_argument(env, at + off, size)
        field = env.program.field_at(at + off, size)
    return context_value(env, field, size)


def context_value(env: Environment, field: ContextField | None, size: int) -> Register:
    """What a load of `size` bytes of a context's field gives."""
    if field is None:
        return _SIZED[size] if size < 4 else UNKNOWN
    if field.region in _STARTS:
        return _STARTS[field.region]
    if field.region is Region.SCALAR:
        return _SIZED[size]
    return kernel_objects.object_pointer(env, kernel_objects.named(env, field.object), field.nullable)

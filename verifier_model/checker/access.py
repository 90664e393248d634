"""May this memory access be made?  One rule per region (check_mem_access in kernel/bpf/verifier.c)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from verifier_model.bpf.unit import MapDef
from verifier_model.checker.environment import MAX_VAR_OFF, Environment
from verifier_model.checker.kernel_objects import argument_problem, is_writable_argument, map_problem_at, object_problem
from verifier_model.checker.memory import frame_stack, holds_no_pointer
from verifier_model.contracts.contexts import OLDEST
from verifier_model.contracts.map_fields import fields_of, overlapping
from verifier_model.contracts.maps import MAP_TYPES, READ_ONLY_FOR_PROGRAMS, WRITE_ONLY_FOR_PROGRAMS
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import EMPTY_SLOT, SLOT_SIZE, STACK_BYTES, State

_NAMES: Final = {
    Region.UNINIT: "?",
    Region.SCALAR: "scalar",
    Region.CTX: "ctx",
    Region.STACK: "fp",
    Region.PACKET: "pkt",
    Region.PACKET_META: "pkt_meta",
    Region.PACKET_END: "pkt_end",
    Region.MAP: "map_ptr",
    Region.MAP_VALUE: "map_value",
    Region.DATA: "map_value",
    Region.MEMORY: "mem",
    Region.OBJECT: "ptr_",
    Region.FUNCTION: "func",
    Region.OWNED: "owned",
    Region.UNKNOWN: "unknown",
}
_IP_ALIGN: Final = 2  # packets start so that the IP header behind the Ethernet header is aligned
_NO_ATOMICS: Final = frozenset({Region.MAP, Region.CTX, Region.PACKET, Region.PACKET_META, Region.OBJECT})


def type_name(register: Register) -> str:
    return _NAMES[register.region] + ("_or_null" if register.nullable else "")


def access_problem(
    env: Environment, state: State, reg: int, off: int, size: int, is_store: bool, is_atomic: bool = False
) -> str | None:
    """Why the kernel refuses `size` bytes at register `reg` + `off`; None when it does not."""
    pointer = state.regs[reg]
    rule = _RULES.get(pointer.region)
    if rule is None or pointer.nullable:
        return f"R{reg} invalid mem access '{type_name(pointer)}'"
    if is_atomic and pointer.region in _NO_ATOMICS:
        return f"BPF_ATOMIC stores into R{reg} {type_name(pointer)} is not allowed"
    if is_atomic and (pointer.off + off | pointer.value.bits_value | pointer.value.bits_mask) % size:
        # Atomics are aligned on every architecture (strict_alignment_once).
        return f"misaligned access off {pointer.off}+{off} size {size}"
    if env.knows is not None and env.knows.strict_alignment:
        shift = _IP_ALIGN if pointer.region in (Region.PACKET, Region.PACKET_META) else 0
        if (shift + pointer.off + off + pointer.value.bits_value | pointer.value.bits_mask) % size:
            return f"misaligned {type_name(pointer)} access off {pointer.off}+{off} size {size}"
    return rule(env, state, reg, off, size, is_store)


def _context(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    pointer = state.regs[reg]
    if pointer.value.constant != 0:
        return f"variable ctx access var_off off={off} size={size}"
    if pointer.off:
        return f"dereference of modified ctx ptr R{reg} off={pointer.off} disallowed"
    if env.program is not None and env.program.arguments:
        return argument_problem(env, off, size, is_store)
    if is_writable_argument(env, off, size) and not is_store:
        return None
    field = None if env.program is None else env.program.field_at(off, size, is_store)
    if field is None or (env.knows is not None and (env.knows.release or OLDEST)[:2] < field.since):
        return f"invalid bpf_context access off={off} size={size}"
    return None


def _stack(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    pointer = state.regs[reg]
    low, high = pointer.off + off + pointer.value.smin, pointer.off + off + pointer.value.smax
    if low < -STACK_BYTES or high + size > 0:
        return f"invalid {'write to' if is_store else 'read from'} stack R{reg} off={low} size={size}"
    # A variable part is as aligned as its unknown bits allow.
    if low % size or pointer.value.bits_mask & size - 1:
        return f"misaligned stack access off {low} size {size}"
    if frame_stack(state, pointer.frame) is None:
        return f"R{reg} points to an unknown frame"
    if is_store:
        return owned_problem(state, pointer, low, high + size)
    return stack_read_problem(env, state, pointer, low, high + size, size)


def owned_problem(state: State, pointer: Register, low: int, high: int) -> str | None:
    """Why bytes [low, high) of the pointer's frame may not be written: the kernel keeps something there.

    Kernels let a program overwrite some of what they keep; then it is lost, and the model does not follow that.
    """
    stack = frame_stack(state, pointer.frame) or {}
    for first in range(low & -SLOT_SIZE, high, SLOT_SIZE):
        slot = stack.get(first, EMPTY_SLOT)
        if slot.is_owned and slot.spill is not None:
            return f"cannot overwrite {slot.spill.symbol} on the stack at off {first}"
    return None


def stack_read_problem(env: Environment, state: State, pointer: Register, low: int, high: int, size: int) -> str | None:
    """Why bytes [low, high) of the pointer's frame may not be read `size` at a time.

    A whole slot that was never written may be read where the kernel lets programs do so.  On another path a pointer may
    be there, which may not be read in parts.
    """
    env.touched.append((pointer.frame, low, high, True))
    stack = frame_stack(state, pointer.frame)
    is_whole_slot = size == SLOT_SIZE and high - low == size and low % SLOT_SIZE == 0
    if is_whole_slot and stack is not None and env.knows is not None and env.knows.uninitialised_stack:
        slot = stack.get(low, EMPTY_SLOT)
        if slot.spill is None and "?" in slot.marks:
            return None
    if stack is None:
        return "the frame is not known"
    for first in range(low & -SLOT_SIZE, high, SLOT_SIZE):
        slot = stack.get(first, EMPTY_SLOT)
        if slot.is_owned:
            return f"invalid read from stack off {low}+{max(first, low) - low} size {high - low}"
        if slot.spill is not None:
            if not slot.spill.is_scalar and (size != SLOT_SIZE or high - low != size):
                return f"invalid size of register fill at off {low}"
            continue
        for at in range(max(first, low), min(first + SLOT_SIZE, high)):
            if slot.marks[at - first] == "?" and not holds_no_pointer(env, state, pointer.frame, first):
                return f"invalid read from stack off {low}+{at - low} size {high - low}"
    return None


def _packet(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    pointer = state.regs[reg]
    if is_store and (env.program is None or not env.program.packet_writable):
        return "cannot write into packet"
    if pointer.value.smin < 0:
        return f"R{reg} min value is negative, either use unsigned index or do a if (index >=0) check."
    if pointer.off + off < 0 or pointer.off + off + size > pointer.packet_range:
        return (
            f"invalid access to packet, off={pointer.off + off} size={size}, "
            f"R{reg}(id={pointer.id},off={pointer.off},r={pointer.packet_range})"
        )
    return None


def bounds_problem(reg: int, pointer: Register, off: int, size: int) -> str | None:
    """Why [off, off + size) behind a pointer into an object of known size may leave the object."""
    low = pointer.off + off + pointer.value.smin
    if low < 0:
        return f"R{reg} min value is outside of the allowed memory range"
    if pointer.value.umax >= MAX_VAR_OFF:
        return f"R{reg} unbounded memory access, make sure to bounds check any such access"
    if pointer.off + off + pointer.value.umax + size > pointer.size:
        return f"invalid access to {type_name(pointer)}, size={pointer.size} off={low} size={size}"
    return None


def _map_value(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    pointer = state.regs[reg]
    definition = env.unit.map(pointer.symbol)
    if definition is None:
        return f"R{reg} points into a map that is not known"
    kind = MAP_TYPES.get(definition.type)
    if is_store and (definition.flags & READ_ONLY_FOR_PROGRAMS or kind is None or not kind.value_writable):
        return f"write into map forbidden, value_size={pointer.size} off={off} size={size}"
    if not is_store and definition.flags & WRITE_ONLY_FOR_PROGRAMS:
        return f"read from map forbidden, value_size={pointer.size} off={off} size={size}"
    return bounds_problem(reg, pointer, off, size) or field_problem(env, definition, pointer, off, size)


def field_problem(env: Environment, definition: MapDef, pointer: Register, off: int, size: int) -> str | None:
    """Why [off, off + size) behind a pointer into a value may touch what belongs to the kernel (check_map_access)."""
    fields = fields_of(definition, env.unit)
    if fields is None:
        return f"the value type of map {definition.name} is not known"
    low, high = pointer.off + off + pointer.value.smin, pointer.off + off + pointer.value.smax + size
    touched = overlapping(fields, low, high)
    return None if touched is None else f"{touched.kind} cannot be accessed directly by load/store"


def _data(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    pointer = state.regs[reg]
    section = env.unit.data.get(pointer.symbol)
    if section is None or (is_store and not section.is_writable):
        return f"write into map forbidden, value_size={pointer.size} off={off} size={size}"
    problem = bounds_problem(reg, pointer, off, size)
    definition = env.unit.map(pointer.symbol)
    if problem is not None or definition is None:
        return problem
    return field_problem(env, definition, pointer, off, size)


def _memory(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    if is_store and state.regs[reg].readonly:
        return f"R{reg} cannot write into rdonly_mem"
    return bounds_problem(reg, state.regs[reg], off, size)


def _map(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    return map_problem_at(env, reg, state.regs[reg], off, size, is_store)


def _object(env: Environment, state: State, reg: int, off: int, size: int, is_store: bool) -> str | None:
    return object_problem(env, reg, state.regs[reg], off, size, is_store)


_RULES: Final[Mapping[Region, Callable[[Environment, State, int, int, int, bool], str | None]]] = {
    Region.CTX: _context,
    Region.STACK: _stack,
    Region.PACKET: _packet,
    Region.PACKET_META: _packet,
    Region.MAP_VALUE: _map_value,
    Region.DATA: _data,
    Region.MEMORY: _memory,
    Region.OBJECT: _object,
    Region.MAP: _map,
}

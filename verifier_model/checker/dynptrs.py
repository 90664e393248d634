"""Dynamic pointers: sixteen bytes of stack that the kernel keeps a pointer with its bounds in (process_dynptr_func in
kernel/bpf/verifier.c).

Kernels let a program overwrite a dynptr that holds no reference; the model refuses that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from verifier_model.checker.access import owned_problem, type_name
from verifier_model.checker.arguments import WRITES_PACKET, buffer_problem, is_null
from verifier_model.checker.environment import ZERO, Environment, each_register
from verifier_model.checker.kernel_calls import FOLLOWED_ELSEWHERE, RULES, after_kfunc
from verifier_model.checker.memory import first_slot, frame_stack, soften, stack_span, with_stack
from verifier_model.checker.references import acquired, released
from verifier_model.contracts.helpers import Helper
from verifier_model.contracts.kfunc_signatures import KfuncArgument, Parameter
from verifier_model.contracts.kfuncs import Kfunc
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import EMPTY_SLOT, SLOT_SIZE, STACK_BYTES, StackSlot, State

DYNPTR_BYTES: Final = 16
_MEMORY: Final = "dynptr"
_RECORD: Final = "ringbuf dynptr"
_PACKET: Final = "packet dynptr"
PACKET_SLICE: Final = "packet slice"
_WHOLE: Final = "s" * SLOT_SIZE
_LARGEST_SIZE: Final = 1 << 29
# Helpers and kfuncs that make one: which kind, and in which argument.
_MAKERS: Final = {
    "dynptr_from_mem": (_MEMORY, 4),
    "ringbuf_reserve_dynptr": (_RECORD, 4),
    "bpf_dynptr_from_skb": (_PACKET, 3),
    "bpf_dynptr_from_xdp": (_PACKET, 3),
}
_CLONE: Final = "bpf_dynptr_clone"
_RELEASERS: Final = frozenset({"ringbuf_submit_dynptr", "ringbuf_discard_dynptr"})
_READERS: Final = frozenset(
    {
        "dynptr_read",
        "dynptr_write",
        "dynptr_data",
        "bpf_dynptr_slice",
        "bpf_dynptr_slice_rdwr",
        "bpf_dynptr_is_null",
        "bpf_dynptr_is_rdonly",
        "bpf_dynptr_size",
        "bpf_dynptr_adjust",
        "bpf_crypto_decrypt",
        "bpf_crypto_encrypt",
        _CLONE,
    }
)
_SLICES: Final = frozenset({"bpf_dynptr_slice", "bpf_dynptr_slice_rdwr"})
DYNPTR_CALLS: Final = frozenset(_MAKERS) | _RELEASERS | _READERS
FOLLOWED_ELSEWHERE.update(_SLICES)


def dynptr_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the register points to no dynptr that the helper may be given."""
    if helper.name == "dynptr_from_mem" and state.regs[1].region not in (Region.MAP_VALUE, Region.DATA):
        return f"Unsupported reg type {type_name(state.regs[1])} for bpf_dynptr_from_mem data"
    return _problem(state, helper.name, reg)


def _kfunc_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    if kfunc.name == "bpf_dynptr_slice_rdwr" and env.root.program_type not in WRITES_PACKET:
        return "the prog does not allow writes to packet data"
    return _problem(state, kfunc.name, reg)


def _problem(state: State, callee: str, reg: int) -> str | None:
    pointer = state.regs[reg]
    if _is_constant(pointer):
        is_read = callee in _READERS - {_CLONE}
        return None if is_read else "cannot pass pointer to const bpf_dynptr, the helper mutates it"
    at = first_slot(pointer)
    if at is None or frame_stack(state, pointer.frame) is None or callee not in DYNPTR_CALLS:
        return f"arg#{reg - 1} expected pointer to stack or const struct bpf_dynptr"
    if callee in _MAKERS or (callee == _CLONE and reg == 2):
        if (callee != _CLONE and _MAKERS[callee][1] != reg) or at < -STACK_BYTES or at + DYNPTR_BYTES > 0:
            return f"cannot pass in dynptr at an offset={at}"
        return owned_problem(state, pointer, at, at + DYNPTR_BYTES)
    kept = _kept(state, pointer)
    if kept is None:
        return f"Expected an initialized dynptr as arg #{reg - 1}"
    if callee in _RELEASERS and kept.symbol != _RECORD:
        return f"Expected a dynptr of type ringbuf as arg #{reg - 1}"
    return None


def _is_constant(pointer: Register) -> bool:
    """Is it the dynptr that a callback was given?"""
    is_one = pointer.region is Region.OBJECT and pointer.object is not None and pointer.object.name == "bpf_dynptr"
    return is_one and not pointer.nullable and pointer.off == 0 and pointer.value.constant == 0


def _kept(state: State, pointer: Register) -> Register | None:
    """What the kernel keeps behind the pointer, when that is a whole dynptr."""
    at, stack = first_slot(pointer), frame_stack(state, pointer.frame)
    if at is None or stack is None:
        return None
    first, second = (stack.get(at + off, EMPTY_SLOT).spill for off in (0, SLOT_SIZE))
    if first is None or second is None or not first.region is second.region is Region.OWNED:
        return None
    is_whole = first.symbol in (_MEMORY, _RECORD, _PACKET) and (first.off, second.off) == (0, SLOT_SIZE)
    return first if is_whole and (first.symbol, first.id) == (second.symbol, second.id) else None


def _put(state: State, pointer: Register, kept: Register | None) -> State:
    at, stack = first_slot(pointer), frame_stack(state, pointer.frame)
    if at is None or stack is None:
        return state
    changed = dict(stack)
    for off in (0, SLOT_SIZE):
        changed[at + off] = EMPTY_SLOT if kept is None else StackSlot(_WHOLE, replace(kept, off=off))
    return with_stack(state, pointer.frame, changed)


def _without(state: State, id: int) -> State:
    """The state without the dynptrs of a record that is given back."""

    def cleared(stack: Mapping[int, StackSlot]) -> Mapping[int, StackSlot]:
        gone = {off for off, slot in stack.items() if slot.is_owned and slot.spill is not None and slot.spill.id == id}
        return {off: EMPTY_SLOT if off in gone else slot for off, slot in stack.items()} if gone else stack

    callers = tuple(replace(frame, stack=cleared(frame.stack)) for frame in state.callers)
    return replace(state, stack=cleared(state.stack), callers=callers)


def after_dynptr(env: Environment, callee: str, before: State, state: State) -> State:
    """The state behind a call on a dynptr: `state` is what the call leaves of `before` otherwise."""
    if callee in _MAKERS:
        kind, reg = _MAKERS[callee]
        fresh = Register(Region.OWNED, ZERO, id=env.fresh(), symbol=kind, size=DYNPTR_BYTES)
        state = _put(state, before.regs[reg], fresh)
        return acquired(state, fresh.id) if kind == _RECORD else state
    pointer = before.regs[3 if callee == "dynptr_read" else 1]
    kept = _kept(before, pointer)
    if callee == _CLONE:
        if kept is None:
            return state
        # All clones of a record go when it goes; other dynptrs have nothing to do with each other.
        return _put(state, before.regs[2], kept if kept.symbol == _RECORD else replace(kept, id=env.fresh()))
    if callee in _RELEASERS:
        return state if kept is None else released(_without(state, kept.id), kept.id)
    if callee == "dynptr_write" and (kept is None or kept.symbol == _PACKET):
        return each_register(state, without_packet_slices)
    owner = pointer.id if kept is None else kept.id
    if callee == "dynptr_data":
        return replace(state, regs=(replace(state.regs[0], owner=owner), *state.regs[1:]))
    if callee in _SLICES:
        buffer, size = before.regs[3], before.regs[4]
        span = stack_span(buffer, 0, min(size.value.umax, STACK_BYTES)) if buffer.region is Region.STACK else None
        if buffer.region is Region.STACK:
            state = soften(state, buffer.frame, *(span or (-STACK_BYTES, 0)))
        return replace(state, regs=(_slice(env, callee, before, kept, owner), *state.regs[1:]))
    return state


def _slice(env: Environment, callee: str, before: State, kept: Register | None, owner: int) -> Register:
    length = before.regs[4].value.constant if before.regs[4].is_scalar else None
    memory = Register(Region.MEMORY, ZERO, id=env.fresh(), base=env.fresh(), nullable=True, owner=owner)
    symbol = PACKET_SLICE if kept is None or kept.symbol == _PACKET else ""
    return replace(memory, size=length or 0, symbol=symbol, readonly=callee == "bpf_dynptr_slice")


def without_packet_slices(register: Register) -> Register:
    """The register when the packet may have moved: slices of it are mere numbers then."""
    is_gone = register.region is Region.MEMORY and register.symbol == PACKET_SLICE
    is_gone = is_gone or register.region in (Region.PACKET, Region.PACKET_META, Region.PACKET_END)
    return Register.scalar(Scalar.top()) if is_gone else register


def after_dynptr_kfunc(env: Environment, name: str, state: State) -> State:
    return after_dynptr(env, name, state, after_kfunc(env, name, state))


def _constant_size(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    size = state.regs[reg]
    if not size.is_scalar or size.value.constant is None:
        return f"R{reg} must be a known constant"
    return None if 0 < size.value.constant < _LARGEST_SIZE else f"R{reg} is no size of memory"


def _slice_buffer(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    """Declarations without names do not tell that a slice's buffer may be NULL and that its size is a constant."""
    if kfunc.name not in _SLICES or reg != 3:
        return f"R{reg}: the model does not follow {argument.kind.value} arguments of {kfunc.name}"
    problem = _constant_size(env, state, kfunc, argument, 4)
    if problem is not None or is_null(state.regs[3]):
        return problem
    return buffer_problem(env, state, 3, state.regs[4].value.constant or 0, is_store=True, is_output=False)


RULES[Parameter.OTHER] = _slice_buffer
RULES[Parameter.DYNPTR] = _kfunc_problem
RULES[Parameter.CONSTANT_SIZE] = _constant_size

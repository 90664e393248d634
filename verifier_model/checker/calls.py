"""What a call leaves behind when its callee is not analysed in line: results and clobbers from the contracts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.checker.arguments import PER_CPU
from verifier_model.checker.dynptrs import DYNPTR_CALLS, PACKET_SLICE, after_dynptr, after_dynptr_kfunc
from verifier_model.checker.environment import UNINIT, UNKNOWN, ZERO, Environment, each_register
from verifier_model.checker.externs import on_this_cpu
from verifier_model.checker.global_calls import after_global_call, global_callee
from verifier_model.checker.iterators import after_iterator, is_iterator_call
from verifier_model.checker.kernel_calls import after_kfunc, kfunc_name
from verifier_model.checker.kernel_objects import helper_object
from verifier_model.checker.local_objects import LOCAL_CALLS, after_local
from verifier_model.checker.locks import locked
from verifier_model.checker.memory import mark, soften, soften_all, stack_span
from verifier_model.checker.references import acquired, owner_of, released
from verifier_model.checker.stored_pointers import XCHG, after_exchange
from verifier_model.contracts.calls import call_effects, map_of
from verifier_model.contracts.effects import CallEffects
from verifier_model.contracts.helpers import HELPERS, ArgumentKind, Helper, ResultKind
from verifier_model.contracts.maps import MAP_TYPES, Lookup
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import STACK_BYTES, State

_PACKET_REGIONS: Final = frozenset({Region.PACKET, Region.PACKET_META, Region.PACKET_END})
_LARGEST_ERROR: Final = 4095
_LOCKING: Final = frozenset({"spin_lock", "spin_unlock"})
_LOOKUPS: Final = frozenset({"map_lookup_elem", "map_lookup_percpu_elem"})
SOCKET: Final = ObjectType("bpf_sock", trust=Trust.TRUSTED)
_VIEWS: Final = {
    ResultKind.SOCKET: SOCKET,
    ResultKind.TCP_SOCK: ObjectType("bpf_tcp_sock", trust=Trust.TRUSTED),
    ResultKind.SOCK_COMMON: ObjectType("bpf_sock_common", trust=Trust.TRUSTED),
}
_FOUND: Final = {Lookup.SOCKET: SOCKET, Lookup.XDP_SOCKET: ObjectType("bpf_xdp_sock", trust=Trust.TRUSTED)}


def helper_of(insn: Insn) -> Helper | None:
    return HELPERS.get(insn.imm) if insn.row.name == "call_helper" and insn.ref is None else None


def call(env: Environment, insn: Insn, state: State) -> State:
    """The state behind a call, for all that the callee may do."""
    kernels = kfunc_name(insn) if env.modest else None
    if kernels is not None:
        return _after_kernels(env, kernels, state)
    callee = global_callee(env, insn) if env.modest else None
    if callee is not None:
        return after_global_call(env, callee, state)
    effects = call_effects(insn, state, env.unit, env.function)
    helper = helper_of(insn) if not insn.origin.core else None
    before = state
    result = UNKNOWN if helper is None else _result(env, helper, before)
    if helper is not None and env.modest:
        state = _as_kernel(env, state, helper, effects)
    else:
        state = _memory_after(state, effects, helper)
    if effects.changes_packet:
        state = each_register(state, _as_number if env.modest else without_packet)
    state = replace(state, regs=(result, UNINIT, UNINIT, UNINIT, UNINIT, UNINIT, *state.regs[6:]))
    if helper is not None and env.modest and helper.name in DYNPTR_CALLS:
        return after_dynptr(env, helper.name, before, state)
    if helper is not None and env.modest and helper.name == XCHG:
        return after_exchange(env, before, state)
    return state if helper is None else _references_after(helper, before, state)


def _after_kernels(env: Environment, name: str, state: State) -> State:
    if name in LOCAL_CALLS:
        return after_local(env, name, state)
    if is_iterator_call(name):
        return after_iterator(env, name, state)
    return (after_dynptr_kfunc if name in DYNPTR_CALLS else after_kfunc)(env, name, state)


def without_packet(register: Register) -> Register:
    is_slice = register.region is Region.MEMORY and register.symbol == PACKET_SLICE
    return UNINIT if is_slice or register.region in _PACKET_REGIONS else register


def _as_number(register: Register) -> Register:
    """What the kernel takes a pointer for whose packet has moved: a number (mark_reg_invalid)."""
    return Register.scalar(Scalar.top()) if without_packet(register) is not register else register


def _references_after(helper: Helper, before: State, state: State) -> State:
    if helper.releases:
        for register in before.regs[1 : len(helper.arguments) + 1]:
            owner = owner_of(before, register) if register.is_pointer else 0
            if owner:
                state = released(state, owner)
    if helper.name in _LOCKING:
        state = locked(state, helper, before)
    result = state.regs[0]
    is_reference = helper.acquires or (helper.result is ResultKind.MAP_VALUE and _is_socket(result))
    if not is_reference or not result.is_pointer:
        return state
    # Sums of the pointer get ids of their own, and still depend on the reference.
    state = replace(state, regs=(replace(result, owner=result.id), *state.regs[1:]))
    return acquired(state, result.id)


def _is_socket(result: Register) -> bool:
    # Sockets in maps have to be given back, sockets of AF_XDP have not.
    return result.region is Region.OBJECT and result.object == SOCKET


def _as_kernel(env: Environment, state: State, helper: Helper, effects: CallEffects) -> State:
    """Memory as the kernel has it behind a helper: what was handed over, and nothing else, may have been written."""
    for memory in (*effects.reads, *effects.writes):
        pointer = state.regs[memory.reg]
        span = stack_span(pointer, 0, memory.size or 0)
        if pointer.region is not Region.STACK:
            continue
        is_output = helper.arguments[memory.reg - 1].kind is ArgumentKind.MEM_WRITE
        is_written = memory in effects.writes
        if not is_written and env.knows is not None and env.knows.reads_keep_stack:
            continue
        if memory.size is None or span is None:
            state = soften(state, pointer.frame, -STACK_BYTES, 0)
        elif is_output and is_written and span[1] - span[0] == memory.size and _is_exact(helper, memory.reg, state):
            state = mark(state, pointer.frame, *span, "m")
        else:
            state = soften(state, pointer.frame, *span)
    return state


def _is_exact(helper: Helper, reg: int, state: State) -> bool:
    size_reg = helper.size_register(reg)
    if size_reg is None:
        return helper.arguments[reg - 1].size > 0
    return state.regs[size_reg].is_scalar and state.regs[size_reg].value.constant is not None


def _memory_after(state: State, effects: CallEffects, helper: Helper | None) -> State:
    if effects.writes_all and not effects.private_stack:
        return soften_all(state)
    # What a helper takes as uninitialised memory of known size, the kernel takes as initialised afterwards.
    outputs = (
        set()
        if helper is None
        else {reg for reg, argument in enumerate(helper.arguments, 1) if argument.kind is ArgumentKind.MEM_WRITE}
    )
    for memory in effects.writes:
        pointer = state.regs[memory.reg]
        if pointer.region is Region.UNKNOWN:
            state = soften_all(state)
        if pointer.region is not Region.STACK:
            continue
        span = stack_span(pointer, 0, memory.size or 0)
        if memory.size is None or span is None:
            state = soften(state, pointer.frame, -STACK_BYTES, 0)
        elif memory.reg in outputs and memory in effects.must_write and span[1] - span[0] == memory.size:
            state = mark(state, pointer.frame, *span, "m")
        else:
            state = soften(state, pointer.frame, *span)
    return state


def _result(env: Environment, helper: Helper, state: State) -> Register:
    """r0 after the helper returned (kernel: the return type of its bpf_func_proto)."""
    kind = helper.result
    if kind is ResultKind.VOID:
        return UNINIT
    if kind is ResultKind.SCALAR:
        return Register.scalar(_number(helper, state))
    fresh = Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh(), nullable=helper.result_nullable)
    if kind is ResultKind.MAP_VALUE:
        return _map_value(env, helper, state, fresh)
    if kind in _VIEWS:
        return replace(fresh, object=_VIEWS[kind], owner=_cast_owner(helper, state))
    if kind is ResultKind.MEMORY:
        reg = helper.register_of(ArgumentKind.ALLOC_SIZE)
        size = state.regs[reg].value.constant if reg is not None and state.regs[reg].is_scalar else None
        return replace(fresh, region=Region.MEMORY, size=size if size is not None and size < 1 << 29 else 0)
    if helper.name in PER_CPU:
        return on_this_cpu(env, state.regs[1], helper.result_nullable) if env.modest else UNKNOWN
    return replace(fresh, object=helper_object(env, helper.name), owner=_cast_owner(helper, state))


def _cast_owner(helper: Helper, state: State) -> int:
    """A view of a socket depends on the reference that the socket depends on."""
    reg = helper.register_of(ArgumentKind.SOCKET)
    return 0 if reg is None or helper.acquires else owner_of(state, state.regs[reg])


def _map_value(env: Environment, helper: Helper, state: State, fresh: Register) -> Register:
    definition = map_of(state.regs[1], env.unit)
    if definition is None:
        return UNKNOWN
    kind = MAP_TYPES.get(definition.type)
    if kind is None:
        return UNKNOWN
    if helper.name == "map_lookup_elem" and kind.lookup is Lookup.INNER_MAP and definition.inner is not None:
        return replace(fresh, region=Region.MAP, symbol=definition.inner.name)
    if helper.name == "map_lookup_elem" and kind.lookup in _FOUND:
        return replace(fresh, object=_FOUND[kind.lookup])
    if helper.name in _LOOKUPS and kind.lookup is not Lookup.VALUE:
        return UNKNOWN
    return replace(fresh, region=Region.MAP_VALUE, symbol=definition.name, size=definition.value_size)


def _number(helper: Helper, state: State) -> Scalar:
    if helper.bounded_by_size:
        reg = helper.register_of(ArgumentKind.SIZE)
        if reg is not None and state.regs[reg].is_scalar and state.regs[reg].value.umax < 1 << 29:
            return Scalar.between(-_LARGEST_ERROR, state.regs[reg].value.umax)
    return Scalar.top()

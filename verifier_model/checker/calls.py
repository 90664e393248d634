"""What a call leaves behind when its callee is not analysed in line: results and clobbers from the contracts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.checker.environment import UNINIT, UNKNOWN, ZERO, Environment, each_register
from verifier_model.checker.memory import mark, soften, soften_all, stack_span
from verifier_model.contracts.calls import call_effects, map_of
from verifier_model.contracts.effects import CallEffects
from verifier_model.contracts.helpers import HELPERS, ArgumentKind, Helper, ResultKind
from verifier_model.contracts.maps import MAP_TYPES, Lookup
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import STACK_BYTES, State

_PACKET_REGIONS: Final = frozenset({Region.PACKET, Region.PACKET_META, Region.PACKET_END})
_LARGEST_ERROR: Final = 4095


def helper_of(insn: Insn) -> Helper | None:
    return HELPERS.get(insn.imm) if insn.row.name == "call_helper" and insn.ref is None else None


def call(env: Environment, insn: Insn, state: State) -> State:
    """The state behind a call, for all that the callee may do."""
    effects = call_effects(insn, state, env.unit, env.function)
    helper = helper_of(insn) if not insn.origin.core else None
    before = state
    result, references = UNKNOWN, state.references
    if helper is not None:
        result = _result(env, helper, before)
        if helper.acquires:
            references = (*references, result.id)
    state = _memory_after(state, effects, helper)
    if effects.changes_packet:
        state = each_register(state, without_packet)
    if helper is not None and helper.releases:
        state, references = _released(helper, before, state, references)
    return State(
        (result, UNINIT, UNINIT, UNINIT, UNINIT, UNINIT, *state.regs[6:]), state.stack, state.callers, references
    )


def without_packet(register: Register) -> Register:
    return UNINIT if register.region in _PACKET_REGIONS else register


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
        return _map_value(env, state, fresh)
    if kind is ResultKind.MEMORY:
        reg = helper.register_of(ArgumentKind.ALLOC_SIZE)
        size = state.regs[reg].value.constant if reg is not None and state.regs[reg].is_scalar else None
        return replace(fresh, region=Region.MEMORY, size=size if size is not None and size < 1 << 29 else 0)
    return fresh


def _map_value(env: Environment, state: State, fresh: Register) -> Register:
    definition = map_of(state.regs[1], env.unit)
    if definition is None:
        return UNKNOWN
    kind = MAP_TYPES.get(definition.type)
    if kind is None or kind.lookup is not Lookup.VALUE:
        return UNKNOWN
    return replace(fresh, region=Region.MAP_VALUE, symbol=definition.name, size=definition.value_size)


def _number(helper: Helper, state: State) -> Scalar:
    if helper.bounded_by_size:
        reg = helper.register_of(ArgumentKind.SIZE)
        if reg is not None and state.regs[reg].is_scalar and state.regs[reg].value.umax < 1 << 29:
            return Scalar.between(-_LARGEST_ERROR, state.regs[reg].value.umax)
    return Scalar.top()


def _released(
    helper: Helper, before: State, state: State, references: tuple[int, ...]
) -> tuple[State, tuple[int, ...]]:
    """The object given back is gone: so are all pointers to it."""
    gone = {
        before.regs[reg].id
        for reg in range(1, len(helper.arguments) + 1)
        if before.regs[reg].id in references and before.regs[reg].is_pointer
    }
    bases = {register.base for register in before.regs if register.is_pointer and register.id in gone}

    def change(register: Register) -> Register:
        return UNINIT if register.is_pointer and (register.id in gone or register.base in bases) else register

    return each_register(state, change), tuple(held for held in references if held not in gone)

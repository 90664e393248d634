"""What must hold at calls, exits and legacy packet loads (check_helper_call, check_return_code, check_ld_abs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.checker.access import access_problem, bounds_problem, stack_read_problem, type_name
from verifier_model.checker.calls import helper_of
from verifier_model.checker.environment import Environment
from verifier_model.contracts.calls import map_of
from verifier_model.contracts.helpers import ArgumentKind, Helper
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import STACK_BYTES, State

_LARGEST_SIZE: Final = 1 << 29  # BPF_MAX_VAR_SIZ
_MEMORY: Final = frozenset(
    {Region.STACK, Region.PACKET, Region.PACKET_META, Region.MAP_VALUE, Region.DATA, Region.MEMORY}
)
# Helpers that take packet memory for a key, value or buffer in every kernel (bpf_func_proto.pkt_access).
_PACKET_HELPERS: Final = frozenset({"map_lookup_elem", "map_update_elem", "map_delete_elem", "csum_diff"})
# Helpers whose prototype ends before their last arguments: nothing is asked of these registers.
_UNTYPED_TAIL: Final = frozenset({"trace_printk"})
_LEGACY_TYPES: Final = frozenset({"socket_filter", "sched_cls", "sched_act"})
_ArgumentRule = Callable[[Environment, State, Helper, int], "str | None"]


def call_problem(env: Environment, insn: Insn, state: State) -> str | None:
    """Why a call that is not followed into the callee is refused."""
    if insn.origin.core:
        return "the call is patched by the loader"
    if insn.row.name == "call_local":
        return _global_call_problem(env, insn, state)
    helper = helper_of(insn)
    if helper is None:
        return f"invalid func unknown#{insn.imm}"
    for reg, argument in enumerate(helper.arguments, 1):
        register = state.regs[reg]
        if argument.kind is ArgumentKind.PEEK and helper.name in _UNTYPED_TAIL:
            continue
        if register.region is Region.UNINIT:
            return f"R{reg} !read_ok"
        if argument.nullable and register.is_scalar and register.value.constant == 0:
            continue
        rule = _ARGUMENTS.get(argument.kind)
        if rule is None:
            return f"R{reg}: the model does not follow {argument.kind.value} arguments of {helper.name}"
        problem = rule(env, state, helper, reg)
        if problem is not None:
            return problem
    if helper.name == "tail_call" and state.references:
        return "tail_call would lead to reference leak"
    if helper.releases and not any(
        state.regs[reg].id in state.references for reg in range(1, len(helper.arguments) + 1)
    ):
        return f"release of an object that was not acquired by {helper.name}"
    return None


def _global_call_problem(env: Environment, insn: Insn, state: State) -> str | None:
    callee = next((f for f in env.unit.functions if insn.ref is not None and f.name == insn.ref.name), None)
    if callee is None or callee.argument_count is None:
        return "the callee's signature is not known"
    for reg in range(1, callee.argument_count + 1):
        register = state.regs[reg]
        if register.region is Region.UNINIT:
            return f"R{reg} !read_ok"
        is_plain_context = register.region is Region.CTX and register.off == 0 and register.value.constant == 0
        if not register.is_scalar and not is_plain_context:
            return f"R{reg} type={type_name(register)}: the callee's parameter type is not known"
    return "global functions are not called while references are held" if state.references else None


def _any(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    return None


def _number(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    return None if register.is_scalar else f"R{reg} type={type_name(register)} expected=scalar"


def _constant(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    is_constant = register.is_scalar and register.value.constant is not None
    return None if is_constant else f"R{reg} is not a known constant"


def _size(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    if not register.is_scalar:
        return f"R{reg} type={type_name(register)} expected=scalar"
    if register.value.smin < 0:
        return f"R{reg} min value is negative, either use unsigned or 'var &= const'"
    if register.value.umax >= _LARGEST_SIZE:
        return f"R{reg} unbounded memory access, use 'var &= const' or 'if (var < const)'"
    before = state.regs[reg - 1]
    is_null = before.is_scalar and before.value.constant == 0 and helper.arguments[reg - 2].nullable
    if is_null:
        return None if register.value.constant == 0 else f"R{reg - 1} type=scalar expected=fp"
    return f"R{reg} invalid zero-sized read" if register.value.umin == 0 else None


def _context(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    if register.region is not Region.CTX:
        return f"R{reg} type={type_name(register)} expected=ctx"
    is_whole = register.off == 0 and register.value.constant == 0
    return None if is_whole else f"dereference of modified ctx ptr R{reg} off={register.off} disallowed"


def _map(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    if register.region is not Region.MAP:
        return f"R{reg} type={type_name(register)} expected=map_ptr"
    return None if map_of(register, env.unit) is not None else f"R{reg} is a map that is not known"


def _key(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    return _map_memory(env, state, helper, reg, is_key=True)


def _value(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    return _map_memory(env, state, helper, reg, is_key=False)


def _value_out(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    return _map_memory(env, state, helper, reg, is_key=False, is_output=True)


def _map_memory(
    env: Environment, state: State, helper: Helper, reg: int, is_key: bool, is_output: bool = False
) -> str | None:
    map_reg = helper.register_of(ArgumentKind.MAP)
    definition = map_of(state.regs[map_reg], env.unit) if map_reg is not None else None
    if definition is None:
        return "the map is not known"
    size = definition.key_size if is_key else definition.value_size
    if size == 0:
        return f"R{reg}: the size of map {definition.name}'s {'keys' if is_key else 'values'} is not known"
    return _buffer(env, state, helper, reg, size, is_output, is_output)


def _sized(is_store: bool, is_output: bool) -> _ArgumentRule:
    def rule(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
        size = helper.arguments[reg - 1].size
        size_reg = helper.size_register(reg)
        if not size and size_reg is not None and state.regs[size_reg].is_scalar:
            size = state.regs[size_reg].value.umax
        if not 0 < size < _LARGEST_SIZE:
            return f"R{reg} unbounded memory access, use 'var &= const' or 'if (var < const)'"
        return _buffer(env, state, helper, reg, size, is_store, is_output)

    return rule


def _buffer(
    env: Environment, state: State, helper: Helper, reg: int, size: int, is_store: bool, is_output: bool
) -> str | None:
    """Why the helper may not be given `size` bytes behind the register."""
    pointer = state.regs[reg]
    if pointer.region not in _MEMORY or pointer.nullable:
        return f"R{reg} type={type_name(pointer)} expected=fp, pkt, pkt_meta, map_key, map_value, mem"
    if pointer.region in (Region.PACKET, Region.PACKET_META) and helper.name not in _PACKET_HELPERS:
        return "helper access to the packet is not allowed"
    if pointer.region is Region.STACK:
        low, high = pointer.off + pointer.value.smin, pointer.off + pointer.value.smax + size
        if low < -STACK_BYTES or high > 0:
            return f"invalid indirect access to stack R{reg} off={low} size={size}"
        return None if is_output else _initialised(state, pointer, low, high)
    if pointer.region is Region.MEMORY:
        return bounds_problem(reg, pointer, 0, size)
    return access_problem(env, state, reg, 0, size, is_store)


def _initialised(state: State, pointer: Register, low: int, high: int) -> str | None:
    # A helper may be handed a spilled number but no spilled pointer, hence the one-byte reads.
    problem = stack_read_problem(state, pointer, low, high, 1)
    return None if problem is None else f"invalid indirect read from stack: {problem}"


def _record(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    is_whole = register.off == 0 and register.value.constant == 0 and not register.nullable
    if register.region is Region.MEMORY and is_whole and register.id in state.references:
        return None
    return f"R{reg} must be a reserved record"


def _object(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    register = state.regs[reg]
    is_known = register.region in (Region.OBJECT, Region.CTX) and not register.nullable and register.off == 0
    return None if is_known else f"R{reg} type={type_name(register)} expected=ptr_"


_ARGUMENTS: Final[Mapping[ArgumentKind, _ArgumentRule]] = {
    ArgumentKind.SCALAR: _any,
    ArgumentKind.PEEK: _any,
    ArgumentKind.CTX: _context,
    ArgumentKind.MAP: _map,
    ArgumentKind.MAP_KEY: _key,
    ArgumentKind.MAP_VALUE: _value,
    ArgumentKind.MAP_VALUE_OUT: _value_out,
    ArgumentKind.MEM_READ: _sized(is_store=False, is_output=False),
    ArgumentKind.MEM_WRITE: _sized(is_store=True, is_output=True),
    ArgumentKind.MEM_READ_WRITE: _sized(is_store=True, is_output=False),
    ArgumentKind.SIZE: _size,
    ArgumentKind.ALLOC_SIZE: _constant,
    ArgumentKind.RECORD: _record,
    ArgumentKind.SOCKET: _object,
    ArgumentKind.OBJECT: _object,
}


def exit_problem(env: Environment, state: State) -> str | None:
    """Why the function may not return here."""
    result = state.regs[0]
    if state.callers:
        return "cannot return stack pointer to the caller" if result.region is Region.STACK else None
    if state.references:
        return f"Unreleased reference id={state.references[0]}"
    if env.root.is_subprogram and env.root.returns_void:
        return None
    if result.region is Region.UNINIT:
        return "R0 !read_ok"
    if not result.is_scalar:
        return "R0 leaks addr as return value"
    results = None if env.program is None else env.program.results
    if results is not None and not (results[0] <= result.value.smin and result.value.smax <= results[1]):
        return (
            f"At program exit the register R0 has unknown scalar value should have been in [{results[0]}, {results[1]}]"
        )
    return None


def legacy_problem(env: Environment, insn: Insn, state: State) -> str | None:
    """Why `r0 = *(u8 *)skb[...]` is refused."""
    if env.root.program_type not in _LEGACY_TYPES or state.callers or state.references:
        return "BPF_LD_[ABS|IND] instructions not allowed for this program type"
    context = state.regs[6]
    if context.region is not Region.CTX or context.off or context.value.constant != 0:
        return "at the time of BPF_LD_ABS|IND R6 != pointer to skb"
    if "src" in insn.row.uses and not state.regs[insn.src].is_scalar:
        return f"R{insn.src} !read_ok"
    return None

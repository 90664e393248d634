"""Calls of global functions, which the kernel verifies alone: their callers by the signature, themselves by it, too
(btf_check_func_arg_match and do_check_common in kernel/bpf/verifier.c, 6.12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function
from verifier_model.checker.arguments import buffer_problem, is_null
from verifier_model.checker.environment import UNINIT, Environment, each_register
from verifier_model.checker.kernel_objects import is_assumed, is_at, is_number
from verifier_model.checker.memory import soften, stack_span
from verifier_model.contracts.global_functions import Parameter, Passed, moves_packet, parameters
from verifier_model.contracts.subprograms import local_callee
from verifier_model.domains.registers import Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import STACK_BYTES, Held, State

_PACKET: Final = frozenset({Region.PACKET, Region.PACKET_META, Region.PACKET_END})


def global_callee(env: Environment, insn: Insn) -> Function | None:
    """The global function that a call enters; None for other calls."""
    callee = local_callee(insn, env.unit)
    return callee if callee is not None and callee.is_global else None


def global_call_problem(env: Environment, callee: Function, state: State) -> str | None:
    """Why the kernel refuses the call."""
    wanted = parameters(env.unit, callee, env.root.program_type)
    if isinstance(wanted, str):
        return wanted
    if any(isinstance(held, Held) for held in state.references):
        return "global function calls are not allowed while holding a lock, use static function instead"
    for reg, parameter in enumerate(wanted, 1):
        problem = _argument_problem(env, state, parameter, reg)
        if problem is not None:
            return f"Caller passes invalid args into func {callee.name}: {problem}"
    return None


def _argument_problem(env: Environment, state: State, parameter: Parameter, reg: int) -> str | None:
    register = state.regs[reg]
    if register.region is Region.UNINIT:
        return f"R{reg} !read_ok"
    if parameter.passed is Passed.NUMBER:
        return None if is_number(register) else f"R{reg} is not a scalar"
    if parameter.passed is Passed.CONTEXT:
        whole = register.region is Region.CTX and register.off == 0 and register.value.constant == 0
        return None if whole else f"arg#{reg - 1} expects pointer to ctx"
    if is_null(register) and parameter.nullable:
        return None
    if register.nullable and not parameter.nullable:
        return f"R{reg} may be NULL"
    register = replace(register, nullable=False)
    if parameter.passed is Passed.OBJECT:
        trusted = register.object is not None and register.object.trust is Trust.TRUSTED
        right = trusted and (is_assumed(register) or is_at(env, register, parameter.name))
        return None if right else f"R{reg} is no trusted pointer to {parameter.name}"
    known = replace(state, regs=(*state.regs[:reg], register, *state.regs[reg + 1 :]))
    return buffer_problem(env, known, reg, parameter.size, is_store=True, is_output=False)


def after_global_call(env: Environment, callee: Function, state: State) -> State:
    """The state behind a call that the kernel accepts, as it sees it."""
    wanted = parameters(env.unit, callee, env.root.program_type)
    for reg, parameter in enumerate(() if isinstance(wanted, str) else wanted, 1):
        pointer = state.regs[reg]
        if pointer.region is Region.STACK and parameter.passed is Passed.MEMORY:
            span = stack_span(pointer, 0, parameter.size) or (-STACK_BYTES, 0)
            state = soften(state, pointer.frame, *span)
    if moves_packet(env.unit, callee):
        number = Register.scalar(Scalar.top())
        state = each_register(state, lambda register: number if register.region in _PACKET else register)
    result = UNINIT if callee.returns_void else Register.scalar(Scalar.top())
    return replace(state, regs=(result, *[UNINIT] * 5, *state.regs[6:]))

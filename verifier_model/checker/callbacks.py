"""Functions that helpers call back: what they get, and what they must return (set_*_callback_state in
kernel/bpf/verifier.c).

A callback runs as a callee of the function that hands it over, any number of times, and may write that function's stack
through the pointer it is given.  What a timer calls runs later, on its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Function
from verifier_model.checker.access import type_name
from verifier_model.checker.calls import helper_of
from verifier_model.checker.environment import FRAME, UNINIT, ZERO, Environment, each_register
from verifier_model.checker.kernel_calls import kfunc_name
from verifier_model.checker.kernel_objects import named, object_pointer
from verifier_model.checker.local_objects import TREE_ADD, after_local, tree_callback
from verifier_model.checker.memory import move_frames
from verifier_model.checker.references import is_atomic
from verifier_model.contracts.calls import map_of
from verifier_model.contracts.helpers import ArgumentKind, Helper
from verifier_model.domains.lattice import includes, widened_numbers
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import Frame, State

ASYNCHRONOUS: Final = frozenset({"timer_set_callback"})
_ANY: Final = Register.scalar(Scalar.top())
_RESULTS: Final = (0, 1)
_DYNPTR: Final = ObjectType("bpf_dynptr", trust=Trust.TRUSTED)


def calling_back(insn: Insn) -> str:
    """The helper or kfunc that the instruction calls, when that calls a function of the program; else ""."""
    if insn.kind is not Kind.CALL or insn.origin.core:
        return ""
    if kfunc_name(insn) == TREE_ADD:
        return TREE_ADD
    helper = helper_of(insn)
    return helper.name if helper is not None and helper.callback else ""


def is_callback_call(insn: Insn, modest: bool = True) -> bool:
    """Does the instruction call back?  For facts (not `modest`) a kfunc may do anything, and is not followed."""
    name = calling_back(insn)
    return bool(name) and (modest or name != TREE_ADD)


def callback_of(env: Environment, insn: Insn, state: State) -> Function | None:
    """The function that the call hands over, where it is known and one that may be called."""
    helper = helper_of(insn)
    reg = None if helper is None else helper.register_of(ArgumentKind.FUNCTION)
    reg = 3 if kfunc_name(insn) == TREE_ADD else reg
    if reg is None or state.regs[reg].region is not Region.FUNCTION:
        return None
    name = state.regs[reg].symbol
    found = next((function for function in env.unit.functions if function.name == name), None)
    if found is None or found.is_global or not found.is_subprogram or found.untouchable is not None:
        return None
    return found if found.blocks else None


def function_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the function in the register may not be handed over."""
    register = state.regs[reg]
    if register.region is not Region.FUNCTION:
        return f"R{reg} type={type_name(register)} expected=func"
    if is_atomic(state) and helper.name not in ASYNCHRONOUS:
        return f"the model does not follow callbacks of {helper.name} inside a region"
    return None


def frame_problem(env: Environment, state: State, helper: Helper, reg: int) -> str | None:
    """Why the register is no pointer that a callback may be given for its context."""
    register = state.regs[reg]
    return None if register.region is Region.STACK else f"R{reg} type={type_name(register)} expected=fp"


def entered(env: Environment, caller: str, state: State, back: tuple[str, str, int]) -> State:
    """The state at the callback's first instruction; `back` is where the helper or kfunc `caller` is called."""
    arguments = _ARGUMENTS[caller](env, state)
    frame = Frame(*back, state.regs, state.stack, callback=caller, held=state.references)
    callers = (frame, *state.callers)
    if caller in ASYNCHRONOUS:
        callers = (Frame("", "", 0, (UNINIT,) * 11, {}, callback=caller),)
    regs = [UNINIT, *(move_frames(register, 1) for register in arguments)]
    regs += [UNINIT] * (10 - len(regs)) + [FRAME]
    references = () if caller in ASYNCHRONOUS else state.references
    return State(tuple(regs), {}, callers, references)


def returned(state: State) -> State:
    """The state back at the helper's call, where it may call again."""
    frame = state.callers[0]
    after = State(frame.regs, frame.stack, state.callers[1:], state.references)
    return each_register(after, _without_dead_frame)


def _without_dead_frame(register: Register) -> Register:
    return UNINIT if register.region is Region.STACK and register.frame < 0 else register


def behind(env: Environment, caller: str, state: State) -> State:
    """The state behind a call whose callback was followed: the rest it does leaves memory alone."""
    if caller == TREE_ADD:
        return after_local(env, caller, state)
    return replace(state, regs=(_ANY, *[UNINIT] * 5, *state.regs[6:]))


def result_problem(state: State) -> str | None:
    """Why a callback may not return here, with what r0 holds."""
    if state.references != state.callers[0].held:
        return "BPF_EXIT in callback would lead to reference leak"
    result = state.regs[0]
    if result.region is Region.UNINIT:
        return "R0 !read_ok"
    if not result.is_scalar:
        return "R0 not a scalar value"
    low, high = (0, 0) if state.callers[0].callback in ASYNCHRONOUS else _RESULTS
    if low <= result.value.smin and result.value.smax <= high:
        return None
    return f"At callback return the register R0 has unknown scalar value should have been in [{low}, {high}]"


def turned(previous: State, state: State) -> State:
    """The state of another turn: numbers that changed since the last one may be any (widen_imprecise_scalars)."""
    return widened_numbers(previous, state)


def _map_element(env: Environment, register: Register) -> tuple[Register, Register, Register]:
    """The map, a key and a value, as the callbacks of maps get them."""
    definition = map_of(register, env.unit)
    key, value = (0, 0) if definition is None else (definition.key_size, definition.value_size)
    memory = Register(Region.MEMORY, ZERO, id=env.fresh(), base=env.fresh(), size=key, readonly=True)
    element = Register(Region.MAP_VALUE, ZERO, id=env.fresh(), base=env.fresh(), symbol=register.symbol, size=value)
    return register, memory, element


def _for_each(env: Environment, state: State) -> tuple[Register, ...]:
    return (*_map_element(env, state.regs[1]), state.regs[3])


def _loop(env: Environment, state: State) -> tuple[Register, ...]:
    return _ANY, state.regs[3]


def _find_vma(env: Environment, state: State) -> tuple[Register, ...]:
    area = replace(named(env, "vm_area_struct"), trust=Trust.PLAIN)
    return state.regs[1], object_pointer(env, area, nullable=False), state.regs[4]


def _drain(env: Environment, state: State) -> tuple[Register, ...]:
    return object_pointer(env, _DYNPTR, nullable=False), state.regs[3]


def _timer(env: Environment, state: State) -> tuple[Register, ...]:
    name = state.regs[1].symbol
    base = env.symbols.get(name, 0)
    return _map_element(env, Register(Region.MAP, ZERO, base=base, symbol=name))


_ARGUMENTS: Final = {
    "for_each_map_elem": _for_each,
    "loop": _loop,
    "find_vma": _find_vma,
    "user_ringbuf_drain": _drain,
    "timer_set_callback": _timer,
    TREE_ADD: tree_callback,
}


def is_new(known: list[State], state: State) -> bool:
    """Is this a way to enter what runs on its own that none of the known ones covers?  Then it is one of them now."""
    if any(includes(old, state, as_kernel=True) for old in known):
        return False
    known.append(state)
    return True

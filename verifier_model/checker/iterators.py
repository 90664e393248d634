"""Open-coded iterators: stack that the kernel keeps an iterator in, from *_new to *_destroy
(process_iter_arg and process_iter_next_call in kernel/bpf/verifier.c).

A call of *_next goes on twice: with another element, and with NULL and the iterator drained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.checker.access import owned_problem, type_name
from verifier_model.checker.environment import UNINIT, ZERO, Environment
from verifier_model.checker.kernel_calls import RULES, after_kfunc, kfunc_name
from verifier_model.checker.memory import first_slot, frame_stack, with_stack
from verifier_model.checker.references import acquired, released
from verifier_model.contracts.kfunc_signatures import KfuncArgument, Parameter, signature
from verifier_model.contracts.kfuncs import KFUNCS, Kfunc
from verifier_model.contracts.programs import is_sleepable
from verifier_model.domains.registers import Region, Register, Trust
from verifier_model.domains.state import EMPTY_SLOT, SLOT_SIZE, STACK_BYTES, StackSlot, State

_ACTIVE: Final = " active"
_DRAINED: Final = " drained"
# Iterators that only RCU protects: a sleepable program could leave the section between two calls.
_UNDER_RCU: Final = frozenset({"bpf_iter_task", "bpf_iter_css", "bpf_iter_task_vma", "bpf_iter_css_task"})
_WHOLE: Final = "s" * SLOT_SIZE


def is_iterator_call(name: str) -> bool:
    """Is the kfunc one of an iterator's three?"""
    return name in KFUNCS and not KFUNCS[name].flags.isdisjoint(("iter_new", "iter_next", "iter_destroy"))


def is_next_call(insn: Insn) -> bool:
    """Does the instruction ask an iterator for its next element?"""
    name = kfunc_name(insn)
    return name is not None and name in KFUNCS and "iter_next" in KFUNCS[name].flags


def iterator_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    """Why the register points to no iterator that the function may be given."""
    pointer = state.regs[reg]
    at = first_slot(pointer)
    if reg != 1 or at is None or frame_stack(state, pointer.frame) is None:
        return f"R{reg} type={type_name(pointer)} expected=pointer to an iterator on the stack"
    if argument.size <= 0 or argument.size % SLOT_SIZE or at < -STACK_BYTES or at + argument.size > 0:
        return f"cannot pass in {argument.name} at an offset={at}"
    if argument.name in _UNDER_RCU and is_sleepable(env.root):
        return f"the model does not follow {argument.name} in programs that may sleep"
    if "iter_new" in kfunc.flags:
        problem = owned_problem(state, pointer, at, at + argument.size)
        return None if problem is None else f"expected uninitialized {argument.name} as arg #{reg - 1}"
    if _kept(state, pointer, argument) is None:
        return f"expected an initialized {argument.name} as arg #{reg - 1}"
    return None


def _kept(state: State, pointer: Register, argument: KfuncArgument) -> Register | None:
    """What the kernel keeps behind the pointer, when that is a whole iterator of the argument's type."""
    at, stack = first_slot(pointer), frame_stack(state, pointer.frame)
    if at is None or stack is None:
        return None
    first = stack.get(at, EMPTY_SLOT).spill
    for index in range(argument.size // SLOT_SIZE):
        slot = stack.get(at + index * SLOT_SIZE, EMPTY_SLOT)
        kept = slot.spill
        if not slot.is_owned or kept is None or first is None or kept.id not in state.references:
            return None
        if kept.symbol not in (argument.name + _ACTIVE, argument.name + _DRAINED):
            return None
        if (kept.id, kept.off, kept.size) != (first.id, index * SLOT_SIZE, argument.size):
            return None
    return first


def _put(state: State, pointer: Register, kept: Register | None, size: int) -> State:
    at, stack = first_slot(pointer), frame_stack(state, pointer.frame)
    assert at is not None and stack is not None
    changed = dict(stack)
    for off in range(0, size, SLOT_SIZE):
        changed[at + off] = EMPTY_SLOT if kept is None else StackSlot(_WHOLE, replace(kept, off=off))
    return with_stack(state, pointer.frame, changed)


def _argument(env: Environment, name: str) -> KfuncArgument:
    declared = signature(env.unit, name, env.root)
    assert not isinstance(declared, str)
    return declared.arguments[0]


def after_iterator(env: Environment, name: str, state: State) -> State:
    """The state behind *_new or *_destroy, and behind *_next where there is another element."""
    argument, pointer = _argument(env, name), state.regs[1]
    if first_slot(pointer) is None or frame_stack(state, pointer.frame) is None:
        return after_kfunc(env, name, state)
    flags = KFUNCS[name].flags
    kept = _kept(state, pointer, argument)
    if "iter_new" in flags:
        state = after_kfunc(env, name, state)
        fresh = Register(
            Region.OWNED, ZERO, id=env.fresh(), base=env.fresh(), symbol=argument.name + _ACTIVE, size=argument.size
        )
        return acquired(_put(state, pointer, fresh, argument.size), fresh.id)
    if kept is None:
        return after_kfunc(env, name, state)
    if "iter_destroy" in flags:
        return released(_put(after_kfunc(env, name, state), pointer, None, argument.size), kept.id)
    return _with_element(env, name, state, kept)


def _with_element(env: Environment, name: str, state: State, kept: Register) -> State:
    state = after_kfunc(env, name, state)
    element = replace(state.regs[0], nullable=False, owner=kept.id)
    if element.region is Region.OBJECT and element.object is not None:
        is_protected = kept.symbol.removesuffix(_ACTIVE) in _UNDER_RCU
        element = replace(element, object=replace(element.object, trust=Trust.RCU if is_protected else Trust.TRUSTED))
    return replace(state, regs=(element, *state.regs[1:]))


def drained(env: Environment, name: str, state: State) -> State:
    """The state behind *_next where there was no element: the iterator gives none ever again."""
    argument, pointer = _argument(env, name), state.regs[1]
    kept = _kept(state, pointer, argument)
    if kept is not None:
        state = _put(state, pointer, replace(kept, symbol=argument.name + _DRAINED), argument.size)
    return replace(state, regs=(Register.scalar(ZERO), *[UNINIT] * 5, *state.regs[6:]))


def may_go_on(env: Environment, name: str, state: State) -> bool:
    """Is the iterator of a call of *_next one that may have another element?"""
    kept = _kept(state, state.regs[1], _argument(env, name))
    return kept is not None and kept.symbol.endswith(_ACTIVE)


def is_iterating(state: State) -> bool:
    """Is any iterator under way?"""
    stacks = (state.stack, *(frame.stack for frame in state.callers))
    return any(
        slot.is_owned and slot.spill is not None and slot.spill.symbol.endswith(_ACTIVE)
        for stack in stacks
        for slot in stack.values()
    )


RULES[Parameter.ITERATOR] = iterator_problem

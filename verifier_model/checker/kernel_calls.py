"""Calls of the kernel's own functions (kfuncs): what their arguments must be and what they leave behind
(check_kfunc_call in kernel/bpf/verifier.c, 6.12).

Only functions with a row are accepted; whatever their arguments ask for beyond numbers, objects, memory and constant
strings is somebody else's (`RULES` takes more of it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from verifier_model.bpf.btf import Kind, essential_name
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.checker.access import type_name
from verifier_model.checker.arguments import (
    LARGEST_SIZE,
    buffer_problem,
    context_problem,
    is_null,
    size_bounds_problem,
)
from verifier_model.checker.environment import UNINIT, UNKNOWN, ZERO, Environment
from verifier_model.checker.kernel_objects import (
    GPL_LICENSES,
    in_rcu_section,
    is_assumed,
    is_at,
    is_number,
    object_pointer,
)
from verifier_model.checker.memory import soften, stack_span
from verifier_model.checker.references import (
    LOCK,
    PREEMPT,
    RCU,
    acquired,
    holding,
    is_atomic,
    is_local,
    left,
    owner_of,
    released,
)
from verifier_model.contracts.kfunc_signatures import KfuncArgument, Parameter, Returned, Signature, signature
from verifier_model.contracts.kfuncs import CASTS, KERNEL_CONTEXTS, KFUNCS, Kfunc
from verifier_model.contracts.programs import is_sleepable
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import STACK_BYTES, Held, State

_TRUSTED: Final = frozenset({Trust.TRUSTED})
_RCU: Final = frozenset({Trust.TRUSTED, Trust.RCU})
_ANY_TRUST: Final = frozenset({Trust.TRUSTED, Trust.RCU, Trust.PLAIN})
_INIT: Final = "___init"  # a type that must not be taken for the one without (btf_type_ids_nocast_alias)
_PROJECTIONS: Final = {"sk_buff": "__sk_buff", "xdp_buff": "xdp_md"}
_SECTIONS: Final[Mapping[str, tuple[str, bool]]] = {
    "bpf_rcu_read_lock": (RCU, True),
    "bpf_rcu_read_unlock": (RCU, False),
    "bpf_preempt_disable": (PREEMPT, True),
    "bpf_preempt_enable": (PREEMPT, False),
}
# Functions whose results their arguments tell, and who follows them puts their names here.
FOLLOWED_ELSEWHERE: Final[set[str]] = set()
# Why the kernel does not have one of these functions for the program, by name.
ABSENCES: Final[dict[str, Callable[[Environment, str], str | None]]] = {}
UNDER_LOCK: Final[set[str]] = set()  # what may be called while a lock is held (is_bpf_graph_api_kfunc)
KfuncRule = Callable[[Environment, State, Kfunc, KfuncArgument, int], "str | None"]


def kfunc_name(insn: Insn) -> str | None:
    """The kernel function that a call names; None for calls of anything else."""
    is_extern = insn.row.name == "call_local" and insn.ref is not None and insn.ref.kind is RefKind.EXTERN
    return insn.ref.name if is_extern and insn.ref is not None else None


def kfunc_problem(env: Environment, name: str, state: State) -> str | None:
    """Why the kernel refuses the call."""
    kfunc, declared = KFUNCS.get(essential_name(name)), signature(env.unit, name, env.root)
    if kfunc is None or isinstance(declared, str):
        return f"the model does not know the kernel function {name}" if kfunc is None else str(declared)
    if env.unit.license not in GPL_LICENSES:
        return "cannot call kernel function from non-GPL compatible program"
    if not kfunc.is_for(env.root):
        return f"calling kernel function {name} is not allowed"
    absent = ABSENCES[name](env, name) if name in ABSENCES else None
    if absent is not None:
        return absent
    if "destructive" in kfunc.flags or (declared.result is Returned.OTHER and name not in FOLLOWED_ELSEWHERE):
        return f"the model does not follow calls of {name}"
    if holding(state, LOCK) is not None and (name not in UNDER_LOCK or _in_comparison(state)):
        return "function calls are not allowed while holding a lock"
    if "sleepable" in kfunc.flags and (not is_sleepable(env.root) or is_atomic(state)):
        return f"program must be sleepable to call sleepable kfunc {name}"
    if "rcu_protected" in kfunc.flags and not in_rcu_section(env, state):
        return f"kernel func {name} requires RCU critical section protection"
    if name in CASTS:
        return _cast_problem(env, name, state)
    return _section_problem(name, state) or _arguments_problem(env, kfunc, declared, state)


def _in_comparison(state: State) -> bool:
    """Is this the function that orders the nodes of a tree?  The model lets it call nothing."""
    return any(frame.callback in UNDER_LOCK for frame in state.callers)


def _section_problem(name: str, state: State) -> str | None:
    if name not in _SECTIONS:
        return None
    kind, is_enter = _SECTIONS[name]
    inside = holding(state, kind) is not None
    if not is_enter:
        return None if inside else f"unmatched {kind} unlock (kernel function {name})"
    return f"nested {kind} lock (kernel function {name})" if inside and kind == RCU else None


def _arguments_problem(env: Environment, kfunc: Kfunc, declared: Signature, state: State) -> str | None:
    released_count = 0
    for reg, argument in enumerate(declared.arguments, 1):
        register = state.regs[reg]
        if argument.kind is Parameter.IGNORED:
            continue
        if register.region is Region.UNINIT:
            return f"R{reg} !read_ok"
        if argument.nullable and is_null(register):
            continue
        rule = RULES.get(argument.kind)
        if rule is None:
            return f"R{reg}: the model does not follow {argument.kind.value} arguments of {kfunc.name}"
        problem = rule(env, state, kfunc, argument, reg)
        if problem is not None:
            return problem
        released_count += register.is_pointer and register.id in state.references
    if "release" in kfunc.flags and released_count != 1:
        return f"release kfunc {kfunc.name} expects refcounted PTR_TO_BTF_ID"
    return None


def _number(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    return None if is_number(state.regs[reg]) else f"R{reg} is not a scalar"


def _size(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register = state.regs[reg]
    if not register.is_scalar:
        return f"R{reg} is not a scalar"
    return size_bounds_problem(register, reg)


def _context(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    return context_problem(state.regs[reg], reg)


def _pointer(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register = state.regs[reg]
    if register.nullable:
        return f"Possibly NULL pointer passed to trusted arg{reg - 1}"
    if register.region is Region.OBJECT:
        return _object_problem(env, state, kfunc, argument, reg)
    if not argument.is_plain or not argument.size or (kfunc.wants_trust and is_null(register)):
        return f"arg#{reg - 1} pointer type struct {argument.name} must point to scalar, or struct with scalar"
    return buffer_problem(env, state, reg, argument.size, is_store=True, is_output=False)


def _object_problem(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    register = state.regs[reg]
    kind = register.object
    if kind is None or register.off < 0 or register.value.constant != 0:
        return f"R{reg} type={type_name(register)} is no whole object"
    if is_local(register):
        return f"R{reg} points to an object of the program's own"
    is_held = register.id in state.references and not register.off
    if "release" in kfunc.flags and not is_held:
        return f"release kernel function {kfunc.name} expects refcounted PTR_TO_BTF_ID"
    wanted = _TRUSTED if kfunc.wants_trust else _RCU if "rcu" in kfunc.flags else _ANY_TRUST
    if kind.trust not in wanted and not is_held:
        return f"R{reg} must be {'a rcu pointer' if wanted is _RCU else 'referenced or trusted'}"
    if is_assumed(register):
        return None
    if argument.name == _PROJECTIONS.get(kind.name) and not register.off:
        return None  # the function casts the context's view to what is behind it (btf_is_projection_of)
    is_exact = "release" in kfunc.flags or kind.name.endswith(_INIT) or argument.name.endswith(_INIT)
    if (kind.name == argument.name and not register.off) or (not is_exact and is_at(env, register, argument.name)):
        return None
    return f"kernel function {kfunc.name} args#{reg - 1} expected pointer to struct {argument.name}, not {kind.name}"


def _memory(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    return buffer_problem(env, state, reg, argument.size, is_store=True, is_output=False)


def _sized(env: Environment, state: State, kfunc: Kfunc, argument: KfuncArgument, reg: int) -> str | None:
    size = state.regs[reg + 1]
    if is_null(state.regs[reg]) and size.is_scalar and size.value.constant == 0:
        return f"R{reg} may not be NULL" if kfunc.wants_trust or "rcu" in kfunc.flags else None
    if not size.is_scalar or not 0 < size.value.umax < LARGEST_SIZE:
        return f"R{reg} unbounded memory access, use 'var &= const' or 'if (var < const)'"
    return buffer_problem(env, state, reg, size.value.umax, is_store=True, is_output=False)


RULES: Final[dict[Parameter, KfuncRule]] = {
    Parameter.NUMBER: _number,
    Parameter.SIZE: _size,
    Parameter.CONTEXT: _context,
    Parameter.POINTER: _pointer,
    Parameter.MEMORY: _memory,
    Parameter.SIZED_MEMORY: _sized,
}


def after_kfunc(env: Environment, name: str, state: State) -> State:
    """The state behind a call that the kernel accepts, as it sees it."""
    kfunc, declared = KFUNCS.get(essential_name(name)), signature(env.unit, name, env.root)
    if kfunc is None or isinstance(declared, str):
        return replace(state, regs=(UNKNOWN, *[UNINIT] * 5, *state.regs[6:]))
    if name in CASTS:
        kind = _cast(env, name, state)
        result = UNKNOWN if kind is None else object_pointer(env, kind, False)
        return replace(state, regs=(result, *[UNINIT] * 5, *state.regs[6:]))
    before = state
    state = _memory_after(declared, state)
    if name in _SECTIONS:
        state = _section_after(name, state)
    owner = 0
    for reg in range(1, len(declared.arguments) + 1):
        held = owner_of(before, before.regs[reg]) if before.regs[reg].is_pointer else 0
        if held and "release" in kfunc.flags and held == before.regs[reg].id:
            state = released(state, held)
        elif held:
            owner = held
    result = _result(env, kfunc, declared, owner)
    state = replace(state, regs=(result, *[UNINIT] * 5, *state.regs[6:]))
    if "acquire" not in kfunc.flags or not result.is_pointer:
        return state
    return acquired(replace(state, regs=(replace(result, owner=result.id), *state.regs[1:])), result.id)


def _cast_problem(env: Environment, name: str, state: State) -> str | None:
    """Casts take any pointer, and a constant that names the type or the context itself."""
    if env.root.program_type == "flow_dissector" or env.program is None:
        return f"the model does not follow calls of {name}"
    if name == "bpf_cast_to_kern_ctx":
        return context_problem(state.regs[1], 1)
    wanted = state.regs[2]
    if state.regs[1].region is Region.UNINIT or not wanted.is_scalar:
        return "R2 is not a scalar"
    if env.unit.kernel_types is None:
        return None  # the loader puts the number there
    return None if isinstance(_cast(env, name, state), ObjectType) else "type ID argument must be of a struct"


def _cast(env: Environment, name: str, state: State) -> ObjectType | None:
    types = env.unit.kernel_types
    if name == "bpf_cast_to_kern_ctx":
        context = KERNEL_CONTEXTS.get("" if env.program is None else env.program.struct)
        if context is None:
            return None
        own = types or env.unit.types
        return ObjectType(context, own.named(context, Kind.STRUCT) if own is not None else 0, Trust.TRUSTED)
    if types is None:
        return ObjectType("", 0, Trust.UNTRUSTED)
    at = state.regs[2].value.constant if state.regs[2].is_scalar else None
    if at is None or at >= len(types.types) or types.types[at].kind is not Kind.STRUCT:
        return None
    return ObjectType(types.types[at].name, at, Trust.UNTRUSTED)


def _memory_after(declared: Signature, state: State) -> State:
    """Memory that is handed over may have been written."""
    for reg, argument in enumerate(declared.arguments, 1):
        pointer = state.regs[reg]
        if pointer.region is not Region.STACK:
            continue
        size = argument.size
        if argument.kind is Parameter.SIZED_MEMORY:
            size = state.regs[reg + 1].value.umax if state.regs[reg + 1].is_scalar else STACK_BYTES
        span = stack_span(pointer, 0, min(size, STACK_BYTES))
        state = soften(state, pointer.frame, *(span or (-STACK_BYTES, 0)))
    return state


def _section_after(name: str, state: State) -> State:
    kind, is_enter = _SECTIONS[name]
    if is_enter:
        return acquired(state, Held(kind))
    region = holding(state, kind)
    return state if region is None else left(state, region)


def _result(env: Environment, kfunc: Kfunc, declared: Signature, owner: int) -> Register:
    if declared.result is Returned.NOTHING:
        return UNINIT
    if declared.result is Returned.NUMBER:
        return Register.scalar(Scalar.top())
    nullable = "ret_null" in kfunc.flags
    if declared.result is Returned.OBJECT:
        trust = Trust.TRUSTED if "acquire" in kfunc.flags else Trust.PLAIN
        kind = ObjectType(declared.name, declared.type_id, trust)
        return Register(Region.OBJECT, ZERO, id=env.fresh(), base=env.fresh(), nullable=nullable, object=kind)
    if declared.result is Returned.MEMORY:
        fresh = Register(Region.MEMORY, ZERO, id=env.fresh(), base=env.fresh(), nullable=nullable)
        return replace(fresh, size=declared.size, readonly=True, owner=owner)
    return UNKNOWN

"""What must hold at calls, exits and legacy packet loads (check_helper_call, check_return_code, check_ld_abs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.checker.allowance import helper_problem, results_at
from verifier_model.checker.arguments import ARGUMENTS, ArgumentRule
from verifier_model.checker.callbacks import callback_of, frame_problem, function_problem, result_problem
from verifier_model.checker.calls import helper_of
from verifier_model.checker.dynptrs import dynptr_problem
from verifier_model.checker.environment import Environment
from verifier_model.checker.exceptions import is_throw, throw_problem
from verifier_model.checker.global_calls import global_call_problem, global_callee
from verifier_model.checker.kernel_calls import kfunc_name, kfunc_problem
from verifier_model.checker.kernel_objects import is_number
from verifier_model.checker.locks import lock_problem, timer_problem
from verifier_model.checker.references import LOCK, exit_held_problem, holding, is_atomic, owner_of
from verifier_model.checker.stored_pointers import XCHG, place_problem, source_problem
from verifier_model.contracts.helpers import ArgumentKind, Helper
from verifier_model.domains.registers import Region
from verifier_model.domains.state import State

# Helpers whose prototype ends before their last arguments: nothing is asked of these registers.
_UNTYPED_TAIL: Final = frozenset({"trace_printk"})
# Whose programs stand for functions of the kernel that may return nothing.
_VOID_TYPES: Final = frozenset({"struct_ops"})
_LEGACY_TYPES: Final = frozenset({"socket_filter", "sched_cls", "sched_act"})
# Helpers that may sleep (bpf_func_proto.might_sleep), or wait for what may.
_SLEEPING: Final = frozenset(
    {
        "copy_from_user",
        "copy_from_user_task",
        "ima_inode_hash",
        "ima_file_hash",
        "btf_find_by_name_kind",
        "sys_bpf",
        "sys_close",
    }
)
_RULES: Final[Mapping[ArgumentKind, ArgumentRule]] = {
    **ARGUMENTS,
    ArgumentKind.SPIN_LOCK: lock_problem,
    ArgumentKind.TIMER: timer_problem,
    ArgumentKind.FUNCTION: function_problem,
    ArgumentKind.FRAME: frame_problem,
    ArgumentKind.DYNPTR: dynptr_problem,
    ArgumentKind.KPTR: place_problem,
}


def static_call_problem(env: Environment, insn: Insn, state: State) -> str | None:
    """Why a call that is followed into a static subprogram is refused."""
    if holding(state, LOCK) is not None and env.knows is not None and not env.knows.locked_calls:
        return "function calls are not allowed while holding a lock"
    return None


def call_problem(env: Environment, insn: Insn, state: State) -> str | None:
    """Why a call that is not followed into the callee is refused."""
    if insn.origin.core:
        return "the call is patched by the loader"
    kernels = kfunc_name(insn)
    if kernels is not None:
        return kfunc_problem(env, kernels, state) or (throw_problem(env, state) if is_throw(insn) else None)
    if insn.row.name == "call_local":
        callee = global_callee(env, insn)
        return "the callee is not known" if callee is None else global_call_problem(env, callee, state)
    helper = helper_of(insn)
    if helper is None:
        return f"invalid func unknown#{insn.imm}"
    absent = _absence(env, helper)
    if absent is not None:
        return absent
    if holding(state, LOCK) is not None and helper.name != "spin_unlock":
        return "function calls are not allowed while holding a lock"
    if helper.name in _SLEEPING and is_atomic(state):
        return f"sleepable helper {helper.name} in non-sleepable region"
    if helper.callback and callback_of(env, insn, state) is None:
        return "callback function not static"
    if helper.name == "tail_call" and any(frame.callback for frame in state.callers):
        return "tail_call is not allowed in callbacks"
    if helper.name == "get_local_storage" and not (state.regs[2].is_scalar and state.regs[2].value.constant == 0):
        return "get_local_storage() doesn't support non-zero flags"
    return _arguments_problem(env, helper, state) or _reference_problem(helper, state)


def _absence(env: Environment, helper: Helper) -> str | None:
    if helper.id not in env.absences:
        release = None if env.knows is None else env.knows.release
        env.absences[helper.id] = helper_problem(env.unit, env.root, helper, release)
    return env.absences[helper.id]


def _arguments_problem(env: Environment, helper: Helper, state: State) -> str | None:
    for reg, argument in enumerate(helper.arguments, 1):
        register = state.regs[reg]
        if argument.kind is ArgumentKind.PEEK and helper.name in _UNTYPED_TAIL:
            continue
        if register.region is Region.UNINIT:
            return f"R{reg} !read_ok"
        if argument.nullable and register.is_scalar and register.value.constant == 0:
            continue
        is_given_away = helper.name == XCHG and argument.kind is ArgumentKind.OBJECT
        rule = source_problem if is_given_away else _RULES.get(argument.kind)
        if rule is None:
            return f"R{reg}: the model does not follow {argument.kind.value} arguments of {helper.name}"
        problem = rule(env, state, helper, reg)
        if problem is not None:
            return problem
    return None


def _reference_problem(helper: Helper, state: State) -> str | None:
    if helper.name == "tail_call" and state.references:
        return "tail_call would lead to reference leak"
    if (
        helper.releases
        and helper.name != XCHG
        and not any(owner_of(state, register) for register in state.regs[1 : len(helper.arguments) + 1])
    ):
        return f"release of an object that was not acquired by {helper.name}"
    return None


def exit_problem(env: Environment, state: State) -> str | None:
    """Why the function may not return here."""
    result = state.regs[0]
    if state.callers and state.callers[0].callback:
        return result_problem(state)
    if state.callers and env.knows is not None and not env.knows.locked_calls and holding(state, LOCK) is not None:
        return "bpf_spin_unlock is missing"
    if state.callers and holding(state, LOCK) is not None and env.knows is not None and not env.knows.locked_calls:
        return "bpf_spin_unlock is missing"
    if state.callers:
        return "cannot return stack pointer to the caller" if result.region is Region.STACK else None
    held = exit_held_problem(state)
    if held is not None:
        return held
    if env.root.returns_void and env.root.program_type in _VOID_TYPES and not env.root.is_subprogram:
        return None
    if result.region is Region.UNINIT:
        return "R0 !read_ok"
    results = None if env.program is None or env.root.is_subprogram else env.program.results
    results = results_at(env.root, results, None if env.knows is None else env.knows.release)
    if env.root.is_subprogram and not is_number(result):
        return "At subprogram exit the register R0 is not a scalar value"
    if results is not None and not result.is_scalar:
        return f"At program exit the register R0 is not a known value, it should be in [{results[0]}, {results[1]}]"
    value = result.value
    is_half = env.program is not None and env.program.half_result and results is not None and results[0] < 0
    low, high = (value.s32min, value.s32max) if is_half else (value.smin, value.smax)
    if results is not None and not (results[0] <= low and high <= results[1]):
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

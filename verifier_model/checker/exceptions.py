"""bpf_throw: an end of the program, from whatever frame (check_kfunc_call and check_return_code)."""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.btf import Kind
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.environment import Environment
from verifier_model.checker.kernel_calls import kfunc_name
from verifier_model.checker.references import exit_held_problem
from verifier_model.domains.state import State

_TAG: Final = "exception_callback:"


def is_throw(insn: Insn) -> bool:
    return kfunc_name(insn) == "bpf_throw"


def throw_problem(env: Environment, state: State) -> str | None:
    """Why the program may not end here; without a callback of its own it returns the cookie in r1."""
    held = exit_held_problem(state)
    if held is not None:
        return held
    if any(frame.callback for frame in state.callers):
        return "bpf_throw cannot be called from a callback"
    cookie = state.regs[1]
    if not cookie.is_scalar:
        return "R1 is not a scalar"
    results = None if env.program is None else env.program.results
    if results is None or (results[0] <= cookie.value.smin and cookie.value.smax <= results[1]):
        return None
    return f"At program exit the register R1 has unknown scalar value should have been in [{results[0]}, {results[1]}]"


def handler_problem(unit: Unit, root: Function) -> str | None:
    """Programs that catch what is thrown are not followed."""
    if unit.types is None or not root.type_id:
        return None
    tags = (entry for entry in unit.types.types if entry.kind is Kind.DECL_TAG and entry.type == root.type_id)
    tag = next((entry.name for entry in tags if entry.name.startswith(_TAG)), None)
    return None if tag is None else f"the model does not follow {tag}"

"""The stack that a chain of calls needs together (check_max_stack_depth in kernel/bpf/verifier.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.callgraph import callees
from verifier_model.checker.calls import helper_of
from verifier_model.contracts.global_functions import global_callees
from verifier_model.domains.state import STACK_BYTES

_FRAME_UNIT: Final = 32
_WITH_TAIL_CALLS: Final = 256


def combined_depth_problem(unit: Unit, root: Function, lowest: Mapping[str, int]) -> str | None:
    """Why the frames do not fit; `lowest` gives each function's lowest byte in use, as a negative offset from r10."""
    return _descend(unit, root, lowest, 0, (root.name,))


def _descend(
    unit: Unit, function: Function, lowest: Mapping[str, int], above: int, chain: tuple[str, ...]
) -> str | None:
    frames = len(chain)
    used = max(-lowest.get(function.name, 0), 1)
    total = above + (used + _FRAME_UNIT - 1) // _FRAME_UNIT * _FRAME_UNIT
    if total > STACK_BYTES:
        return f"combined stack size of {frames} calls is {total}. Too large"
    if frames > 1 and total >= _WITH_TAIL_CALLS and _tail_calls(function):
        return f"tail_calls are not allowed when call stack of previous frames is {total} bytes. Too large"
    for callee in (*callees(unit, function), *global_callees(unit, function)):
        if callee.name in chain:
            continue  # handed over to be called later: see `callgraph.depth`
        problem = _descend(unit, callee, lowest, total, (*chain, callee.name))
        if problem is not None:
            return problem
    return None


def _tail_calls(function: Function) -> bool:
    return any(helper is not None and helper.name == "tail_call" for helper in map(helper_of, _insns(function)))


def _insns(function: Function) -> list[Insn]:
    return [insn for _, insn in function.insns()]

"""The stack that a chain of calls needs together (check_max_stack_depth in kernel/bpf/verifier.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.callgraph import callees
from verifier_model.checker.calls import helper_of
from verifier_model.contracts.global_functions import global_callees
from verifier_model.contracts.kernels import Release
from verifier_model.domains.state import STACK_BYTES

_FRAME_UNIT: Final = 32
# Programs that are compiled have frames in smaller units (round_up_stack_depth, seen in 6.12).
_COMPILED_UNIT: Final = 16
_COMPILED_SINCE: Final = (6, 12, 0)
_WITH_TAIL_CALLS: Final = 256


def combined_depth_problem(
    unit: Unit, root: Function, lowest: Mapping[str, int], release: Release | None = None
) -> str | None:
    """Why the frames do not fit; `lowest` gives each function's lowest byte in use, as a negative offset from r10.

    `release`: the kernel, which is taken to compile programs, as all do that are not told otherwise; None: any.
    """
    granule = _FRAME_UNIT if release is None or release < _COMPILED_SINCE else _COMPILED_UNIT
    return _descend(unit, root, lowest, granule, 0, (root.name,))


def _descend(
    unit: Unit, function: Function, lowest: Mapping[str, int], granule: int, above: int, chain: tuple[str, ...]
) -> str | None:
    frames = len(chain)
    used = max(-lowest.get(function.name, 0), 1)
    total = above + (used + granule - 1) // granule * granule
    if total > STACK_BYTES:
        return f"combined stack size of {frames} calls is {total}. Too large"
    if frames > 1 and total >= _WITH_TAIL_CALLS and _tail_calls(function):
        return f"tail_calls are not allowed when call stack of previous frames is {total} bytes. Too large"
    for callee in (*callees(unit, function), *global_callees(unit, function)):
        if callee.name in chain:
            continue  # handed over to be called later: see `callgraph.depth`
        problem = _descend(unit, callee, lowest, granule, total, (*chain, callee.name))
        if problem is not None:
            return problem
    return None


def _tail_calls(function: Function) -> bool:
    return any(helper is not None and helper.name == "tail_call" for helper in map(helper_of, _insns(function)))


def _insns(function: Function) -> list[Insn]:
    return [insn for _, insn in function.insns()]

"""What the kernel asks of a program before it follows paths (check_subprogs, check_cfg, check_abnormal_return).

Every address and kernel function is known, every function ends in an exit or an unconditional jump, every instruction
can be reached, and kernels before 6.7 refuse an edge that falls back to where their depth-first search still is.
"""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Function, Point
from verifier_model.checker.knowledge import Knowledge

_ENDS: Final = frozenset({Kind.EXIT, Kind.JUMP})
_THROW: Final = "bpf_throw"
_TAIL_CALL: Final = 12
_IDLE_MAY_GOTO: Final = (6, 14, 0)  # since then a may_goto may lead to where it falls anyway


def shape_problem(function: Function, knows: Knowledge, has_types: bool = True) -> tuple[Point, str] | None:
    """Where and why the kernel refuses the function's form; None when it does not.

    `has_types`: the program comes with BTF, as that of every object does that was compiled with it.
    """
    points = [(point, insn) for point, insn in function.insns()]
    if not points:
        return Point(function.blocks[0].label if function.blocks else "", 0), "the function has no instructions"
    if points[-1][1].kind not in _ENDS and not _throws(points[-1][1]):
        return points[-1][0], "last insn is not an exit or jmp"
    for point, insn in points:
        reason = _unresolved(insn)
        if function.is_subprogram and not has_types and _returns_abnormally(insn):
            reason = "tail_call and LD_ABS are not allowed in subprogs without BTF"
        if reason is not None:
            return point, reason
    edges = _edges(function, [insn for _, insn in points])
    if edges is None:
        return points[-1][0], "jump out of range"
    if knows.release is not None and knows.release < _IDLE_MAY_GOTO:
        for (point, insn), following in zip(points, edges, strict=True):
            if insn.kind is Kind.MAY_GOTO and len(set(following)) == 1:
                return point, "invalid may_goto off 0 imm 0"
    seen, back = _search(edges, [insn for _, insn in points], knows.middle_entries)
    if back is not None:
        return points[back][0], f"back-edge from insn {back}"
    for index, (point, _) in enumerate(points):
        if index not in seen:
            return point, f"unreachable insn {index}"
    return None


def _unresolved(insn: Insn) -> str | None:
    """Addresses and kernel functions are looked up before any path is followed, in dead code, too."""
    if insn.ref is not None or insn.origin.core:
        return None
    if insn.kind is Kind.LOAD_WIDE and insn.row.name != "lddw_constant":
        return "unrecognized bpf_ld_imm64 insn"
    return "failed to find BTF for kernel function" if insn.row.name == "call_kfunc" else None


def _returns_abnormally(insn: Insn) -> bool:
    return insn.kind is Kind.LEGACY_LOAD or (insn.row.name == "call_helper" and insn.imm == _TAIL_CALL)


def _throws(insn: Insn) -> bool:
    return insn.kind is Kind.CALL and insn.ref is not None and insn.ref.name == _THROW


def _edges(function: Function, insns: list[Insn]) -> list[tuple[int, ...]] | None:
    """For each instruction those that may follow, what it falls into first; None when an edge leaves the function."""
    starts: dict[str, int] = {}
    at = 0
    for block in function.blocks:
        starts[block.label] = at
        at += len(block.insns)
    edges: list[tuple[int, ...]] = []
    for index, insn in enumerate(insns):
        following: tuple[int, ...] = ()
        if insn.kind not in _ENDS and not (_throws(insn) and index + 1 == len(insns)):
            following = (index + 1,)
        if insn.ref is not None and insn.ref.kind is RefKind.LABEL:
            target = starts.get(insn.ref.name)
            following = (*following, len(insns) if target is None else target)
        if any(to >= len(insns) for to in following):
            return None
        edges.append(following)
    return edges


def _search(
    edges: list[tuple[int, ...]], insns: list[Insn], allows_middle_entries: bool
) -> tuple[set[int], int | None]:
    """The kernel's search: all that was reached, and the first edge that an older kernel refuses."""
    seen, open_ = {0}, {0}
    stack = [(0, iter(edges[0]))]
    while stack:
        index, following = stack[-1]
        to = next(following, None)
        if to is None:
            stack.pop()
            open_.discard(index)
            continue
        if to not in seen:
            seen.add(to)
            open_.add(to)
            stack.append((to, iter(edges[to])))
        elif to in open_ and not allows_middle_entries and not insns[index].row.is_block_end:
            return seen, index
    return seen, None

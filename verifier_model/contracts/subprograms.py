"""What a function of the object takes and may do to the packet, from its body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from verifier_model.bpf.demand import ALL_ARGUMENTS, StackAccess
from verifier_model.bpf.insn import FRAME_POINTER, Insn, RefKind
from verifier_model.bpf.isa import STORE_KINDS, Kind
from verifier_model.bpf.liveness import liveness
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.contracts.helpers import HELPERS


@dataclass(frozen=True, slots=True)
class Summary:
    """What any call of the function may do.

    `arguments`: those of r1 to r5 that it may look at; `changes_packet`: it may move the packet; `writes_memory`: it
    may write memory that is not its own frame.
    """

    arguments: tuple[int, ...]
    changes_packet: bool
    writes_memory: bool


_ANYTHING: Final = Summary(ALL_ARGUMENTS, True, True)


@dataclass
class _Memory:
    """Summaries of the unit asked about last: one exploration asks the same few questions thousands of times."""

    unit: Unit | None = None
    known: dict[str, Summary] = field(default_factory=dict)


_memory: Final = _Memory()


def local_callee(insn: Insn, unit: Unit) -> Function | None:
    """The function that a local call enters; None when `insn` is no such call or its target is not found."""
    if insn.row.name != "call_local" or insn.ref is None or insn.ref.kind is not RefKind.FUNCTION or insn.ref.addend:
        return None
    return next((function for function in unit.functions if function.name == insn.ref.name), None)


def summary(function: Function, unit: Unit) -> Summary:
    """An upper bound for every call of `function`.

    A static function's argument count in BTF is the source's, and LLVM may have given the code other arguments: the
    body decides.  For a global function the kernel holds callers to its BTF, and freplace may give it another body.
    """
    if _memory.unit is not unit:
        _memory.unit, _memory.known = unit, {}
    if function.name not in _memory.known:
        # A recursive call (which the kernel refuses) meets the most careful answer.
        _memory.known[function.name] = _ANYTHING
        _memory.known[function.name] = _summarise(function, unit)
    return _memory.known[function.name]


def _summarise(function: Function, unit: Unit) -> Summary:
    if function.untouchable is not None:
        return _ANYTHING
    if function.is_global:
        count = function.argument_count
        return Summary(ALL_ARGUMENTS if count is None or not 0 <= count <= 5 else ALL_ARGUMENTS[:count], True, True)
    insns = dict(function.insns())
    calls = {point: _of_call(insn, unit) for point, insn in insns.items() if insn.kind is Kind.CALL}

    def access(point: Point) -> StackAccess:
        found = calls.get(point)
        return StackAccess(reads_all=True, arguments=ALL_ARGUMENTS if found is None else found.arguments)

    at_entry = liveness(function, access).before(Point(function.blocks[0].label, 0))
    arguments = tuple(reg for reg in ALL_ARGUMENTS if at_entry.is_live(reg))
    return Summary(
        arguments,
        any(found.changes_packet for found in calls.values()),
        any(map(_writes_beyond_its_frame, insns.values())) or any(found.writes_memory for found in calls.values()),
    )


def _writes_beyond_its_frame(insn: Insn) -> bool:
    return insn.kind in STORE_KINDS | {Kind.ATOMIC} and insn.dst != FRAME_POINTER


def _of_call(insn: Insn, unit: Unit) -> Summary:
    if insn.row.name == "call_helper" and insn.ref is None:
        helper = HELPERS.get(insn.imm)
        if helper is None:
            return _ANYTHING
        moves = helper.callback or helper.changes_packet
        return Summary(ALL_ARGUMENTS[: len(helper.arguments)], moves, moves or helper.writes_memory)
    callee = local_callee(insn, unit)
    return _ANYTHING if callee is None else summary(callee, unit)

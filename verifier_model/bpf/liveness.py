"""Backward liveness: which register bits and stack bytes may still be looked at.

Registers are tracked as masks of demanded bits.  A register that some later instruction reads is never dead, even when
no bit of it matters: the kernel refuses reads of uninitialised registers, so bit 0 stays demanded.  This also holds for
reads by instructions whose own result is dead.  Stack bytes are tracked for the current frame only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from verifier_model.bpf.demand import (
    ALL_BITS,
    ANY_STACK_ACCESS,
    NO_STACK_ACCESS,
    STACK_LIMIT,
    Demand,
    StackAccess,
    stack_bytes,
)
from verifier_model.bpf.demanded_bits import alu_demand, branch_demand, endian_demand, reads_dst, stored_bits
from verifier_model.bpf.evaluate import atomic_destination
from verifier_model.bpf.flow import predecessors, successors
from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind, Operand
from verifier_model.bpf.unit import Function, Point

Regs = list[int]
Transfer = Callable[[Regs, Insn], None]
Live = tuple[tuple[int, ...], int]  # register masks, stack bytes as a bit set (bit 0 is r10-512)

_R0_AT_EXIT: Final = (ALL_BITS, *[0] * (REGISTER_COUNT - 1))
_ALL_STACK: Final = (1 << STACK_LIMIT) - 1
_DEAD: Final[Live] = ((0,) * REGISTER_COUNT, 0)
_CTX_REGISTER: Final = 6  # where legacy packet loads expect the skb
_TOUCHES_STACK: Final = frozenset(
    {Kind.LOAD, Kind.STORE, Kind.STORE_IMM, Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE, Kind.CALL}
)


def _want(regs: Regs, register: int, mask: int) -> None:
    regs[register] |= mask or 1


def _alu(regs: Regs, insn: Insn) -> None:
    dst, src = alu_demand(insn, regs[insn.dst])
    regs[insn.dst] = 0
    if reads_dst(insn.row):
        _want(regs, insn.dst, dst)
    if insn.row.operand is Operand.REG:
        _want(regs, insn.src, src)


def _endian(regs: Regs, insn: Insn) -> None:
    regs[insn.dst] = endian_demand(insn.row, regs[insn.dst]) or 1


def _define(regs: Regs, insn: Insn) -> None:
    regs[insn.dst] = 0


def _load(regs: Regs, insn: Insn) -> None:
    regs[insn.dst] = 0
    regs[insn.src] = ALL_BITS


def _store(regs: Regs, insn: Insn) -> None:
    regs[insn.dst] = ALL_BITS
    if insn.row.operand is Operand.REG:
        _want(regs, insn.src, stored_bits(insn))


def _atomic(regs: Regs, insn: Insn) -> None:
    destination = atomic_destination(insn.row, insn.src)
    if destination is not None:
        regs[destination] = 0
    _store(regs, insn)
    if insn.row.op == "cmpxchg":
        _want(regs, 0, stored_bits(insn))


def _branch(regs: Regs, insn: Insn) -> None:
    dst, src = branch_demand(insn)
    _want(regs, insn.dst, dst)
    if insn.row.operand is Operand.REG:
        _want(regs, insn.src, src)


def _call(regs: Regs, insn: Insn) -> None:
    regs[0:6] = [0] * 6  # the arguments come with the access


def _legacy_load(regs: Regs, insn: Insn) -> None:
    regs[0:6] = [0] * 6
    regs[_CTX_REGISTER] = ALL_BITS
    if insn.row.operand is Operand.REG:
        regs[insn.src] = ALL_BITS


def _nothing(regs: Regs, insn: Insn) -> None:
    pass


_TRANSFERS: Final[dict[Kind, Transfer]] = {
    Kind.ALU: _alu,
    Kind.ENDIAN: _endian,
    Kind.CAST: _load,
    Kind.LOAD_WIDE: _define,
    Kind.LOAD: _load,
    Kind.LOAD_ACQUIRE: _load,
    Kind.STORE: _store,
    Kind.STORE_IMM: _store,
    Kind.STORE_RELEASE: _store,
    Kind.ATOMIC: _atomic,
    Kind.JUMP: _nothing,
    Kind.MAY_GOTO: _nothing,
    Kind.BRANCH: _branch,
    Kind.CALL: _call,
    Kind.LEGACY_LOAD: _legacy_load,
}


def syntactic_access(insn: Insn) -> StackAccess:
    """What can be said of an instruction without facts: displacements from r10 itself are exact, any other read may
    be of the stack, any other write need not be."""
    row = insn.row
    if insn.origin.core and insn.kind in _TOUCHES_STACK:
        return ANY_STACK_ACCESS  # the loader may change the displacement
    if insn.kind in LOAD_KINDS and insn.src == FRAME_POINTER:
        return StackAccess(reads=stack_bytes(insn.off, row.size))
    if insn.kind in STORE_KINDS:
        is_direct = insn.dst == FRAME_POINTER
        return StackAccess(writes=stack_bytes(insn.off, row.size)) if is_direct else NO_STACK_ACCESS
    if insn.kind is Kind.ATOMIC and insn.dst == FRAME_POINTER:
        return StackAccess(reads=stack_bytes(insn.off, row.size))
    return ANY_STACK_ACCESS if insn.kind in _TOUCHES_STACK else NO_STACK_ACCESS


class _Step:
    """One instruction, prepared for repeated backward passes."""

    __slots__ = ("arguments", "insn", "keep", "reads", "transfer")

    def __init__(self, insn: Insn, access: StackAccess) -> None:
        self.insn = insn
        self.transfer = _TRANSFERS.get(insn.kind)  # None: an exit
        self.reads = _ALL_STACK if access.reads_all else _to_bits(access.reads)
        self.keep = _ALL_STACK & ~_to_bits(access.writes)
        self.arguments = access.arguments if insn.kind is Kind.CALL else ()

    def backward(self, regs: Regs, stack: int, at_exit: tuple[int, ...]) -> int:
        """Turn the registers demanded after into those demanded before; returns the same for the stack."""
        if self.transfer is None:
            regs[:] = at_exit
            return 0
        self.transfer(regs, self.insn)
        for register in self.arguments:
            regs[register] = ALL_BITS
        return stack & self.keep | self.reads


@lru_cache(maxsize=4096)
def _to_bits(offsets: frozenset[int]) -> int:
    bits = 0
    for offset in offsets:
        if -STACK_LIMIT <= offset < 0:
            bits |= 1 << offset + STACK_LIMIT
    return bits


@lru_cache(maxsize=4096)
def _to_offsets(bits: int) -> frozenset[int]:
    return frozenset(at - STACK_LIMIT for at in range(STACK_LIMIT) if bits >> at & 1)


class Liveness:
    """The demand at every point of one function, as `liveness` computed it."""

    def __init__(self, points: dict[str, list[Live]]) -> None:
        self._points = points  # per block: just before each instruction, and at the block's end

    def before(self, point: Point) -> Demand:
        """What may be looked at from the point on: by its own instruction or any later one."""
        regs, stack = self._points[point.label][point.at]
        return Demand(regs, _to_offsets(stack))

    def after(self, point: Point) -> Demand:
        """What may be looked at by instructions behind the one at the point; raises IndexError at a block's end."""
        regs, stack = self._points[point.label][point.at + 1]
        return Demand(regs, _to_offsets(stack))


def demand_before(insns: Sequence[Insn], accesses: Sequence[StackAccess], after: Demand) -> Demand:
    """What a straight run of instructions demands at its start when `after` is demanded at its end.

    The run may end in a branch, whose targets' demands are then in `after`, or in an exit, which demands all of r0.
    """
    regs, stack = list(after.regs), _to_bits(after.stack)
    for insn, access in zip(reversed(insns), reversed(accesses), strict=True):
        stack = _Step(insn, access).backward(regs, stack, _R0_AT_EXIT)
    return Demand(tuple(regs), _to_offsets(stack))


def _at_exit(function: Function) -> tuple[int, ...]:
    # r6 to r9 are the caller's again after an exit (the kernel saves them).  Global functions must set r0 even when
    # nobody reads it: the kernel checks them on their own (verifier.c, check_return_code).
    is_void = function.is_subprogram and function.returns_void and not function.is_global
    return (0 if is_void else ALL_BITS, *[0] * (REGISTER_COUNT - 1))


def liveness(function: Function, access: Callable[[Point], StackAccess]) -> Liveness:
    """Demands at all points, also of unreachable blocks.

    `access` is asked once for each memory access and call.  Falling off the function's end demands nothing.
    Raises ValueError where `flow.successors` does.
    """
    steps = {
        block.label: [
            _Step(insn, access(Point(block.label, at)) if insn.kind in _TOUCHES_STACK else NO_STACK_ACCESS)
            for at, insn in enumerate(block.insns)
        ]
        for block in function.blocks
    }
    following = successors(function)
    before = predecessors(following)
    at_exit = _at_exit(function)
    starts: dict[str, Live] = dict.fromkeys(steps, _DEAD)
    # Last block first: most edges point forward in the layout, so most blocks are done in one visit.
    waiting = list(steps)
    queued = set(waiting)
    while waiting:
        label = waiting.pop()
        queued.discard(label)
        start = _start_of(steps[label], _join([starts[other] for other in following[label]]), at_exit)
        # Demands only grow: bit 0 of a read whose result is dead moves about in a loop of byte swaps.
        start = _join([starts[label], start])
        if start == starts[label]:
            continue
        starts[label] = start
        for other in before[label]:
            if other not in queued:
                queued.add(other)
                waiting.append(other)
    return Liveness(
        {
            label: _points(block, _join([starts[other] for other in following[label]]), at_exit)
            for label, block in steps.items()
        }
    )


def _join(states: list[Live]) -> Live:
    if len(states) == 1:
        return states[0]
    regs, stack = _DEAD
    for other_regs, other_stack in states:
        regs = tuple(a | b for a, b in zip(regs, other_regs, strict=True))
        stack |= other_stack
    return regs, stack


def _start_of(steps: list[_Step], end: Live, at_exit: tuple[int, ...]) -> Live:
    regs, stack = list(end[0]), end[1]
    for step in reversed(steps):
        stack = step.backward(regs, stack, at_exit)
    return tuple(regs), stack


def _points(steps: list[_Step], end: Live, at_exit: tuple[int, ...]) -> list[Live]:
    points = [end]
    regs, stack = list(end[0]), end[1]
    for step in reversed(steps):
        stack = step.backward(regs, stack, at_exit)
        points.append((tuple(regs), stack))
    points.reverse()
    return points

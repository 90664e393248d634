"""May the address of a frame come back as a plain number?  Then a helper that is given a number may read the stack.

The kernel lets privileged programs store pointers anywhere and load them again as numbers.  Where a function never
stores such an address, nor calculates with one what is no address any more, no number of its is one.
"""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.flow import reverse_post_order, successors
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import STORE_KINDS, Kind, Operand
from verifier_model.bpf.unit import Function, Unit

_FRAME_BIT: Final = 1 << FRAME_POINTER
_ARGUMENTS: Final = 0b111110
_CALLER_SAVED: Final = 0b111111


# Answers by identity, kept with their functions: a rewrite makes a new unit, of which most functions are the old ones.
_known: Final[dict[int, tuple[Function, bool]]] = {}
_MOST_KNOWN: Final = 4096


def may_leak_frame(function: Function, unit: Unit) -> bool:
    """May `function`, or one that shares its frames through calls, have turned a frame's address into a number?"""
    others = (other for other in unit.functions if other.is_subprogram or function.is_subprogram)
    return _leaks(function) or any(_leaks(other) for other in others)


def _leaks(function: Function) -> bool:
    known = _known.get(id(function))
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[id(function)] = (function, _analyse(function))
    return known[1]


def _analyse(function: Function) -> bool:
    """Forward over all paths: which registers may hold an address of a frame, as bits."""
    try:
        edges, order = successors(function), reverse_post_order(function)
    except ValueError:
        return True
    if not order:
        return False
    insns = {block.label: block.insns for block in function.blocks}
    entry = _FRAME_BIT | (_ARGUMENTS if function.is_subprogram else 0)
    held = {order[0]: entry}
    waiting = [order[0]]
    while waiting:  # bits only ever come on, so this ends
        label = waiting.pop()
        bits = held[label]
        for insn in insns[label]:
            after = _after(insn, bits)
            if after is None:
                return True
            bits = after
        for target in edges[label]:
            joined = held.get(target, _FRAME_BIT) | bits
            if target not in held or joined != held[target]:
                held[target] = joined
                waiting.append(target)
    return False


def _after(insn: Insn, bits: int) -> int | None:
    """The registers that hold frame addresses behind the instruction; None when such an address gets away."""
    kind, row = insn.kind, insn.row
    dst, src = 1 << insn.dst, 1 << insn.src
    if kind in STORE_KINDS or kind is Kind.ATOMIC:
        return None if kind is not Kind.STORE_IMM and bits & src else bits
    if kind is Kind.CALL:
        returned = 1 if row.name != "call_helper" and bits & _ARGUMENTS else 0
        return bits & ~_CALLER_SAVED | returned
    if kind is Kind.LEGACY_LOAD:
        return bits & ~_CALLER_SAVED
    if kind is Kind.ALU:
        return _calculated(insn, bits, dst, bits & src if row.operand is Operand.REG else 0)
    if kind in (Kind.ENDIAN, Kind.CAST):
        return None if bits & (dst | src) else bits
    if row.is_block_end:
        return bits
    return bits & ~dst  # loads


def _calculated(insn: Insn, bits: int, dst: int, src: int) -> int | None:
    row = insn.row
    if row.op == "mov" and row.width == 64:
        return bits | dst if src else bits & ~dst
    if row.op == "mov" or row.op.startswith("movsx"):
        return None if src else bits & ~dst
    if not (bits & dst or src):
        return bits
    if row.width != 64 or row.op not in ("add", "sub"):
        return None
    if row.op == "sub" and src:
        return bits & ~dst if bits & dst else None  # a distance inside frames is no address
    return bits | dst

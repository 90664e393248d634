"""Widening a window until the rewrite follows from what stands in it.

A proposal may rest on something that an earlier instruction of the block did: a register holds what memory holds, say.
The facts at the window's start do not tell such things, so the window must take that instruction in, unchanged.
"""

from __future__ import annotations

from typing import Final

from synth.passes.block_view import BlockView
from synth.passes.bytewise import Value, value_of
from synth.passes.names import Address, Names
from synth.passes.symbols import SymbolicBlock
from synth.rewrite import Rewrite, Window
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.domains.registers import Region

_STEPS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)


def supported(view: BlockView, rewrite: Rewrite) -> Rewrite:
    """The rewrite with the smallest window, by steps, from whose start it follows; as it is where none does."""
    window = rewrite.window
    for step in _STEPS:
        start = max(0, window.start - step)
        lead = view.insns[start : window.start]
        if _follows(view, start, window.stop, lead + rewrite.before, lead + rewrite.after):
            wider = Window(window.label, start, window.stop)
            return Rewrite(wider, lead + rewrite.before, lead + rewrite.after, rewrite.proposer, rewrite.why)
        if start == 0:
            break
    return rewrite


def _follows(view: BlockView, start: int, stop: int, before: tuple[Insn, ...], after: tuple[Insn, ...]) -> bool:
    """Do both leave the same, by symbolic execution from the facts at `start` alone?"""
    state = view.facts.before(view.point(start))
    effects = [view.effects(at) for at in range(start, stop) if view.insns[at].kind is Kind.CALL]
    names = Names()
    order = view.unit.byte_order
    old = SymbolicBlock(before, [state], effects, order, names)
    new = SymbolicBlock(after, [state], effects, order, names)
    tests = _test(before[-1], old) if before else None, _test(after[-1], new) if after else None
    if tests[0] != tests[1] and (tests[0] is None or tests[1] is None or tests[0][0] == tests[1][0]):
        return False
    return _same_end(old, new, view.demand_after(stop - 1))


def _test(insn: Insn, block: SymbolicBlock) -> tuple[str, Value, Value] | None:
    """What a branch at the end compares, and how."""
    if insn.kind is not Kind.BRANCH:
        return None
    regs, size = block.before[-2].regs, insn.row.size
    source = regs[insn.src] if insn.row.operand is Operand.REG else value_of(insn.imm)
    return insn.row.op, regs[insn.dst][:size], source[:size]


def _same_end(old: SymbolicBlock, new: SymbolicBlock, demand: Demand) -> bool:
    last, last_new = old.before[-1], new.before[-1]
    for reg, mask in enumerate(demand.regs):
        pairs = zip(last.regs[reg], last_new.regs[reg], strict=True)
        if any(a != b and mask >> 8 * k & 0xFF for k, (a, b) in enumerate(pairs)):
            return False
    return all(
        last.memory.get(place, old.untouched(place)) == last_new.memory.get(place, new.untouched(place))
        for place in {**last.memory, **last_new.memory}
        if _is_demanded(place, demand)
    )


def _is_demanded(place: Address, demand: Demand) -> bool:
    return place.root.region is not Region.STACK or place.off in demand.stack

"""May a rewrite be applied together with others that were proved under the same facts? (Inside the trust wall.)

A rewrite promises to deliver what the program demands behind its window, given what the program demanded in front of
it. Other rewrites of the batch preserve exactly those demanded values. So it composes when its replacement reads
nothing else.
"""

from __future__ import annotations

from synth.rewrite import Rewrite
from verifier_model.bpf.demand import Demand, StackAccess
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.liveness import demand_before
from verifier_model.bpf.unit import Point
from verifier_model.facts import Facts


def reads_no_more(rewrite: Rewrite, facts: Facts) -> bool:
    """Is every register bit and stack byte that the replacement reads one that the function still needs there?"""
    window = rewrite.window
    allowed = facts.demand_before(Point(window.label, window.start))
    needed = demand_before(rewrite.after, _accesses(rewrite, facts), _demand_behind(rewrite, facts))
    registers = zip(needed.regs[:FRAME_POINTER], allowed.regs[:FRAME_POINTER], strict=True)
    return all(need & ~allow == 0 for need, allow in registers) and needed.stack <= allowed.stack


def _demand_behind(rewrite: Rewrite, facts: Facts) -> Demand:
    return facts.demand_after(Point(rewrite.window.label, rewrite.window.stop - 1))


def _accesses(rewrite: Rewrite, facts: Facts) -> list[StackAccess]:
    """What each new instruction does to the stack; the i-th call stands for the i-th call of the window."""
    window = rewrite.window
    calls = [Point(window.label, window.start + at) for at, insn in enumerate(rewrite.before) if _is_call(insn)]
    accesses = facts.stack_accesses(Point(window.label, window.start), rewrite.after)
    met = 0
    for at, insn in enumerate(rewrite.after):
        if _is_call(insn):
            accesses[at] = facts.stack_access(calls[met]) if met < len(calls) else StackAccess(reads_all=True)
            met += 1
    return accesses


def _is_call(insn: Insn) -> bool:
    return insn.row.kind is Kind.CALL

"""May the kernel refuse a replacement where it took the original?  A cheap answer per rewrite, before the prover.

Two ways make an instruction of the replacement safe: the original does the same thing to the same values, or the facts
at that point satisfy the instruction's conditions.  The whole-function check decides in the end; this one must only
refuse what is likely to fail there, and everything that the facts cannot vouch for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import MEMORY_KINDS, STORE_KINDS, Kind
from verifier_model.checker.callgraph import callee_of
from verifier_model.checker.conditions import ValidAccess, conditions_of
from verifier_model.checker.environment import Environment
from verifier_model.checker.obligations import call_problem
from verifier_model.checker.terms import Access, Names, Run, Term
from verifier_model.checker.transfer import step
from verifier_model.domains.registers import SHARED, Region, Register
from verifier_model.domains.state import SLOT_SIZE, State
from verifier_model.verdict import Obligation

# Nothing but what the original did may be done to these: fields may be locks, timers or unreadable.
_ONLY_AS_BEFORE: Final = frozenset({Region.OBJECT, Region.UNKNOWN, Region.SCALAR, Region.UNINIT, Region.FUNCTION})
_ONLY_SAME_BYTES: Final = frozenset({Region.MAP_VALUE, Region.DATA})
_READS_DST: Final = STORE_KINDS | {Kind.ATOMIC, Kind.BRANCH}
_BYTES_ARE_ENOUGH: Final = frozenset({Region.PACKET, Region.PACKET_META, Region.MAP_VALUE, Region.DATA, Region.MEMORY})


@dataclass(slots=True)
class _Walk:
    """One side read to its end."""

    run: Run
    state: State
    shapes: dict[Term, int]
    accesses: list[Access]


def local_safety(obligation: Obligation) -> str | None:
    """Why the kernel may refuse `after` where it took `before`; None when nothing speaks against it."""
    names = Names()
    env = Environment(obligation.unit, obligation.function)
    before = _read_original(env, names, obligation)
    after = _Walk(Run(names), obligation.entry, {}, [])
    for insn in obligation.after:
        problem = _insn_problem(env, insn, after, before)
        if problem is not None:
            return problem
        _advance(env, insn, after)
    return _branch_problem(obligation) or _leftover_problem(obligation, before, after)


def _advance(env: Environment, insn: Insn, walk: _Walk) -> None:
    access = walk.run.access(insn)
    if access is not None:
        walk.accesses.append(access)
    shape = walk.run.shape(insn)
    walk.shapes[shape] = walk.shapes.get(shape, 0) + 1
    walk.run.step(insn)
    if not insn.row.is_block_end:
        walk.state = step(env, insn, walk.state)


def _read_original(env: Environment, names: Names, obligation: Obligation) -> _Walk:
    walk = _Walk(Run(names), obligation.entry, {}, [])
    for insn in obligation.before:
        _advance(env, insn, walk)
    return walk


def _insn_problem(env: Environment, insn: Insn, here: _Walk, before: _Walk) -> str | None:
    if insn.dst == FRAME_POINTER and "dst" in insn.row.uses and insn.kind not in _READS_DST:
        return "frame pointer is read only"
    if here.run.shape(insn) in before.shapes:
        return None
    if insn.origin.core:
        return "an instruction that the loader patches is not where it was"
    if insn.kind is Kind.BRANCH and not _compares_numbers(insn, here.state):
        return "a comparison of pointers is not as it was"
    if insn.kind is Kind.CALL:
        return None if callee_of(env.unit, insn) is not None else call_problem(env, insn, here.state)
    if insn.kind in (Kind.EXIT, Kind.LEGACY_LOAD):
        return f"{insn.row.name} with other operands than before"
    covered = _access_problem(insn, here, before)
    if isinstance(covered, str):
        return covered
    for rule in conditions_of(insn):
        if covered and isinstance(rule, ValidAccess):
            continue
        problem = rule.problem(env, here.state)
        if problem is not None:
            return problem
    return None


def _compares_numbers(insn: Insn, state: State) -> bool:
    regs = [state.regs[insn.dst], *([state.regs[insn.src]] if "src" in insn.row.uses else [])]
    return all(register.is_scalar for register in regs)


def _access_problem(insn: Insn, here: _Walk, before: _Walk) -> str | bool:
    """A reason to refuse; else whether the original's own accesses vouch for this one."""
    access = here.run.access(insn)
    if access is None or insn.kind not in MEMORY_KINDS:
        return False
    pointer = here.state.regs[insn.src if not access.is_store else insn.dst]
    if insn.kind in (Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE):
        return _atomic_problem(insn, here, before)
    if pointer.region in _ONLY_AS_BEFORE:
        return f"an access through R{insn.src if not access.is_store else insn.dst} that the original does not make"
    if pointer.region is Region.CTX:
        same = any(
            old.address == access.address and old.size == access.size and old.is_store == access.is_store
            for old in before.accesses
        )
        return True if same else "a context access that the original does not make"
    if pointer.region in SHARED and not _is_aligned(pointer, insn, access, before):
        return "an access to shared memory less aligned than the original's"
    is_covered = pointer.region in _BYTES_ARE_ENOUGH and _covered(access, before)
    if not is_covered and pointer.region in _ONLY_SAME_BYTES:
        return f"bytes of a {pointer.region.value} that the original does not touch"
    return is_covered


def _atomic_problem(insn: Insn, here: _Walk, before: _Walk) -> str | bool:
    access = here.run.access(insn)
    same = access is not None and any(
        old.address == access.address and old.size == access.size for old in before.accesses
    )
    return False if same else f"{insn.row.name} where the original has no access of that width"


def _is_aligned(pointer: Register, insn: Insn, access: Access, before: _Walk) -> bool:
    constant = pointer.constant_off
    if constant is not None and (constant + insn.off) % access.size == 0:
        return True
    return any(old.address == access.address and old.size >= access.size for old in before.accesses)


def _covered(access: Access, before: _Walk) -> bool:
    """Did the original touch each of these bytes, and write one of them at least when this writes?"""
    bytes_left = set(range(access.address.off, access.address.off + access.size))
    for old in before.accesses:
        if old.address.root == access.address.root and (old.is_store or not access.is_store):
            bytes_left -= set(range(old.address.off, old.address.off + old.size))
    return not bytes_left


def _branch_problem(obligation: Obligation) -> str | None:
    """A comparison that taught the kernel something about pointers has to stay."""
    ends = [side[-1] if side and side[-1].row.is_block_end else None for side in (obligation.before, obligation.after)]
    return "the end of the block changes" if (ends[0] is None) != (ends[1] is None) else None


def _leftover_problem(obligation: Obligation, before: _Walk, after: _Walk) -> str | None:
    """What is still needed behind the window must have kept its type."""
    problem = _lost_comparison(obligation.before, before, after)
    if problem is not None:
        return problem
    for reg, mask in enumerate(obligation.demand.regs):
        if mask:
            old, new = before.state.regs[reg], after.state.regs[reg]
            if before.run.regs[reg] != after.run.regs[reg] and not _same_type(old, new):
                return f"R{reg} changes from {old.region.value} to {new.region.value}"
    return _stack_problem(obligation, before.state, after.state)


def _lost_comparison(insns: Sequence[Insn], before: _Walk, after: _Walk) -> str | None:
    if not insns or insns[-1].kind is not Kind.BRANCH or _compares_numbers(insns[-1], before.state):
        return None
    last = before.run.shape(insns[-1])
    return None if last in after.shapes else "a comparison of pointers is gone"


def _same_type(old: Register, new: Register) -> bool:
    if old.region is Region.UNINIT:
        return True
    if old.region is Region.UNKNOWN or new.region is not old.region:
        return False
    if old.is_scalar:
        return True
    return (
        replace(new, packet_range=0, exact=None) == replace(old, packet_range=0, exact=None)
        and new.packet_range >= old.packet_range
    )


def _stack_problem(obligation: Obligation, old: State, new: State) -> str | None:
    wanted = obligation.demand.stack
    for off in sorted({byte & -SLOT_SIZE for byte in wanted}):
        a, b = old.slot(off), new.slot(off)
        if a == b:
            continue
        if a.spill is not None and not a.spill.is_scalar:
            if b.spill is None or not (_same_type(a.spill, b.spill) or a.spill.region is b.spill.region):
                return f"the pointer spilled at {off} is gone"
            continue
        if b.spill is not None and not b.spill.is_scalar:
            return f"a pointer is spilled at {off} where there was a number"
        for at in range(SLOT_SIZE):
            if off + at in wanted and a.marks[at] != "?" and b.marks[at] == "?":
                return f"stack byte {off + at} is no longer initialised"
    return None

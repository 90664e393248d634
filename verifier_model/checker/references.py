"""What a program holds: objects that it must give back, and regions that it must leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.checker.environment import each_register
from verifier_model.domains.registers import Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import Held, State

LOCK: Final = "lock"
RCU: Final = "rcu"
PREEMPT: Final = "preempt"
_ANY: Final = Register.scalar(Scalar.top())
_UNLOCKERS: Final = {LOCK: "bpf_spin_unlock", RCU: "bpf_rcu_read_unlock", PREEMPT: "bpf_preempt_enable"}


def is_local(register: Register) -> bool:
    """Is it a pointer to an object of the program's own?"""
    kind = register.object
    return register.region is Region.OBJECT and kind is not None and kind.trust in (Trust.LOCAL, Trust.BORROWED)


def without_borrowed(state: State) -> State:
    """The state behind the end of a lock: what lies in a list or tree is out of reach."""

    def change(register: Register) -> Register:
        is_gone = is_local(register) and register.object is not None and register.object.trust is Trust.BORROWED
        return _ANY if is_gone else register

    return each_register(state, change)


def holding(state: State, kind: str) -> Held | None:
    """The innermost region of that kind, None outside of any."""
    return next((held for held in reversed(state.references) if isinstance(held, Held) and held.kind == kind), None)


def is_atomic(state: State) -> bool:
    """Is the program where it must not sleep, whatever its type?"""
    return any(isinstance(held, Held) for held in state.references)


def acquired(state: State, reference: int | Held) -> State:
    return replace(state, references=(*state.references, reference))


def left(state: State, region: Held) -> State:
    """The state behind the end of a region; pointers that only an RCU section kept alive are trusted no longer."""
    at = len(state.references) - 1 - state.references[::-1].index(region)
    state = replace(state, references=(*state.references[:at], *state.references[at + 1 :]))
    return each_register(state, _out_of_rcu) if region.kind == RCU else state


def _out_of_rcu(register: Register) -> Register:
    kind = register.object
    if register.region is Region.OBJECT and kind is not None and kind.trust is Trust.RCU:
        return replace(register, object=replace(kind, trust=Trust.UNTRUSTED))
    return register


def owner_of(state: State, register: Register) -> int:
    """The reference on which a pointer depends: itself or what it came from; 0 without one."""
    return register.id if register.id in state.references else register.owner


def released(state: State, reference: int) -> State:
    """The object is given back: it is gone, and of all pointers that came from it mere numbers are left."""

    def change(register: Register) -> Register:
        is_gone = register.is_pointer and reference in (register.id, register.owner)
        return _ANY if is_gone else register

    state = each_register(state, change)
    return replace(state, references=tuple(held for held in state.references if held != reference))


def exit_held_problem(state: State) -> str | None:
    """Why a program may not end (or call what does not come back) with what it holds."""
    if not state.references:
        return None
    held = state.references[0]
    if isinstance(held, Held):
        return f"{_UNLOCKERS.get(held.kind, held.kind)} is missing"
    return f"Unreleased reference id={held}"

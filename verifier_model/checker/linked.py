"""Numbers that are known to differ by a constant (BPF_ADD_CONST in kernel/bpf/verifier.c).

After `r2 = r1; r2 += 4` a branch on one of them teaches the other.  The id of such a number holds the id that it came
from and the constant, so that equal ids still mean equal numbers.
"""

from __future__ import annotations

from typing import Final

from verifier_model.checker.environment import each_register
from verifier_model.domains.registers import Register
from verifier_model.domains.scalar import Scalar, alu
from verifier_model.domains.state import State

_SHIFT: Final = 40
_MOST: Final = (1 << 31) - 1


def base_of(number: int) -> int:
    """The id that the numbers of one family share; the id itself when it holds no distance."""
    return number & (1 << _SHIFT) - 1 if number > 0 else number


def distance_of(number: int) -> int:
    """0 for an id without a distance, else the constant plus 1."""
    return number >> _SHIFT if number > 0 else 0


def moved_id(number: int, constant: int) -> int:
    """The id behind the addition of `constant` to a number with id `number`; 0 where the kernel gives up."""
    if number == 0 or distance_of(number) or constant > _MOST:
        return 0
    return number | constant + 1 << _SHIFT


def teach(state: State, known: Register) -> State:
    """The state in which every number at a known distance from `known` has the range that follows."""
    if not known.is_scalar or known.id == 0:
        return state
    base, off = base_of(known.id), max(distance_of(known.id) - 1, 0)

    def change(register: Register) -> Register:
        if not register.is_scalar or register.id == known.id or base_of(register.id) != base:
            return register
        distance = max(distance_of(register.id) - 1, 0) - off
        value = known.value if distance == 0 else alu("add", 64, known.value, Scalar.const(distance))
        return register if value == register.value else Register.scalar(value, register.id)

    return each_register(state, change)

"""The abstract state at a program point: registers and the current frame's stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from verifier_model.domains.registers import Register

STACK_BYTES: Final = 512
SLOT_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class StackSlot:
    """Eight aligned bytes of the stack.

    `marks[i]` tells byte i from the lowest address: "?" never written, "m" written with something unknown, "0" zero,
    "s" part of `spill`.  `spill` is the register of which an aligned 8-byte store put a copy here (then all marks are
    "s").
    """

    marks: str = "????????"
    spill: Register | None = None


EMPTY_SLOT: Final = StackSlot()


@dataclass(frozen=True, slots=True)
class State:
    """Registers r0 to r10 and the stack slots of the current frame, keyed by their offset from r10 (-8, -16, ...)."""

    regs: tuple[Register, ...]
    stack: Mapping[int, StackSlot] = field(default_factory=lambda: MappingProxyType({}))

    def slot(self, off: int) -> StackSlot:
        """The slot whose lowest byte is `off` bytes from r10 (negative, a multiple of 8)."""
        return self.stack.get(off, EMPTY_SLOT)

"""The abstract state at a program point: registers and the current frame's stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from verifier_model.domains.registers import Region, Register

STACK_BYTES: Final = 512
SLOT_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class StackSlot:
    """Eight aligned bytes of the stack.

    `marks[i]` tells byte i from the lowest address: "?" never written, "m" written with something unknown, "0" zero,
    "s" part of `spill`.  `spill` is the register of which an aligned 8-byte store put a copy here (then all marks are
    "s"), or says what the kernel keeps here for the program (a register of the region OWNED).
    """

    marks: str = "????????"
    spill: Register | None = None

    @property
    def is_owned(self) -> bool:
        """Is the slot part of a dynptr, an iterator or saved interrupt flags?  Nobody may read or write it then."""
        return self.spill is not None and self.spill.region is Region.OWNED


EMPTY_SLOT: Final = StackSlot()


class Held(NamedTuple):
    """Something that a program is inside of and must leave again.

    `kind`: "lock" (`id` is that of the pointer it was taken through, `symbol` names its map or section and `off` the
    byte there), "rcu", "preempt", or "irq".
    """

    kind: str
    id: int = 0
    symbol: str = ""
    off: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A caller's frame while one of its callees runs: its registers (r6 to r10 come back at the exit) and its stack.

    `function`, `label` and `at` name the point just behind the call.  `callback`: the callee was not called by this
    function but by the helper or kfunc of that name, again and again, and `at` names the call of that; what is called
    later, on its own ("timer_set_callback"), has a caller without a name.  `held`: what a callback finds held, and must
    leave as it was.
    """

    function: str
    label: str
    at: int
    regs: tuple[Register, ...]
    stack: Mapping[int, StackSlot]
    callback: str = ""
    held: tuple[int | Held, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Registers r0 to r10 and the stack slots of the current frame, keyed by their offset from r10 (-8, -16, ...).

    `callers`: the frames of the callers, innermost first; a stack pointer's `frame` counts frames up from the current
    one (0: its own).  Empty also when they are not known.  `references`: ids of acquired objects that must be given
    back, and regions that must be left.
    """

    regs: tuple[Register, ...]
    stack: Mapping[int, StackSlot] = field(default_factory=lambda: MappingProxyType({}))
    callers: tuple[Frame, ...] = ()
    references: tuple[int | Held, ...] = ()

    def slot(self, off: int) -> StackSlot:
        """The slot whose lowest byte is `off` bytes from r10 (negative, a multiple of 8)."""
        return self.stack.get(off, EMPTY_SLOT)

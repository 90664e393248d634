"""When the kernel takes a state for covered by one whose paths it has followed to their ends (states_equal).

A number whose value nothing relied on (not marked precise) is covered by any number there.
"""

from __future__ import annotations

from typing import Final

from verifier_model.checker.environment import FIRST_FREE_ID
from verifier_model.checker.linked import base_of, distance_of
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import EMPTY_SLOT, Held, StackSlot, State

ANY_NUMBER: Final = Register.scalar(Scalar.top())
_SIZED: Final = frozenset({Region.MAP_VALUE, Region.DATA, Region.MEMORY})
_PACKET: Final = frozenset({Region.PACKET, Region.PACKET_META})
_LOOSE: Final = frozenset("?m")


class Comparison:
    """One comparison: which id of the older state stands for which of the newer one."""

    __slots__ = ("lonely", "old_ids", "used")

    def __init__(self) -> None:
        self.old_ids: dict[int, int] = {}
        self.used: set[int] = set()
        self.lonely = 0

    def ids(self, old: int, new: int) -> bool:
        if (old == 0) != (new == 0):
            return False
        if old == 0:
            return True
        known = self.old_ids.get(old)
        if known is not None:
            return known == new
        if new in self.used:
            return False
        self.old_ids[old] = new
        self.used.add(new)
        return True

    def number_ids(self, old: int, new: int) -> bool:
        if old == 0:
            return True
        if distance_of(old) != distance_of(new):
            return False
        old, new = base_of(old), base_of(new)
        if new == 0:
            self.lonely -= 1
            new = self.lonely
        return self.ids(old, new)

    def register(self, old: Register, new: Register, is_precise: bool) -> bool:
        region = old.region
        if region is Region.UNINIT:
            return True
        if region is not new.region or old.nullable != new.nullable:
            return False
        if region is Region.SCALAR:
            return not is_precise or (self.number_ids(old.id, new.id) and new.value <= old.value)
        if region in _PACKET:
            return (
                _is_range_kept(old.packet_range, new.packet_range)
                and old.off == new.off
                and self.ids(_variable_id(old.id), _variable_id(new.id))
                and new.value <= old.value
            )
        if old.symbol != new.symbol or old.off != new.off or old.frame != new.frame or old.size != new.size:
            return False
        if old.nullable and not self.ids(old.id, new.id):
            return False
        return new.value <= old.value if region in _SIZED else new.value == old.value

    def reference(self, old: int | Held, new: int | Held) -> bool:
        if isinstance(old, Held) or isinstance(new, Held):
            return (
                isinstance(old, Held)
                and isinstance(new, Held)
                and old._replace(id=0) == new._replace(id=0)
                and self.ids(old.id, new.id)
            )
        return self.ids(old, new)

    def slot(self, old: StackSlot, new: StackSlot, is_precise: bool) -> bool:
        if old.is_owned or new.is_owned:
            return old.is_owned and new.is_owned and self._owned(old, new)
        if _LOOSE.issuperset(old.marks):
            return True
        left, right = _whole_number(old), _whole_number(new)
        if left is not None and right is not None:
            return self.register(left, right, is_precise)
        if any(a not in _LOOSE and a != b for a, b in zip(old.marks, new.marks, strict=True)):
            return False
        if old.marks[0] != "s" or old.spill is None or new.spill is None:
            return True
        return self.register(old.spill, new.spill, is_precise)

    def _owned(self, old: StackSlot, new: StackSlot) -> bool:
        a, b = old.spill, new.spill
        if a is None or b is None or (a.symbol, a.off, a.size) != (b.symbol, b.off, b.size):
            return False
        return self.ids(a.id, b.id)


def _variable_id(number: int) -> int:
    # What has no variable part has no id in the kernel.
    return 0 if number < FIRST_FREE_ID else number


def _is_range_kept(old: int, new: int) -> bool:
    # Negative: the pointer is known to be at or beyond the end.
    return old == new if old < 0 or new < 0 else old <= new


def _whole_number(slot: StackSlot) -> Register | None:
    if slot.spill is not None and slot.marks[7] == "s":
        return slot.spill if slot.spill.is_scalar else None
    return ANY_NUMBER if _LOOSE.issuperset(slot.marks) else None


def covers(old: State, new: State, live: list[int], regs: list[int], slots: list[int]) -> bool:
    """Does the followed state `old` cover `new`?

    `live`, `regs` and `slots` hold one mask per frame, the outermost first: registers alive, registers and stack slots
    of `old` that are precise.  Both states must have the same chain of calls.
    """
    compare = Comparison()
    depth = len(old.callers)
    if len(old.references) != len(new.references):
        return False
    for frame in range(depth + 1):
        left = old if frame == depth else old.callers[depth - 1 - frame]
        right = new if frame == depth else new.callers[depth - 1 - frame]
        alive, precise = live[frame], regs[frame]
        for reg in range(11):
            if alive >> reg & 1 and not compare.register(left.regs[reg], right.regs[reg], bool(precise >> reg & 1)):
                return False
        lowest = min(right.stack, default=0)
        for off, slot in left.stack.items():
            if off < lowest and not _LOOSE.issuperset(slot.marks):
                return False
            is_precise = bool(slots[frame] >> slot_number(off) & 1)
            if not compare.slot(slot, right.stack.get(off, EMPTY_SLOT), is_precise):
                return False
    return all(map(compare.reference, old.references, new.references))


def slot_number(off: int) -> int:
    """The kernel's number of the eight-byte slot that holds byte `off` (negative, from r10): 0 for the highest."""
    return (-off - 1) >> 3

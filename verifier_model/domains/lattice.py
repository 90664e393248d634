"""Order and join of registers, stack slots and whole states: what exploration prunes with and what facts are made of.

Ids mean something only inside one state.  A join therefore maps each pair of ids to one new id (two registers stay
equal when they are equal on both sides), and the order asks for a map from the ids of the larger state to those of the
smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import U32_MAX, U64_MAX, Scalar, shifted
from verifier_model.domains.state import EMPTY_SLOT, Frame, Held, StackSlot, State

_UNINIT: Final = Register.uninit()
_UNKNOWN: Final = Register.unknown()
# A slot that the kernel keeps something in on one path only: of no use on any.
_SPOILT_NAME: Final = "spoilt"
_SPOILT: Final = StackSlot("ssssssss", Register(Region.OWNED, symbol=_SPOILT_NAME))
Stack = Mapping[int, StackSlot]


def rebased(pointer: Register, off: int) -> Register:
    """The same addresses with the constant part `off` and the rest in the variable part (the id is no longer valid).

    Where the variable part moves down, bytes below the old one count as in range: they lie in the packet as long as the
    variable part is not negative, and nothing is concluded of a range when it is.
    """
    more = pointer.off - off
    if more == 0:
        return pointer
    reach = max(pointer.packet_range - max(more, 0), 0)
    return replace(pointer, value=shifted(pointer.value, more), off=off, packet_range=reach)


class _Join:
    """The pairs of ids that one join has met."""

    __slots__ = ("fresh", "pairs", "widen")

    def __init__(self, fresh: Callable[[], int], widen: bool) -> None:
        self.fresh = fresh
        self.widen = widen
        self.pairs: dict[tuple[bool, int, int, int], int] = {}

    def pair(self, is_base: bool, a: int, b: int, distance: int = 0) -> int:
        if a == 0 or b == 0:
            return 0
        key = (is_base, a, b, distance)
        if key not in self.pairs:
            # An id that both sides use for the same thing keeps its number; it is the only pair that gets it.
            self.pairs[key] = a if a == b and not distance else self.fresh()
        return self.pairs[key]

    def value(self, a: Scalar, b: Scalar) -> Scalar:
        joined = a | b
        return _widen(a, joined) if self.widen and joined != a else joined

    def register(self, a: Register, b: Register) -> Register:
        if a is b:
            return a
        if a.region is not b.region:
            return _UNINIT if Region.UNINIT in (a.region, b.region) else _UNKNOWN
        if a.region in (Region.UNINIT, Region.UNKNOWN):
            return a
        if a.region is Region.SCALAR:
            return Register(Region.SCALAR, self.value(a.value, b.value), id=self.pair(False, a.id, b.id))
        return self._pointer(a, b)

    def _pointer(self, a: Register, b: Register) -> Register:
        if a.frame != b.frame or (a.symbol != b.symbol and a.region is Region.DATA):
            return _UNKNOWN
        if a.owner != b.owner and (a.owner, b.owner) != (a.id, b.id):
            # Only what is a reference itself on both sides is one behind them, under one id.
            return _UNKNOWN
        common = replace(
            a,
            base=self.pair(True, a.base, b.base),
            nullable=a.nullable or b.nullable,
            symbol=a.symbol if a.symbol == b.symbol else "",
            size=min(a.size, b.size),
            exact=a.exact if a.exact == b.exact else None,
            assumed_safe=a.assumed_safe or b.assumed_safe,
            object=a.object if a.object == b.object else None,
            owner=self.pair(False, a.owner, b.owner),
            readonly=a.readonly or b.readonly,
        )
        # One constant part stays; what a side has more moves into its variable part, for all registers of one id
        # alike, so that they keep their distances.  A growing chain of joins keeps the oldest.
        off = a.off if self.widen else min(a.off, b.off)
        left, right = rebased(a, off), rebased(b, off)
        return replace(
            common,
            value=self.value(left.value, right.value),
            off=off,
            id=self.pair(False, a.id, b.id, a.off - b.off),
            packet_range=self._range(left.packet_range, right.packet_range),
        )

    def _range(self, a: int, b: int) -> int:
        if a < 0 or b < 0:
            # Known to lie behind the packet's end: nothing is known when only one side does.
            return a if a == b else 0
        return (a if a <= b else 0) if self.widen else min(a, b)

    def slot(self, a: StackSlot, b: StackSlot) -> StackSlot:
        if a is b or a == b:
            return a
        if a.is_owned or b.is_owned:
            return self._owned(a, b)
        if a.spill is not None and b.spill is not None:
            spill = self.register(a.spill, b.spill)
            if spill.region is not Region.UNINIT:
                return StackSlot("ssssssss", spill)
            return EMPTY_SLOT
        marks = "".join(map(_join_mark, _plain_marks(a), _plain_marks(b)))
        return StackSlot(marks)

    def _owned(self, a: StackSlot, b: StackSlot) -> StackSlot:
        if a.spill is None or b.spill is None or not _same_owner(a.spill, b.spill):
            return _SPOILT
        id, base = self.pair(False, a.spill.id, b.spill.id), self.pair(True, a.spill.base, b.spill.base)
        return replace(a, spill=replace(a.spill, id=id, base=base))

    def stack(self, a: Stack, b: Stack) -> Stack:
        if a is b:
            return a
        common = {
            off: joined for off in a if off in b for joined in (self.slot(a[off], b[off]),) if joined is not EMPTY_SLOT
        }
        for here, there in ((a, b), (b, a)):
            common.update((off, _SPOILT) for off, slot in here.items() if slot.is_owned and off not in there)
        return common

    def state(self, a: State, b: State) -> State:
        regs = tuple(map(self.register, a.regs, b.regs))
        stack = self.stack(a.stack, b.stack)
        return State(regs, stack, self._callers(a.callers, b.callers), self._references(a, b))

    def _callers(self, a: tuple[Frame, ...], b: tuple[Frame, ...]) -> tuple[Frame, ...]:
        if a is b:
            return a
        if [_place(frame) for frame in a] != [_place(frame) for frame in b]:
            return ()
        return tuple(
            replace(x, regs=tuple(map(self.register, x.regs, y.regs)), stack=self.stack(x.stack, y.stack))
            for x, y in zip(a, b, strict=True)
        )

    def _references(self, a: State, b: State) -> tuple[int | Held, ...]:
        if len(a.references) == len(b.references):
            return tuple(self._reference(x, y) for x, y in zip(a.references, b.references, strict=True))
        # 0 stands for a reference that no register names any more: it can never be given back.
        return (0,)

    def _reference(self, a: int | Held, b: int | Held) -> int | Held:
        if isinstance(a, Held) and isinstance(b, Held) and _same_region(a, b):
            return a._replace(id=self.pair(False, a.id, b.id))
        return 0 if isinstance(a, Held) or isinstance(b, Held) else self.pair(False, a, b)


def _same_owner(a: Register, b: Register) -> bool:
    same = a.region is b.region is Region.OWNED
    return same and (a.symbol, a.off, a.size, a.object) == (b.symbol, b.off, b.size, b.object)


def _same_region(a: Held, b: Held) -> bool:
    return (a.kind, a.symbol, a.off) == (b.kind, b.symbol, b.off)


def _place(frame: Frame) -> tuple[str, str, int]:
    return frame.function, frame.label, frame.at


def _plain_marks(slot: StackSlot) -> str:
    """The marks with a spilled register taken apart: a pointer's bytes are nothing that a number may be read from."""
    if slot.spill is None:
        return slot.marks
    if slot.spill.is_scalar:
        return "00000000" if slot.spill.value.constant == 0 else "mmmmmmmm"
    return "????????"


def _join_mark(a: str, b: str) -> str:
    if a == b:
        return a
    return "?" if "?" in (a, b) else "m"


def _widen(old: Scalar, joined: Scalar) -> Scalar:
    """`joined` with every bound that still moves pushed to the next natural limit, so that joining ends."""
    mask = joined.bits_mask if joined.bits_mask == old.bits_mask else U64_MAX
    if mask == U64_MAX and joined.umax <= U32_MAX:
        mask = U32_MAX
    small = U32_MAX if joined.umax <= U32_MAX else U64_MAX
    return Scalar(
        joined.bits_value & ~mask,
        mask,
        joined.umin if joined.umin == old.umin else 0,
        joined.umax if joined.umax == old.umax else small,
        joined.smin if joined.smin == old.smin else (0 if joined.smin >= 0 else -(1 << 63)),
        joined.smax if joined.smax == old.smax else (U32_MAX if joined.smax <= U32_MAX else (1 << 63) - 1),
        joined.u32min if joined.u32min == old.u32min else 0,
        joined.u32max if joined.u32max == old.u32max else U32_MAX,
        joined.s32min if joined.s32min == old.s32min else (0 if joined.s32min >= 0 else -(1 << 31)),
        joined.s32max if joined.s32max == old.s32max else (1 << 31) - 1,
    )


def join(a: State, b: State, fresh: Callable[[], int], widen: bool = False) -> State:
    """A state that describes everything that `a` or `b` describes.  `fresh` gives ids that neither uses.

    With `widen`, bounds of `a` that had to give way jump, so that a chain of joins onto `a` becomes stable.
    """
    return _Join(fresh, widen).state(a, b)


class _Order:
    """The ids of the larger state as functions to the ids of the smaller one."""

    __slots__ = ("as_kernel", "known", "lonely")

    def __init__(self, as_kernel: bool) -> None:
        self.as_kernel = as_kernel
        self.known: dict[tuple[bool, int], tuple[int, int]] = {}
        self.lonely = 0

    def relates(self, is_base: bool, small: int, large: int, distance: int = 0) -> bool:
        if large == 0:
            return True
        if small == 0:
            # Nothing is equal to this one: fine as long as the larger state claims no equality for it either.
            self.lonely -= 1
            small = self.lonely
        return self.known.setdefault((is_base, large), (small, distance)) == (small, distance)

    def register(self, small: Register, large: Register) -> bool:
        if large.region is Region.UNINIT:
            return True
        if small is large:
            return self.relates(False, small.id, large.id) and self.relates(True, small.base, large.base)
        if large.region is Region.UNKNOWN:
            return small.region is not Region.UNINIT
        if small.region is not large.region:
            return False
        if small.region is not Region.SCALAR:
            return self._pointer(small, large)
        return small.value <= large.value and self.relates(False, small.id, large.id)

    def _pointer(self, small: Register, large: Register) -> bool:
        if self.as_kernel and small.off != large.off:
            return False
        moved = rebased(small, large.off)
        return (
            moved.value <= large.value
            and small.frame == large.frame
            and small.nullable <= large.nullable
            and large.symbol in ("", small.symbol)
            and (large.size == 0 or large.size <= small.size)
            and (large.packet_range == moved.packet_range or 0 <= large.packet_range <= max(moved.packet_range, 0))
            and (large.exact is None or large.exact == small.exact)
            and small.assumed_safe <= large.assumed_safe
            and (large.object is None or large.object == small.object)
            and small.readonly <= large.readonly
            and bool(small.owner) == bool(large.owner)
            and self.relates(False, small.owner, large.owner)
            and self.relates(False, small.id, large.id, small.off - large.off)
            and self.relates(True, small.base, large.base)
        )

    def slot(self, small: StackSlot, large: StackSlot) -> bool:
        if small.is_owned or large.is_owned:
            return self._owned(small, large)
        if large.spill is not None:
            return small.spill is not None and self.register(small.spill, large.spill)
        if small.marks == large.marks:
            return True
        return all(
            b == "?" or a == b or (a == "0" and b == "m") for a, b in zip(_plain_marks(small), large.marks, strict=True)
        )

    def _owned(self, small: StackSlot, large: StackSlot) -> bool:
        if large.spill is None or not large.is_owned:
            return False
        if large.spill.symbol == _SPOILT_NAME:
            return True
        return (
            small.spill is not None
            and _same_owner(small.spill, large.spill)
            and self.relates(False, small.spill.id, large.spill.id)
            and self.relates(True, small.spill.base, large.spill.base)
        )

    def stack(self, small: Stack, large: Stack) -> bool:
        if any(slot.is_owned and off not in large for off, slot in small.items()):
            return False
        return all(self.slot(small.get(off, EMPTY_SLOT), slot) for off, slot in large.items())

    def state(self, small: State, large: State) -> bool:
        if not all(map(self.register, small.regs, large.regs)) or not self.stack(small.stack, large.stack):
            return False
        if len(small.references) != len(large.references):
            return False
        if not all(map(self._reference, small.references, large.references)):
            return False
        return not large.callers or self._callers(small, large)

    def _reference(self, small: int | Held, large: int | Held) -> bool:
        if isinstance(small, Held) and isinstance(large, Held):
            return _same_region(small, large) and self.relates(False, small.id, large.id)
        return not isinstance(small, Held) and not isinstance(large, Held) and self.relates(False, small, large)

    def _callers(self, small: State, large: State) -> bool:
        if [_place(frame) for frame in small.callers] != [_place(frame) for frame in large.callers]:
            return False
        return all(
            all(map(self.register, a.regs, b.regs)) and self.stack(a.stack, b.stack)
            for a, b in zip(small.callers, large.callers, strict=True)
        )


def includes(large: State, small: State, as_kernel: bool = False) -> bool:
    """Does `large` describe every concrete state that `small` describes?  False may also mean "not seen to".

    With `as_kernel`, pointers also have equal constant parts: by these the kernel judges packet accesses.
    """
    return _Order(as_kernel).state(small, large)


def widened_numbers(old: State, new: State) -> State:
    """`new` with every number forgotten that is another one than in `old`: in registers, and in whole stack slots.

    Both have the same callers.
    """

    def register(a: Register, b: Register, bits: int = 64) -> Register:
        if a is b or not (a.region is b.region is Region.SCALAR) or a.value == b.value:
            return b
        return Register.scalar(Scalar.top() if bits == 64 else Scalar.of_width(bits))

    def stack(a: Stack, b: Stack) -> Stack:
        changed = dict(b)
        for off, slot in b.items():
            before = a.get(off, EMPTY_SLOT)
            if slot.spill is None or before.spill is None or slot.is_owned:
                continue
            spill = register(before.spill, slot.spill, 8 * slot.marks.count("s"))
            if spill is not slot.spill:
                changed[off] = replace(slot, spill=spill)
        return changed

    callers = tuple(
        replace(y, regs=tuple(map(register, x.regs, y.regs)), stack=stack(x.stack, y.stack))
        for x, y in zip(old.callers, new.callers, strict=True)
    )
    return replace(
        new, regs=tuple(map(register, old.regs, new.regs)), stack=stack(old.stack, new.stack), callers=callers
    )

"""Known bits and ranges of a 64-bit number, kept consistent with each other (bounds sync as in kernel/bpf/verifier.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

U64_MAX: Final = (1 << 64) - 1
U32_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Scalar:
    """A set of 64-bit values: those that agree with `bits_value` outside `bits_mask` and lie in all four ranges.

    (`bits_value`, `bits_mask`) is the kernel's tnum: a mask bit of 1 means unknown.  Ranges are inclusive; the signed ones
    are Python's negative numbers; the 32-bit ones bound the low half.
    """

    bits_value: int = 0
    bits_mask: int = U64_MAX
    umin: int = 0
    umax: int = U64_MAX
    smin: int = -(1 << 63)
    smax: int = (1 << 63) - 1
    u32min: int = 0
    u32max: int = U32_MAX
    s32min: int = -(1 << 31)
    s32max: int = (1 << 31) - 1

    @staticmethod
    def top() -> Scalar:
        return _TOP

    @property
    def constant(self) -> int | None:
        """The single unsigned value, or None."""
        return self.bits_value if self.bits_mask == 0 else None


_TOP: Final = Scalar()

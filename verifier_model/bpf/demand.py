"""What may still be looked at after a program point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALL_BITS: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Demand:
    """`regs[i]` masks the bits of register i that a later instruction may read (0: dead).

    `stack` holds the bytes of the current frame, as negative offsets in bytes from r10, that may be read later.
    Packet, map, context and global memory are always demanded.
    """

    regs: tuple[int, ...]
    stack: frozenset[int]

    def is_live(self, reg: int) -> bool:
        return self.regs[reg] != 0


NOTHING: Final = Demand((0,) * 11, frozenset())
EVERYTHING: Final = Demand((ALL_BITS,) * 11, frozenset(range(-512, 0)))

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


STACK_LIMIT: Final = 512
ALL_ARGUMENTS: Final = (1, 2, 3, 4, 5)


def stack_bytes(off: int, size: int) -> frozenset[int]:
    """The bytes [off, off + size) counted from r10, cut to the frame's 512 bytes."""
    return frozenset(range(max(off, -STACK_LIMIT), min(off + size, 0)))


@dataclass(frozen=True, slots=True)
class StackAccess:
    """What one instruction does to the bytes of the current frame (negative offsets in bytes from r10), and,
    for a call, which argument registers it reads.

    `reads` is an upper bound, `reads_all` means that any byte may be read.  `writes` is a lower bound:
    bytes that are overwritten for certain, whatever path the instruction takes inside a callee.
    `arguments` is looked at for calls only: registers whose values the callee reads.
    """

    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    reads_all: bool = False
    arguments: tuple[int, ...] = ALL_ARGUMENTS


NO_STACK_ACCESS: Final = StackAccess()
ANY_STACK_ACCESS: Final = StackAccess(reads_all=True)

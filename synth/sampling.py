"""Numbers for test inputs: a seeded sequence of integers, and values that satisfy what is known of a scalar."""

from __future__ import annotations

import hashlib
from typing import Final

from verifier_model.domains.scalar import Scalar

MASK64: Final = (1 << 64) - 1
_CORNERS: Final = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 63,
    MASK64 >> 1,
)
_ATTEMPTS: Final = 40


class Infeasible(Exception):  # noqa: N818 - a statement about the facts, not a failure
    """No state that satisfies the facts was found."""


class Numbers:
    """splitmix64: the same sequence everywhere, whatever the Python version."""

    def __init__(self, seed: int, likely: tuple[int, ...] = ()) -> None:
        """`likely`: numbers that the code compares with, so that both of its ways are taken."""
        self._state = seed & MASK64
        self.likely = likely

    def next(self) -> int:
        """64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK64
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """A number in [0, bound), bound at most 2**64."""
        return (self.next() * bound) >> 64

    def corner(self) -> int:
        """A number at which operations like to differ: a boundary, or its complement."""
        value = _CORNERS[self.below(len(_CORNERS))]
        return value if self.below(2) else ~value & MASK64

    def bytes(self, count: int, profile: int) -> bytes:
        """Contents of memory: all zeros or all ones for some profiles, else random."""
        if profile % 16 == 3:
            return bytes(count)
        if profile % 16 == 7:
            return b"\xff" * count
        return hashlib.shake_128(self.next().to_bytes(8, "little")).digest(count)


def sample(scalar: Scalar, numbers: Numbers, profile: int, most: int | None = None) -> int:
    """A value that `scalar` contains, extremes for the first profiles; raises Infeasible when none is found.

    `most` keeps the value within that distance of the smallest one.
    """
    if scalar.constant is not None:
        return scalar.constant
    low, high = scalar.umin, scalar.umax
    if most is not None:
        high = min(high, low + most)
    for attempt in range(_ATTEMPTS):
        value = _propose(scalar, numbers, profile if attempt == 0 else 4, low, high)
        value = value & scalar.bits_mask | scalar.bits_value
        if low <= value <= high and scalar.contains(value):
            return value
    for value in (low, high, scalar.smin & MASK64, scalar.smax & MASK64, scalar.bits_value):
        if low <= value <= high and scalar.contains(value):
            return value
    raise Infeasible("no value satisfies the facts")


def _propose(scalar: Scalar, numbers: Numbers, profile: int, low: int, high: int) -> int:
    if profile < 4:
        return (low, high, scalar.smin & MASK64, scalar.smax & MASK64)[profile]
    if numbers.likely and numbers.below(2):
        return numbers.likely[numbers.below(len(numbers.likely))] & MASK64
    kind = numbers.below(6)
    if kind == 0:
        return numbers.corner()
    if kind == 1:
        return low + numbers.below(16)
    if kind == 2:
        return numbers.next() >> numbers.below(64)
    if kind == 3:
        return numbers.next() & 0xFFFFFFFF
    if kind == 4:
        return low + numbers.below(high - low + 1)
    return numbers.next()

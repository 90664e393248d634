"""States on which two programs may differ: random ones, and the one that the solver found.

A state gives every variable a number and every region its bytes.  Pointers of random states lie far apart by region, as
real ones do, and close together within a region, so that overlaps are met.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

from verifier_model.domains.registers import Region
from verifier_model.domains.scalar import Scalar
from verifier_model.prover.entry import CONTEXT_NAME, FRAME_NAME, WORD
from verifier_model.prover.evaluate import evaluate
from verifier_model.prover.events import Check
from verifier_model.prover.smt_algebra import Model
from verifier_model.prover.terms import Term, mask

_PRIME = 0x9E3779B97F4A7C15
_FRAME_TOP = 0xFFFF_C900_0010_0000
_AREA = {"stack": 0xFFFF_C900_0020_0000, "packet": 0xFFFF_8880_4000_0000, "other": 0xFFFF_8881_0000_0000}
_PACKETS = frozenset({Region.PACKET, Region.PACKET_META, Region.PACKET_END})


def scramble(*numbers: int) -> int:
    """64 pseudo-random bits that depend on the arguments alone (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state ^ number & mask(WORD)) + _PRIME & mask(WORD)
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask(WORD)
        state = (state ^ state >> 27) * 0x94D049BB133111EB & mask(WORD)
        state ^= state >> 31
    return state


class Assignment(Protocol):
    def variable(self, term: Term) -> int: ...
    def initial_byte(self, region: Hashable, address: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """Pseudo-random state number `number`; `bounds` are the facts about single variables (see Entry)."""

    number: int
    seed: int
    bounds: dict[int, tuple[Term, list[Scalar]]]

    def variable(self, term: Term) -> int:
        if term.id in self.bounds:
            found = member(tuple(self.bounds[term.id][1]), scramble(self.seed, self.number, term.id))
            return 0 if found is None else found
        assert isinstance(term.data, tuple)
        kind = term.data[0]
        random = scramble(self.seed, self.number, term.id)
        if term.data == FRAME_NAME:
            return _FRAME_TOP + 0x1000 * self.number
        if term.data == CONTEXT_NAME:
            return _AREA["other"] - 0x1000
        if kind in ("base", "context pointer"):
            return self._pointer(term.data, random)
        if kind == "symbol":
            return _AREA["other"] + 0x10000 * (random % 4096)
        return _interesting(random) & mask(term.width)

    def _pointer(self, name: tuple[Hashable, ...], random: int) -> int:
        region = name[1][0] if isinstance(name[1], tuple) else name[-1]
        if region is Region.STACK:
            return _AREA["stack"] + 0x1000 * self.number
        area = _AREA["packet" if region in _PACKETS else "other"]
        # Odd samples put pointers of one area within 16 bytes of each other, even ones apart.
        return area + (random % 17 if self.number % 2 else 0x1000 * (random % 65536))

    def initial_byte(self, region: Hashable, address: int) -> int:
        text = repr(region).encode()
        return scramble(self.seed, self.number, address, len(text), int.from_bytes(text[-8:], "little")) & 0xFF


def _interesting(random: int) -> int:
    """A number that is often small, near a power of two, or all ones in a part."""
    kind, value = random % 8, scramble(random)
    if kind == 0:
        return value % 5
    if kind == 1:
        return mask(WORD) - value % 3
    if kind == 2:
        return (1 << value % 64) - (value >> 8) % 2
    if kind == 3:
        return value & mask(32)
    return value


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of a solver's model; what the model leaves open is as `otherwise` says, or 0."""

    model: Model
    otherwise: Assignment | None = None

    def variable(self, term: Term) -> int:
        found = self.model.variables.get(term.id)
        if found is not None:
            return found
        return 0 if self.otherwise is None else self.otherwise.variable(term)

    def initial_byte(self, region: Hashable, address: int) -> int:
        return self.model.bytes.get((region, address), 0)


@lru_cache(maxsize=65536)
def member(scalars: tuple[Scalar, ...], random: int) -> int | None:
    """A number that all `scalars` contain, found by trying; None when none was found."""
    first = scalars[0]
    tries = [
        _interesting(random),
        random,
        first.umin + random % (first.umax - first.umin + 1) if first.umin <= first.umax else 0,
        first.smin + random % (first.smax - first.smin + 1) if first.smin <= first.smax else 0,
        random & ~mask(32) | first.u32min,
        first.u32max,
        first.umin,
        first.umax,
        first.smin,
        first.smax,
        first.u32min,
    ]
    for value in tries:
        value = value & first.bits_mask | first.bits_value
        if all(scalar.contains(value) for scalar in scalars):
            return value & mask(WORD)
    return None


class Difference(NamedTuple):
    """The first observable that differs in a state, and a sentence with both values."""

    check: Check
    text: str


def first_difference(checks: list[Check], assumptions: list[Term], state: Assignment) -> Difference | None:
    """What differs in this state; None also when the state violates an assumption."""
    wanted = [*assumptions, *(term for check in checks for term in (check.before, check.after))]
    values = evaluate(wanted, state.variable, state.initial_byte)
    if not all(values[term.id] for term in assumptions):
        return None
    for check in checks:
        before, after = values[check.before.id], values[check.after.id]
        if before != after:
            return Difference(check, f"{check.what}: {before:#x} before, {after:#x} after")
    return None

"""Private memory of one region: what the program has written there since the window began.

Nobody else sees private memory (a stack frame; the packet), so only contents count, not accesses.  Bytes are kept by
(base, constant offset).  Bytes of one base are told apart by their offsets alone; bytes of different bases may be the
same byte, so a read behind a write through another base is a case distinction on the two addresses.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from verifier_model.bpf.insn import ByteOrder
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.terms import Term, Terms

WORD = 64


class Place(NamedTuple):
    """One byte: `off` bytes (modulo 2**64) from `base`, a 64-bit term without constant part."""

    base: Term
    off: int


class Write(NamedTuple):
    place: Place
    byte: Term


class Apart(NamedTuple):
    """Bytes whose initial contents the two programs need not share: `offs` (modulo 2**64) from `base`."""

    base: Term
    offs: frozenset[int]
    name: Hashable


@dataclass
class AliasBudget:
    """Case distinctions on addresses that are left."""

    left: int

    def spend(self) -> None:
        if self.left == 0:
            raise TooHardError("too many addresses may alias")
        self.left -= 1


@dataclass
class RegionMemory:
    """Contents of one region for one program.

    `initial` names the contents before the first write: equal names are equal contents in both programs, but for the
    bytes in `apart`.  `writes` holds known initial contents and then the program's writes, of which the first is number
    `known`.
    """

    terms: Terms
    initial: Hashable
    budget: AliasBudget
    writes: list[Write] = field(default_factory=list)
    known: int = 0
    apart: Apart | None = None
    _latest: dict[tuple[int, int], int] = field(default_factory=dict)
    _bases: dict[int, Term] = field(default_factory=dict)

    def copy(self) -> RegionMemory:
        return RegionMemory(
            self.terms,
            self.initial,
            self.budget,
            list(self.writes),
            self.known,
            self.apart,
            dict(self._latest),
            dict(self._bases),
        )

    def know(self, place: Place, byte: Term) -> None:
        """Initial contents that the facts give."""
        self.write(place, byte)
        self.known = len(self.writes)

    def write(self, place: Place, byte: Term) -> None:
        self._latest[place.base.id, place.off] = len(self.writes)
        self._bases[place.base.id] = place.base
        self.writes.append(Write(place, byte))

    def read(self, place: Place) -> Term:
        """The byte at a place now."""
        address = self._address(place)
        latest = self._latest.get((place.base.id, place.off), -1)
        cases: list[tuple[Term, Term]] = []
        if len(self._bases) > 1 or place.base.id not in self._bases:
            for write in reversed(self.writes[latest + 1 :]):
                if write.place.base is place.base:
                    continue
                is_same = self.terms.eq(self._address(write.place), address)
                if is_same.constant is None:
                    self.budget.spend()
                    cases.append((is_same, write.byte))
                elif is_same.constant == 1:
                    return self._choose(cases, write.byte)
        oldest = self.writes[latest].byte if latest >= 0 else self._initial(place, address)
        return self._choose(cases, oldest)

    def _initial(self, place: Place, address: Term) -> Term:
        terms, apart = self.terms, self.apart
        shared = terms.init(self.initial, address)
        if apart is None:
            return shared
        own = terms.init(apart.name, address)
        if place.base is apart.base:
            return own if place.off in apart.offs else shared
        cases = []
        for off in sorted(apart.offs):
            self.budget.spend()
            cases.append((terms.eq(self._address(Place(apart.base, off)), address), own))
        return self._choose(cases, shared)

    def _choose(self, cases: list[tuple[Term, Term]], otherwise: Term) -> Term:
        for is_same, byte in reversed(cases):
            otherwise = self.terms.ite(is_same, byte, otherwise)
        return otherwise

    def _address(self, place: Place) -> Term:
        return self.terms.offset(place.base, place.off)

    def written(self) -> Iterable[Place]:
        """Places that may hold something else than the other program's initial contents, in a fixed order."""
        apart = self.apart
        other = [] if apart is None else [Place(apart.base, off) for off in sorted(apart.offs)]
        return list(dict.fromkeys((*other, *(write.place for write in self.writes[self.known :]))))


def places(terms: Terms, address: Term, size: int) -> list[Place]:
    """The bytes of an access, from the lowest address up."""
    base, off = terms.split(address)
    return [Place(base, off + index & (1 << WORD) - 1) for index in range(size)]


def glue(terms: Terms, content: list[Term], order: ByteOrder) -> Term:
    """The number whose bytes, from the lowest address up, are `content`."""
    return terms.concat(content if order == "little" else reversed(content))


def cut(terms: Terms, value: Term, order: ByteOrder) -> list[Term]:
    """The bytes of a number from the lowest address up; the inverse of `glue`."""
    content = [terms.slice(value, low, 8) for low in range(0, value.width, 8)]
    return content if order == "little" else content[::-1]

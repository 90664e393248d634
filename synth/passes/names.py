"""Names for contents that are not known as numbers, and for places in memory."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from synth.passes.bytewise import FIRST_NAME, WORD, Value
from verifier_model.domains.registers import Region


class Root(NamedTuple):
    """What addresses are counted from: two of one region with different keys may overlap or not."""

    region: Region
    key: Hashable


class Address(NamedTuple):
    """A place in memory: `off` bytes from the root."""

    root: Root
    off: int

    def plus(self, distance: int) -> Address:
        return Address(self.root, self.off + distance)


Memory = dict[Address, int]


class Names:
    """Gives the same name to the same thing, within one block."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []

    def value(self, key: Hashable) -> Value:
        """Eight named bytes for whatever `key` describes."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
        first = FIRST_NAME + number * WORD
        return tuple(range(first, first + WORD))

    def key_of(self, value: Value) -> Hashable | None:
        """The key whose whole value this is, or None."""
        first = value[0]
        if first < FIRST_NAME or (first - FIRST_NAME) % WORD or value != tuple(range(first, first + WORD)):
            return None
        return self._keys[(first - FIRST_NAME) // WORD]


@dataclass(frozen=True, slots=True)
class Sum:
    """Key of `base + off`, so that chains of additions of constants meet."""

    base: Hashable
    off: int


class Epochs:
    """Numbers the times between writes that may hit a root's bytes from outside it."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._of_root: dict[Root, Hashable] = {}
        self._of_others: dict[Region, Hashable] = {}

    def of(self, root: Root) -> Hashable:
        return self._of_root.setdefault(root, self._of_others.get(root.region, 0))

    def advance(self, family: frozenset[Region], exempt: Root | None, what: Hashable) -> None:
        """Something that `what` tells from all else may have written anywhere in the family but through `exempt`."""
        if exempt is not None:
            self.of(exempt)
        for root, epoch in self._of_root.items():
            if root != exempt and root.region in family:
                self._of_root[root] = self._names.value((epoch, what))[0]
        for region in sorted(family, key=lambda region: region.value):
            self._of_others[region] = self._names.value((self._of_others.get(region, 0), what))[0]

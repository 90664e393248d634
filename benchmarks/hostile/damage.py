"""Damage to ELF objects that knows where it hurts: headers, symbols, relocations, records, debug sections, code.

Sections are found with the loosest reading of the header, so that damaged objects can be damaged further.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HEADER_BYTES: Final = 64
SYMTAB, STRTAB, NOBITS, REL = 2, 3, 8, 9
# Where sizes, counts and offsets turn over, among them 4 GiB and the last number of 64 bits.
TELLING: Final = (
    0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 23, 24, 25, 63, 64, 65, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFF1, 0xFFFF, 0x10000,
    0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFF8, 0xFFFFFFFF, 1 << 32, (1 << 32) + 8, 1 << 40, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 8, (1 << 64) - 1,
)  # fmt: skip
# Byte offset and width of every field.
FILE_FIELDS: Final = ((4, 1), (5, 1), (16, 2), (18, 2), (20, 4), (32, 8), (40, 8), (48, 4), (52, 2), (54, 2), (56, 2),
                      (58, 2), (60, 2), (62, 2))  # fmt: skip
SECTION_FIELDS: Final = ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8))
SYMBOL_FIELDS: Final = ((0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8))
REL_FIELDS: Final = ((0, 8), (8, 4), (12, 4))


@dataclass(frozen=True, slots=True)
class Place:
    """A section as its header claims: header at `header`, contents in bytes [start, start + size) of the file."""

    header: int
    type: int
    start: int
    size: int


class Victim:
    """An object under damage."""

    def __init__(self, data: bytes, rng: random.Random) -> None:
        self.data = bytearray(data)
        self.rng = rng
        self.mark = ">" if data[5:6] == b"\2" else "<"

    def places(self) -> list[Place]:
        """The sections whose contents lie in the file, as far as the headers can be followed."""
        if len(self.data) < HEADER_BYTES:
            return []
        table = struct.unpack_from(self.mark + "Q", self.data, 40)[0]
        count = struct.unpack_from(self.mark + "H", self.data, 60)[0]
        found = []
        for number in range(min(count, 200)):
            at = table + 64 * number
            if at + 64 > len(self.data):
                break
            kind = struct.unpack_from(self.mark + "I", self.data, at + 4)[0]
            start, size = struct.unpack_from(self.mark + "QQ", self.data, at + 24)
            size = min(size, max(0, len(self.data) - start))
            found.append(Place(at, kind, min(start, len(self.data)), 0 if kind == NOBITS else size))
        return found

    def put(self, at: int, width: int, value: int) -> None:
        if at + width <= len(self.data):
            order = "little" if self.mark == "<" else "big"
            self.data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, order)  # type: ignore[arg-type]

    def get(self, at: int, width: int) -> int:
        return int.from_bytes(self.data[at : at + width], "little" if self.mark == "<" else "big")

    def overwrite(self, at: int, width: int, other: int) -> None:
        """A field gets a telling number, a neighbour of its own, that of the same field elsewhere, or a flipped bit."""
        old = self.get(at, width)
        choices = (
            self.rng.choice(TELLING),
            old + self.rng.choice((-24, -16, -8, -4, -1, 1, 4, 8, 16, 24)),
            self.get(other, width),
            old ^ 1 << self.rng.randrange(8 * width),
            self.rng.randrange(64),
        )
        self.put(at, width, self.rng.choice(choices))


def _file_header(victim: Victim, places: list[Place]) -> None:
    at, width = victim.rng.choice(FILE_FIELDS)
    victim.overwrite(at, width, at)


def _section_header(victim: Victim, places: list[Place]) -> None:
    """Wild offsets and sizes, overlaps, cyclic links, two sections of one name."""
    at, width = victim.rng.choice(SECTION_FIELDS)
    one, other = victim.rng.choice(places), victim.rng.choice(places)
    victim.overwrite(one.header + at, width, other.header + at)


def _cycle(victim: Victim, places: list[Place]) -> None:
    """Two sections that link to each other, or one to itself."""
    one, other = victim.rng.randrange(len(places)), victim.rng.randrange(len(places))
    field = victim.rng.choice((40, 44))
    victim.put(places[one].header + field, 4, other)
    victim.put(places[other].header + field, 4, one)


def _table(kind: int, entry: int, fields: tuple[tuple[int, int], ...]) -> Callable[[Victim, list[Place]], None]:
    def damage(victim: Victim, places: list[Place]) -> None:
        tables = [place for place in places if place.type == kind and place.size >= entry]
        if not tables:
            return
        table = victim.rng.choice(tables)
        one, other = (table.start + entry * victim.rng.randrange(table.size // entry) for _ in range(2))
        at, width = victim.rng.choice(fields)
        victim.overwrite(one + at, width, other + at)

    return damage


def _words(victim: Victim, places: list[Place]) -> None:
    """A number somewhere in one section's contents, most often where numbers of that width lie."""
    filled = [place for place in places if place.size]
    if not filled:
        return
    place = victim.rng.choice(filled)
    width = victim.rng.choice((1, 1, 2, 4, 4, 8))
    step = victim.rng.choice((1, width))
    one, other = (place.start + victim.rng.randrange(place.size) // step * step for _ in range(2))
    victim.overwrite(one, width, other)


def _head(victim: Victim, places: list[Place]) -> None:
    """The first bytes of a section: the headers of .BTF, .BTF.ext and every .debug section."""
    filled = [place for place in places if place.size]
    if filled:
        place = victim.rng.choice(filled)
        at = place.start + victim.rng.randrange(min(place.size, 40))
        victim.overwrite(at, victim.rng.choice((1, 2, 4)), at)


def _resize(victim: Victim, places: list[Place]) -> None:
    """Contents cut, stretched or repeated behind the end of the file, with a header that is true about it."""
    place = victim.rng.choice(places)
    data = victim.data[place.start : place.start + place.size]
    size = victim.rng.choice((1, 2, 4, 8, 8, 12, 16, 16, 24, 64))
    at = victim.rng.randrange(place.size + 1) // size * size
    match victim.rng.randrange(4):
        case 0:
            del data[at : at + size]
        case 1:
            data[at:at] = victim.rng.choice((bytes(size), b"\xff" * size, b"\x80" * size, data[:size]))
        case 2:
            data[at:at] = data[max(0, at - size) : at]
        case _:
            del data[at:]
    victim.data += bytes(-len(victim.data) % 8)
    victim.put(place.header + 24, 8, len(victim.data))
    victim.put(place.header + 32, 8, len(data))
    victim.data += data


def _splice(victim: Victim, places: list[Place]) -> None:
    """A few bytes of the object land in another place of it."""
    size = victim.rng.choice((1, 4, 8, 16, 24, 64))
    to, source = (victim.rng.randrange(len(victim.data)) for _ in range(2))
    part = victim.data[source : source + size]
    victim.data[to : to + len(part)] = part


def _cut(victim: Victim, places: list[Place]) -> None:
    """A truncated file, or bytes missing in its middle."""
    at = victim.rng.randrange(len(victim.data))
    del victim.data[at : at + victim.rng.choice((1, 8, 64, len(victim.data), len(victim.data)))]


# Damage that leaves an object readable is chosen more often: the rest meets the same few refusals every time.
KINDS: Final[tuple[tuple[Callable[[Victim, list[Place]], None], int], ...]] = (
    (_file_header, 2),
    (_section_header, 8),
    (_cycle, 2),
    (_table(SYMTAB, 24, SYMBOL_FIELDS), 10),
    (_table(REL, 16, REL_FIELDS), 14),
    (_words, 30),
    (_head, 14),
    (_resize, 12),
    (_splice, 4),
    (_cut, 1),
)
_DAMAGES, _WEIGHTS = zip(*KINDS, strict=True)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The object with one to three injuries."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        victim = Victim(data, rng)
        places = victim.places()
        if not places:
            places = [Place(0, 0, 0, len(data))]
        if data:
            rng.choices(_DAMAGES, _WEIGHTS)[0](victim, places)
        data = bytes(victim.data)
    return data

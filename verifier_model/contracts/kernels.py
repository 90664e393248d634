"""Kernels to be accepted by: point releases with architecture and privilege, and how sets of them are written.

What their verifiers work out is in `checker.knowledge`, which helpers they have in `availability`; here stands which
releases there are and which instructions they know.  Long-term series: kernel.org/category/releases.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.isa import Kind, Row

Release = tuple[int, int, int]
Series = tuple[int, int]


@dataclass(frozen=True, slots=True, order=True)
class Profile:
    """One kernel as the checker sees it.

    `strict_alignment`: an architecture without efficient unaligned access, where packets are read aligned.
    `privileged`: loaded with CAP_BPF and CAP_PERFMON; what others may load is not modelled, so they are refused.
    """

    release: Release
    strict_alignment: bool = False
    privileged: bool = True

    @property
    def series(self) -> Series:
        return self.release[:2]

    @property
    def name(self) -> str:
        """As `kernels` reads it: "6.1.192", with "+strict" or "+unprivileged" behind."""
        marks = ("+strict" if self.strict_alignment else "") + ("" if self.privileged else "+unprivileged")
        return ".".join(map(str, self.release)) + marks

    @property
    def oracle(self) -> str | None:
        """The series that `kernel.oracle.oracle` answers for it, None where no real kernel confirms the model."""
        row = SERIES.get(self.series)
        asked = row is not None and row.has_oracle and self.release == row.last
        return f"{self.series[0]}.{self.series[1]}" if asked and not self.strict_alignment and self.privileged else None

    @property
    def is_verified(self) -> bool:
        return self.oracle is not None


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """`last`: the newest point release that the rows here account for.  `has_oracle`: the emulator has that series
    (Debian's newest build of it, which may have moved on a point release or two)."""

    first: Release
    last: Release
    has_oracle: bool = False


SERIES: Final = MappingProxyType(
    {
        (5, 10): SeriesRow((5, 10, 0), (5, 10, 262), has_oracle=True),
        (5, 15): SeriesRow((5, 15, 0), (5, 15, 189)),
        (6, 1): SeriesRow((6, 1, 0), (6, 1, 192), has_oracle=True),
        (6, 6): SeriesRow((6, 6, 0), (6, 6, 98)),
        (6, 12): SeriesRow((6, 12, 0), (6, 12, 117), has_oracle=True),
        (6, 18): SeriesRow((6, 18, 0), (6, 18, 15), has_oracle=True),
    }
)
PROFILES: Final[tuple[Profile, ...]] = tuple(
    Profile(release) for row in SERIES.values() for release in (row.first, row.last)
)

# The first release that knows an instruction; rows not named here are as old as 5.10 or older.
_BY_KIND: Final = MappingProxyType(
    {
        Kind.MAY_GOTO: (6, 9, 0),
        Kind.CAST: (6, 9, 0),
        Kind.LOAD_ACQUIRE: (6, 15, 0),
        Kind.STORE_RELEASE: (6, 15, 0),
    }
)
_BY_NAME: Final = MappingProxyType({"call_kfunc": (5, 13, 0)})
_LEVEL_4: Final = (6, 6, 0)
_ATOMICS: Final = (5, 12, 0)
# Instructions that a stable series got later, with the oldest point release seen to know them.
_BACKPORTED: Final = MappingProxyType({("gotol", (6, 1)): 192})
_PLAIN_ADD: Final = frozenset({"atomic_add_w", "atomic_add_dw"})


def known_since(row: Row) -> Release:
    """The first release whose verifier knows the instruction, (5, 10, 0) for everything older."""
    if row.name in _BY_NAME:
        return _BY_NAME[row.name]
    if row.kind in _BY_KIND:
        return _BY_KIND[row.kind]
    if row.kind is Kind.ATOMIC and row.name not in _PLAIN_ADD:
        return _ATOMICS
    return _LEVEL_4 if row.level >= 4 else (5, 10, 0)


def is_known(row: Row, release: Release) -> bool:
    """Does the kernel `release` know the instruction?"""
    backported = _BACKPORTED.get((row.name, release[:2]))
    return release >= known_since(row) or (backported is not None and release[2] >= backported)


class KernelSetError(ValueError):
    """A text names no set of kernels; the message is one line."""


_WORD: Final = re.compile(
    r"(?P<from>\d+\.\d+(?:\.\d+)?)(?:\.\.(?P<to>\d+\.\d+(?:\.\d+)?))?(?P<marks>(?:\+strict|\+unprivileged)*)"
)


def kernels(text: str) -> tuple[Profile, ...]:
    """The profiles that a text names, oldest first; raises KernelSetError.

    Words separated by commas or spaces: a series ("6.1": its first and last point release), a point release
    ("6.1.36"), or a range of either ("5.10..6.18"); "+strict" and "+unprivileged" behind a word count for all of it.
    """
    found: set[Profile] = set()
    for word in text.replace(",", " ").split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise KernelSetError(f"{word!r} is no kernel: write 6.1, 6.1.36 or 5.10..6.18")
        marks = match["marks"]
        for profile in _between(word, match["from"], match["to"]):
            found.add(replace(profile, strict_alignment="+strict" in marks, privileged="+unprivileged" not in marks))
    if not found:
        raise KernelSetError("no kernel is named")
    return tuple(sorted(found))


def _between(word: str, first: str, last: str | None) -> tuple[Profile, ...]:
    low, high = _release(first, is_end=False), _release(last or first, is_end=True)
    if last is None and len(first.split(".")) == 3:
        return (_point(low),)
    if low > high:
        raise KernelSetError(f"{word!r} ends before it begins")
    chosen = {profile for profile in PROFILES if low <= profile.release <= high}
    for end in (first, last):
        if end is not None and len(end.split(".")) == 3:
            chosen.add(_point(_release(end, is_end=False)))
    if not chosen:
        known = ", ".join(f"{major}.{minor}" for major, minor in SERIES)
        raise KernelSetError(f"{word!r} holds no long-term series: there are {known}")
    return tuple(sorted(chosen))


def _release(text: str, is_end: bool) -> Release:
    """A release; for a series its beginning or an end behind all its point releases."""
    numbers = [int(number) for number in text.split(".")]
    if len(numbers) == 2:
        numbers.append(1 << 16 if is_end else 0)
    return (numbers[0], numbers[1], numbers[2])


def _point(release: Release) -> Profile:
    if release[:2] not in SERIES:
        known = ", ".join(f"{major}.{minor}" for major, minor in SERIES)
        raise KernelSetError(f"{release[0]}.{release[1]} is no long-term series: there are {known}")
    return Profile(release)


def knowing(level: int) -> tuple[Profile, ...]:
    """The default set: every long-term series that knows the instructions of the CPU level (1 to 4)."""
    return tuple(profile for profile in PROFILES if level < 4 or profile.release >= _LEVEL_4)

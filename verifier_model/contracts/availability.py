"""Which helpers a kernel gives to which programs, from `availability.csv`, which the kernels themselves were asked for.

The table is written by `make availability` (benchmarks/model/availability.py): a row for each kernel in the emulator
and each place of attachment.  A kernel that nobody asked is given what its neighbours of the table both give.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from verifier_model.contracts.places import Place

TABLE: Final = Path(__file__).parent / "availability.csv"
COLUMNS: Final = ("series", "release", "place", "loadable", "helpers")
GPL_ONLY: Final = "(needs a GPL-compatible licence)"


@dataclass(frozen=True, slots=True)
class Row:
    """`helpers`: numbers of those that the verifier of `release` knows at `place`; none where it loads nothing."""

    series: str
    release: str
    place: str
    loadable: bool
    helpers: frozenset[int]

    def words(self) -> tuple[str, ...]:
        return (self.series, self.release, self.place, "yes" if self.loadable else "no", _ranges(self.helpers))


def _ranges(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _numbers(text: str) -> frozenset[int]:
    found: set[int] = set()
    for word in text.split():
        first, dash, last = word.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


@cache
def _table() -> dict[str, dict[str, Row]]:
    """Rows by series and place, series in order of age."""
    found: dict[str, dict[str, Row]] = {}
    with TABLE.open(newline="") as file:
        for series, release, place, loadable, helpers in list(csv.reader(file))[1:]:
            found.setdefault(series, {})[place] = Row(series, release, place, loadable == "yes", _numbers(helpers))
    return found


def _series(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def asked_series() -> tuple[tuple[int, int], ...]:
    """The series in the table, oldest first."""
    return tuple(sorted(map(_series, _table())))


@cache
def helpers_of(series: tuple[int, int], place: Place) -> frozenset[int] | None:
    """Numbers of the helpers that kernels of the series give to programs at `place`.

    A series that nobody asked: what its nearest older and its nearest newer neighbour both give.  None: no kernel of
    the series is known to load programs there.
    """
    table = {_series(name): rows for name, rows in _table().items()}
    if series in table:
        return _helpers_at(table[series], place)
    older = max((known for known in table if known < series), default=None)
    newer = min((known for known in table if known > series), default=None)
    sets = [_helpers_at(table[known], place) for known in (older, newer) if known is not None]
    if not sets or any(found is None for found in sets):
        return None
    return frozenset.intersection(*(found for found in sets if found is not None))


def _helpers_at(rows: dict[str, Row], place: Place) -> frozenset[int] | None:
    row = rows.get(place.name)
    if row is None:
        # These kernels have nothing there that a probe could be attached to: what the place gives to others.
        row = rows.get(place.name.partition("/")[0].removesuffix(".s"))
    return row.helpers if row is not None and row.loadable else None


@cache
def helpers_anywhere(place: Place) -> frozenset[int]:
    """Numbers of the helpers that some kernel gives to programs at `place`."""
    return frozenset().union(*(helpers_of(series, place) or () for series in asked_series()))


@cache
def needs_gpl() -> frozenset[int]:
    """Helpers that some kernel refuses to programs without a GPL-compatible licence."""
    return frozenset().union(*(rows[GPL_ONLY].helpers for rows in _table().values()))


@cache
def helpers_everywhere() -> frozenset[int]:
    """Helpers that every kernel gives to every program: all that can be relied on where the place is not known."""
    rows = [row for places in _table().values() for name, row in places.items() if name != GPL_ONLY and row.loadable]
    return frozenset.intersection(*(row.helpers for row in rows))

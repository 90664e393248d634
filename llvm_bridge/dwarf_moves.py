"""Where each old instruction went: the correspondence of old and new addresses that debug information follows.

A function is cut into *cells*: an instruction that was kept is a cell of its own, and what stands between two kept
ones, old and new, is another.  Kept means: the same instruction in the block of the same label, found by a diff.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

from llvm_bridge.dwarf_agreement import Agreement, agreements_of
from llvm_bridge.dwarf_alignment import Stretch, aligned
from llvm_bridge.dwarf_forms import DwarfError, Need
from llvm_bridge.layout import Layout
from llvm_bridge.object import CodeSection, Placed
from verifier_model.bpf.insn import SLOT_BYTES, Insn
from verifier_model.bpf.unit import Function

MOST_NEEDS: Final = 400
"""Sets of registers that the locations of one function may use: keeps hostile input from multiplying the work."""


class Cell(NamedTuple):
    """Bytes [old, old_end) of the old section became [new, new_end) of the new one; `bounds` are the new instructions'
    starts inside and `old_bounds` the old ones', each with the end."""

    old_bounds: tuple[int, ...]
    bounds: tuple[int, ...]
    is_kept: bool

    @property
    def old(self) -> int:
        return self.old_bounds[0]

    @property
    def old_end(self) -> int:
        return self.old_bounds[-1]

    @property
    def new(self) -> int:
        return self.bounds[0]

    @property
    def new_end(self) -> int:
        return self.bounds[-1]


@dataclass(frozen=True)
class FunctionMoves:
    """The cells of one function in order; `agreement` is None for a function that did not change."""

    start: int
    end: int
    cells: Sequence[Cell]
    agreement: Agreement | None
    _olds: list[int] = field(default_factory=list)
    _runs: dict[tuple[Need, int], tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._olds.extend(cell.old for cell in self.cells)

    def position(self, old: int) -> int:
        """The new address of the boundary `old` in [start, end]."""
        where = bisect_left(self._olds, old)
        if where < len(self.cells) and self.cells[where].old == old:
            return self.cells[where].new
        cell = self.cells[where - 1]
        if old >= cell.old_end:
            return cell.new_end
        if self.agreement is None:
            return cell.new + old - cell.old
        passed = bisect_left(cell.old_bounds, old)
        return cell.bounds[min(passed, len(cell.bounds) - 1)]

    def is_kept(self, old: int) -> bool:
        """Does a kept instruction start at `old`?"""
        where = bisect_left(self._olds, old)
        while where < len(self.cells) and self.cells[where].old == old:
            if self.cells[where].is_kept:
                return True
            where += 1
        return self.agreement is None

    def surviving(self, low: int, high: int, need: Need, bits: int) -> Iterator[tuple[int, int]]:
        """New ranges [low, high) inside the old range where all that `need` names holds the old values."""
        if self.agreement is None:
            yield self.position(low), self.position(high)
            return
        first = bisect_left(self._olds, low)
        last = bisect_left(self._olds, high) - 1
        if last >= first and self.cells[last].old_end > high:
            last -= 1
        runs = self._true_runs(need, bits)
        for number in range(bisect_right(runs, first, key=_stop), len(runs)):
            start, stop = runs[number]
            a, b = max(first, start), min(last + 1, stop)
            if a >= b:
                break
            if self.cells[a].new < self.cells[b - 1].new_end:
                yield self.cells[a].new, self.cells[b - 1].new_end

    def _true_runs(self, need: Need, bits: int) -> tuple[tuple[int, int], ...]:
        """Maximal runs [i, j) of cells over which the need is met."""
        found = self._runs.get((need, bits))
        if found is None:
            assert self.agreement is not None
            if len(self._runs) >= MOST_NEEDS:
                raise DwarfError("locations of too many kinds")
            found = self.agreement.runs(need, bits)
            self._runs[need, bits] = found
        return found


@dataclass(frozen=True)
class Moves:
    """All code sections; sections that are not in `sections` are frozen: every address in them stays."""

    sections: Mapping[int, tuple[CodeSection, Sequence[FunctionMoves]]]

    def _at(self, section: int, old: int) -> FunctionMoves | None:
        found = self.sections.get(section)
        if found is None:
            return None
        code, moves = found
        where = bisect_right(code.functions, old, key=_start) - 1
        if where < 0 or old > moves[where].end:
            raise DwarfError("debug information names an address outside all functions")
        return moves[where]

    def position(self, section: int, old: int) -> int:
        """The new address of the old address `old` (a function's start, its end, or any place in it), in bytes."""
        moves = self._at(section, old)
        return old if moves is None else moves.position(old)

    def is_kept(self, section: int, old: int) -> bool:
        moves = self._at(section, old)
        return moves is None or moves.is_kept(old)

    def is_changed(self, section: int, old: int) -> bool:
        moves = self._at(section, old)
        return moves is not None and moves.agreement is not None

    def surviving(self, section: int, low: int, high: int, need: Need | None, bits: int) -> list[tuple[int, int]]:
        """New ranges inside the old range where a location with that need (None: unknown) still tells the truth."""
        moves = self._at(section, low)
        if moves is None:
            return [(low, high)]
        if not low <= high <= moves.end:
            raise DwarfError("a location over several functions")
        if need is None and moves.agreement is not None:
            return []
        return list(moves.surviving(low, high, need or Need(), bits))


def _stop(run: tuple[int, int]) -> int:
    return run[1]


def _start(placed: Placed) -> int:
    return placed.start


def moves_of(layout: Layout, functions: Mapping[str, Function]) -> Moves:
    """The correspondence between the layout's source and `functions`, the new ones by name."""
    olds = {function.name: function for function in layout.source.unit.functions}
    stretches = {name: aligned(olds[name], functions[name]) for name in layout.changed}
    agreements = agreements_of({name: (olds[name], functions[name], stretches[name]) for name in stretches})
    sections: dict[int, tuple[CodeSection, list[FunctionMoves]]] = {}
    for index, section in layout.source.code.items():
        if section.frozen is not None:
            continue
        found: list[FunctionMoves] = []
        for placed in section.functions:
            new = layout.places[placed.name]
            end = placed.start + placed.size
            if placed.name in stretches:
                cells = _cells(placed, new.start, stretches[placed.name])
                found.append(FunctionMoves(placed.start, end, cells, agreements[placed.name]))
            else:
                cell = Cell((placed.start, end), (new.start, new.start + new.size), True)
                found.append(FunctionMoves(placed.start, end, (cell,), None))
        sections[index] = (section, found)
    return Moves(sections)


def _cells(placed: Placed, new_start: int, stretches: Sequence[Stretch]) -> list[Cell]:
    cells = []
    old_at, new_at = placed.start, new_start
    for stretch in stretches:
        olds, news = _bounds(stretch.old, old_at), _bounds(stretch.new, new_at)
        for i, j, k, m, is_kept in stretch.spans:
            cells.append(Cell(tuple(olds[i : j + 1]), tuple(news[k : m + 1]), is_kept))
        old_at, new_at = olds[-1], news[-1]
    return cells


def _bounds(insns: Sequence[Insn], start: int) -> list[int]:
    return list(accumulate((insn.slots * SLOT_BYTES for insn in insns), initial=start))

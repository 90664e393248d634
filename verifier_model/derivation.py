"""Where a fact comes from: the instructions that may have put the value there, and the branches that bounded it since.

Explanations for people, and nothing is proved by them: `facts.analyse` derives the facts themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.evaluate import atomic_destination
from verifier_model.bpf.flow import predecessors, successors
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Function, Point
from verifier_model.facts import Facts

_NOTHING_WRITTEN = frozenset(
    {Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE, Kind.JUMP, Kind.BRANCH, Kind.MAY_GOTO, Kind.EXIT}
)


@dataclass(frozen=True, slots=True)
class Derivation:
    """`set_at`: the instructions whose result may be there; `bounded_at`: the branches passed since that compare it.

    `from_start`: it may be what the function was entered with.
    """

    set_at: tuple[Point, ...]
    bounded_at: tuple[Point, ...]
    from_start: bool

    def lines(self, function: Function) -> list[str]:
        """One line each, in the order of the function's layout: `set by entry:2: r1 = r6`."""
        lines = ["the function's start"] if self.from_start else []
        for verb, points in (("set by", self.set_at), ("bounded by", self.bounded_at)):
            lines += [
                f"{verb} {point.label}:{point.at}: {print_insn(function.block(point.label).insns[point.at])}"
                for point in points
            ]
        return lines


def written(insn: Insn) -> frozenset[int]:
    """Registers that the instruction changes."""
    if insn.kind in _NOTHING_WRITTEN:
        return frozenset()
    if insn.kind is Kind.ATOMIC:
        destination = atomic_destination(insn.row, insn.src)
        return frozenset() if destination is None else frozenset({destination})
    if insn.kind in (Kind.CALL, Kind.LEGACY_LOAD):
        return frozenset(range(6))
    return frozenset({insn.dst})


class Origins:
    """Answers for one function; what is asked of often is computed once."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.function = facts.function
        self._before = predecessors(successors(self.function))
        self._layout = {block.label: index for index, block in enumerate(self.function.blocks)}

    def register(self, point: Point, number: int) -> Derivation:
        """Of what register `number` holds at the point."""

        def compares(insn: Insn) -> bool:
            return insn.kind is Kind.BRANCH and number in (insn.dst, insn.src if "src" in insn.row.uses else insn.dst)

        return self._walk(point, lambda _, insn: number in written(insn), compares)

    def slot(self, point: Point, off: int) -> Derivation:
        """Of the eight bytes at `off` from r10: what overwrites any of them for certain."""
        place = frozenset(range(off, off + 8))
        return self._walk(point, lambda at, _: bool(self.facts.stack_access(at).writes & place), lambda _: False)

    def _walk(self, point: Point, sets: Callable[[Point, Insn], bool], bounds: Callable[[Insn], bool]) -> Derivation:
        found: dict[Point, None] = {}
        passed: dict[Point, None] = {}
        from_start = False
        seen = set()
        pending = [point]
        while pending:
            label, stop = pending.pop()
            insns = self.function.block(label).insns
            for at in range(stop - 1, -1, -1):
                here = Point(label, at)
                if sets(here, insns[at]):
                    found[here] = None
                    break
                if bounds(insns[at]):
                    passed[here] = None
            else:
                from_start = from_start or self._layout[label] == 0
                for before in self._before[label]:
                    if before not in seen:
                        seen.add(before)
                        pending.append(Point(before, len(self.function.block(before).insns)))
        return Derivation(self._sorted(found), self._sorted(passed), from_start)

    def _sorted(self, points: Mapping[Point, None]) -> tuple[Point, ...]:
        return tuple(sorted(points, key=lambda point: (self._layout[point.label], point.at)))

"""A function whose values live in webs instead of registers: what changes of registers are made on.

A web is what one register holds from its definitions to all their uses.  Webs have numbers from `FIRST_WEB` on and
stand in the register fields of instructions.  Registers proper appear only where somebody else chose them: at calls,
exits, legacy loads and instructions that must stay as they are; copies lead there from webs, and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from synth.passes.operands import explicit_reads, writes
from verifier_model.bpf.insn import FRAME_POINTER, Insn, make
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Point

FIRST_WEB: Final = 16
REGISTERS: Final = range(FRAME_POINTER)
CLOBBERED: Final = frozenset(range(6))


@dataclass(frozen=True)
class Line:
    """An instruction over webs, the registers that it reads and writes without naming them, where it came from.

    `is_copy`: does the destination hold, as far as anybody looks at it, what the source holds?
    """

    insn: Insn
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    point: Point | None = None
    is_copy: bool = False

    @cached_property
    def uses(self) -> frozenset[int]:
        if self.insn.kind in (Kind.CALL, Kind.EXIT):
            return self.reads
        return explicit_reads(self.insn) | self.reads

    @cached_property
    def defs(self) -> frozenset[int]:
        if self.insn.kind in (Kind.CALL, Kind.LEGACY_LOAD):
            return self.writes
        return writes(self.insn) | self.writes

    @cached_property
    def use_bits(self) -> int:
        return bits(self.uses)

    @cached_property
    def def_bits(self) -> int:
        return bits(self.defs)


def copy_line(dst: int, src: int) -> Line:
    return Line(make("mov64_reg", dst=dst, src=src), is_copy=True)


@dataclass(slots=True)
class Piece:
    """A block over webs."""

    label: str
    lines: list[Line]


@dataclass(slots=True)
class Form:
    """A function over webs: `pieces` in layout order, `home` the register in which clang held each web."""

    pieces: list[Piece]
    edges: dict[str, tuple[str, ...]]
    home: dict[int, int] = field(default_factory=dict)

    def new_web(self) -> int:
        number = max(self.home, default=FIRST_WEB - 1) + 1
        self.home[number] = 0
        return number

    def copy(self) -> Form:
        return Form([Piece(p.label, list(p.lines)) for p in self.pieces], self.edges, dict(self.home))

    def lines(self) -> Iterator[tuple[Piece, int, Line]]:
        for piece in self.pieces:
            for at, line in enumerate(piece.lines):
                yield piece, at, line

    def definitions(self) -> dict[int, list[tuple[Piece, int]]]:
        """Where each web is written."""
        found: dict[int, list[tuple[Piece, int]]] = {}
        for piece, at, line in self.lines():
            for web in line.defs:
                found.setdefault(web, []).append((piece, at))
        return found

    def uses(self) -> dict[int, list[tuple[Piece, int]]]:
        """Where each web is read."""
        found: dict[int, list[tuple[Piece, int]]] = {}
        for piece, at, line in self.lines():
            for web in line.uses:
                found.setdefault(web, []).append((piece, at))
        return found


@dataclass(frozen=True, slots=True)
class Live:
    """Sets of webs and registers as bits: live at the start and at the end of each piece."""

    into: dict[str, int]
    out: dict[str, int]


def bits(numbers: frozenset[int]) -> int:
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


def liveness(form: Form) -> Live:
    """Which webs and registers may still be read, at the ends of the pieces."""
    gen, kill = {}, {}
    for piece in form.pieces:
        used = written = 0
        for line in piece.lines:
            used |= line.use_bits & ~written
            written |= line.def_bits
        gen[piece.label], kill[piece.label] = used, written
    into = dict.fromkeys(gen, 0)
    out = dict.fromkeys(gen, 0)
    changed = True
    while changed:
        changed = False
        for piece in reversed(form.pieces):
            label = piece.label
            after = 0
            for other in form.edges[label]:
                after |= into[other]
            before = gen[label] | after & ~kill[label]
            if after != out[label] or before != into[label]:
                out[label], into[label] = after, before
                changed = True
    return Live(into, out)


def live_after(piece: Piece, live: Live) -> list[int]:
    """What is live behind each line of the piece."""
    now = live.out[piece.label]
    found = []
    for line in reversed(piece.lines):
        found.append(now)
        now = now & ~line.def_bits | line.use_bits
    return found[::-1]

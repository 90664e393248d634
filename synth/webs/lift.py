"""From registers to webs, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from synth.passes.block_view import FactSource, with_fields
from synth.passes.operands import explicit_reads, is_plain_move, reads_dst, writes_dst
from synth.webs.form import CLOBBERED, FIRST_WEB, REGISTERS, Form, Line, Piece, copy_line
from verifier_model.bpf.flow import predecessors, successors
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function, Point

Site = tuple[int, int, int]  # block, instruction, register; the entry is (-1, -1, register)
_ENTRY: Final = -1
_LOW: Final = (1 << 32) - 1


def implicit_reads(insn: Insn, function: Function, facts: FactSource, point: Point) -> tuple[int, ...]:
    """Registers that the instruction reads without naming them."""
    if insn.kind is Kind.CALL:
        return tuple(facts.effects(point).arguments)
    if insn.kind is Kind.EXIT:
        is_void = function.is_subprogram and function.returns_void and not function.is_global
        return () if is_void else (0,)
    if insn.kind is Kind.LEGACY_LOAD:
        return (6,)
    return (0,) if insn.kind is Kind.ATOMIC and insn.row.op == "cmpxchg" else ()


def _implicit_writes(insn: Insn) -> tuple[int, ...]:
    if insn.kind in (Kind.CALL, Kind.LEGACY_LOAD):
        return tuple(sorted(CLOBBERED))
    return (0,) if insn.kind is Kind.ATOMIC and insn.row.op == "cmpxchg" else ()


def _fields(insn: Insn) -> tuple[set[int], set[int]]:
    """Registers that the instruction reads and writes by its own fields."""
    if insn.kind in (Kind.CALL, Kind.EXIT):
        return set(), set()
    written: set[int] = set()
    if insn.kind is Kind.ATOMIC:
        if insn.row.op != "cmpxchg" and insn.row.fetch:
            written.add(insn.src)
    elif insn.kind is not Kind.LEGACY_LOAD and writes_dst(insn):
        written.add(insn.dst)
    return set(explicit_reads(insn)), written


class _Webs:
    """Definitions that reach a common use are one web."""

    def __init__(self, function: Function, facts: FactSource) -> None:
        self.function, self.facts = function, facts
        self._parent: dict[Site, Site] = {}
        self.reads: dict[tuple[int, int], tuple[int, ...]] = {}
        for number, block in enumerate(function.blocks):
            for at, insn in enumerate(block.insns):
                self.reads[number, at] = implicit_reads(insn, function, facts, Point(block.label, at))

    def find(self, site: Site) -> Site:
        while (parent := self._parent.get(site, site)) != site:
            self._parent[site] = self._parent.get(parent, parent)
            site = parent
        return site

    def join(self, a: Site, b: Site) -> Site:
        a, b = self.find(a), self.find(b)
        if a != b:
            a, b = min(a, b), max(a, b)
            self._parent[b] = a
        return a

    def run(self, edges: Mapping[str, tuple[str, ...]]) -> dict[tuple[int, int], dict[int, Site]]:
        """For each instruction, the site that stands for what each register held before it."""
        function = self.function
        number_of = {block.label: number for number, block in enumerate(function.blocks)}
        before = predecessors(edges)
        last = [self._last(number) for number in range(len(function.blocks))]
        into: list[dict[int, frozenset[Site]]] = [{} for _ in function.blocks]
        entry = {reg: frozenset({(_ENTRY, _ENTRY, reg)}) for reg in REGISTERS}
        changed = True
        while changed:
            changed = False
            for number, block in enumerate(function.blocks):
                for reg in REGISTERS:
                    sites = set(entry[reg]) if number == 0 else set()
                    for label in before[block.label]:
                        other = number_of[label]
                        sites |= {last[other][reg]} if reg in last[other] else into[other].get(reg, frozenset())
                    if sites != into[number].get(reg, frozenset()):
                        into[number][reg] = frozenset(sites)
                        changed = True
        return self._uses(into)

    def written(self, number: int, at: int) -> set[int]:
        insn = self.function.blocks[number].insns[at]
        return _fields(insn)[1] | set(_implicit_writes(insn))

    def _last(self, number: int) -> dict[int, Site]:
        found = {}
        for at in range(len(self.function.blocks[number].insns)):
            for reg in self.written(number, at):
                found[reg] = (number, at, reg)
        return found

    def _uses(self, into: list[dict[int, frozenset[Site]]]) -> dict[tuple[int, int], dict[int, Site]]:
        found: dict[tuple[int, int], dict[int, Site]] = {}
        for number, block in enumerate(self.function.blocks):
            now = dict(into[number])
            for at, insn in enumerate(block.insns):
                held: dict[int, Site] = {}
                for reg in sorted(_fields(insn)[0] | set(self.reads[number, at])):
                    sites = sorted(now.get(reg, frozenset()))
                    if reg == FRAME_POINTER or not sites:
                        continue
                    if insn.kind is Kind.CALL and all(self._is_garbage(site) for site in sites):
                        continue
                    for site in sites:
                        self.join(sites[0], site)
                    held[reg] = sites[0]
                for reg in self.written(number, at):
                    now[reg] = frozenset({(number, at, reg)})
                found[number, at] = held
        return found

    def _is_garbage(self, site: Site) -> bool:
        """Does the register hold nothing there that a program could mean (what calls leave in r1 to r5)?"""
        number, at, reg = site
        if number == _ENTRY:
            return not self.function.is_subprogram and reg != 1
        return reg in range(1, 6) and _is_call(self.function.blocks[number].insns[at])


def _tied(insn: Insn) -> int | None:
    """The register that one field of the instruction both reads and writes."""
    if insn.is_pinned or insn.kind in (Kind.CALL, Kind.LEGACY_LOAD):
        return None
    if insn.kind is Kind.ATOMIC:
        return insn.src if insn.row.op != "cmpxchg" and insn.row.fetch else None
    return insn.dst if writes_dst(insn) and reads_dst(insn) else None


def lift(function: Function, facts: FactSource) -> Form | None:
    """The function over webs; None where its shape does not allow it (the entry is also a target)."""
    edges = successors(function)
    if predecessors(edges)[function.blocks[0].label]:
        return None
    webs = _Webs(function, facts)
    held = webs.run(edges)
    numbers: dict[Site, int] = {}
    home: dict[int, int] = {}

    def web(site: Site) -> int:
        root = webs.find(site)
        if root not in numbers:
            numbers[root] = FIRST_WEB + len(numbers)
            home[numbers[root]] = root[2]
        return numbers[root]

    for sites in held.values():
        for site in sites.values():
            web(site)
    pieces = []
    for number, block in enumerate(function.blocks):
        lines: list[Line] = []
        for at, insn in enumerate(block.insns):
            uses = {reg: web(site) for reg, site in held[number, at].items()}
            written = sorted(webs.written(number, at))
            is_left = [_is_call(insn) and reg and webs.find((number, at, reg)) not in numbers for reg in written]
            defs = {reg: web((number, at, reg)) for reg, left in zip(written, is_left, strict=True) if not left}
            point = Point(block.label, at)
            lines += _lines(insn, uses, defs, webs.reads[number, at], point, _is_copy(insn, facts, point))
        pieces.append(Piece(block.label, lines))
    arrivals = sorted(
        {root[2]: number for root, number in numbers.items() if root[0] == _ENTRY and 1 <= root[2] <= 5}.items()
    )
    pieces[0].lines[:0] = [copy_line(number, reg) for reg, number in arrivals]
    return Form(pieces, edges, home)


def _is_copy(insn: Insn, facts: FactSource, point: Point) -> bool:
    if not is_plain_move(insn) or insn.is_pinned:
        return False
    if insn.row.width == 64:
        return True
    if facts.demand_after(point).regs[insn.dst] <= _LOW:
        return True
    fact = facts.before(point).regs[insn.src]
    return fact.is_scalar and fact.value.umax <= _LOW


def _lines(
    insn: Insn, uses: dict[int, int], defs: dict[int, int], implicit: tuple[int, ...], point: Point, is_copy: bool
) -> list[Line]:
    """The instruction over webs, with copies to and from the registers that it cannot do without."""
    fixed_reads, fixed_writes = set(implicit), set(_implicit_writes(insn))
    read, written = _fields(insn)
    if insn.is_pinned:
        fixed_reads |= read
        fixed_writes |= written
    changes = {}
    if "dst" in insn.row.uses and insn.dst != FRAME_POINTER:
        if insn.dst in written and insn.dst not in fixed_writes:
            changes["dst"] = defs[insn.dst]
        elif insn.dst in read and insn.dst not in fixed_reads and insn.dst in uses:
            changes["dst"] = uses[insn.dst]
    if "src" in insn.row.uses and insn.src != FRAME_POINTER and insn.kind is not Kind.CALL:
        is_free = insn.src not in fixed_reads or not insn.is_pinned
        if insn.src in uses and is_free and not (insn.src in implicit and insn.kind is Kind.LEGACY_LOAD):
            changes["src"] = uses[insn.src]
    before = [copy_line(reg, uses[reg]) for reg in sorted(fixed_reads) if reg in uses]
    tied = _tied(insn)
    if tied is not None and tied in uses:
        # A two-address instruction works on a copy of its own; `r1 += r1` reads the copy twice.
        before.append(copy_line(defs[tied], uses[tied]))
        uses = {**uses, tied: defs[tied]}
    wanted = sorted(reg for reg in fixed_writes if reg in defs and not (reg in CLOBBERED - {0} and _is_call(insn)))
    after = [copy_line(defs[reg], reg) for reg in wanted]
    line = Line(
        with_fields(insn, **changes) if changes else insn,
        frozenset(fixed_reads & uses.keys()),
        frozenset(fixed_writes) | {defs[reg] for reg in fixed_writes & defs.keys() if reg not in wanted},
        point,
        is_copy,
    )
    return [*before, line, *after]


def _is_call(insn: Insn) -> bool:
    return insn.kind in (Kind.CALL, Kind.LEGACY_LOAD)


def lower(form: Form, colors: Mapping[int, int]) -> tuple[Block, ...]:
    """The blocks with registers in place of webs, copies of a register to itself left out."""
    blocks = []
    for piece in form.pieces:
        insns = []
        for line in piece.lines:
            insn = line.insn
            if "dst" in insn.row.uses and insn.dst >= FIRST_WEB:
                insn = replace(insn, dst=colors[insn.dst])
            if "src" in insn.row.uses and insn.src >= FIRST_WEB:
                insn = replace(insn, src=colors[insn.src])
            if line.is_copy and insn.dst == insn.src:
                continue
            insns.append(insn)
        blocks.append(Block(piece.label, tuple(insns)))
    return tuple(blocks)

"""Registers for webs, so that as many copies as possible fall away.

Copies are merged one by one, those that save most first, as long as the rest still gets by with ten registers
(iterated coalescing in the sense of George and Appel, 1996, with a whole test of colourability in place of local ones
where the function is small).  Nothing is ever spilled: where the registers do not suffice there is no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from synth.webs.form import FIRST_WEB, REGISTERS, Form, Live, live_after, liveness
from verifier_model.bpf.insn import FRAME_POINTER
from verifier_model.bpf.isa import Kind

COUNT: Final = len(REGISTERS)
_SMALL: Final = 400  # webs; with more, only cheap tests are made
_PHYSICAL: Final = (1 << FRAME_POINTER + 1) - 1


class Copy(NamedTuple):
    dst: int
    src: int
    weight: int


class Interference:
    """Which webs and registers may not share a register, as bits; and the copies between them."""

    def __init__(self, form: Form, live: Live) -> None:
        self.near: dict[int, int] = {reg: _PHYSICAL & ~(1 << reg) for reg in range(FRAME_POINTER + 1)}
        for web in form.home:
            self.near[web] = 0
        self.copies: list[Copy] = []
        copied: dict[tuple[int, int], int] = {}
        for piece in form.pieces:
            for line, after in zip(piece.lines, live_after(piece, live), strict=True):
                insn = line.insn
                besides = 0
                if line.is_copy:
                    besides = 1 << insn.src
                    if insn.src != insn.dst:
                        copied[insn.dst, insn.src] = copied.get((insn.dst, insn.src), 0) + 1
                for web in line.defs:
                    others = (after | line.def_bits) & ~besides & ~(1 << web)
                    if web < FIRST_WEB:
                        # What a call leaves in a register may count as a value there that nobody means.
                        for other in line.writes:
                            if other >= FIRST_WEB and form.home[other] == web:
                                others &= ~(1 << other)
                    elif web in line.writes:
                        others = after & ~(1 << web)
                    self._apart(web, others)
        frame = 1 << FRAME_POINTER
        for web, lines in form.definitions().items():
            # Only a plain copy of the frame pointer may be the frame pointer.
            only_copies = all(
                p.lines[at].is_copy and p.lines[at].insn.src == FRAME_POINTER and p.lines[at].insn.row.width == 64
                for p, at in lines
            )
            if not only_copies and web != FRAME_POINTER:
                self._apart(web, frame)
        self.copies = [Copy(dst, src, weight) for (dst, src), weight in copied.items()]

    def _apart(self, web: int, others: int) -> None:
        self.near[web] = self.near.get(web, 0) | others
        bit = 1 << web
        while others:
            low = others & -others
            other = low.bit_length() - 1
            self.near[other] = self.near.get(other, 0) | bit
            others ^= low


class Colouring:
    """Webs that were merged, and what is near to each group; groups go by their least member, registers first."""

    def __init__(self, near: dict[int, int], leader: dict[int, int]) -> None:
        self.near, self.leader = near, leader

    @staticmethod
    def of(graph: Interference) -> Colouring:
        return Colouring(dict(graph.near), {web: web for web in graph.near})

    def find(self, web: int) -> int:
        while self.leader[web] != web:
            web = self.leader[web]
        return web

    def is_apart(self, a: int, b: int) -> bool:
        """May the two not be merged, or are they already?"""
        a, b = self.find(a), self.find(b)
        return a == b or bool(self.near[a] >> b & 1) or max(a, b) <= FRAME_POINTER

    def copy(self) -> Colouring:
        return Colouring(dict(self.near), dict(self.leader))

    def merge(self, a: int, b: int) -> None:
        """Put the two into one group."""
        a, b = self.find(a), self.find(b)
        a, b = min(a, b), max(a, b)
        near = self.near
        lost = near.pop(b)
        near[a] |= lost
        bit_a, bit_b = 1 << a, 1 << b
        while lost:
            low = lost & -lost
            other = low.bit_length() - 1
            near[other] = near[other] & ~bit_b | bit_a
            lost ^= low
        self.leader[b] = a

    def is_safe(self, a: int, b: int) -> bool:
        """Briggs' and George's tests: can merging the two not make a colourable graph uncolourable?"""
        a, b = self.find(a), self.find(b)
        a, b = min(a, b), max(a, b)
        both = self.near[a] | self.near[b]
        if sum(1 for other in _members(both) if other <= FRAME_POINTER or self._degree(other) >= COUNT) < COUNT:
            return True
        return a <= FRAME_POINTER and all(
            other <= FRAME_POINTER or self.near[a] >> other & 1 or self._degree(other) < COUNT
            for other in _members(self.near[b])
        )

    def _degree(self, web: int) -> int:
        return (self.near[web] & ~(1 << FRAME_POINTER)).bit_count()

    def colours(self, wish: Callable[[int], Sequence[int]]) -> dict[int, int] | None:
        """A register for each group, among those free the first that is wished for; None where they do not suffice."""
        rest = {web: near & ~(1 << FRAME_POINTER) for web, near in self.near.items() if web > FRAME_POINTER}
        alive = 0
        for web in rest:
            alive |= 1 << web
        alive |= _PHYSICAL & ~(1 << FRAME_POINTER)
        stack: list[int] = []
        waiting = sorted(rest)
        while waiting:
            easy = [web for web in waiting if (rest[web] & alive).bit_count() < COUNT]
            if not easy:
                easy = [min(waiting, key=lambda web: ((rest[web] & alive).bit_count(), web))]
            for web in easy:
                alive &= ~(1 << web)
            stack += easy
            gone = set(easy)
            waiting = [web for web in waiting if web not in gone]
        chosen: dict[int, int] = {reg: reg for reg in range(FRAME_POINTER + 1)}
        members: dict[int, int] = {reg: 1 << reg for reg in REGISTERS}
        for web in reversed(stack):
            near = self.near[web]
            wished = wish(web)
            reg = next((reg for reg in (*wished, *REGISTERS) if not near & members[reg]), None)
            if reg is None:
                return None
            chosen[web] = reg
            members[reg] |= 1 << web
        return chosen


def _members(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def allocated(form: Form, most_orders: int = 4) -> dict[int, int] | None:
    """A register for each web, the best of several orders of merging; None where ten do not suffice."""
    graph = Interference(form, liveness(form))
    best: tuple[int, dict[int, int]] | None = None
    count = most_orders if len(form.home) <= _SMALL else 1
    for homely, order in _orders(form, graph.copies)[:count]:
        chosen = _merged_in_order(form, graph, homely, order)
        if chosen is None:
            continue
        left = sum(copy.weight for copy in graph.copies if chosen[copy.dst] != chosen[copy.src])
        if best is None or left < best[0]:
            best = left, chosen
    return None if best is None else best[1]


def _merged_in_order(form: Form, graph: Interference, homely: int, order: list[Copy]) -> dict[int, int] | None:
    """Merge the first `homely` copies unseen, the others where colours remain."""
    is_small = len(form.home) <= _SMALL

    def wish(web: int) -> Sequence[int]:
        return (form.home[web],) if web in form.home else ()

    colouring = Colouring.of(graph)
    for number, copy in enumerate(order):
        if colouring.is_apart(copy.dst, copy.src):
            continue
        if number < homely or colouring.is_safe(copy.dst, copy.src):
            colouring.merge(copy.dst, copy.src)
        elif is_small:
            merged = colouring.copy()
            merged.merge(copy.dst, copy.src)
            if merged.colours(wish) is not None:
                colouring = merged
    chosen = colouring.colours(wish)
    if chosen is None:
        return None
    return {**{reg: reg for reg in range(FRAME_POINTER + 1)}, **{web: chosen[colouring.find(web)] for web in form.home}}


def _orders(form: Form, copies: list[Copy]) -> list[tuple[int, list[Copy]]]:
    """Orders of merging, and how many copies at their start may be merged without looking.

    Copies within one of clang's registers can all go together, they once did.
    """

    def is_homely(copy: Copy) -> bool:
        homes = {web if web < FIRST_WEB else form.home[web] for web in (copy.dst, copy.src)}
        return len(homes) == 1

    def through(copy: Copy) -> bool:
        return copy.dst < FIRST_WEB or copy.src < FIRST_WEB

    heavy = sorted(copies, key=lambda copy: (-copy.weight, not is_homely(copy), copy.dst, copy.src))
    free = sorted(copies, key=lambda copy: (-copy.weight, is_homely(copy), not through(copy), copy.dst, copy.src))
    late = sorted(copies, key=lambda copy: (-copy.weight, through(copy), -copy.dst, copy.src))
    home = sorted(copies, key=lambda copy: (not is_homely(copy), -copy.weight, copy.dst, copy.src))
    return [(sum(map(is_homely, copies)), home), (0, heavy), (0, free), (0, late)]


def without_dead(form: Form) -> bool:
    """Drop results that nobody reads; was anything dropped?"""
    dropped = False
    changed = True
    while changed:
        changed = False
        live = liveness(form)
        for piece in form.pieces:
            now = live.out[piece.label]
            kept = []
            for line in reversed(piece.lines):
                defs = line.def_bits
                if is_pure(line.insn.kind) and not line.insn.is_pinned and not defs & now:
                    changed = True
                    continue
                now = now & ~defs | line.use_bits
                kept.append(line)
            piece.lines = kept[::-1]
        dropped |= changed
    return dropped


def is_pure(kind: Kind) -> bool:
    """Has the instruction no effect but its result?"""
    return kind in (Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE, Kind.CAST)

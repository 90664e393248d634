"""Numbers that are set in front of a branch and read only where ways meet again: set there instead.

Nothing is saved by that alone; but in between the register is free, and what had to make way for the number need not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from synth.webs.form import FIRST_WEB, Form, Line, Piece
from synth.webs.setting import Setting
from verifier_model.bpf.insn import label
from verifier_model.bpf.isa import Kind

CONSTANTS: Final = frozenset({"mov64_imm", "mov32_imm"})
_NO_WAY_ON: Final = frozenset({Kind.JUMP, Kind.EXIT})


def sink_number(form: Form, setting: Setting) -> Iterator[Form]:
    """`w0 = 2; if r1 == 0 goto OUT; ...; OUT: exit` as `if r1 == 0 goto TWO; ...; TWO: w0 = 2; OUT: exit`."""
    sites = form.definitions()
    for web, places in sites.items():
        if web < FIRST_WEB:
            continue
        for piece, at in places:
            line = piece.lines[at]
            if line.insn.row.name in CONSTANTS and not line.insn.is_pinned:
                result = _sunk(form, web, piece, at)
                if result is not None:
                    yield result


def _sunk(form: Form, web: int, piece: Piece, at: int) -> Form | None:
    """The form with the number set on the ways into the one piece that reads it, None where that is not so simple."""
    if any(web in line.defs | line.uses for line in piece.lines[at + 1 :]):
        return None
    carrying, targets = carried(form, web, piece.label)
    if carrying is None or len(targets) != 1:
        return None
    (target,) = targets
    order = [other.label for other in form.pieces]
    number = order.index(target)
    if number == 0:
        return None
    previous = form.pieces[number - 1]
    falls = not previous.lines or previous.lines[-1].insn.kind not in _NO_WAY_ON
    if falls and previous.label not in carrying:
        return None
    result = form.copy()
    name = fresh_label(order, target)
    source = result.pieces[order.index(piece.label)]
    moved = source.lines.pop(at)
    result.pieces.insert(number, Piece(name, [moved]))
    edges = dict(form.edges)
    edges[name] = (target,)
    for other in result.pieces:
        if other.label in carrying and target in edges[other.label]:
            edges[other.label] = tuple(name if to == target else to for to in edges[other.label])
            other.lines = [retargeted(line, target, name) for line in other.lines]
    result.edges = edges
    return result


def carried(form: Form, web: int, start: str) -> tuple[set[str] | None, set[str]]:
    """The pieces whose ends the number reaches unread, and those into which it flows to be read there.

    Every way into a carrying piece but the first must come from another one.
    """
    pieces = {piece.label: piece for piece in form.pieces}
    carrying, targets, waiting = {start}, set[str](), [start]
    before: dict[str, list[str]] = {}
    for name, following in form.edges.items():
        for to in following:
            before.setdefault(to, []).append(name)
    while waiting:
        for to in form.edges[waiting.pop()]:
            if to in carrying or to in targets:
                continue
            touches = [line for line in pieces[to].lines if web in line.defs | line.uses]
            if touches and web not in touches[0].uses:
                continue  # set anew there
            if touches or any(other not in carrying for other in before[to]):
                targets.add(to)
                continue
            carrying.add(to)
            waiting.append(to)
    if start in targets:
        return None, targets
    return carrying, targets


def retargeted(line: Line, old: str, new: str) -> Line:
    """The line with another target, if it goes to the old one."""
    ref = line.insn.ref
    if "target" not in line.insn.row.uses or ref is None or ref.name != old:
        return line
    return replace(line, insn=replace(line.insn, ref=label(new)))


def fresh_label(taken: list[str], near: str) -> str:
    """A label that no piece has."""
    name = near + "_n"
    while name in taken:
        name += "_"
    return name

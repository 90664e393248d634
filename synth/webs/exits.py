"""Exits with a number of their own: a result that is computed need not share a register with one that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from synth.webs.form import FIRST_WEB, Form, Line, Piece
from synth.webs.setting import Setting
from synth.webs.sink import CONSTANTS, carried, fresh_label, retargeted
from verifier_model.bpf.isa import Kind

LONGEST: Final = 4  # lines of an exit that is worth another copy
Site = tuple[str, int]  # label and line of a definition


def own_exits(form: Form, setting: Setting) -> Iterator[Form]:
    """`w1 = 2; if r0 == 0 goto OUT; ...; r1 = r0; OUT: w0 = w1; exit` as `if r0 == 0 goto TWO; ...; exit;
    TWO: w0 = 2; exit`."""
    sites = form.definitions()
    for target in form.pieces:
        if not target.lines or target.lines[-1].insn.kind is not Kind.EXIT or len(target.lines) > LONGEST:
            continue
        read = sorted({web for line in target.lines for web in line.uses if web >= FIRST_WEB})
        for web in read:
            if any(web in line.defs for line in target.lines):
                continue
            numbers = _numbers(form, web, target.label, sites)
            for chosen in (
                [numbers, *({imm: found} for imm, found in numbers.items())] if len(numbers) > 1 else [numbers]
            ):
                if chosen:
                    yield _apart(form, web, target.label, chosen)


def _numbers(
    form: Form, web: int, target: str, sites: dict[int, list[tuple[Piece, int]]]
) -> dict[int, list[tuple[Site, frozenset[str]]]]:
    """The numbers with which the exit is reached: where each is set, and the pieces that carry it there."""
    found: dict[int, list[tuple[Site, frozenset[str]]]] = {}
    for piece, at in sites.get(web, ()):
        line = piece.lines[at]
        if line.insn.row.name not in CONSTANTS or line.insn.is_pinned:
            continue
        if any(web in other.defs | other.uses for other in piece.lines[at + 1 :]):
            continue
        carrying, targets = carried(form, web, piece.label)
        if carrying is not None and targets == {target}:
            found.setdefault(line.insn.imm, []).append(((piece.label, at), frozenset(carrying)))
    return found


def _apart(form: Form, web: int, target: str, numbers: dict[int, list[tuple[Site, frozenset[str]]]]) -> Form:
    result = form.copy()
    edges = dict(form.edges)
    tail = next(piece for piece in form.pieces if piece.label == target).lines
    lost: dict[str, set[int]] = {}
    for imm, found in numbers.items():
        name = fresh_label([piece.label for piece in result.pieces], target)
        carrying = frozenset[str]().union(*(pieces for _, pieces in found))
        own = result.new_web()
        (label, at), _ = found[0]
        setter = next(piece for piece in form.pieces if piece.label == label).lines[at]
        lines = [replace(setter, insn=replace(setter.insn, dst=own, imm=imm))]
        is_short = setter.insn.row.width == 32 or imm >= 0
        lines += [_reading(line, web, own, is_short) for line in tail]
        for site, _ in found:
            lost.setdefault(site[0], set()).add(site[1])
        _insert(result, Piece(name, lines), target, carrying, edges)
        edges[name] = ()
        for piece in result.pieces:
            if piece.label in carrying and target in edges[piece.label]:
                edges[piece.label] = tuple(name if to == target else to for to in edges[piece.label])
    for piece in result.pieces:
        gone = lost.get(piece.label)
        if gone:
            old = next(other for other in form.pieces if other.label == piece.label).lines
            dead = {id(old[at]) for at in gone}
            piece.lines = [line for line in piece.lines if id(line) not in dead]
    result.edges = edges
    return result


def _reading(line: Line, web: int, own: int, is_short: bool) -> Line:
    """The line with the number's own web; a move of a number's low half is a copy where the number `is_short`."""
    insn = line.insn
    if "src" in insn.row.uses and insn.src == web:
        insn = replace(insn, src=own)
    if "dst" in insn.row.uses and insn.dst == web:
        insn = replace(insn, dst=own)
    if insn is line.insn:
        return line
    is_move = insn.row.name == "mov32_reg" and insn.src == own and not insn.is_pinned
    return replace(line, insn=insn, is_copy=line.is_copy or (is_move and is_short))


def _insert(form: Form, new: Piece, target: str, carrying: frozenset[str], edges: dict[str, tuple[str, ...]]) -> None:
    """Put the new exit where a piece falls into it, or in place of a jump to the old one, else behind everything."""
    order = [piece.label for piece in form.pieces]
    before = form.pieces[order.index(target) - 1]
    at = len(order)
    is_open = not before.lines or before.lines[-1].insn.kind not in (Kind.JUMP, Kind.EXIT)
    if is_open and before.label in carrying and target in edges[before.label]:
        at = order.index(target)
    else:
        for number, piece in enumerate(form.pieces):
            if piece.label in carrying and piece.lines and piece.lines[-1].insn.kind is Kind.JUMP:
                ref = piece.lines[-1].insn.ref
                if ref is not None and ref.name == target:
                    del piece.lines[-1]
                    at = number + 1
                    break
    for piece in form.pieces:
        if piece.label in carrying:
            piece.lines = [retargeted(line, target, new.label) for line in piece.lines]
    form.pieces.insert(at, new)

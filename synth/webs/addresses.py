"""Addresses that lie at a known distance from another web's: fewer webs, fewer additions, fewer wide loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from synth.passes.operands import base_register
from synth.webs.form import FIRST_WEB, Form, Line, Piece, live_after, liveness
from synth.webs.setting import Place, Setting
from verifier_model.bpf.insn import FRAME_POINTER, Insn, RefKind, make
from verifier_model.bpf.isa import Kind

_ACCESSES: Final = frozenset(
    {Kind.LOAD, Kind.STORE, Kind.STORE_IMM, Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE}
)
_OFFSETS: Final = range(-(1 << 15), 1 << 15)
_IMM: Final = range(-(1 << 31), 1 << 31)
MOST_BASES: Final = 24


@dataclass(frozen=True, slots=True)
class Derived:
    """A web that is `root` plus `off`, by a copy of `base` at `copy` and an addition at `add` (None: `off` is 0)."""

    web: int
    base: int
    root: int
    off: int
    copy: Place
    add: Place | None

    @property
    def ready(self) -> Place:
        return self.add or self.copy


def derived(form: Form) -> dict[int, Derived]:
    """Webs that are another web (or the frame pointer) plus a constant, each with the last of the chain as its root."""
    steps: dict[int, tuple[int, int, Place, Place | None]] = {}
    sites = form.definitions()
    for web, places in sites.items():
        if web < FIRST_WEB or len(places) > 2:
            continue
        (piece, at), (other, last) = places[0], places[-1]
        line, add = piece.lines[at], other.lines[last]
        src = line.insn.src
        if not line.is_copy or line.insn.row.width != 64 or piece is not other:
            continue
        if not (src == FRAME_POINTER or (src >= FIRST_WEB and _is_settled(sites, src))):
            continue
        if len(places) == 1:
            steps[web] = src, 0, Place(piece.label, at), None
        elif add.insn.row.name == "add64_imm" and not add.insn.origin.core and last == _next_use(piece, at, web):
            steps[web] = src, add.insn.imm, Place(piece.label, at), Place(piece.label, last)
    found: dict[int, Derived] = {}
    for web, (base, _, copy, add_place) in steps.items():
        root, off, seen = web, 0, {web}
        while root in steps:
            off += steps[root][1]
            root = steps[root][0]
            if root in seen:
                break
            seen.add(root)
        else:
            found[web] = Derived(web, base, root, off, copy, add_place)
    return found


def _is_settled(sites: dict[int, list[tuple[Piece, int]]], web: int) -> bool:
    """Is the web written in one place, or by two neighbours (a copy and an addition)?"""
    places = sites.get(web, [])
    return len(places) == 1 or (len(places) == 2 and places[0][0] is places[1][0])


def _next_use(piece: Piece, at: int, web: int) -> int | None:
    return next((k for k in range(at + 1, len(piece.lines)) if web in piece.lines[k].uses), None)


def near(form: Form, setting: Setting) -> Iterator[Form]:
    """`r3 = r1; r3 += 14; ...; r4 = r1; r4 += 34` as `r3 += 20`: go on from an address that nobody needs any more."""
    known = derived(form)
    live = liveness(form)
    for target in known.values():
        if target.add is None:
            continue
        piece = _piece(form, target.copy.label)
        after = live_after(piece, live)[target.copy.at]
        for other in known.values():
            if other.root != target.root or other.web in (target.web, target.base):
                continue
            if not setting.dominates(other.ready, target.copy):
                continue
            distance = target.off - other.off
            if distance and (after >> other.web & 1 or distance not in _IMM):
                continue
            result = form.copy()
            _rebuild(result, target, other.web, distance)
            yield result


def _rebuild(form: Form, target: Derived, base: int, distance: int) -> None:
    piece = _piece(form, target.copy.label)
    line = piece.lines[target.copy.at]
    piece.lines[target.copy.at] = replace(line, insn=replace(line.insn, src=base))
    if target.add is None:
        assert distance == 0
        return
    add = piece.lines[target.add.at]
    if distance:
        piece.lines[target.add.at] = replace(add, insn=replace(add.insn, imm=distance))
    else:
        del piece.lines[target.add.at]


def _piece(form: Form, label: str) -> Piece:
    return next(piece for piece in form.pieces if piece.label == label)


def rebase(form: Form, setting: Setting) -> Iterator[Form]:
    """`r3 = r1; r3 += 14; ...; r2 = u8[r1+12]` as `r1 += 14; ...; r2 = u8[r1-2]`: the moved address serves alone."""
    known = derived(form)
    roots = sorted({one.root for one in known.values() if one.off and one.root != FRAME_POINTER})
    for root in roots[:MOST_BASES]:
        mine = [one for one in known.values() if one.root == root and one.off]
        for chosen in [mine, *([one] for one in mine)] if len(mine) > 1 else [mine]:
            result = _rebased(form, setting, root, chosen, known)
            if result is not None:
                yield result


def _rebased(form: Form, setting: Setting, root: int, chosen: list[Derived], known: dict[int, Derived]) -> Form | None:
    """Serve what the root serves behind each of the chosen addresses from the last one before."""
    family = {root: 0} | {one.web: one.off for one in known.values() if one.root == root}
    sums = _sums(form, family)
    shifts: dict[int, int] = {}
    result, changed = form.copy(), False
    for piece in result.pieces:
        for at, line in enumerate(piece.lines):
            place = Place(piece.label, at)
            before = [one for one in chosen if setting.dominates(one.ready, place)]
            if not before or line.insn.is_pinned:
                continue
            last = max(before, key=lambda one: sum(setting.dominates(other.ready, one.ready) for other in before))
            moved = _served(line, last, family)
            if place in sums and line.insn.src != last.web:
                shifts[sums[place]] = family[line.insn.src] - last.off
                moved = replace(line, insn=replace(line.insn, src=last.web))
            if moved is not None:
                piece.lines[at] = moved
                changed = True
    changed |= _recopied(result, chosen, setting, family, known)
    return _shifted(result, shifts) if changed else None


def _sums(form: Form, family: dict[int, int]) -> dict[Place, int]:
    """Where an address of the family goes into a sum with another register that serves for nothing but accesses."""
    found: dict[Place, int] = {}
    uses = form.uses()
    for web, places in form.definitions().items():
        if web < FIRST_WEB or len(places) != 2 or places[0][0] is not places[1][0] or web in family:
            continue
        piece, first, last = places[0][0], places[0][1], places[1][1]
        copy, add = piece.lines[first].insn, piece.lines[last].insn
        if not piece.lines[first].is_copy or copy.row.width != 64 or add.row.name != "add64_reg" or add.is_pinned:
            continue
        if any(not _is_base_only(p.lines[at].insn, web, 0) for p, at in uses[web] if (p, at) != (piece, last)):
            continue
        if copy.src in family and add.src not in family:
            found[Place(piece.label, first)] = web
        elif add.src in family and copy.src not in family:
            found[Place(piece.label, last)] = web
    return found


def _shifted(form: Form, shifts: dict[int, int]) -> Form | None:
    """Accesses through the sums at other displacements; None where one of them is out of range."""
    if not shifts:
        return form
    for piece in form.pieces:
        for at, line in enumerate(piece.lines):
            insn = line.insn
            distance = shifts.get(base_register(insn)) if insn.kind in _ACCESSES else None
            if distance is not None:
                if insn.off + distance not in _OFFSETS:
                    return None
                piece.lines[at] = replace(line, insn=replace(insn, off=insn.off + distance))
    return form


def _served(line: Line, last: Derived, family: dict[int, int]) -> Line | None:
    insn = line.insn
    if insn.kind not in _ACCESSES:
        return None
    base = base_register(insn)
    if base not in family or base == last.web:
        return None
    off = insn.off + family[base] - last.off
    if off not in _OFFSETS or (insn.kind is not Kind.LOAD and "src" in insn.row.uses and insn.src == base):
        return None
    field = "src" if insn.kind in (Kind.LOAD, Kind.LOAD_ACQUIRE) else "dst"
    return replace(line, insn=replace(insn, off=off, **{field: last.web}))  # type: ignore[arg-type]


def _recopied(
    form: Form, chosen: list[Derived], setting: Setting, family: dict[int, int], known: dict[int, Derived]
) -> bool:
    """Make later addresses of the family from the chosen one in front, too."""
    changed = False
    for one in known.values():
        if one.add is None or one.web not in family:
            continue
        before = [other for other in chosen if setting.dominates(other.ready, one.copy) and other.web != one.web]
        if not before:
            continue
        last = max(before, key=lambda other: sum(setting.dominates(x.ready, other.ready) for x in before))
        distance = family[one.web] - last.off
        if one.base != last.web and distance and distance in _IMM:
            _rebuild(form, one, last.web, distance)
            changed = True
    return changed


# ---- one address for many ----


def hold(form: Form, setting: Setting) -> Iterator[Form]:
    """`r1 = map ll` time and again as copies of one register that calls leave alone; so for places in the frame."""
    groups: dict[object, list[Place]] = {}
    for piece, at, line in form.lines():
        insn = line.insn
        if insn.kind is Kind.LOAD_WIDE and not insn.is_pinned and insn.dst >= FIRST_WEB:
            ref = insn.ref
            is_data = ref is not None and ref.kind is RefKind.DATA
            key: object = (ref.name, RefKind.DATA) if is_data and ref is not None else (ref, insn.imm)
            groups.setdefault(key, []).append(Place(piece.label, at))
    for places in groups.values():
        for leader in _leaders(places, setting):
            members = [place for place in places if setting.dominates(leader, place)]
            yield _held(form, leader, members)
    yield from _frame_held(form, setting)


def _leaders(places: list[Place], setting: Setting) -> list[Place]:
    """Places that dominate others, those with most first."""
    counted = [(sum(setting.dominates(place, other) for other in places), place) for place in places]
    return [place for count, place in sorted(counted, key=lambda item: -item[0])[:3] if count]


def _held(form: Form, leader: Place, members: list[Place]) -> Form:
    result = form.copy()
    web = result.new_web()
    first = _piece(form, leader.label).lines[leader.at].insn
    inserted: dict[Place, list[Line]] = {leader: [Line(replace(first, dst=web)), _copied(first.dst, web)]}
    uses = form.uses()
    rebased: dict[int, tuple[int, int]] = {}
    for member in members:
        insn = _piece(form, member.label).lines[member.at].insn
        distance = _addend(insn) - _addend(first)
        places = uses.get(insn.dst, [])
        only_bases = all(_is_base_only(p.lines[at].insn, insn.dst, distance) for p, at in places)
        if only_bases and len(form.definitions()[insn.dst]) == 1:
            rebased[insn.dst] = (web, distance)
            inserted[member] = []
            continue
        inserted[member] = [_copied(insn.dst, web)]
        if distance:
            inserted[member].append(Line(make("add64_imm", dst=insn.dst, imm=distance)))
    for piece in result.pieces:
        lines: list[Line] = []
        for at, line in enumerate(piece.lines):
            place = Place(piece.label, at)
            if place in inserted:
                lines += inserted[place]
                continue
            lines.append(_on_other_base(line, rebased))
        piece.lines = lines
    return result


def _copied(dst: int, src: int) -> Line:
    return Line(make("mov64_reg", dst=dst, src=src), is_copy=True)


def _addend(insn: Insn) -> int:
    return insn.ref.addend if insn.ref is not None else 0


def _is_base_only(insn: Insn, web: int, distance: int) -> bool:
    if insn.kind not in _ACCESSES or base_register(insn) != web or insn.off + distance not in _OFFSETS:
        return False
    return insn.kind is Kind.LOAD or not ("src" in insn.row.uses and insn.src == web)


def _on_other_base(line: Line, rebased: dict[int, tuple[int, int]]) -> Line:
    insn = line.insn
    if insn.kind not in _ACCESSES or base_register(insn) not in rebased:
        return line
    web, distance = rebased[base_register(insn)]
    field = "src" if insn.kind in (Kind.LOAD, Kind.LOAD_ACQUIRE) else "dst"
    return replace(line, insn=replace(insn, off=insn.off + distance, **{field: web}))  # type: ignore[arg-type]


def _frame_held(form: Form, setting: Setting) -> Iterator[Form]:
    groups: dict[int, list[Derived]] = {}
    for one in derived(form).values():
        if one.base == FRAME_POINTER and one.add is not None:
            groups.setdefault(one.off, []).append(one)
    for ones in groups.values():
        if len(ones) < 3:
            continue
        for leader in _leaders([one.copy for one in ones], setting):
            first = next(one for one in ones if one.copy == leader)
            members = [one for one in ones if setting.dominates(first.ready, one.copy)]
            result = form.copy()
            for member in sorted(members, key=lambda one: -one.copy.at):
                _rebuild(result, member, first.web, 0)
            yield result


__all__ = ["derived", "hold", "near", "rebase"]

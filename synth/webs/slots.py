"""Values that the frame keeps though a register could: spills, and what is read again after it was stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from synth.webs.form import FIRST_WEB, Form, Line, Piece
from synth.webs.setting import Setting
from verifier_model.bpf.insn import FRAME_POINTER, make
from verifier_model.bpf.isa import Kind
from verifier_model.domains.registers import Region

Span = tuple[int, int]  # offset from r10, size in bytes
_DIRECT: Final = frozenset({Kind.LOAD, Kind.STORE, Kind.STORE_IMM})
_MEMORY: Final = frozenset({Kind.LOAD, Kind.STORE, Kind.STORE_IMM, Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE})
_EVERYWHERE: Final = frozenset(range(-512, 0))


def span_of(line: Line) -> Span | None:
    """The place in the frame that a plain load or store names by r10 itself."""
    insn = line.insn
    if insn.kind not in _DIRECT or insn.is_pinned:
        return None
    base = insn.src if insn.kind is Kind.LOAD else insn.dst
    return (insn.off, insn.row.size) if base == FRAME_POINTER else None


def _bytes(span: Span) -> frozenset[int]:
    return frozenset(range(span[0], span[0] + span[1]))


def touched(line: Line, setting: Setting, *, writes_only: bool) -> frozenset[int]:
    """Bytes of the frame that the line may write, or (unless only that counts) read, by any pointer."""
    insn = line.insn
    span = span_of(line)
    if span is not None:
        return frozenset() if writes_only and insn.kind is Kind.LOAD else _bytes(span)
    if insn.kind is not Kind.CALL and insn.kind not in _MEMORY:
        return frozenset()
    if line.point is None:
        return _EVERYWHERE
    if insn.kind is Kind.CALL:
        return _touched_by_call(line, setting, writes_only)
    if writes_only and insn.kind in (Kind.LOAD, Kind.LOAD_ACQUIRE):
        return frozenset()
    original = setting.function.block(line.point.label).insns[line.point.at]
    base = original.src if original.kind in (Kind.LOAD, Kind.LOAD_ACQUIRE) else original.dst
    fact = setting.facts.before(line.point).regs[base]
    if fact.region in (Region.UNKNOWN, Region.UNINIT, Region.SCALAR):
        return _EVERYWHERE
    if fact.region is not Region.STACK:
        return frozenset()
    off = fact.constant_off
    return _EVERYWHERE if off is None else _bytes((off + original.off, insn.row.size))


def _touched_by_call(line: Line, setting: Setting, writes_only: bool) -> frozenset[int]:
    assert line.point is not None
    effects = setting.facts.effects(line.point)
    if effects.private_stack:
        return frozenset()
    if effects.writes_all or (effects.reads_all and not writes_only):
        return _EVERYWHERE
    found: frozenset[int] = frozenset()
    state = setting.facts.before(line.point)
    for argument in (*effects.writes, *(() if writes_only else effects.reads)):
        fact = state.regs[argument.reg]
        if fact.is_pointer and fact.region is not Region.STACK:
            continue
        off = fact.constant_off if fact.region is Region.STACK else None
        if off is None or argument.size is None:
            return _EVERYWHERE
        found |= _bytes((off, argument.size))
    return found


def unspill(form: Form, setting: Setting) -> Iterator[Form]:
    """`u64[r10-16] = r1; ...; r3 = u64[r10-16]` as copies, where a register can keep the value all the way."""
    spans: dict[Span, list[tuple[Piece, int]]] = {}
    for piece, at, line in form.lines():
        span = span_of(line)
        if span is not None:
            spans.setdefault(span, []).append((piece, at))
    for span, places in spans.items():
        kinds = {piece.lines[at].insn.kind for piece, at in places}
        if span[1] != 8 or span[0] % 8 or Kind.LOAD not in kinds or len(kinds) < 2:
            continue
        mine = _bytes(span)
        members = {(piece.label, at) for piece, at in places}
        others = (
            touched(line, setting, writes_only=False)
            for piece, at, line in form.lines()
            if (piece.label, at) not in members
        )
        if any(mine & other for other in others):
            continue
        result = form.copy()
        web = result.new_web()
        for piece in result.pieces:
            piece.lines = [
                _kept(line, web) if (piece.label, at) in members else line for at, line in enumerate(piece.lines)
            ]
        yield result


def _kept(line: Line, web: int) -> Line:
    insn = line.insn
    if insn.kind is Kind.LOAD:
        return Line(make("mov64_reg", dst=insn.dst, src=web), is_copy=True)
    if insn.kind is Kind.STORE:
        return Line(make("mov64_reg", dst=web, src=insn.src), is_copy=True)
    return Line(make("mov64_imm", dst=web, imm=insn.imm))


def reload(form: Form, setting: Setting) -> Iterator[Form]:
    """`u32[r10-4] = r1; ...; r2 = u32[r10-4]` as `u32[r10-4] = r6; ...; r2 = r6`, where nobody wrote meanwhile."""
    into = _available(form, setting)
    for number, piece in enumerate(form.pieces):
        held = dict(into[piece.label] or {})
        for at, line in enumerate(piece.lines):
            span = span_of(line)
            if line.insn.kind is Kind.LOAD and span in held and not line.insn.row.sign:
                assert span is not None
                if span[1] == 8 or _is_short(form, held[span], span[1] * 8):
                    result = form.copy()
                    copy = make("mov64_reg", dst=line.insn.dst, src=held[span])
                    result.pieces[number].lines[at] = replace(line, insn=copy, is_copy=True)
                    yield result
            _follow(held, line, setting)


def _follow(held: dict[Span, int], line: Line, setting: Setting) -> None:
    """What the frame is known to hold behind the line."""
    lost = touched(line, setting, writes_only=True)
    for span, web in list(held.items()):
        if web in line.defs or (lost and lost & _bytes(span)):
            del held[span]
    stored = span_of(line)
    if line.insn.kind is Kind.STORE and stored is not None and line.insn.src >= FIRST_WEB:
        held[stored] = line.insn.src


def _available(form: Form, setting: Setting) -> dict[str, dict[Span, int] | None]:
    """At each piece's start, the places in the frame that hold a web on every way there."""
    into: dict[str, dict[Span, int] | None] = {piece.label: None for piece in form.pieces}
    into[form.pieces[0].label] = {}
    changed = True
    while changed:
        changed = False
        for piece in form.pieces:
            start = into[piece.label]
            if start is None:
                continue
            held = dict(start)
            for line in piece.lines:
                _follow(held, line, setting)
            for to in form.edges[piece.label]:
                old = into[to]
                new = held if old is None else {span: web for span, web in old.items() if held.get(span) == web}
                if new != old:
                    into[to] = dict(new)
                    changed = True
    return into


def _is_short(form: Form, web: int, width: int) -> bool:
    """Does every definition of the web load no more than so many bits, or set a small number?"""
    lines = [piece.lines[at] for piece, at in form.definitions().get(web, ())]
    return bool(lines) and all(
        (line.insn.kind is Kind.LOAD and not line.insn.row.sign and line.insn.row.width <= width)
        or (line.insn.row.name in ("mov32_imm", "mov64_imm") and 0 <= line.insn.imm < 1 << width)
        or (line.insn.kind is Kind.ALU and line.insn.row.width == 32 and width >= 32)
        for line in lines
    )

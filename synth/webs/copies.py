"""Copies that no web needs: readers take the source itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from synth.passes.block_view import with_fields
from synth.webs.form import FIRST_WEB, Form, Line
from verifier_model.bpf.insn import FRAME_POINTER


def propagated(form: Form) -> Form:
    """The form in which readers of a copy read its source, where both are written once and for all."""
    sites = form.definitions()
    source: dict[int, int] = {}
    for web, places in sites.items():
        if web < FIRST_WEB or len(places) != 1:
            continue
        piece, at = places[0]
        line = piece.lines[at]
        src = line.insn.src
        is_stable = src == FRAME_POINTER or (src >= FIRST_WEB and len(sites.get(src, ())) == 1)
        if line.is_copy and line.insn.row.width == 64 and is_stable:
            source[web] = src
    if not source:
        return form

    def origin(web: int) -> int:
        while web in source:
            web = source[web]
        return web

    result = form.copy()
    for piece in result.pieces:
        piece.lines = [_reading(line, origin) for line in piece.lines]
    return result


def _reading(line: Line, origin: Callable[[int], int]) -> Line:
    insn = line.insn
    fields = {}
    if "src" in insn.row.uses and insn.src >= FIRST_WEB and insn.src not in line.defs:
        fields["src"] = origin(insn.src)
    if "dst" in insn.row.uses and insn.dst >= FIRST_WEB and insn.dst not in line.defs:
        fields["dst"] = origin(insn.dst)
    changed = {name: web for name, web in fields.items() if web != getattr(insn, name)}
    return replace(line, insn=with_fields(insn, **changed)) if changed else line

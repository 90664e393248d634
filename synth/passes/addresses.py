"""Wide loads of data addresses: one is enough for all accesses to a section in a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from synth.passes.block_view import FIRST_TEMPORARY, BlockView, Line
from synth.passes.operands import base_register, is_opaque, reads_dst
from synth.passes.registers import uses_of
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind

_ACCESSES = (Kind.LOAD, Kind.STORE, Kind.STORE_IMM, Kind.ATOMIC)


def keep_address(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Hold the first address in a register of its own where a second of the same section follows in the block."""
    loads = [index for index, insn in enumerate(view.insns) if _is_data_address(insn) and not view.is_frozen(index)]
    for first, second in pairwise(loads):
        one, two = view.insns[first].ref, view.insns[second].ref
        if one is None or two is None or one.name != two.name:
            continue
        old = _accesses(view, first, 0)
        new = _accesses(view, second, two.addend - one.addend)
        if old is None or new is None:
            continue
        kept = (view.line(first)._replace(insn=replace(view.insns[first], dst=FIRST_TEMPORARY)),)
        changes = {**old, **new, first: kept, second: ()}
        rewrite = view.finish(view.draft(changes), "keep-address", "one address serves the whole section")
        if rewrite is not None:
            yield rewrite


def _is_data_address(insn: Insn) -> bool:
    return insn.kind is Kind.LOAD_WIDE and insn.ref is not None and insn.ref.kind is RefKind.DATA


def _accesses(view: BlockView, definition: int, distance: int) -> dict[int, tuple[Line, ...]] | None:
    """The accesses through the loaded address with the temporary for their base; None when it has other users."""
    reg = view.insns[definition].dst
    changes: dict[int, tuple[Line, ...]] = {}
    for index in uses_of(view, definition, reg) or ():
        insn = view.insns[index]
        if insn.kind not in _ACCESSES or is_opaque(insn) or view.is_frozen(index) or base_register(insn) != reg:
            return None
        if insn.kind is not Kind.LOAD and "src" in insn.row.uses and insn.src == reg:
            return None
        assert insn.kind is Kind.LOAD or reads_dst(insn)
        off = insn.off + distance
        if not -(1 << 15) <= off < 1 << 15:
            return None
        fields = {"src": FIRST_TEMPORARY} if insn.kind is Kind.LOAD else {"dst": FIRST_TEMPORARY}
        changes[index] = (view.line(index)._replace(insn=_rebuilt(insn, off, fields)),)
    return changes or None


def _rebuilt(insn: Insn, off: int, fields: dict[str, int]) -> Insn:
    return replace(insn, off=off, dst=fields.get("dst", insn.dst), src=fields.get("src", insn.src))

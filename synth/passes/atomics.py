"""Loads, operations and stores of shared memory as one atomic operation: fewer slots, and several times slower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from synth.passes.block_view import FIRST_TEMPORARY, BlockView, Line
from synth.passes.bytewise import value_of
from synth.passes.places import LETTERS
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import Insn, make
from verifier_model.bpf.isa import BY_NAME, Kind, Operand
from verifier_model.domains.registers import Region

_OPERATIONS: Final = ("add", "or", "and", "xor")
_WIDTHS: Final = (4, 8)
_COMPUTING: Final = (Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE)


def update_at_once(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 = u64[p]; r1 += r2; u64[p] = r1` as `lock u64[p] += r2`, for goal `size` alone."""
    if settings.goal != "size":
        return
    for index, insn in enumerate(view.insns):
        if insn.kind is not Kind.STORE or insn.row.size not in _WIDTHS or view.is_frozen(index):
            continue
        if view.symbols.access(index).root.region is not Region.MAP_VALUE or view.demand_after(index).is_live(insn.src):
            continue
        steps = _steps(view, index)
        if steps is not None:
            rewrite = _at_once(view, index, *steps)
            if rewrite is not None:
                yield rewrite


def _steps(view: BlockView, store: int) -> tuple[int, int] | None:
    """Where the stored number was loaded, from the same place, and where it was changed; nobody else looks at it."""
    insn = view.insns[store]
    found: list[int] = []
    for at in range(store - 1, -1, -1):
        other = view.insns[at]
        if view.is_frozen(at) or other.kind not in (*_COMPUTING, Kind.LOAD) or insn.dst in view.writes(at):
            return None
        if insn.src not in view.reads(at) | view.writes(at):
            if other.kind is Kind.LOAD:
                return None
            continue
        found.append(at)
        if other.kind is Kind.LOAD:
            is_same = (other.src, other.off, other.row.size) == (insn.dst, insn.off, insn.row.size)
            return (at, found[0]) if len(found) == 2 and is_same and other.dst == insn.src else None
        if other.dst != insn.src:
            return None
    return None


def _at_once(view: BlockView, store: int, load: int, change: int) -> Rewrite | None:
    insn, operation = view.insns[store], view.insns[change]
    name = f"atomic_{operation.row.op}_{LETTERS[insn.row.size]}"
    if operation.kind is not Kind.ALU or operation.row.op not in _OPERATIONS or operation.row.width < insn.row.width:
        return None
    if BY_NAME[name].level > view.unit.cpu_level:
        return None
    if operation.row.operand is Operand.REG:
        is_kept = all(operation.src not in view.writes(at) for at in range(change, store))
        sources = [operation.src] if is_kept and operation.src != insn.src else []
        setters: tuple[Line, ...] = ()
    else:
        wanted = value_of(operation.imm)[: insn.row.size]
        held = view.symbols.before[store].regs
        sources = [reg for reg in range(10) if reg != insn.src and held[reg][: insn.row.size] == wanted]
        setters = () if sources else (Line(make("mov64_imm", dst=FIRST_TEMPORARY, imm=operation.imm), None),)
        sources = sources or [FIRST_TEMPORARY]
    for source in sources:
        update = Line(_atomic(name, insn, source), None, view.symbols.access(store))
        draft = view.draft({load: (), change: (), store: (*setters, update)})
        rewrite = view.finish(draft, "update-at-once", "one atomic operation is shorter, and slower")
        if rewrite is not None:
            return rewrite
    return None


def _atomic(name: str, store: Insn, source: int) -> Insn:
    return make(name, dst=store.dst, src=source, off=store.off)

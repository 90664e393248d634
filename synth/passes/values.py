"""A cheaper way to the same register content: nothing at all, a constant, a move, or one wide load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from synth.passes.block_view import BlockView, Line
from synth.passes.bytewise import WORD
from synth.passes.operands import reads_dst
from synth.passes.places import (
    Wanted,
    as_immediate,
    is_readable,
    load_line,
    loadable,
    matches,
    registers_with,
)
from synth.passes.symbols import is_private
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import REGISTER_COUNT, make
from verifier_model.bpf.isa import BY_NAME, Kind

_COMPUTING: Final = (Kind.ALU, Kind.ENDIAN, Kind.LOAD, Kind.LOAD_WIDE)
_SIZES: Final = (8, 4, 2, 1)
_LONGEST_CHAIN: Final = 12
Lines = tuple[Line, ...]


def recompute(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Reach a register's content, as far as anyone looks at it, by at most two instructions.

    What led to it before (byte loads with shifts and ors, pairs of shifts, masks that mask nothing) dies with it.
    """
    for index, insn in enumerate(view.insns):
        if insn.kind not in _COMPUTING or view.is_frozen(index):
            continue
        wanted = demanded(view, index, insn.dst)
        if all(byte is None for byte in wanted):
            continue  # dead code's concern
        rewrite = _best_way(view, index, wanted)
        if rewrite is not None:
            yield rewrite


def _best_way(view: BlockView, index: int, wanted: Wanted) -> Rewrite | None:
    insn = view.insns[index]
    # A private load that becomes a move saves no slot, but time, and the move may go next.
    is_plain_load = insn.kind is Kind.LOAD and is_private(view.symbols.access(index).root.region)
    chain = _chain(view, index)
    best: Rewrite | None = None
    for position in range(len(chain)):
        for lines, why in _ways(view, chain[position], insn.dst, wanted, index):
            changes: dict[int, Lines] = dict.fromkeys(chain[: position + 1], ())
            changes[chain[position]] = lines
            least = 0 if is_plain_load and lines and lines[-1].insn.row.op == "mov" else 1
            rewrite = view.finish(view.draft(changes), "recompute", why, least)
            if rewrite is not None and (best is None or rewrite.slots_saved > best.slots_saved):
                best = rewrite
    return best


def _chain(view: BlockView, index: int) -> list[int]:
    """`index` and the instructions in front that worked on the same register, latest first, as long as nobody else
    looked at what they left there."""
    reg = view.insns[index].dst
    chain = [index]
    at = index
    while reads_dst(view.insns[at]):
        at -= 1
        while at >= 0 and reg not in view.reads(at) and reg not in view.writes(at):
            at -= 1
        if at < 0 or len(chain) > _LONGEST_CHAIN or view.is_frozen(at) or view.insns[at].dst != reg:
            break
        if view.insns[at].kind not in _COMPUTING:
            break
        chain.append(at)
    return chain


def demanded(view: BlockView, index: int, reg: int) -> list[int | None]:
    """The bytes that instruction `index` leaves in a register; None where nobody looks at any bit of the byte."""
    mask = view.demand_after(index).regs[reg]
    value = view.value(index + 1, reg)
    return [byte if mask >> 8 * k & 0xFF else None for k, byte in enumerate(value)]


def _ways(view: BlockView, index: int, reg: int, wanted: Wanted, last: int) -> Iterator[tuple[Lines, str]]:
    """Instructions that, standing at `index`, leave the wanted bytes that `last` left in `reg`."""
    if matches(wanted, view.value(index, reg)) or (index == last and _is_mask_without_effect(view, index)):
        yield (), "the register holds it already"
    imm = as_immediate(wanted)
    if imm is not None:
        yield (Line(make("mov64_imm", dst=reg, imm=imm), None),), "the result is a known number"
    has_alu32 = view.unit.cpu_level >= BY_NAME["mov32_reg"].level
    for source in registers_with(view, index, wanted):
        yield (Line(make("mov64_reg", dst=reg, src=source), None),), "another register holds it"
        break
    if has_alu32 and all(byte in (0, None) for byte in wanted[4:]):
        for source in registers_with(view, index, wanted[:4]):
            yield (Line(make("mov32_reg", dst=reg, src=source), None),), "the low half of a register is it"
            break
    yield from _loads(view, index, reg, wanted)
    yield from _moved_pointer(view, index, reg, last)


def _is_mask_without_effect(view: BlockView, index: int) -> bool:
    """`r &= mask` where all bits that the mask clears are known to be zero or not looked at."""
    insn = view.insns[index]
    if insn.row.name not in ("and64_imm", "and32_imm"):
        return False
    fact = view.facts.before(view.point(index)).regs[insn.dst]
    if not fact.is_scalar:
        return False
    width = (1 << insn.row.width) - 1
    cleared = ((1 << 64) - 1) & ~(insn.imm & width)
    possible = fact.value.bits_value | fact.value.bits_mask
    return not cleared & possible & view.demand_after(index).regs[insn.dst]


def _loads(view: BlockView, index: int, reg: int, wanted: Wanted) -> Iterator[tuple[Lines, str]]:
    if view.insns[index].kind is Kind.LOAD:
        return
    for size in _SIZES:
        if any(byte not in (0, None) for byte in wanted[size:]) or (size < WORD and wanted[size - 1] == 0):
            continue
        part = list(wanted[:size])
        for address in loadable(view, index, part):
            load = load_line(view, index, reg, address, size) if is_readable(view, index, address, size) else None
            if load is not None:
                yield (load,), "the bytes lie side by side in memory"
        if size == 1:
            continue
        swap = Line(make(f"be{8 * size}" if view.unit.byte_order == "little" else f"le{8 * size}", dst=reg), None)
        for address in loadable(view, index, part[::-1]):
            load = load_line(view, index, reg, address, size) if is_readable(view, index, address, size) else None
            if load is not None:
                yield (load, swap), "the bytes lie side by side in memory, in the other order"


def _moved_pointer(view: BlockView, index: int, reg: int, last: int) -> Iterator[tuple[Lines, str]]:
    """The wanted address as another register's plus a constant."""
    target = view.symbols.address(last + 1, reg)
    if not view.facts.before(view.point(last + 1)).regs[reg].is_pointer:
        return
    for source in (reg, *range(REGISTER_COUNT)):
        here = view.symbols.address(index, source)
        distance = target.off - here.off
        if here.root != target.root or not -(1 << 31) <= distance < 1 << 31:
            continue
        add = Line(make("add64_imm", dst=reg, imm=distance), None)
        move = Line(make("mov64_reg", dst=reg, src=source), None)
        yield (((add,) if source == reg else (move, add)), "the address is near one that a register holds")

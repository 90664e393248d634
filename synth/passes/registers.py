"""Registers: definitions that their users can do without, and moves that renaming makes needless."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from synth.passes.block_view import BlockView, Line
from synth.passes.bytewise import Value
from synth.passes.operands import base_register, is_opaque, is_plain_move, reads_dst, renamed, writes_dst
from synth.passes.places import as_immediate, matches, same_width_store
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import REGISTER_COUNT, Insn
from verifier_model.bpf.isa import BY_NAME, Kind, Operand

_DEFINING: Final = (Kind.ALU, Kind.ENDIAN, Kind.LOAD, Kind.LOAD_WIDE)
_MEMORY: Final = (Kind.LOAD, Kind.STORE, Kind.STORE_IMM, Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE)
_MIRRORED: Final = {
    "jeq": "jeq",
    "jne": "jne",
    "jset": "jset",
    "jgt": "jlt",
    "jlt": "jgt",
    "jge": "jle",
    "jle": "jge",
    "jsgt": "jslt",
    "jslt": "jsgt",
    "jsge": "jsle",
    "jsle": "jsge",
}
_COMMUTATIVE: Final = frozenset(f"{op}{width}_reg" for op in ("add", "and", "or", "xor", "mul") for width in (32, 64))
_ANY: Final = frozenset(range(REGISTER_COUNT))
_OFFSETS: Final = range(-(1 << 15), 1 << 15)


def uses_of(view: BlockView, definition: int, reg: int) -> list[int] | None:
    """Instructions that read what `definition` put into `reg`; None when something behind the block does."""
    uses = []
    for index in range(definition + 1, len(view.insns)):
        if reg in view.reads(index):
            uses.append(index)
        if reg in view.writes(index):
            return uses
    return None if view.demand_after(len(view.insns) - 1).is_live(reg) else uses


def substitute(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Serve every user of a register from elsewhere: the source of a copy, another pointer into the same object, an
    equal value, a constant.  The definition is then dead."""
    for definition, insn in enumerate(view.insns):
        if insn.kind not in _DEFINING or view.is_frozen(definition):
            continue
        uses = uses_of(view, definition, insn.dst)
        if not uses:
            continue
        replaced: dict[int, tuple[Line, ...]] = {definition: ()}
        for index in uses:
            line = _served(view, index, Relieved(insn.dst, _ANY, definition))
            if line is None:
                break
            replaced[index] = (line,)
        else:
            rewrite = view.finish(view.draft(replaced), "substitute", "every reader finds the value elsewhere")
            if rewrite is not None:
                yield rewrite


class Relieved(NamedTuple):
    """A register that users should do without, and those that may stand in.

    `definition`: the instruction that goes; behind it the register still holds what it held before.
    """

    reg: int
    allowed: frozenset[int]
    definition: int | None = None

    def offers(self, index: int) -> Iterator[tuple[int, int]]:
        """Registers that may serve at `index`, each with the place in the old block where it held what it will hold."""
        for other in range(REGISTER_COUNT - 1, -1, -1):
            if other != self.reg and other in self.allowed:
                yield other, index
        if self.definition is not None:
            yield self.reg, self.definition


def _served(view: BlockView, index: int, relieved: Relieved) -> Line | None:
    """The instruction with another register, or a constant, in place of the relieved one; None if there is no way."""
    insn, reg = view.insns[index], relieved.reg
    if view.is_frozen(index) or is_opaque(insn):
        return None
    line = view.line(index)
    is_base = insn.kind in _MEMORY and base_register(insn) == reg
    is_data = "src" in insn.row.uses and insn.src == reg and not (is_base and insn.kind is Kind.LOAD)
    if is_base:
        rebased = _rebased(view, index, insn, relieved)
        if rebased is None:
            return None
        insn = rebased
    if is_data:
        served = _with_other_source(view, index, insn, relieved)
        if served is None:
            return None
        insn = served
    if insn.dst == reg and reads_dst(insn) and not is_base:
        if insn.kind is not Kind.BRANCH:
            return None
        other = _equal_register(view, index, relieved, insn.row.width // 8)
        if other is None:
            mirrored = _mirrored(view, index, insn, reg)
            if mirrored is None:
                return None
            insn = mirrored
        else:
            insn = replace(insn, dst=other)
    return line._replace(insn=insn)


def _rebased(view: BlockView, index: int, insn: Insn, relieved: Relieved) -> Insn | None:
    """The access through another register that points into the same object."""
    place = view.symbols.access(index)
    for other, at in relieved.offers(index):
        here = view.symbols.address(at, other)
        off = place.off - here.off
        if here.root != place.root or off not in _OFFSETS:
            continue
        return replace(insn, off=off, src=other) if insn.kind is Kind.LOAD else replace(insn, off=off, dst=other)
    return None


def _equal_register(view: BlockView, index: int, relieved: Relieved, size: int) -> int | None:
    wanted = view.value(index, relieved.reg)[:size]
    for other, at in relieved.offers(index):
        if matches(wanted, view.value(at, other)):
            return other
    return None


def _with_other_source(view: BlockView, index: int, insn: Insn, relieved: Relieved) -> Insn | None:
    size = min(insn.row.size, 8)
    value = view.value(index, relieved.reg)[:size]
    constant = _with_immediate(insn, value)
    if constant is not None:
        return constant
    other = _equal_register(view, index, relieved, size)
    return None if other is None else replace(insn, src=other)


def _with_immediate(insn: Insn, value: Value) -> Insn | None:
    """The form of the instruction that holds the source's value itself."""
    imm = as_immediate(value)
    if imm is None:
        return None
    if insn.kind is Kind.STORE:
        return same_width_store(insn, imm)
    if insn.row.operand is not Operand.REG or insn.kind not in (Kind.ALU, Kind.BRANCH):
        return None
    row = BY_NAME.get(f"{insn.row.op}{insn.row.width}_imm")
    if row is None or (insn.row.op in ("div", "mod", "sdiv", "smod") and imm == 0):
        return None
    if insn.row.op in ("lsh", "rsh", "arsh") and not 0 <= imm < insn.row.width:
        return None
    return replace(insn, row=row, src=0, imm=imm)


def _mirrored(view: BlockView, index: int, insn: Insn, reg: int) -> Insn | None:
    """`if 7 < r1` as `if r1 > 7`, when the left side is a known number."""
    if insn.row.operand is not Operand.REG or insn.src == reg:
        return None
    imm = as_immediate(view.value(index, reg)[: insn.row.width // 8])
    row = BY_NAME[f"{_MIRRORED[insn.row.op]}{insn.row.width}_imm"]
    if imm is None or row.level > view.unit.cpu_level:
        return None
    return replace(insn, row=row, dst=insn.src, src=0, imm=imm)


def relieve(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Serve all users of a register that comes into the block and dies there from registers that live on anyway.

    Saves nothing here, but what set the register in front of the block may be useless then.
    """
    behind = view.demand_after(len(view.insns) - 1)
    staying = frozenset(reg for reg in range(REGISTER_COUNT) if behind.is_live(reg)) | {10}
    for reg in range(REGISTER_COUNT - 1):
        uses = uses_of(view, -1, reg)
        if not uses:
            continue
        replaced: dict[int, tuple[Line, ...]] = {}
        for index in uses:
            line = _served(view, index, Relieved(reg, staying))
            if line is None:
                break
            replaced[index] = (line,)
        else:
            rewrite = view.finish(view.draft(replaced), "relieve", "a register that lives on serves as well", least=0)
            if rewrite is not None:
                yield rewrite


def immediate_operand(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Known numbers as immediates of ALU instructions and branches, though the register stays for others."""
    for index, insn in enumerate(view.insns):
        if insn.kind not in (Kind.ALU, Kind.BRANCH) or insn.row.operand is not Operand.REG or view.is_frozen(index):
            continue
        if insn.row.op == "mov" and insn.row.width == 64:
            continue
        constant = _with_immediate(insn, view.value(index, insn.src)[: insn.row.size])
        if constant is None:
            continue
        draft = view.draft({index: (view.line(index)._replace(insn=constant),)})
        rewrite = view.finish(draft, "immediate-operand", "the operand is a known number", least=0)
        if rewrite is not None:
            yield rewrite


def coalesce(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Make the source of a move arrive in its destination, or go on in the source."""
    for index, insn in enumerate(view.insns):
        if not is_plain_move(insn) or view.is_frozen(index) or insn.src == 10:
            continue
        if view.value(index, insn.src) != view.value(index + 1, insn.dst):
            continue  # a move of the low half that is no mere copy
        if view.demand_after(index).is_live(insn.src):
            continue
        for changes in (_defined_in_destination(view, index), _continued_in_source(view, index)):
            if changes is None:
                continue
            changes[index] = ()
            rewrite = view.finish(view.draft(changes), "coalesce", "the value can live in one register")
            if rewrite is not None:
                yield rewrite
                break


def _defined_in_destination(view: BlockView, move: int, since: int | None = None) -> dict[int, tuple[Line, ...]] | None:
    """Rename the source to the destination from its definition on; what `since` writes there does not count."""
    source, destination = view.insns[move].src, view.insns[move].dst
    changes: dict[int, tuple[Line, ...]] = {}
    for index in range(move - 1, -1, -1):
        insn, line = view.insns[index], view.line(index)
        touches = source in view.reads(index) or source in view.writes(index)
        if touches and (is_opaque(insn) or view.is_frozen(index)):
            return None
        if source in view.writes(index) and not (writes_dst(insn) and insn.dst == source and reads_dst(insn)):
            if not (writes_dst(insn) and insn.dst == source):
                return None
            changes[index] = (line._replace(insn=replace(insn, dst=destination)),)
            return changes
        if index == since or destination in view.reads(index) or destination in view.writes(index):
            return None
        if touches:
            changes[index] = (line._replace(insn=renamed(insn, source, destination)),)
    return None


def _continued_in_source(view: BlockView, move: int) -> dict[int, tuple[Line, ...]] | None:
    """Rename the destination to the source until it is dead."""
    source, destination = view.insns[move].src, view.insns[move].dst
    return _continued_from(view, move, destination, source)


def commute(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 = r6; r1 += r7` with r7 dead afterwards: add r6 to r7 and go on there."""
    for index in range(len(view.insns) - 1):
        move, insn = view.insns[index], view.insns[index + 1]
        if not is_plain_move(move) or move.row.width != 64 or view.is_frozen(index) or view.is_frozen(index + 1):
            continue
        if insn.row.op not in ("add", "and", "or", "xor", "mul") or insn.row.operand is not Operand.REG:
            continue
        if insn.kind is not Kind.ALU or insn.dst != move.dst or insn.src in (move.dst, 10):
            continue
        if view.demand_after(index + 1).is_live(insn.src):
            continue
        changes = _continued_from(view, index + 1, insn.dst, insn.src)
        if changes is None:
            continue
        changes[index] = ()
        changes[index + 1] = (Line(replace(insn, dst=insn.src, src=move.src), None),)
        rewrite = view.finish(view.draft(changes), "commute", "the other operand's register is free for the result")
        if rewrite is not None:
            yield rewrite


def commute_into(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 = r7; r2 = u64[p]; r1 += r2` with r2 dead afterwards: load into r1 and add r7 to it."""
    for index, insn in enumerate(view.insns):
        if insn.row.name not in _COMMUTATIVE or insn.dst == insn.src or view.is_frozen(index):
            continue
        if view.demand_after(index).is_live(insn.src):
            continue
        move = _plain_copy_before(view, index, insn.dst)
        changes = _defined_in_destination(view, index, since=move)
        if move is None or changes is None or min(changes) < move:
            continue
        source = view.insns[move].src
        if any(source in view.writes(at) for at in range(move, index)):
            continue
        changes[move] = ()
        changes[index] = (view.line(index)._replace(insn=replace(insn, src=source)),)
        rewrite = view.finish(view.draft(changes), "commute-into", "the other operand can arrive in the result")
        if rewrite is not None:
            yield rewrite


def _plain_copy_before(view: BlockView, index: int, reg: int) -> int | None:
    """The copy into `reg` that nothing has looked at before `index`."""
    for at in range(index - 1, -1, -1):
        insn = view.insns[at]
        if reg in view.writes(at):
            is_copy = is_plain_move(insn) and view.value(at, insn.src) == view.value(at + 1, reg)
            return at if is_copy and insn.src != reg and not view.is_frozen(at) else None
        if reg in view.reads(at):
            return None
    return None


def _continued_from(view: BlockView, start: int, old: int, new: int) -> dict[int, tuple[Line, ...]] | None:
    """Rename `old` to `new` behind `start` until `old` is dead."""
    changes: dict[int, tuple[Line, ...]] = {}
    for index in range(start + 1, len(view.insns)):
        insn, line = view.insns[index], view.line(index)
        touches = old in view.reads(index) or old in view.writes(index)
        is_new = old in view.writes(index) and not (insn.dst == old and reads_dst(insn))
        if touches and (is_opaque(insn) or view.is_frozen(index)):
            return changes if is_new and old not in view.reads(index) else None
        if is_new:
            if old in view.reads(index):
                changes[index] = (line._replace(insn=replace(insn, src=new)),)
            return changes
        if new in view.reads(index) or new in view.writes(index):
            return None
        if touches:
            changes[index] = (line._replace(insn=renamed(insn, old, new)),)
    return None if view.demand_after(len(view.insns) - 1).is_live(old) else changes


def fold_offset(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """`r1 += 4` in front of accesses through r1: add 4 to their displacements instead."""
    for index, insn in enumerate(view.insns):
        if insn.row.name != "add64_imm" or view.is_frozen(index):
            continue
        changes = _with_displacement(view, index, insn.dst, insn.imm)
        if not changes:
            continue
        changes[index] = ()
        rewrite = view.finish(view.draft(changes), "fold-offset", "displacements hold the addition")
        if rewrite is not None:
            yield rewrite


def _with_displacement(view: BlockView, start: int, reg: int, distance: int) -> dict[int, tuple[Line, ...]] | None:
    changes: dict[int, tuple[Line, ...]] = {}
    for index in range(start + 1, len(view.insns)):
        insn, line = view.insns[index], view.line(index)
        if reg in view.reads(index):
            if insn.kind is Kind.ALU and insn.row.name in ("add64_reg", "add64_imm", "sub64_imm") and insn.dst == reg:
                if insn.row.operand is Operand.REG and insn.src == reg:
                    return None
                continue
            uses_as_data = insn.kind in (Kind.STORE, Kind.ATOMIC) and insn.src == reg
            if insn.kind not in _MEMORY or base_register(insn) != reg or uses_as_data or view.is_frozen(index):
                return None
            if insn.off + distance not in _OFFSETS:
                return None
            changes[index] = (line._replace(insn=replace(insn, off=insn.off + distance)),)
        if reg in view.writes(index):
            return changes
    return None if view.demand_after(len(view.insns) - 1).is_live(reg) else changes

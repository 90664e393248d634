"""One block under its facts, and drafts of a better one: the workshop that all passes share.

A draft is the block's instructions with some replaced, dropped or added.  `BlockView.finish` gives new temporaries
their registers, drops what the draft made useless, and cuts the smallest window around the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple, Protocol

from synth.passes.bytewise import Value
from synth.passes.names import Address
from synth.passes.operands import explicit_reads, renamed, writes
from synth.passes.symbols import SymbolicBlock, is_private
from synth.rewrite import Rewrite, Window
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import REGISTER_COUNT, Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function, Point, Unit
from verifier_model.contracts.effects import UNKNOWN_CALL, CallEffects
from verifier_model.domains.registers import Region
from verifier_model.domains.state import State

FIRST_TEMPORARY: Final = 16
LOOKBACK: Final = 64  # instructions in front of an edit that may become useless by it
_ALL_STACK: Final = frozenset(range(-512, 0))
_BARRIERS: Final = frozenset({Kind.CALL, Kind.LEGACY_LOAD})


class FactSource(Protocol):
    """What the passes ask of `verifier_model.facts.Facts`."""

    def before(self, point: Point) -> State: ...
    def is_reachable(self, point: Point) -> bool: ...
    def effects(self, point: Point) -> CallEffects: ...
    def demand_after(self, point: Point) -> Demand: ...


class Line(NamedTuple):
    """One instruction of a draft, where it stood in the block (None: new), the memory it touches (None: not known)."""

    insn: Insn
    origin: int | None
    access: Address | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What should stand instead of the block's instructions [start, stop); `origin`s count in the old block.

    The window reaches at least to `hold`: the rewrite rests on what the instructions in front of it do.
    """

    lines: tuple[Line, ...]
    start: int
    stop: int
    hold: int = 0


class BlockView:
    """A block with facts, symbolic contents, demand, and what each instruction reads and writes."""

    def __init__(self, function: Function, block: Block, facts: FactSource, unit: Unit) -> None:
        self.function, self.block, self.facts, self.unit = function, block, facts, unit
        self.insns = block.insns
        self._demands: dict[int, Demand] = {}

    def point(self, index: int) -> Point:
        return Point(self.block.label, index)

    @cached_property
    def symbols(self) -> SymbolicBlock:
        states = [self.facts.before(self.point(index)) for index in range(len(self.insns) + 1)]
        effects = [self.facts.effects(self.point(i)) for i, insn in enumerate(self.insns) if insn.kind is Kind.CALL]
        return SymbolicBlock(self.insns, states, effects, self.unit.byte_order)

    def demand_after(self, index: int) -> Demand:
        if index not in self._demands:
            self._demands[index] = self.facts.demand_after(self.point(index))
        return self._demands[index]

    def effects(self, index: int) -> CallEffects:
        return self.facts.effects(self.point(index)) if self.insns[index].kind is Kind.CALL else UNKNOWN_CALL

    def value(self, index: int, reg: int) -> Value:
        """Content of a register just before instruction `index`."""
        return self.symbols.before[index].regs[reg]

    def is_frozen(self, index: int) -> bool:
        """Must the instruction stay exactly as it is?"""
        return self.insns[index].is_pinned

    def reads(self, index: int) -> frozenset[int]:
        """Registers that the block's own instruction reads, with those that calls and exits read unnamed."""
        return self._reads(self.insns[index], index)

    def writes(self, index: int) -> frozenset[int]:
        return writes(self.insns[index])

    def _reads(self, insn: Insn, origin: int | None) -> frozenset[int]:
        if insn.kind is Kind.CALL and origin is not None:
            # A kfunc or helper with fewer arguments leaves the others dead; the effects know.
            return frozenset(self.effects(origin).arguments)
        if insn.kind is Kind.EXIT:
            return frozenset({0})
        if insn.kind is Kind.LEGACY_LOAD:
            return explicit_reads(insn) | {6}
        if insn.kind is Kind.ATOMIC and insn.row.op == "cmpxchg":
            return explicit_reads(insn) | {0}
        return explicit_reads(insn)

    # --- stack bytes ---

    def stack_reads(self, line: Line) -> frozenset[int]:
        """Upper bound of the frame's bytes that a line may read."""
        insn = line.insn
        if insn.kind is Kind.CALL and line.origin is not None:
            return self._call_reads(line.origin)
        if insn.kind not in (Kind.LOAD, Kind.LOAD_ACQUIRE, Kind.ATOMIC):
            return frozenset()
        return self._touched(line, _ALL_STACK)

    def stack_writes(self, line: Line) -> frozenset[int]:
        """Lower bound of the frame's bytes that a line overwrites."""
        if line.insn.kind not in (Kind.STORE, Kind.STORE_IMM):
            return frozenset()
        return self._touched(line, frozenset())

    def _touched(self, line: Line, unknown: frozenset[int]) -> frozenset[int]:
        address = line.access
        if address is None or address.root.region in (Region.UNKNOWN, Region.UNINIT, Region.SCALAR):
            return unknown
        if address.root.region is not Region.STACK:
            return frozenset()
        if not self.is_own_frame(address):
            return unknown
        return frozenset(range(address.off, address.off + line.insn.row.size))

    def is_own_frame(self, address: Address) -> bool:
        return address.root == self.symbols.address(0, 10).root

    def is_ours(self, address: Address) -> bool:
        """May accesses there be merged, split and dropped: the packet, or this function's own frame?"""
        return is_private(address.root.region) and (
            address.root.region is not Region.STACK or self.is_own_frame(address)
        )

    def _call_reads(self, index: int) -> frozenset[int]:
        effects = self.effects(index)
        if effects.reads_all:
            return _ALL_STACK
        found: frozenset[int] = frozenset()
        for argument in effects.reads:
            address = self.symbols.address(index, argument.reg)
            if address.root.region in (Region.UNKNOWN, Region.UNINIT):
                return _ALL_STACK
            if address.root.region is not Region.STACK:
                continue
            if argument.size is None or not self.is_own_frame(address):
                return _ALL_STACK
            found |= frozenset(range(address.off, address.off + argument.size))
        return found

    def stack_live_after(self, index: int) -> frozenset[int]:
        """Bytes of the frame that may be read after instruction `index`."""
        return self.demand_after(index).stack

    # --- drafts ---

    def line(self, index: int) -> Line:
        insn = self.insns[index]
        return Line(insn, index, self.symbols.access(index) if insn.row.is_memory_access else None)

    def draft(
        self,
        replaced: dict[int, tuple[Line, ...]],
        added: dict[int, tuple[Line, ...]] | None = None,
        hold: int = 0,
    ) -> Draft:
        """The block with instructions replaced, and lines added in front of others."""
        added = added or {}
        end = max([*(index + 1 for index in replaced), *(index + 1 for index in added), hold])
        start = max(0, min([*replaced, *added, end]) - LOOKBACK)
        lines: list[Line] = []
        for index in range(start, end):
            lines.extend(added.get(index, ()))
            lines.extend(replaced[index] if index in replaced else (self.line(index),))
        return Draft(tuple(lines), start, end, hold)

    def finish(self, draft: Draft, proposer: str, why: str, least: int = 1) -> Rewrite | None:
        """The rewrite that the draft amounts to; None when it saves fewer than `least` slots or no register is left."""
        lines = self.pruned(draft)
        placed = self._with_registers(lines, draft.stop)
        if placed is None:
            return None
        before, after = self.insns[draft.start : draft.stop], tuple(line.insn for line in placed)
        head, tail = _common(before, after)
        tail = min(tail, draft.stop - max(draft.hold, draft.start + head)) if draft.hold else tail
        old, new = before[head : len(before) - tail], after[head : len(after) - tail]
        if not old:
            return None
        window = Window(self.block.label, draft.start + head, draft.stop - tail)
        rewrite = Rewrite(window, old, new, f"pass:{proposer}", why)
        if rewrite.slots_saved < least or self._touches_frozen(old, new):
            return None
        return rewrite

    @staticmethod
    def _touches_frozen(old: tuple[Insn, ...], new: tuple[Insn, ...]) -> bool:
        return [i for i in old if i.is_pinned] != [i for i in new if i.is_pinned]

    # --- dead lines ---

    def live_after(
        self, lines: list[Line] | tuple[Line, ...], stop: int
    ) -> list[tuple[frozenset[int], frozenset[int]]]:
        """Registers and stack bytes that may be read after each line; the block goes on at `stop`."""
        live = self._live_at(stop)
        result = []
        for line in reversed(lines):
            result.append(live)
            live = self._live_before(line, live)
        return result[::-1]

    def _live_at(self, stop: int) -> tuple[frozenset[int], frozenset[int]]:
        if stop == 0:
            return frozenset(range(REGISTER_COUNT)), _ALL_STACK
        demand = self.demand_after(stop - 1)
        return frozenset(r for r in range(REGISTER_COUNT) if demand.is_live(r)) | {10}, demand.stack

    def _live_before(
        self, line: Line, live: tuple[frozenset[int], frozenset[int]]
    ) -> tuple[frozenset[int], frozenset[int]]:
        regs, stack = live
        regs = (regs - writes(line.insn)) | self._reads(line.insn, line.origin)
        return regs, (stack - self.stack_writes(line)) | self.stack_reads(line)

    def pruned(self, draft: Draft) -> list[Line]:
        """The draft's lines without those that it made useless."""
        live = self._live_at(draft.stop)
        kept: list[Line] = []
        for line in reversed(draft.lines):
            if self.is_useless(line, live):
                continue
            live = self._live_before(line, live)
            kept.append(line)
        return kept[::-1]

    def is_useless(self, line: Line, live: tuple[frozenset[int], frozenset[int]]) -> bool:
        """May the line go when only `live` registers and stack bytes are looked at afterwards?"""
        insn = line.insn
        if insn.is_pinned:
            return False
        if insn.kind in (Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE, Kind.CAST):
            return insn.dst not in live[0]
        if insn.kind is Kind.LOAD:
            region = line.access.root.region if line.access is not None else Region.UNKNOWN
            return insn.dst not in live[0] and (is_private(region) or region is Region.CTX)
        if insn.kind in (Kind.STORE, Kind.STORE_IMM):
            touched = self.stack_writes(line)
            return bool(touched) and not touched & live[1]
        return False

    # --- registers for temporaries ---

    def _with_registers(self, lines: list[Line], stop: int) -> list[Line] | None:
        while True:
            temporary = next((r for line in lines for r in sorted(writes(line.insn)) if r >= FIRST_TEMPORARY), None)
            if temporary is None:
                return lines
            reg = self._free_register(lines, stop, temporary)
            if reg is None:
                return None
            lines = [replace_insn(line, renamed(line.insn, temporary, reg)) for line in lines]

    def _free_register(self, lines: list[Line], stop: int, temporary: int) -> int | None:
        used = [at for at, line in enumerate(lines) if temporary in explicit_reads(line.insn) | writes(line.insn)]
        first, last = used[0], used[-1]
        live = self.live_after(lines, stop)
        between = lines[first + 1 : last]
        crosses_call = any(line.insn.kind in _BARRIERS for line in between)
        for reg in range(REGISTER_COUNT - 1):
            if crosses_call and reg < 6:
                continue
            if any(reg in live[at][0] for at in range(first, last)):
                continue
            if any(reg in writes(line.insn) for line in between):
                continue
            if first == last and reg in live[first][0]:
                continue
            return reg
        return None


def replace_insn(line: Line, insn: Insn) -> Line:
    return line if insn is line.insn else line._replace(insn=insn)


def _common(before: tuple[Insn, ...], after: tuple[Insn, ...]) -> tuple[int, int]:
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return head, tail


def with_fields(insn: Insn, **fields: int) -> Insn:
    """The instruction with some of its fields changed."""
    return replace(insn, **fields)  # type: ignore[arg-type]

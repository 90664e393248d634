"""What a search works on: a run of instructions with everything that decides which replacements are as good.

A `SearchWindow` holds no names or positions of the function it came from, so equal windows give equal searches,
wherever and whenever they are met.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from synth.engine_link import SHAPES, is_symbol
from synth.rewrite import Window
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import FRAME_POINTER, ByteOrder, Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.domains.registers import SHARED, Region, Register
from verifier_model.domains.state import StackSlot, State

if TYPE_CHECKING:  # the search itself needs no analysis, only its results
    from verifier_model.facts import Facts

ACCESS_KINDS: Final = LOAD_KINDS | STORE_KINDS
_NO_RESULT: Final = STORE_KINDS | {Kind.BRANCH, Kind.JUMP}
EVENT_REGIONS: Final = SHARED | {Region.CTX}


@dataclass(frozen=True)
class SearchWindow:
    """A run of instructions and its surroundings.

    `results[i]` is what is known of the register that instruction i loads, right after it; None if it loads nothing.
    `scratch` lists registers that hold nothing anybody wants and may be written: those that the window writes first.
    `level` is the highest instruction level allowed.

    Where there are branches, `targets[i]` says where instruction i leads: to the window's instruction of that index
    (their number: the end), or by exit e where it is -e; `exits` has what is wanted behind exits 1, 2, ...
    """

    insns: tuple[Insn, ...]
    entry: State
    results: tuple[Register | None, ...]
    demand: Demand
    scratch: tuple[int, ...]
    level: int
    byte_order: ByteOrder = "little"
    exits: tuple[Demand, ...] = ()
    targets: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for windows of which the same is true."""
        stack = tuple(sorted(self.entry.stack.items()))
        regs, demand = self.entry.regs, self.demand
        ways = self.exits, self.targets
        return self.insns, regs, stack, self.results, demand, self.scratch, self.level, self.byte_order, ways

    @property
    def slots(self) -> int:
        return sum(insn.slots for insn in self.insns)


def base_register(insn: Insn) -> int:
    """The register that a load or store takes its address from."""
    return insn.src if insn.kind in LOAD_KINDS else insn.dst


def reads(insn: Insn) -> frozenset[int]:
    """Registers that an instruction of a window reads."""
    found = set()
    if "src" in insn.row.uses:
        found.add(insn.src)
    if "dst" in insn.row.uses and not _overwrites_dst(insn):
        found.add(insn.dst)
    return frozenset(found)


def writes(insn: Insn) -> int | None:
    """The register that an instruction of a window writes."""
    return None if insn.kind in _NO_RESULT or "dst" not in insn.row.uses else insn.dst


def _overwrites_dst(insn: Insn) -> bool:
    is_load = insn.kind in LOAD_KINDS or insn.row.op == "lddw"
    return is_load or insn.row.op == "mov" or insn.row.op.startswith("movsx")


def is_searchable(insn: Insn) -> bool:
    """May the engine replace this instruction: has it a form there, and is it nobody's marker?"""
    if insn.is_pinned:
        return False
    return is_symbol(insn) or (insn.row.name in SHAPES and insn.ref is None)


def runs(function: Function) -> Iterator[tuple[str, int, int]]:
    """Maximal searchable runs (block, start, stop) of a function, in layout order."""
    for block in function.blocks:
        start = 0
        for at in range(len(block.insns) + 1):
            if at < len(block.insns) and is_searchable(block.insns[at]):
                continue
            if at > start:
                yield block.label, start, at
            start = at + 1


def search_window(function: Function, facts: Facts, unit: Unit, window: Window) -> SearchWindow | None:
    """The window with its facts; None when it cannot be reached or a fact that the search needs is missing."""
    insns = function.block(window.label).insns[window.start : window.stop]
    first = Point(window.label, window.start)
    if not facts.is_reachable(first):
        return None
    results = loaded_facts(facts, window.label, window.start, insns)
    if results is None:
        return None
    entry = facts.before(first)
    demand = facts.demand_after(Point(window.label, window.stop - 1))
    level = max([unit.cpu_level, *(insn.row.level for insn in insns)])
    plain = tuple(insn.without_origin() for insn in insns)
    scratch = scratch_registers(function, plain, demand)
    return narrowed(SearchWindow(plain, entry, tuple(results), demand, scratch, level, unit.byte_order))


def loaded_facts(facts: Facts, label: str, start: int, insns: tuple[Insn, ...]) -> list[Register | None] | None:
    """`SearchWindow.results` of instructions that stand at `start` of a block; None for an access not understood."""
    results: list[Register | None] = []
    for at, insn in enumerate(insns, start):
        if insn.kind not in ACCESS_KINDS:
            results.append(None)
            continue
        base = facts.before(Point(label, at)).regs[base_register(insn)]
        if base.region not in EVENT_REGIONS | {Region.STACK, Region.PACKET}:
            return None
        is_load = insn.kind in LOAD_KINDS
        results.append(facts.before(Point(label, at + 1)).regs[insn.dst] if is_load else None)
    return results


def scratch_registers(function: Function, insns: tuple[Insn, ...], demand: Demand) -> tuple[int, ...]:
    """r6 to r9 only where the function uses them already: a new callee-saved register costs its prologue."""
    used = {reg for _, insn in function.insns() for reg in (insn.dst, insn.src)}
    written = [reg for insn in insns if (reg := writes(insn)) is not None]
    dead = [reg for reg in range(FRAME_POINTER) if not demand.is_live(reg) and (reg < 6 or reg in used)]
    return tuple(dict.fromkeys([*(reg for reg in written if reg in dead), *dead]))


def narrowed(window: SearchWindow) -> SearchWindow:
    """The same question with everything left out that no candidate can touch, and identities renumbered."""
    written = {reg for insn in window.insns if (reg := writes(insn)) is not None}
    named = written | {FRAME_POINTER} | {reg for insn in window.insns for reg in reads(insn)}
    ids: dict[tuple[str, int], int] = {}

    def numbered(kind: str, number: int) -> int:
        return ids.setdefault((kind, number), len(ids) + 1) if number else 0

    def plain(fact: Register) -> Register:
        if fact.assumed_safe and fact.is_scalar:
            return Register.unknown()
        return replace(fact, id=numbered("id", fact.id), base=numbered("base", fact.base))

    regs = tuple(plain(fact) if reg in named else Register.uninit() for reg, fact in enumerate(window.entry.regs))
    stack: dict[int, StackSlot] = {}
    touches_stack = any(
        fact.region is Region.STACK and reg in {base_register(i) for i in window.insns if i.kind in ACCESS_KINDS}
        for reg, fact in enumerate(regs)
    ) or any(FRAME_POINTER in reads(insn) for insn in window.insns)
    if touches_stack:
        for off, slot in sorted(window.entry.stack.items()):
            stack[off] = StackSlot(slot.marks, None if slot.spill is None else plain(slot.spill))
    writable = written | set(window.scratch)

    def reduced(demand: Demand) -> Demand:
        regs = tuple(mask if reg in writable else 0 for reg, mask in enumerate(demand.regs))
        return Demand(regs, demand.stack if touches_stack else frozenset())

    results = tuple(None if fact is None else plain(fact) for fact in window.results)
    entry = State(regs, MappingProxyType(stack))
    scratch = window.scratch[:3]
    return replace(
        window,
        entry=entry,
        results=results,
        demand=reduced(window.demand),
        scratch=scratch,
        exits=tuple(reduced(demand) for demand in window.exits),
    )


def least_instructions(window: SearchWindow) -> int:
    """A lower bound on the instructions that give the window's results and make its shared accesses."""
    results = {reg for insn in window.insns if (reg := writes(insn)) is not None and window.demand.is_live(reg)}
    stores = [insn for insn in window.insns if insn.kind in STORE_KINDS]
    events = [
        insn
        for insn in window.insns
        if insn.kind in LOAD_KINDS | STORE_KINDS and window.entry.regs[base_register(insn)].region in EVENT_REGIONS
    ]
    shared_loads = [insn for insn in events if insn.kind in LOAD_KINDS]
    return max(len(results) + bool(stores), len(events), len(shared_loads) + bool(stores))

"""Where a register of the new program still holds what it held in the old one.

A variable's location may be kept only there.  Whatever a rewritten stretch of code writes (in its old or new form) is
*tainted* afterwards, and so is what kept instructions make of it.  Taint ends where a kept instruction writes the
register anew from untainted values, and at points where kept instructions demand the register's bits: those bits the
proofs of the rewrites have preserved (DESIGN.md, What equivalence means).  A function that was changed as a whole keeps
no such promise: equal instructions may work on other values there, so nothing is said of it.  The frame's bytes and
other memory are judged for the function as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from llvm_bridge.dwarf_alignment import Stretch
from llvm_bridge.dwarf_forms import Need
from verifier_model.bpf.demand import ALL_BITS, NOTHING, Demand, StackAccess, stack_bytes
from verifier_model.bpf.demanded_bits import low_bits
from verifier_model.bpf.evaluate import atomic_destination
from verifier_model.bpf.flow import falls_through, predecessors
from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, Insn, RefKind
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind, Operand
from verifier_model.bpf.liveness import demand_before
from verifier_model.bpf.unit import Block, Function

Masks = tuple[int, ...]
_CLEAN: Final[Masks] = (0,) * REGISTER_COUNT
_TAINTED: Final[Masks] = tuple(0 if r == FRAME_POINTER else ALL_BITS for r in range(REGISTER_COUNT))
_CALLER_SAVED: Final = frozenset(range(6))
_DEFINES_DST: Final = LOAD_KINDS | {Kind.ALU, Kind.ENDIAN, Kind.CAST, Kind.LOAD_WIDE}
_CALLS: Final = frozenset({Kind.CALL, Kind.LEGACY_LOAD})
# What a callee reads is not known here: nothing is taken for demanded by a call.
_NO_ARGUMENTS: Final = StackAccess(arguments=())


@dataclass(frozen=True, slots=True)
class Memory:
    """What rewritten code may have changed in memory: bytes of the frame (`all_frame`: any), other memory."""

    frame: frozenset[int]
    all_frame: bool
    other: bool

    @property
    def is_clean(self) -> bool:
        return not (self.frame or self.all_frame or self.other)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Per cell of a function the tainted bits of every register, and what its memory has seen.

    None: the cell's code does not run from its start to its end, nothing at all can be said there.
    """

    tainted: Sequence[Masks | None]
    memory: Memory
    _alike: list[tuple[int, int, Masks | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        at = 0
        for masks, group in groupby(self.tainted):
            end = at + sum(1 for _ in group)
            self._alike.append((at, end, masks))
            at = end

    def runs(self, need: Need, bits: int) -> tuple[tuple[int, int], ...]:
        """Maximal runs [i, j) of cells throughout which all things that `need` names hold their old values.

        `bits` masks the bits of the variable; they count where it is simply in a register.
        """
        if need.stack and (self.memory.frame or self.memory.all_frame):
            return ()
        if need.memory and not self.memory.is_clean:
            return ()
        mask = bits if need.is_plain else ALL_BITS
        found: list[tuple[int, int]] = []
        for start, end, masks in self._alike:
            if masks is None or any(masks[register] & mask for register in need.registers):
                continue
            if found and found[-1][1] == start:
                found[-1] = found[-1][0], end
            else:
                found.append((start, end))
        return tuple(found)


def writes(insn: Insn) -> frozenset[int]:
    """The registers that an instruction changes."""
    if insn.kind in _CALLS:
        return _CALLER_SAVED
    if insn.kind is Kind.ATOMIC:
        destination = atomic_destination(insn.row, insn.src)
        return frozenset() if destination is None else frozenset({destination})
    return frozenset({insn.dst}) if insn.kind in _DEFINES_DST else frozenset()


Changed = tuple[Function, Function, Sequence[Stretch]]


def agreements_of(changed: Mapping[str, Changed]) -> dict[str, Agreement]:
    """The agreement of every changed function; the cells are the spans of its stretches, in order."""
    memories = {name: _memory(stretches) for name, (_, _, stretches) in changed.items()}
    # A subprogram may write its caller's frame through a pointer.
    reaches_callers = any(memories[name].other and old.is_subprogram for name, (old, _, _) in changed.items())
    return {name: _agreement(*changed[name], _with_frame(memories[name], *changed[name][:2], reaches_callers))
            for name in changed}  # fmt: skip


def _rewritten(stretches: Sequence[Stretch]) -> Iterator[Insn]:
    for stretch in stretches:
        for i, j, k, m, is_kept in stretch.spans:
            if not is_kept:
                yield from stretch.old[i:j]
                yield from stretch.new[k:m]


def _memory(stretches: Sequence[Stretch]) -> Memory:
    frame: set[int] = set()
    other = False
    for insn in _rewritten(stretches):
        if insn.kind in STORE_KINDS or insn.kind is Kind.ATOMIC:
            if insn.dst == FRAME_POINTER and not insn.origin.core:
                frame |= stack_bytes(insn.off, insn.row.size)
            else:
                other = True
        elif insn.kind is Kind.CALL:
            other = True
    return Memory(frozenset(frame), False, other)


def _with_frame(memory: Memory, old: Function, new: Function, reaches_callers: bool) -> Memory:
    """Other writes may hit the frame too, once its address is in another register."""
    if not (memory.other or reaches_callers):
        return memory
    is_shared = any(
        insn.kind is Kind.ALU and insn.row.operand is Operand.REG and insn.src == FRAME_POINTER
        for function in (old, new)
        for _, insn in function.insns()
    )
    return Memory(memory.frame, memory.all_frame or is_shared, memory.other)


def _agreement(old: Function, new: Function, stretches: Sequence[Stretch], memory: Memory) -> Agreement:
    if new.is_reshaped:
        return Agreement(
            [None] * sum(1 for stretch in stretches for _ in stretch.spans), Memory(frozenset(), True, True)
        )
    edges, sound = _edges(old, new, stretches)
    if all(sound.values()) and memory.is_clean and not any(writes(insn) for insn in _rewritten(stretches)):
        return Agreement([_CLEAN] * sum(1 for stretch in stretches for _ in stretch.spans), memory)
    demands = _demands(stretches, edges)
    starts: dict[str, Masks] = {stretches[0].label: _CLEAN}
    if not stretches[0].is_straight:
        starts = {stretch.label: _TAINTED for stretch in stretches}
    for stretch in stretches:
        if not sound[stretch.label]:
            starts.update(dict.fromkeys(edges[stretch.label], _TAINTED))
    waiting = [stretch.label for stretch in reversed(stretches)]
    by_label = {stretch.label: stretch for stretch in stretches}
    while waiting:
        label = waiting.pop()
        if label not in starts:
            continue  # not reached yet
        *_, end = _forward(by_label[label], starts[label], demands[label], memory)
        for other in edges[label]:
            joined = tuple(a | b for a, b in zip(starts.get(other, _CLEAN), end, strict=True))
            if other not in starts or joined != starts[other]:
                starts[other] = joined
                waiting.append(other)
    tainted: list[Masks | None] = []
    for stretch in stretches:
        start = starts.get(stretch.label, _TAINTED)
        *cells, _ = _forward(stretch, start, demands[stretch.label], memory)
        tainted += cells if stretch.is_straight else [None] * len(cells)
    return Agreement(tainted, memory)


def _edges(
    old: Function, new: Function, stretches: Sequence[Stretch]
) -> tuple[dict[str, tuple[str, ...]], dict[str, bool]]:
    """Successors of each stretch in old and new, and whether it goes to the same ones on the same conditions."""
    edges: dict[str, tuple[str, ...]] = {}
    sound: dict[str, bool] = {}
    for number, stretch in enumerate(stretches):
        following = stretches[number + 1].label if number + 1 < len(stretches) else None
        before, after = _ends(stretch.old, following), _ends(stretch.new, following)
        is_kept = bool(stretch.kept) and stretch.kept[-1] == (len(stretch.old) - 1, len(stretch.new) - 1)
        edges[stretch.label] = tuple(dict.fromkeys((*before, *after)))
        sound[stretch.label] = stretch.is_straight and before == after and (is_kept or len(before) < 2)
    known = {stretch.label for stretch in stretches}
    return {label: tuple(o for o in others if o in known) for label, others in edges.items()}, sound


def _ends(insns: Sequence[Insn], following: str | None) -> tuple[str, ...]:
    last = insns[-1] if insns else None
    found = []
    if following is not None and falls_through(Block("", tuple(insns[-1:]))):
        found.append(following)
    if last is not None and last.ref is not None and last.ref.kind is RefKind.LABEL and last.ref.name not in found:
        found.append(last.ref.name)
    return tuple(found)


def _demands(stretches: Sequence[Stretch], edges: Mapping[str, tuple[str, ...]]) -> dict[str, list[Masks]]:
    """Per stretch and span the register bits that kept code demands just before it."""
    before = predecessors(edges)
    starts: dict[str, Masks] = {stretch.label: _CLEAN for stretch in stretches}
    by_label = {stretch.label: stretch for stretch in stretches}
    found: dict[str, list[Masks]] = {}
    waiting = list(by_label)
    while waiting:
        label = waiting.pop()
        end = [0] * REGISTER_COUNT
        for other in edges[label]:
            end = [a | b for a, b in zip(end, starts[other], strict=True)]
        found[label] = _backward(by_label[label], tuple(end))
        start = (
            tuple(a | b for a, b in zip(found[label][0], starts[label], strict=True)) if found[label] else tuple(end)
        )
        if start != starts[label]:
            starts[label] = start
            waiting += before[label]
    return found


def _backward(stretch: Stretch, end: Masks) -> list[Masks]:
    found: list[Masks] = []
    for i, j, k, m, is_kept in reversed(list(stretch.spans)):
        if is_kept:
            end = _demand(stretch.new[k], end)
        else:
            written = frozenset[int]().union(*map(writes, (*stretch.old[i:j], *stretch.new[k:m])))
            end = tuple(0 if r in written else mask for r, mask in enumerate(end))
            if any(insn.kind is Kind.EXIT for insn in (*stretch.old[i:j], *stretch.new[k:m])):
                end = _CLEAN
        found.append(end)
    found.reverse()
    return found


def _demand(insn: Insn, after: Masks) -> Masks:
    if insn.kind is Kind.EXIT:
        return (ALL_BITS, *[0] * (REGISTER_COUNT - 1))
    return demand_before((insn,), (_NO_ARGUMENTS,), Demand(after, frozenset())).regs


def _forward(stretch: Stretch, start: Masks, demands: Sequence[Masks], memory: Memory) -> Iterator[Masks]:
    """The tainted bits in each span, then at the end."""
    taint = start
    for number, (i, j, k, m, is_kept) in enumerate(stretch.spans):
        if taint != _CLEAN:
            taint = tuple(t & ~d for t, d in zip(taint, demands[number], strict=True))
        if is_kept:
            yield taint
            taint = _after(stretch.new[k], taint, memory)
            continue
        written = frozenset[int]().union(*map(writes, (*stretch.old[i:j], *stretch.new[k:m])))
        taint = tuple(ALL_BITS if r in written else mask for r, mask in enumerate(taint))
        yield taint
    yield taint if stretch.is_straight else _TAINTED


def _after(insn: Insn, taint: Masks, memory: Memory) -> Masks:
    """The taint behind a kept instruction."""
    new = list(taint)
    if insn.kind in _CALLS:
        # A kept call is an event: it happens with equal arguments and memory in both programs, so r0 is equal.  Nobody
        # can look at r1 to r5 any more, in either of them.
        new[:6] = [0] * 6
        return tuple(new)
    if taint == _CLEAN and memory.is_clean:
        return taint
    for register in writes(insn):
        wanted = list(NOTHING.regs)
        wanted[register] = ALL_BITS
        reads = demand_before((insn,), (_NO_ARGUMENTS,), Demand(tuple(wanted), frozenset())).regs
        is_tainted = any(
            mask & taint[r] & (low_bits(insn.row.width) if insn.kind is Kind.ALU else ALL_BITS)
            for r, mask in enumerate(reads)
        )
        new[register] = ALL_BITS if is_tainted or _reads_changed_memory(insn, memory) else 0
    return tuple(new)


def _reads_changed_memory(insn: Insn, memory: Memory) -> bool:
    if insn.kind in LOAD_KINDS and insn.src == FRAME_POINTER and not insn.origin.core:
        return memory.all_frame or bool(stack_bytes(insn.off, insn.row.size) & memory.frame)
    return (insn.kind in LOAD_KINDS or insn.kind is Kind.ATOMIC) and not memory.is_clean

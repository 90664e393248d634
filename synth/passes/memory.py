"""Stores that can be cheaper: immediates instead of registers, one wide store instead of several narrow ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from synth.passes.block_view import FIRST_TEMPORARY, BlockView, Line
from synth.passes.names import Address
from synth.passes.places import (
    LETTERS,
    Wanted,
    as_immediate,
    base_for,
    is_readable,
    load_line,
    loadable,
    registers_with,
    same_width_store,
)
from synth.passes.symbols import PACKET_FAMILY
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import make
from verifier_model.bpf.isa import Kind
from verifier_model.domains.registers import Region

REACH: Final = 48  # instructions between the first and the last store of a group
_STORES: Final = (Kind.STORE, Kind.STORE_IMM)


def store_immediate(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Put known numbers into the stores themselves; worth nothing alone, but the register is then free.

    Shared memory too: number, width, order and value of the accesses stay.
    """
    for index, insn in enumerate(view.insns):
        if insn.kind is not Kind.STORE or view.is_frozen(index):
            continue
        imm = as_immediate(view.value(index, insn.src)[: insn.row.size])
        if imm is None:
            continue
        region = view.symbols.access(index).root.region
        if region is Region.STACK and not view.is_own_frame(view.symbols.access(index)):
            continue  # callers' frames differ, so nothing can be checked there
        line = view.line(index)._replace(insn=same_width_store(insn, imm))
        draft = view.draft({index: (line,)})
        rewrite = view.finish(draft, "store-immediate", "the stored number is known", least=0)
        if rewrite is not None:
            yield rewrite


class Group(NamedTuple):
    """Stores (indexes in the block) that lie inside [place, place + size)."""

    place: Address
    size: int
    stores: tuple[int, ...]


def merge_stores(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """One wide store for several narrow ones: constants, copies, scattered bytes; bytes nobody needs are free."""
    for last in range(len(view.insns)):
        # The narrowest store among those that save most: bytes are not touched without need.
        candidates = list(_merges_ending_at(view, last))
        if candidates:
            yield max(candidates, key=lambda rewrite: rewrite.slots_saved)


def _merges_ending_at(view: BlockView, last: int) -> Iterator[Rewrite]:
    insn = view.insns[last]
    if insn.kind not in _STORES or view.is_frozen(last):
        return
    place = view.symbols.access(last)
    if not view.is_ours(place):
        return
    for size in (2, 4, 8):
        if size < insn.row.size:
            continue
        for start in range(place.off + insn.row.size - size, place.off + 1):
            if place.root.region is Region.STACK and (start % size or not view.is_own_frame(place)):
                continue
            group = _group(view, Address(place.root, start), size, last)
            if group is None:
                continue
            for at_end in (True, False):
                rewrite = _merged(view, group, at_end)
                if rewrite is not None:
                    yield rewrite


def _group(view: BlockView, place: Address, size: int, last: int) -> Group | None:
    """The stores up to `last` inside the range, back to whatever might look at them."""
    stores: list[int] = []
    for index in range(last, max(-1, last - REACH), -1):
        insn = view.insns[index]
        if insn.kind in (Kind.CALL, Kind.LEGACY_LOAD, Kind.ATOMIC) and _may_look(view, index, place, size):
            break
        if insn.kind in _STORES:
            here = view.symbols.access(index)
            if _is_inside(here, insn.row.size, place, size):
                if view.is_frozen(index):
                    break
                stores.append(index)
        elif insn.row.is_block_end:
            break
    return Group(place, size, tuple(stores[::-1])) if len(stores) > 1 else None


def _is_inside(here: Address, size: int, place: Address, whole: int) -> bool:
    return here.root == place.root and place.off <= here.off and here.off + size <= place.off + whole


def _may_look(view: BlockView, index: int, place: Address, size: int) -> bool:
    if place.root.region is not Region.STACK:
        return True
    return bool(view.stack_reads(view.line(index)) & frozenset(range(place.off, place.off + size)))


def _merged(view: BlockView, group: Group, at_end: bool) -> Rewrite | None:
    position = group.stores[-1] if at_end else group.stores[0]
    found = _wanted(view, group, at_end)
    if found is None or not _is_writable(view, group, position):
        return None
    wanted, hold = found
    base = base_for(view, position, group.place, view.insns[position].dst)
    if base is None:
        return None
    replaced: dict[int, tuple[Line, ...]] = dict.fromkeys(group.stores, ())
    letter = LETTERS[group.size]
    imm = as_immediate(wanted)
    if imm is not None:
        store = make(f"st_{letter}", dst=base[0], off=base[1], imm=imm)
        replaced[position] = (Line(store, None, group.place),)
        return _checked(view, group, replaced, {}, hold, "neighbouring stores of known numbers are one store")
    for reg in registers_with(view, position, wanted):
        store = make(f"stx_{letter}", dst=base[0], src=reg, off=base[1])
        replaced[position] = (Line(store, None, group.place),)
        rewrite = _checked(view, group, replaced, {}, hold, "the parts of one register are one store")
        if rewrite is not None:
            return rewrite
    return _copied(view, group, position, base, wanted, hold)


def _copied(
    view: BlockView, group: Group, position: int, base: tuple[int, int], wanted: Wanted, hold: int
) -> Rewrite | None:
    """The bytes come from one place in memory: load them wide, as late as they are still there."""
    for at in range(position, max(-1, position - REACH), -1):
        if view.insns[at].kind in (Kind.CALL, Kind.LEGACY_LOAD) and at != position:
            return None
        for source in loadable(view, at, wanted):
            if not is_readable(view, at, source, group.size) or _is_changed_by(group, source, at):
                continue
            load = load_line(view, at, FIRST_TEMPORARY, source, group.size)
            if load is None:
                continue
            store = make(f"stx_{LETTERS[group.size]}", dst=base[0], src=FIRST_TEMPORARY, off=base[1])
            replaced: dict[int, tuple[Line, ...]] = dict.fromkeys(group.stores, ())
            replaced[position] = (Line(store, None, group.place),)
            rewrite = _checked(view, group, replaced, {at: (load,)}, hold, "neighbouring copies are one wide copy")
            if rewrite is not None:
                return rewrite
    return None


def _is_changed_by(group: Group, source: Address, at: int) -> bool:
    """Would the group's stores in front of `at`, which go, have made some of the source's bytes what they are?"""
    if source.root != group.place.root or at <= group.stores[0]:
        return False
    return source.off < group.place.off + group.size and group.place.off < source.off + group.size


def _wanted(view: BlockView, group: Group, at_end: bool) -> tuple[list[int | None], int] | None:
    """The bytes that the wide store must write, lowest of the number first (None in a place: free), and how far the
    window must reach for that."""
    hold = 0
    first, last = group.stores[0], group.stores[-1]
    covered = _last_writers(view, group)
    snapshot = view.symbols.before[last + 1 if at_end else first].memory
    wanted: list[int | None] = []
    for k in range(group.size):
        place = group.place.plus(k)
        writer = covered.get(k)
        if writer is not None and (byte := view.symbols.before[writer + 1].memory.get(place)) is not None:
            if at_end:
                byte = snapshot.get(place)
            elif _is_overwritten_between(view, place, writer, group):
                return None
            if byte is None:
                return None
            wanted.append(byte)
        elif (until := _free_until(view, last if at_end else first, place)) is not None:
            wanted.append(None)
            hold = max(hold, until)
        elif place in snapshot:
            wanted.append(snapshot[place])
        else:
            return None
    return (wanted if view.unit.byte_order == "little" else wanted[::-1]), hold


def _last_writers(view: BlockView, group: Group) -> dict[int, int]:
    writers: dict[int, int] = {}
    for index in group.stores:
        here = view.symbols.access(index)
        for k in range(view.insns[index].row.size):
            writers[here.off - group.place.off + k] = index
    return writers


def _is_overwritten_between(view: BlockView, place: Address, writer: int, group: Group) -> bool:
    """Does a store outside the group write the byte before the group's own last word on it?"""
    for index in range(group.stores[0], writer):
        if index in group.stores or view.insns[index].kind not in _STORES:
            continue
        here = view.symbols.access(index)
        if here.root == place.root and here.off <= place.off < here.off + view.insns[index].row.size:
            return True
    return False


def _free_until(view: BlockView, index: int, place: Address) -> int | None:
    """How far one must look to see that the byte may hold anything just after `index`: 0 or behind the store that
    overwrites it; None when somebody may read it."""
    if place.root.region is Region.STACK:
        return 0 if place.off >= -512 and place.off not in view.stack_live_after(index) else None
    for at in range(index + 1, len(view.insns)):
        insn = view.insns[at]
        if insn.kind in _STORES:
            here = view.symbols.access(at)
            if here.root == place.root and here.off <= place.off < here.off + insn.row.size:
                return at + 1
        elif insn.kind is Kind.LOAD:
            here = view.symbols.access(at)
            if here.root != place.root and here.root.region in PACKET_FAMILY | {Region.UNKNOWN, Region.MEMORY}:
                return None
            if here.root == place.root and here.off <= place.off < here.off + insn.row.size:
                return None
        elif insn.kind not in (Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE):
            return None
    return None


def _is_writable(view: BlockView, group: Group, position: int) -> bool:
    if group.place.root.region is Region.STACK:
        return group.place.off >= -512 and group.place.off + group.size <= 0
    return is_readable(view, position, group.place, group.size)


def _checked(
    view: BlockView,
    group: Group,
    replaced: dict[int, tuple[Line, ...]],
    added: dict[int, tuple[Line, ...]],
    hold: int,
    why: str,
) -> Rewrite | None:
    """The rewrite, unless something that stays between the group's stores still looks at their bytes."""
    draft = view.draft(replaced, added, hold)
    first, last = group.stores[0], group.stores[-1]
    for line in view.pruned(draft):
        if line.origin is None or not first < line.origin < last:
            continue
        if line.insn.kind in (Kind.LOAD, Kind.ATOMIC) and _overlaps(line, group):
            return None
    return view.finish(draft, "merge-stores", why)


def _overlaps(line: Line, group: Group) -> bool:
    if line.access is None or line.access.root.region is Region.UNKNOWN:
        return True
    family = PACKET_FAMILY if group.place.root.region in PACKET_FAMILY else {Region.STACK}
    if line.access.root != group.place.root:
        return line.access.root.region in family
    return line.access.off < group.place.off + group.size and group.place.off < line.access.off + line.insn.row.size

"""Runs of stores whose bytes come from elsewhere in memory: copies, swaps, rotations, written anew with wide accesses.

The stores of a run leave an image: for each byte where it comes from.  The run is replaced, at its last store, by loads
of everything still needed and then stores that cover the image in ascending order.  A store may run over the end
of its piece when a later one repairs what it spoils (overshoot then repair, swaps with wide temporaries).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from synth.passes.block_view import FIRST_TEMPORARY, BlockView, Line
from synth.passes.bytewise import FIRST_NAME
from synth.passes.names import Address, Memory
from synth.passes.places import LETTERS, as_immediate, base_for, is_readable
from synth.passes.symbols import PACKET_FAMILY
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.insn import make
from verifier_model.bpf.isa import Kind
from verifier_model.domains.registers import Region

LONGEST_RUN: Final = 24  # stores
REACH: Final = 96  # instructions
_STORES: Final = (Kind.STORE, Kind.STORE_IMM)
_SIZES: Final = (8, 4, 2, 1)


class Chunk(NamedTuple):
    """One store of the new code: `size` bytes at `off` from the image's root.

    Exactly one of `imm`, `reg` and `source` says what is stored.
    """

    off: int
    size: int
    imm: int | None = None
    reg: int | None = None
    source: Address | None = None
    slots: int = 2


class Run(NamedTuple):
    """Stores with one root, in block order, and what memory and image are around them.

    `memory`: what memory holds where the new code stands, the run's own stores gone.  `image`: the bytes that the run
    leaves, by offset from the root.  `places`: where memory holds a byte.
    """

    stores: tuple[int, ...]
    memory: Memory
    image: dict[int, int]
    places: dict[int, list[Address]]

    @property
    def last(self) -> int:
        return self.stores[-1]


def rearrange(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    """Cover the image of each run of stores by fewer accesses."""
    if view.unit.byte_order != "little":
        return
    end = len(view.insns)
    for last in range(len(view.insns) - 1, -1, -1):
        if last >= end or view.insns[last].kind not in _STORES:
            continue
        best, first = _best_ending_at(view, last)
        if best is None:
            continue
        end = first
        for earlier in range(last - 1, first, -1):  # stores at the end that gain nothing are left out
            if view.insns[earlier].kind not in _STORES:
                continue
            shorter, _ = _best_ending_at(view, earlier)
            if shorter is None or shorter.slots_saved < best.slots_saved:
                break
            best = shorter
        yield best


def _best_ending_at(view: BlockView, last: int) -> tuple[Rewrite | None, int]:
    """The rewrite that saves most among the runs that end in the store `last`, and where its run starts."""
    best: Rewrite | None = None
    first = last
    for run in _runs_ending_at(view, last):
        rewrite = _rewritten(view, run)
        if rewrite is not None and (best is None or rewrite.slots_saved > best.slots_saved):
            best, first = rewrite, run.stores[0]
    return best, first


def _runs_ending_at(view: BlockView, last: int) -> Iterator[Run]:
    root = view.symbols.access(last).root
    if not view.is_ours(view.symbols.access(last)):
        return
    stores: list[int] = []
    for index in range(last, max(-1, last - REACH), -1):
        insn = view.insns[index]
        if insn.kind in (Kind.CALL, Kind.LEGACY_LOAD, Kind.ATOMIC, Kind.STORE_RELEASE) or view.is_frozen(index):
            return
        if insn.kind not in _STORES:
            continue
        here = view.symbols.access(index)
        if here.root != root:
            if not _is_elsewhere(here.root.region, root.region):
                return
            continue
        stores.append(index)
        if len(stores) > LONGEST_RUN:
            return
        if len(stores) > 1:
            run = _run(view, tuple(stores[::-1]))
            if run is not None:
                yield run


def _is_elsewhere(store: Region, root: Region) -> bool:
    """Can a store into one region never touch a byte of the other?"""
    if store in (Region.MAP_VALUE, Region.DATA, Region.CTX, Region.OBJECT):
        return True
    return (store is Region.STACK) != (root is Region.STACK) and store in PACKET_FAMILY | {Region.STACK}


def _run(view: BlockView, stores: tuple[int, ...]) -> Run | None:
    root = view.symbols.access(stores[0]).root
    final = view.symbols.before[stores[-1] + 1].memory
    image: dict[int, int] = {}
    for index in stores:
        here = view.symbols.access(index)
        for off in range(here.off, here.off + view.insns[index].row.size):
            byte = final.get(Address(root, off))
            if byte is None:
                return None
            image[off] = byte
    memory = dict(view.symbols.before[stores[-1]].memory)
    earlier = view.symbols.before[stores[0]].memory
    for off in image:
        place = Address(root, off)
        memory.pop(place, None)
        if place in earlier:
            memory[place] = earlier[place]
    places: dict[int, list[Address]] = {}
    for place, byte in memory.items():
        places.setdefault(byte, []).append(place)
    return Run(stores, memory, image, places)


def _rewritten(view: BlockView, run: Run) -> Rewrite | None:
    chunks = _cover(view, run)
    if chunks is None or sum(chunk.slots for chunk in chunks) >= 2 * len(run.stores):
        return None
    lines = _emitted(view, run, chunks)
    if lines is None:
        return None
    replaced: dict[int, tuple[Line, ...]] = dict.fromkeys(run.stores, ())
    replaced[run.last] = lines
    draft = view.draft(replaced)
    if any(_sees_image(view, run, line) for line in view.pruned(draft)):
        return None
    return view.finish(draft, "rearrange", "the same bytes by fewer accesses")


def _sees_image(view: BlockView, run: Run, line: Line) -> bool:
    """Does a load that stays between the run's stores look at what they leave?"""
    if line.origin is None or not run.stores[0] < line.origin < run.last or line.insn.kind is not Kind.LOAD:
        return False
    root = view.symbols.access(run.last).root
    if line.access is None:
        return True
    if line.access.root != root:
        return not _is_elsewhere(line.access.root.region, root.region)
    return any(line.access.off <= off < line.access.off + line.insn.row.size for off in run.image)


# --- covering the image ---


def _cover(view: BlockView, run: Run) -> list[Chunk] | None:
    """The cheapest ascending cover, by dynamic programming from the image's end; None when some byte has no source."""
    root = view.symbols.access(run.last).root
    offs = sorted(run.image)
    best: dict[int, tuple[int, list[Chunk]]] = {}
    after = {off: offs[at + 1] if at + 1 < len(offs) else None for at, off in enumerate(offs)}
    for off in reversed(offs):
        choices: list[tuple[int, list[Chunk]]] = []
        for chunk, good in _chunks_at(view, run, root.region, off):
            following = after[off + good - 1]
            if following is None:
                choices.append((chunk.slots, [chunk]))
            elif following in best:
                slots, rest = best[following]
                choices.append((slots + chunk.slots, [chunk, *rest]))
        if choices:
            best[off] = min(choices, key=_price)
    return best[offs[0]][1] if offs[0] in best else None


def _price(choice: tuple[int, list[Chunk]]) -> tuple[int, int, int]:
    """Slots, then accesses, then bytes: what gains nothing by being wide stays narrow."""
    slots, chunks = choice
    return slots, len(chunks), sum(chunk.size for chunk in chunks)


def _chunks_at(view: BlockView, run: Run, region: Region, off: int) -> Iterator[tuple[Chunk, int]]:
    """Stores that may come next when everything below `off` is right, and how many bytes from there they set right."""
    for size in _SIZES:
        for first in range(off - size + 1, off + 1):
            span = range(first, first + size)
            if any(at not in run.image for at in span) or (region is Region.STACK and first % size):
                continue
            for chunk in _contents(view, run, first, size, off - first):
                good = _good(run, chunk, off, view)
                if good:
                    yield chunk, good


def _contents(view: BlockView, run: Run, first: int, size: int, skip: int) -> Iterator[Chunk]:
    """What the store at `first` may hold so that its bytes up to and including number `skip` are right."""
    wanted = [run.image[at] for at in range(first, first + size)]
    imm = as_immediate(wanted)
    if imm is not None:
        yield Chunk(first, size, imm=imm, slots=1)
        return
    needed = tuple(wanted[: skip + 1])
    for reg, value in enumerate(view.symbols.before[run.last].regs):
        if value[: skip + 1] == needed:
            yield Chunk(first, size, reg=reg, slots=1 + _is_only_for(view, run, reg))
    if wanted[0] < FIRST_NAME:
        return
    for place in run.places.get(wanted[0], ()):
        if any(run.memory.get(place.plus(k)) != wanted[k] for k in range(skip + 1)):
            continue
        is_whole = all(run.memory.get(place.plus(k)) == wanted[k] for k in range(size))
        if is_readable(view, run.stores[0], place, size) or (is_whole and place.root.region in PACKET_FAMILY):
            yield Chunk(first, size, source=place)


def _is_only_for(view: BlockView, run: Run, reg: int) -> bool:
    """Would the register's content be dead but for this run: does taking it from there keep its definition alive?"""
    if view.demand_after(run.last).is_live(reg):
        return False
    return any(reg in view.writes(at) for at in range(run.stores[0] - 1, run.last) if at >= 0)


def _good(run: Run, chunk: Chunk, off: int, view: BlockView) -> int:
    """How many bytes from `off` on the chunk sets right before the first that it spoils."""
    good = 0
    for at in range(off, chunk.off + chunk.size):
        k = at - chunk.off
        if chunk.imm is not None:
            byte: int | None = (chunk.imm >> 8 * k) & 0xFF
        elif chunk.reg is not None:
            byte = view.value(run.last, chunk.reg)[k]
        else:
            assert chunk.source is not None
            byte = run.memory.get(chunk.source.plus(k))
        if byte != run.image[at]:
            break
        good += 1
    return good


# --- emitting ---


def _emitted(view: BlockView, run: Run, chunks: list[Chunk]) -> tuple[Line, ...] | None:
    """Loads of what the stores themselves overwrite first, every other load just before its store."""
    root = view.symbols.access(run.last).root
    early: list[Line] = []
    late: list[Line] = []
    for number, chunk in enumerate(chunks):
        place = Address(root, chunk.off)
        base = base_for(view, run.last, place, view.insns[run.last].dst)
        if base is None:
            return None
        letter = LETTERS[chunk.size]
        if chunk.imm is not None:
            late.append(Line(make(f"st_{letter}", dst=base[0], off=base[1], imm=chunk.imm), None, place))
            continue
        data = chunk.reg
        if chunk.source is not None:
            data = FIRST_TEMPORARY + number
            from_ = base_for(view, run.last, chunk.source)
            if from_ is None:
                return None
            load = Line(make(f"ldx_{letter}", dst=data, src=from_[0], off=from_[1]), None, chunk.source)
            (early if _is_spoilt(chunk, chunks[:number], root) else late).append(load)
        assert data is not None
        late.append(Line(make(f"stx_{letter}", dst=base[0], src=data, off=base[1]), None, place))
    return (*early, *late)


def _is_spoilt(chunk: Chunk, earlier: list[Chunk], root: object) -> bool:
    """Has a store in front overwritten some of the chunk's source?"""
    source = chunk.source
    if source is None or source.root != root:
        return source is not None and source.root.region in PACKET_FAMILY
    return any(old.off < source.off + chunk.size and source.off < old.off + old.size for old in earlier)

"""Lists of address ranges: `.debug_rnglists` and `.debug_loclists` (DWARF 5, sections 7.25 and 7.29), and their
predecessors `.debug_ranges` and `.debug_loc` (DWARF 4, sections 2.17.3 and 2.6.2).

All four are decoded to ranges of old addresses and encoded again from ranges of new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from llvm_bridge.dwarf_forms import Cursor, DwarfError, uleb
from llvm_bridge.elf import R_BPF_64_ABS64, Relocation
from verifier_model.bpf.insn import ByteOrder

_END, _BASE_INDEX, _INDEX_INDEX, _INDEX_LENGTH, _PAIR = 0, 1, 2, 3, 4
# Kinds of entries behind those five: base address, start and end, start and length.
_RANGE_KINDS: Final = (5, 6, 7)
_LOCATION_KINDS: Final = (6, 7, 8)
_HEADER_BYTES: Final = 12
_OLD_BASE: Final = (1 << 64) - 1


class Address(NamedTuple):
    """An address of code: the section's index, the byte in it, and the symbol that its relocation names."""

    section: int
    byte: int
    symbol: int


@dataclass(frozen=True, slots=True)
class Base:
    """What the addresses of an entry are counted from.

    By `index` into .debug_addr, or inline in the list itself (`index` None), or the unit's own (`is_unit`).
    """

    address: Address
    index: int | None = None
    is_unit: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes [low, high) of the base's section; `expression` for location lists."""

    base: Base
    low: int
    high: int
    expression: bytes = b""


@dataclass(frozen=True)
class Context:
    """How a list of one unit is read: addresses by index and by their place in the section, the unit's own base."""

    by_index: Callable[[int], Address]
    inline: Callable[[int], Address | None]
    unit_base: Address | None


@dataclass
class Target:
    """Where lists are written: new addresses of old ones, the new values of symbols, the bytes and relocations."""

    order: ByteOrder
    position: Callable[[int, int], int]
    symbol_value: Callable[[int], int]
    data: bytearray = field(default_factory=bytearray)
    relocations: list[Relocation] = field(default_factory=list)

    def address(self, address: Address, new: int) -> None:
        """Eight relocated bytes for the new address `new` in the section of `address`."""
        self.relocations.append(Relocation(len(self.data), address.symbol, R_BPF_64_ABS64))
        self.data += (new - self.symbol_value(address.symbol)).to_bytes(8, self.order, signed=True)

    def base(self, base: Base) -> int:
        return self.position(base.address.section, base.address.byte)


def read_list(cursor: Cursor, context: Context, is_location: bool) -> Iterator[Range]:
    """The ranges of a DWARF 5 list; raises DwarfError for a kind of entry that is not known."""
    base_kind, start_end, start_length = _LOCATION_KINDS if is_location else _RANGE_KINDS
    base = Base(context.unit_base, is_unit=True) if context.unit_base else None
    while (kind := cursor.number(1)) != _END:
        if kind == _BASE_INDEX:
            index = cursor.uleb()
            base = Base(context.by_index(index), index)
            continue
        if kind == base_kind:
            base = Base(_inline(cursor, context))
            continue
        if kind == _PAIR:
            if base is None:
                raise DwarfError("a list without a base address")
            own, start, end = base, cursor.uleb(), cursor.uleb()
            low, high = own.address.byte + start, own.address.byte + end
        elif kind in (_INDEX_INDEX, _INDEX_LENGTH):
            index = cursor.uleb()
            own = Base(context.by_index(index), index)
            low, operand = own.address.byte, cursor.uleb()
            high = low + operand
            if kind == _INDEX_INDEX:
                high = _same_section(own.address, context.by_index(operand))
        elif kind in (start_end, start_length):
            own = Base(_inline(cursor, context))
            low = own.address.byte
            high = low + cursor.uleb() if kind == start_length else _same_section(own.address, _inline(cursor, context))
        else:
            raise DwarfError(f"an entry of the unknown kind {kind} in a list")
        yield Range(own, low, high, cursor.take(cursor.uleb()) if is_location else b"")


def _inline(cursor: Cursor, context: Context) -> Address:
    found = context.inline(cursor.skip(8))
    if found is None:
        raise DwarfError("an address without a relocation")
    return found


def _same_section(start: Address, end: Address) -> int:
    if start.section != end.section:
        raise DwarfError("a range over two sections")
    return end.byte


def write_list(target: Target, ranges: Iterable[Range], is_location: bool) -> None:
    """A DWARF 5 list of `ranges`, whose bases are old and whose bounds are new addresses."""
    found = [one for one in ranges if one.low < one.high]
    current: Base | None = None
    for one in found:
        base = one.base
        start = target.base(base)
        is_only = len(found) == 1 and base.index is not None and start == one.low
        if is_only and base.index is not None:
            target.data += bytes((_INDEX_LENGTH,)) + uleb(base.index) + uleb(one.high - one.low)
        else:
            if base.is_unit and current not in (None, base):
                raise DwarfError("a list that returns to its unit's base address")
            if not base.is_unit and current != base:
                _write_base(target, base, start, is_location)
            current = base
            if one.low < start:
                raise DwarfError("a range in front of its base address")
            target.data += bytes((_PAIR,)) + uleb(one.low - start) + uleb(one.high - start)
        if is_location:
            target.data += uleb(len(one.expression)) + one.expression
    target.data.append(_END)


def _write_base(target: Target, base: Base, start: int, is_location: bool) -> None:
    if base.index is not None:
        target.data += bytes((_BASE_INDEX,)) + uleb(base.index)
        return
    target.data.append(_LOCATION_KINDS[0] if is_location else _RANGE_KINDS[0])
    target.address(base.address, start)


def read_old_list(cursor: Cursor, context: Context, is_location: bool) -> Iterator[Range]:
    """The ranges of a list of DWARF 4 or earlier."""
    base = Base(context.unit_base, is_unit=True) if context.unit_base else None
    while True:
        first = context.inline(cursor.at)
        start = cursor.number(8)
        second = context.inline(cursor.at)
        end = cursor.number(8)
        if first is not None and second is not None:
            own, low, high = Base(first), first.byte, _same_section(first, second)
        elif start == _OLD_BASE and first is None:
            base = Base(second) if second is not None else None
            continue
        elif first is not None or second is not None:
            raise DwarfError("an address without a relocation")
        elif not start and not end:
            return
        elif base is None:
            raise DwarfError("a list without a base address")
        else:
            own, low, high = base, base.address.byte + start, base.address.byte + end
        yield Range(own, low, high, cursor.take(cursor.number(2)) if is_location else b"")


def write_old_list(target: Target, ranges: Iterable[Range], is_location: bool, unit_base: Address | None) -> None:
    """A list of DWARF 4 or earlier; every entry gets relocated bounds unless it counts from the unit's base."""
    current = Base(unit_base, is_unit=True) if unit_base else None
    for one in ranges:
        if one.low >= one.high:
            continue
        if unit_base is None:
            target.address(one.base.address, one.low)
            target.address(one.base.address, one.high)
        else:
            if current != one.base:
                target.data += _OLD_BASE.to_bytes(8, target.order)
                target.address(one.base.address, target.base(one.base))
                current = one.base
            start = target.base(one.base)
            if one.low < start:
                raise DwarfError("a range in front of its base address")
            target.data += (one.low - start).to_bytes(8, target.order) + (one.high - start).to_bytes(8, target.order)
        if is_location:
            target.data += len(one.expression).to_bytes(2, target.order) + one.expression
    target.data += bytes(16)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One unit's part [start, end) of a DWARF 5 list section, with a table of `count` offsets at `base`."""

    start: int
    end: int
    count: int

    @property
    def base(self) -> int:
        return self.start + _HEADER_BYTES


def contributions(data: bytes, order: ByteOrder) -> list[Contribution]:
    found = []
    at = 0
    while at < len(data):
        cursor = Cursor(data, order, at)
        length = cursor.number(4)
        if length >= 0xFFFFFFF0:
            raise DwarfError("64-bit DWARF")
        end = cursor.at + length
        cursor = Cursor(data, order, cursor.at, end)
        if (cursor.number(2), cursor.number(1), cursor.number(1)) != (5, 8, 0):
            raise DwarfError("a table of lists of an unknown version")
        count = cursor.number(4)
        cursor.skip(4 * count)
        found.append(Contribution(at, end, count))
        at = end
    return found


def list_offset(data: bytes, order: ByteOrder, base: int, index: int) -> int:
    """Where the list `index` of the table at `base` starts in the section."""
    return base + Cursor(data, order, base + 4 * index).number(4)


def write_contribution(
    target: Target, starts: Iterable[int], table: Iterable[int], extra: int, write: Callable[[int], None]
) -> Mapping[int, int]:
    """One contribution; `write(old offset)` writes the list there, with -1, -2, ... for the `extra` ones.

    `starts` are the old offsets of all lists, `table` those of the offset table in order.  Returns the new offsets.
    """
    start = len(target.data)
    wanted = [*table, *(-1 - number for number in range(extra))]
    target.data += bytes(_HEADER_BYTES + 4 * len(wanted))
    base = start + _HEADER_BYTES
    moved: dict[int, int] = {}
    for old in [*sorted(set(starts)), *(-1 - number for number in range(extra))]:
        moved[old] = len(target.data)
        write(old)
    order = target.order
    head = (len(target.data) - start - 4).to_bytes(4, order) + (5).to_bytes(2, order) + bytes((8, 0))
    target.data[start:base] = head + len(wanted).to_bytes(4, order)
    for number, old in enumerate(wanted):
        target.data[base + 4 * number : base + 4 * number + 4] = (moved[old] - base).to_bytes(4, order)
    return moved

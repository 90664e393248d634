"""The object lint: a pure function over every invariant of toolchain-conventions, section 6, that bytes can show.

It shares the parsers with the reader but none of its conclusions, so it judges objects of the writer, of clang and of
anybody else alike.  Each rule is a function that yields findings; `RULES` is the list.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from llvm_bridge import btf_ext, jump_tables
from llvm_bridge.core_records import mismatch
from llvm_bridge.elf import (
    R_BPF_64_32,
    R_BPF_64_64,
    R_BPF_64_ABS32,
    R_BPF_64_ABS64,
    R_BPF_64_NODYLD32,
    SHN_UNDEF,
    SHT_LLVM_ADDRSIG,
    SHT_REL,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_SECTION,
    STV_DEFAULT,
    STV_HIDDEN,
    ObjectError,
    Relocation,
    data_addend,
    parse,
)
from llvm_bridge.lint_subject import Slot, Subject
from llvm_bridge.prune import uleb_list
from llvm_bridge.references import call_target
from verifier_model.bpf.btf import BtfError
from verifier_model.bpf.insn import SLOT_BYTES, RawSlot, branch_distance
from verifier_model.bpf.isa import Kind

# The rule that stands for all others where the object cannot even be read: it hides what else is wrong.
UNREADABLE: Final = "unreadable"
LONGEST_DETAIL: Final = 400  # characters


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken invariant: `rule` names it, `subject` the section or function; `detail` says where and how.

    Two findings are equal when rule and subject are: a fault that clang's own object has stays recognisable after
    code moved.
    """

    rule: str
    subject: str
    detail: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail} [{self.rule}]"


def _section_shapes(subject: Subject) -> Iterator[Finding]:
    for section in subject.elf.sections[1:]:
        if not section.name:
            yield Finding("section-name", "section", "a section without a name")
        if section.is_code and section.size % SLOT_BYTES:
            yield Finding("code-size", section.name, f"{section.size} bytes are no whole number of instructions")
        if section.type == SHT_REL:
            target = subject.elf.sections[section.info].name if section.info < len(subject.elf.sections) else "?"
            if section.name != ".rel" + target:
                yield Finding("rel-name", section.name, f"its relocations are for {target}")


def _symbols(subject: Subject) -> Iterator[Finding]:
    elf = subject.elf
    first_global = elf.sections[elf.symbol_table].info
    for number, symbol in enumerate(elf.symbols):
        name = symbol.name or f"symbol {number}"
        if (symbol.binding == STB_LOCAL) != (number < first_global):
            yield Finding("symbol-order", name, f"local symbols must be the first {first_global}")
        if symbol.visibility not in (STV_DEFAULT, STV_HIDDEN):
            yield Finding("symbol-visibility", name, "neither default nor hidden")
        if symbol.section == SHN_UNDEF and (symbol.type != STT_NOTYPE or symbol.value or symbol.size):
            yield Finding("symbol-undefined", name, "an undefined symbol with a type, value or size")
        if symbol.is_defined:
            size = elf.sections[symbol.section].size
            if symbol.value > size or symbol.value + symbol.size > size:
                yield Finding("symbol-bounds", name, f"reaches beyond {elf.sections[symbol.section].name}")
            if symbol.type == STT_SECTION and symbol.value:
                yield Finding("symbol-bounds", name, "a section symbol that is not at the section's start")


def _function_bounds(subject: Subject) -> Iterator[Finding]:
    for index, found in subject.functions.items():
        section = subject.elf.sections[index]
        end = 0
        for start, size, name in found:
            if start % SLOT_BYTES or size % SLOT_BYTES or not size:
                yield Finding("function-size", name, f"{size} bytes at {start}: not a whole number of instructions")
            elif start not in subject.slots[index]:
                yield Finding("function-size", name, "starts on the second slot of a wide load")
            if start > end:
                yield Finding("function-gap", section.name, f"bytes {end} to {start} belong to no function")
            if start < end:
                yield Finding("function-overlap", name, f"starts at {start} before the one in front of it ends")
            end = max(end, start + size)
        if end < section.size:
            yield Finding("function-gap", section.name, f"bytes {end} to {section.size} belong to no function")


def _instructions(subject: Subject) -> Iterator[Finding]:
    for index, found in subject.functions.items():
        slots = subject.slots[index]
        relocated = {entry.offset for entry in subject.relocations.get(index, ())}
        end = subject.elf.sections[index].size
        stops = [*(start for start, _, _ in found), end][1:]
        for (start, size, name), stop in zip(found, stops, strict=True):
            at = start
            # A symbol may claim any size; what two of them claim is judged once.
            while at < min(start + size, stop, end):
                slot = slots.get(at)
                if slot is None:
                    at += SLOT_BYTES
                    continue
                for rule, what in _instruction(subject, index, slot, at, (start, start + size), at in relocated):
                    yield Finding(rule, name, f"byte {at}: {what}")
                at += slot.row.slots * SLOT_BYTES


def _instruction(
    subject: Subject, index: int, slot: Slot, at: int, bounds: tuple[int, int], relocated: bool
) -> Iterator[tuple[str, str]]:
    row = slot.row
    if row.slots == 2 and (at + 2 * SLOT_BYTES > bounds[1] or slot.high is None):
        yield "wide-load", "a wide load is cut off"
    elif slot.high is not None and slot.high != RawSlot(0, 0, 0, 0, slot.high.imm):
        yield "wide-load", "the second half of a wide load is odd"
    if "target" in row.uses:
        target = at + SLOT_BYTES * (1 + branch_distance(slot.raw, row))
        if not bounds[0] <= target < bounds[1]:
            yield "jump", f"{row.name} leaves the function"
        elif target not in subject.slots[index]:
            yield "jump", f"{row.name} goes to the second slot of a wide load"
    if row.name == "call_local" and not relocated and at + call_target(slot.raw.imm) not in subject.starts[index]:
        yield "call", "a call that hits no function's start"


def _code_relocations(subject: Subject) -> Iterator[Finding]:
    for index in subject.code:
        name = subject.elf.sections[index].name
        last = -1
        for entry in subject.relocations.get(index, ()):
            if entry.offset <= last:
                yield Finding("reloc-order", name, f"the relocation at byte {entry.offset} is out of order")
            last = entry.offset
            slot = subject.slots[index].get(entry.offset)
            if entry.offset not in subject.slots[index]:
                yield Finding("reloc-place", name, f"byte {entry.offset} is no instruction")
            elif slot is not None:
                for what in _relocated(subject, entry, slot):
                    yield Finding("reloc-place", name, f"byte {entry.offset}: {what}")


def _relocated(subject: Subject, entry: Relocation, slot: Slot) -> Iterator[str]:
    symbol = subject.elf.symbols[entry.symbol]
    wanted = {R_BPF_64_64: Kind.LOAD_WIDE, R_BPF_64_32: Kind.CALL}.get(entry.type)
    if slot.row.kind is not wanted:
        yield f"relocation type {entry.type} on {slot.row.name}"
        return
    if wanted is Kind.CALL:
        if slot.row.name != "call_local":
            yield f"a relocation on {slot.row.name}"
        elif symbol.section == SHN_UNDEF:
            if slot.raw.imm != -1:
                yield f"a call of the external {symbol.name} with an addend"
        elif symbol.value + call_target(slot.raw.imm) not in subject.starts.get(symbol.section, ()):
            yield "a call that hits no function's start"
    elif symbol.section in subject.starts:
        target = symbol.value + slot.raw.imm
        if target not in subject.slots[symbol.section]:
            yield "the address of something that is no instruction"
        elif symbol.type in (STT_FUNC, STT_SECTION) and target not in subject.starts[symbol.section]:
            yield "the address of something that is no function's start"


def _data_relocations(subject: Subject) -> Iterator[Finding]:
    known = (R_BPF_64_ABS64, R_BPF_64_ABS32, R_BPF_64_NODYLD32)
    for index, entries in subject.relocations.items():
        if index in subject.starts:
            continue
        section = subject.elf.sections[index]
        for entry in entries:
            width = 8 if entry.type == R_BPF_64_ABS64 else 4
            if entry.type not in known:
                yield Finding("reloc-type", section.name, f"type {entry.type} at byte {entry.offset}")
            elif entry.offset + width > section.size:
                yield Finding("reloc-place", section.name, f"byte {entry.offset} is outside the section")
            elif not section.name.startswith((".debug_", ".BTF", ".eh_frame")):
                symbol = subject.elf.symbols[entry.symbol]
                target = symbol.value + data_addend(subject.elf, index, entry)
                if symbol.section in subject.starts and target not in subject.slots[symbol.section]:
                    yield Finding("reloc-target", section.name, f"byte {entry.offset} names no instruction")


def _jump_tables(subject: Subject) -> Iterator[Finding]:
    home = subject.elf.section_index(jump_tables.SECTION)
    if home is None:
        return
    try:
        sizes = jump_tables.table_sizes(subject.elf)
    except ObjectError as error:
        yield Finding("jump-table", jump_tables.SECTION, str(error))
        return
    for index in subject.code:
        starts = [start for start, _, _ in subject.functions[index]]
        for entry in subject.relocations.get(index, ()):
            symbol, slot = subject.elf.symbols[entry.symbol], subject.slots[index].get(entry.offset)
            where = bisect_right(starts, entry.offset) - 1
            if symbol.section != home or slot is None or where < 0:
                continue
            start, size, name = subject.functions[index][where]
            table = symbol.value + slot.raw.imm
            if table not in sizes:
                yield Finding("jump-table", name, f"byte {entry.offset}: no table begins at {table}")
                continue
            for _, label in jump_tables.entries(subject.elf, table, sizes[table]):
                if not start <= label < start + size or label not in subject.slots[index]:
                    yield Finding("jump-table", name, f"the table at {table} leads to {label}, no instruction of it")
                    break


def _records(subject: Subject) -> Iterator[Finding]:
    index = subject.elf.section_index(".BTF.ext")
    if index is None:
        return
    if subject.graph is None:
        yield Finding("btf-ext", ".BTF.ext", "there is no .BTF beside it")
        return
    ext = btf_ext.parse(subject.elf.sections[index].data, subject.elf.order)
    homes = {subject.elf.sections[number].name: number for number in subject.code}
    places: dict[int, int] = {}
    for table, subsections in enumerate(ext.tables):
        seen = set()
        for subsection in subsections:
            name = subject.graph.string(subsection.name_offset)
            if name not in homes or name in seen:
                yield Finding("btf-ext", name, "records twice, or for a section without code")
                continue
            seen.add(name)
            places[subsection.name_offset] = homes[name]
            yield from _subsection(subject, table, homes[name], subsection)
    yield from _record_relocations(subject, index, ext, places)


def _subsection(subject: Subject, table: int, home: int, subsection: btf_ext.Subsection) -> Iterator[Finding]:
    name = subject.elf.sections[home].name
    offsets = [record[0] for record in subsection.records]
    for before, after in pairwise(offsets):
        if after <= before:
            yield Finding("record-order", name, f"table {table}: byte {after} behind byte {before}")
    for at in offsets:
        if at not in subject.slots[home]:
            yield Finding("record-place", name, f"table {table}: byte {at} is no instruction")
    if table == btf_ext.FUNCTIONS:
        if set(offsets) != subject.starts[home]:
            yield Finding("function-records", name, "not exactly one at the start of every function")
    elif table == btf_ext.LINES:
        yield from _first_lines(subject, home, set(offsets))
    else:
        yield from _core(subject, home, subsection)


def _first_lines(subject: Subject, home: int, offsets: set[int]) -> Iterator[Finding]:
    for start, _, name in subject.functions[home]:
        if start not in offsets:
            yield Finding("line-first", name, "its first instruction has no line record")


def _core(subject: Subject, home: int, subsection: btf_ext.Subsection) -> Iterator[Finding]:
    assert subject.graph is not None
    for at, type_id, access, kind in subsection.records:
        slot = subject.slots[home].get(at)
        if slot is None:
            continue
        try:
            fault = mismatch(subject.graph, (type_id, access, kind), slot.row, slot.raw, slot.high)
        except BtfError as error:
            fault = str(error)
        if fault is not None:
            yield Finding("core-place", subject.elf.sections[home].name, f"byte {at}: {fault}")


def _record_relocations(subject: Subject, index: int, ext: btf_ext.BtfExt, homes: dict[int, int]) -> Iterator[Finding]:
    if index not in subject.relocations:
        return
    entries = {entry.offset: entry for entry in subject.relocations[index]}
    if len(entries) != len(subject.relocations[index]):
        yield Finding("record-reloc", ".BTF.ext", "two relocations on one place")
    for place, name, record in btf_ext.offset_positions(ext):
        entry = entries.pop(place, None)
        symbol = subject.elf.symbols[entry.symbol] if entry else None
        if symbol is None or symbol.section != homes.get(name) or symbol.value:
            yield Finding("record-reloc", ".BTF.ext", f"the record of byte {record[0]} has no right relocation")
    if entries:
        yield Finding("record-reloc", ".BTF.ext", f"{len(entries)} relocations that belong to no record")


def _address_significance(subject: Subject) -> Iterator[Finding]:
    for section in subject.elf.sections:
        if section.type == SHT_LLVM_ADDRSIG:
            if section.link not in (0, subject.elf.symbol_table):
                yield Finding("addrsig", section.name, "is not tied to the symbol table")
            for number in uleb_list(section.data):
                if not 0 < number < len(subject.elf.symbols):
                    yield Finding("addrsig", section.name, f"there is no symbol {number}")


RULES: Final[tuple[Callable[[Subject], Iterator[Finding]], ...]] = (
    _section_shapes,
    _symbols,
    _function_bounds,
    _instructions,
    _code_relocations,
    _data_relocations,
    _jump_tables,
    _records,
    _address_significance,
)


def _shortened(finding: Finding) -> Finding:
    """Names of 4096 bytes, quoted in every finding, would multiply the object's size."""
    return (
        finding if len(finding.detail) <= LONGEST_DETAIL else replace(finding, detail=finding.detail[:LONGEST_DETAIL])
    )


@lru_cache(maxsize=2)
def lint(data: bytes) -> tuple[Finding, ...]:
    """Everything that is wrong with the object, in the order of the rules; () when nothing is."""
    try:
        subject = Subject(parse(data))
        return tuple(_shortened(finding) for rule in RULES for finding in rule(subject))
    except (ObjectError, BtfError) as error:
        return (Finding(UNREADABLE, "object", str(error)),)

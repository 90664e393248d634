"""What replacements of a window are made of: opcodes by level, registers, constants of the window and derived ones.

The space is stated, so that "nothing shorter was found" has a meaning: nothing over these opcodes, registers and
constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Final

from synth import _engine
from synth.engine_link import BRANCH_ROWS, ENGINE_ROWS, Symbols, rows_by_op, shape_insn, to_engine
from synth.window import ACCESS_KINDS, SearchWindow, base_register, reads, writes
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind, Operand, Row
from verifier_model.domains.registers import Region

_ALWAYS: Final = ("add", "sub", "or", "and", "xor", "lsh", "rsh", "arsh", "mov", "neg", "movsx8", "movsx16", "movsx32")
_ON_SIGHT: Final = ("mul", "div", "mod", "sdiv", "smod")  # expensive or rare: only where the window has one
_SWAPS: Final = ("le", "be", "bswap")
_SHIFTS: Final = frozenset({"lsh", "rsh", "arsh"})
_MOST_IMMEDIATES: Final = 28
_MOST_OFFSETS: Final = 16
_S32: Final = range(-(1 << 31), 1 << 31)
_S16: Final = range(-(1 << 15), 1 << 15)


def domain(window: SearchWindow, symbols: Symbols) -> _engine.Domain:
    """The search space of the window, in a fixed order: what the window itself uses comes first."""
    insns = window.insns
    written = dict.fromkeys(reg for insn in insns if (reg := writes(insn)) is not None)
    writable = list(dict.fromkeys([*written, *window.scratch]))
    read = dict.fromkeys(reg for insn in insns for reg in sorted(reads(insn)))
    readable = list(dict.fromkeys([*read, *writable]))
    wide: list[tuple[int, int, bool, int, int, int, int]] = []
    for insn in insns:
        form = to_engine(insn, symbols) if insn.kind is Kind.LOAD_WIDE else None
        if form is not None and (form[0], form[6]) not in {(known[0], known[6]) for known in wide}:
            wide.append(form)
    found = _engine.Domain(
        [shape_insn(row) for row in _alu_rows(window)],
        [shape_insn(row) for row in _memory_rows(window)],
        wide,
        _immediates(insns),
        _offsets(insns),
        writable or [0],
        readable or [0],
    )
    ways = dict.fromkeys(at for at, insn in zip(window.targets, insns, strict=False) if insn.kind is Kind.BRANCH)
    if ways:
        rows = [row for row in BRANCH_ROWS if row.level <= window.level]
        found.set_branches([shape_insn(row) for row in rows], list(ways))
    return found


def _alu_rows(window: SearchWindow) -> Iterator[Row]:
    present = {insn.row.op for insn in window.insns}
    names = [*_ALWAYS, *(op for op in _ON_SIGHT if op in present)]
    if present & {*_SWAPS, "or", "lsh", "rsh"}:
        names += _SWAPS
    for row in rows_by_op(names, window.level):
        # Subtracting a constant is adding its negation.
        if row.op == "sub" and row.operand is Operand.IMM:
            continue
        yield row


def _memory_rows(window: SearchWindow) -> Iterator[Row]:
    """Every width for private memory; for shared memory the rows that stand there, whose number and order are fixed."""
    loads_private = stores_private = False
    shared: set[tuple[Kind, int]] = set()
    shared_rows = set()
    for insn in window.insns:
        if insn.kind not in ACCESS_KINDS:
            continue
        is_load = insn.kind in LOAD_KINDS
        if _may_be_private(window, base_register(insn)):
            loads_private |= is_load
            stores_private |= not is_load
        elif is_load:
            shared_rows.add(insn.row.name)
        else:
            shared.add((Kind.STORE, insn.row.width))
            shared.add((Kind.STORE_IMM, insn.row.width))
    for row in ENGINE_ROWS:
        if row.level > window.level or row.kind not in ACCESS_KINDS:
            continue
        wanted = loads_private if row.kind in LOAD_KINDS else stores_private
        if wanted or row.name in shared_rows or (row.kind, row.width) in shared:
            yield row


def _may_be_private(window: SearchWindow, base: int) -> bool:
    fact = window.entry.regs[base]
    # A base that the window computes itself may be anything.
    return fact.region in (Region.STACK, Region.PACKET) or any(writes(insn) == base for insn in window.insns)


def _literals(insns: Iterable[Insn]) -> list[int]:
    numbers = (insn for insn in insns if "imm" in insn.row.uses and insn.ref is None)
    return list(dict.fromkeys(insn.imm - (1 << 64) if insn.imm >= 1 << 63 else insn.imm for insn in numbers))


def _immediates(insns: tuple[Insn, ...]) -> list[int]:
    """Literals, their sums, unions, shifts, negations and logarithms, masks for every shift count, small numbers."""
    literals = _literals(insns)
    counts = [insn.imm for insn in insns if insn.row.op in _SHIFTS and insn.row.operand is Operand.IMM]
    derived = [0, 1, -1, *literals]
    if any(insn.kind is Kind.BRANCH for insn in insns):
        derived += [value << count for value in literals for count in counts if 0 < value < 1 << 16]
    derived += [-value for value in literals]
    derived += [value.bit_length() - 1 for value in literals if value > 1 and value & (value - 1) == 0]
    for count in counts:
        derived += [count, 64 - count, 32 - count, (1 << count) - 1, ((1 << 64) - 1) >> count, ((1 << 32) - 1) >> count]
    limits = [insn.imm for insn in insns if insn.kind is Kind.BRANCH and insn.row.operand is Operand.IMM]
    derived += [value + step for value in limits for step in (1, -1)]
    for a, b in combinations(literals, 2):
        derived += [a + b, b - a, a - b, a | b, a & b, a ^ b]
    for value in literals:
        for count in counts:
            derived += [value << count, value >> count]
    for insn in insns:
        if insn.kind is Kind.LOAD_WIDE and insn.ref is None:
            mask = insn.imm
            derived += [(mask & -mask).bit_length() - 1, mask.bit_length(), 64 - mask.bit_length()]
        if insn.kind in ACCESS_KINDS or insn.kind is Kind.ENDIAN:
            derived.append((1 << min(insn.row.width, 31)) - 1)
    derived += [8, 16, 24, 32, 48, 56, 0xFF, 0xFFFF]
    kept = dict.fromkeys(_wrapped(value) for value in derived)
    return [value for value in kept if value in _S32][:_MOST_IMMEDIATES]


def _wrapped(value: int) -> int:
    """A 32-bit pattern as the signed immediate that has it; other numbers as they are."""
    return value - (1 << 32) if value in range(1 << 31, 1 << 32) else value


def _offsets(insns: tuple[Insn, ...]) -> list[int]:
    """Displacements of the window, aligned down to wider accesses, and moved by what it adds to registers."""
    offs = [insn.off for insn in insns if insn.kind in ACCESS_KINDS]
    steps = [insn.imm for insn in insns if insn.row.op in ("add", "sub") and insn.row.operand is Operand.IMM]
    found = list(offs)
    for off in offs:
        found += [off & ~1, off & ~3, off & ~7]
        found += [off + step for step in steps] + [off - step for step in steps]
    kept = [off for off in dict.fromkeys(found) if off in _S16]
    return kept[:_MOST_OFFSETS] or [0]


def touches_memory(window: SearchWindow) -> bool:
    return any(insn.kind in LOAD_KINDS | STORE_KINDS for insn in window.insns)

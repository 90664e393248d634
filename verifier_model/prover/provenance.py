"""What kind of value a register holds as a window runs: which region a pointer points into.

Only what decides how an access is treated; numbers live in terms.  Whatever is not certain is UNKNOWN, and an access
through it makes the prover give up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn, Ref, RefKind
from verifier_model.bpf.isa import Row
from verifier_model.domains.registers import Region, Register
from verifier_model.prover.entry import SCALAR_FACT, UNKNOWN_FACT, WORD, Value, reference
from verifier_model.prover.events import PACKET, RegionKey, stack_key
from verifier_model.prover.terms import Terms

_PRIVATE: Final = {Region.STACK, Region.PACKET, Region.PACKET_META}
_MOVES_OF_POINTERS: Final = frozenset({"add", "sub"})


def is_private(fact: Register) -> bool:
    return fact.region in _PRIVATE


def region_key(fact: Register) -> RegionKey:
    """The private region behind a pointer.  Packet and metadata lie side by side in one buffer: one region."""
    return stack_key(fact.frame) if fact.region is Region.STACK else PACKET


def alu_fact(row: Row, dst: Register, src: Register) -> Register:
    """The type of an ALU result."""
    if row.op == "mov" and row.width == 64:
        return src
    if row.width == 32 or (dst.is_scalar and src.is_scalar):
        return SCALAR_FACT
    if row.op in _MOVES_OF_POINTERS:
        if dst.is_pointer and src.is_scalar:
            return _moved(dst)
        if row.op == "add" and dst.is_scalar and src.is_pointer:
            return _moved(src)
        if row.op == "sub" and dst.is_pointer and src.is_pointer:
            return SCALAR_FACT
    return UNKNOWN_FACT


def _moved(pointer: Register) -> Register:
    return replace(pointer, exact=None)


def loaded_fact(row: Row, source: Register) -> Register:
    """The type of a loaded value that is no known spill: a 64-bit word may be a pointer, except in the packet."""
    if row.width < WORD or source.region in (Region.PACKET, Region.PACKET_META):
        return SCALAR_FACT
    return UNKNOWN_FACT


_REF_REGION: Final = {RefKind.MAP: Region.MAP, RefKind.DATA: Region.DATA, RefKind.FUNCTION: Region.FUNCTION}
_WIDE_REGION: Final = {
    "lddw_map_fd": Region.MAP,
    "lddw_map_idx": Region.MAP,
    "lddw_map_value": Region.MAP_VALUE,
    "lddw_map_idx_value": Region.MAP_VALUE,
    "lddw_func": Region.FUNCTION,
}


def symbol_value(terms: Terms, ref: Ref) -> Value:
    """What a wide load of the symbol gives."""
    region = _REF_REGION.get(ref.kind, Region.UNKNOWN)
    exact = Ref(ref.kind, ref.name, ref.addend)
    return Value(reference(terms, ref), Register(region, symbol=ref.name, exact=exact))


def wide_load(terms: Terms, insn: Insn) -> Value:
    """A 64-bit constant, or the address that the loader fills in: a variable per symbol."""
    if insn.ref is not None:
        return symbol_value(terms, insn.ref)
    if insn.row.name == "lddw_constant":
        return Value(terms.const(WORD, insn.imm), SCALAR_FACT)
    region = _WIDE_REGION.get(insn.row.name, Region.UNKNOWN)
    return Value(terms.var(("patched", insn.row.name, insn.imm), WORD), Register(region))

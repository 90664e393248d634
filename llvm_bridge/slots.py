"""Slots of code as fields and table row, decoded once per distinct pattern: code repeats itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from verifier_model.bpf.insn import SLOT_BYTES, ByteOffset, ByteOrder, RawSlot, read_slot, row_of
from verifier_model.bpf.isa import Row

_MOST_PATTERNS: Final = 1 << 14


def slot_at(data: bytes, at: int, order: ByteOrder) -> tuple[RawSlot, Row | str]:
    """The slot at byte `at` and the row that it encodes, or the reason why there is none."""
    return _decoded(data[at : at + SLOT_BYTES], order)


@lru_cache(maxsize=_MOST_PATTERNS)
def _decoded(slot: bytes, order: ByteOrder) -> tuple[RawSlot, Row | str]:
    raw = read_slot(slot, ByteOffset(0), order)
    return raw, row_of(raw)

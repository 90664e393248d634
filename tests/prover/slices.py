"""Def-use slices: members of a window that are scattered over a run and become one instruction, moved over the rest."""

from __future__ import annotations

from tests.prover.obligations import obligation
from verifier_model.verdict import Obligation

ENTRY = "r2 packet base=1; r6 map_value base=3; r7 scalar; r8 scalar; r9 scalar; r1 ctx"
MEMBERS = ("r3 = *(u8 *)(r2 + 1)", "r4 = *(u8 *)(r2 + 0)", "r3 <<= 8", "r3 |= r4")
WHOLE = "r3 = *(u16 *)(r2 + 0)"
# What may stand between the members; each in turn.
OTHERS = (
    "r7 += r8",
    "*(u64 *)(r10 - 16) = r7",
    "r8 ^= 3",
    "*(u32 *)(r6 + 4) = r8",
    "r9 = *(u32 *)(r6 + 0)",
    "r7 = *(u32 *)(r10 - 16)",
    "*(u8 *)(r2 + 9) = r7",
    "r9 <<= 3",
)
DEMAND = "r3 r7 r8 r9 -16..-9"


def others(count: int) -> list[str]:
    return [OTHERS[at % len(OTHERS)] for at in range(count)]


def scattered(count: int, between: list[str] | None = None) -> str:
    """The members with `count` other instructions spread among them."""
    rest = others(count) if between is None else between
    lines: list[str] = []
    for index, member in enumerate(MEMBERS):
        share = rest[index * len(rest) // len(MEMBERS) : (index + 1) * len(rest) // len(MEMBERS)]
        lines += [member, *share]
    return "; ".join(lines)


def question(count: int, whole: str = WHOLE, is_last: bool = False) -> Obligation:
    """The members joined before the others, or (`is_last`) behind them."""
    lines = [*others(count), whole] if is_last else [whole, *others(count)]
    return obligation(ENTRY, scattered(count), "; ".join(lines), DEMAND)

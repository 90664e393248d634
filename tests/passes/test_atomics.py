"""One atomic operation for a load, an operation and a store: for size alone, and only where nothing comes between."""

from collections.abc import Iterator

import pytest

from synth.passes.atomics import update_at_once
from synth.passes.block_view import BlockView
from synth.rewrite import Rewrite
from synth.settings import Settings
from tests.passes.straight_line import demand, pointer, replacement
from verifier_model.domains.registers import Region

VALUE = pointer(Region.MAP_VALUE, base=1)


def sized(view: BlockView, settings: Settings) -> Iterator[Rewrite]:
    return update_at_once(view, Settings(goal="size"))


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("r1 = *(u64 *)(r6 + 8); r1 += r2; *(u64 *)(r6 + 8) = r1", "lock *(u64 *)(r6 +8) += r2"),
        ("r1 = *(u32 *)(r6 + 4); w1 += w2; *(u32 *)(r6 + 4) = r1", "lock *(u32 *)(r6 +4) += r2"),
        ("r1 = *(u64 *)(r6 + 8); r1 ^= r2; *(u64 *)(r6 + 8) = r1", "lock *(u64 *)(r6 +8) ^= r2"),
        ("r3 = 1; r1 = *(u64 *)(r6 + 8); r1 += 1; *(u64 *)(r6 + 8) = r1", "r3 = 1; lock *(u64 *)(r6 +8) += r3"),
    ],
)
def test_update_at_once(text: str, expected: str) -> None:
    assert replacement(sized, lines(text), demand(2, 3), r6=VALUE) == expected
    assert replacement(update_at_once, lines(text), demand(2, 3), r6=VALUE) is None, "slower, so for size alone"


@pytest.mark.parametrize(
    "text",
    [
        "r1 = *(u64 *)(r6 + 8); r1 += r2; *(u64 *)(r6 + 16) = r1",
        "r1 = *(u64 *)(r6 + 8); r1 += r2; *(u32 *)(r6 + 8) = r1",
        "r1 = *(u64 *)(r6 + 8); r1 += r1; *(u64 *)(r6 + 8) = r1",
        "r1 = *(u64 *)(r6 + 8); w1 += w2; *(u64 *)(r6 + 8) = r1",
        "r1 = *(u64 *)(r6 + 8); r1 += r2; r2 = 4; *(u64 *)(r6 + 8) = r1",
        "r1 = *(u64 *)(r6 + 8); r1 += r2; r3 = r1; *(u64 *)(r6 + 8) = r1",
        "r1 = *(u64 *)(r6 + 8); r3 = *(u64 *)(r6 + 0); r1 += r2; *(u64 *)(r6 + 8) = r1",
        "r1 = *(u64 *)(r6 + 8); r1 *= r2; *(u64 *)(r6 + 8) = r1",
        "r1 = *(u16 *)(r6 + 8); r1 += r2; *(u16 *)(r6 + 8) = r1",
    ],
)
def test_other_updates_stay(text: str) -> None:
    assert replacement(sized, lines(text), demand(2, 3), r6=VALUE) is None


def test_number_that_is_still_needed_stays() -> None:
    text = lines("r1 = *(u64 *)(r6 + 8); r1 += r2; *(u64 *)(r6 + 8) = r1")
    assert replacement(sized, text, demand(1, 2), r6=VALUE) is None
    assert replacement(sized, text, demand(2), r6=pointer(Region.PACKET, base=1, readable=64)) is None

"""A load, an operation and a store of shared memory may become one atomic operation, and nothing else may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.prover.obligations import obligation
from verifier_model.bpf.unit import MapDef
from verifier_model.prover import prove
from verifier_model.verdict import Status, Verdict

VALUE = "r6 map_value base=3 size=64 symbol=hits; r7 scalar; r8 map_value base=4 size=64 symbol=hits"
PLAIN = "r3 = *(u64 *)(r6 + 8); r3 += 1; *(u64 *)(r6 + 8) = r3"
ATOMIC = "r3 = 1; lock *(u64 *)(r6 + 8) += r3"


def verdict(before: str, after: str, entry: str = VALUE, demand: str = "", map_type: int = 1) -> Verdict:
    asked = obligation(entry, before, after, demand)
    maps = {name: MapDef(name, map_type, 4, 64, 16) for name in ("hits", "flows")}
    return prove(replace(asked, unit=replace(asked.unit, maps=maps)))


@pytest.mark.parametrize(
    "before, after",
    [
        (PLAIN, ATOMIC),
        ("r3 = *(u64 *)(r6 + 0); r3 += r7; *(u64 *)(r6 + 0) = r3", "lock *(u64 *)(r6 + 0) += r7"),
        ("w3 = *(u32 *)(r6 + 4); w3 += w7; *(u32 *)(r6 + 4) = r3", "lock *(u32 *)(r6 + 4) += r7"),
        ("r3 = *(u64 *)(r6 + 0); r3 -= r7; *(u64 *)(r6 + 0) = r3", "r7 = -r7; lock *(u64 *)(r6 + 0) += r7"),
        ("r3 = *(u64 *)(r6 + 0); r3 |= r7; *(u64 *)(r6 + 0) = r3", "lock *(u64 *)(r6 + 0) |= r7"),
        ("r3 = *(u64 *)(r6 + 0); r3 ^= r7; *(u64 *)(r6 + 0) = r3", "lock *(u64 *)(r6 + 0) ^= r7"),
        ("r3 = *(u64 *)(r6 + 0); r3 &= r7; *(u64 *)(r6 + 0) = r3", "lock *(u64 *)(r6 + 0) &= r7"),
    ],
)
def test_plain_becomes_atomic(before: str, after: str) -> None:
    before = before.replace("w3 = *", "r3 = *")
    assert verdict(before, after).is_proved
    assert not verdict(after, before).is_proved, "the reverse would give up what the program relies on"


@pytest.mark.parametrize(
    "before, after",
    [
        (PLAIN, "r3 = 3; lock *(u64 *)(r6 + 8) += r3"),
        (PLAIN, "r3 = 1; lock *(u64 *)(r6 + 16) += r3"),
        (PLAIN, "r3 = 1; lock *(u32 *)(r6 + 8) += r3"),
        (PLAIN, "r3 = 1; lock *(u64 *)(r6 + 8) |= r3"),
        (PLAIN, "r3 = 1; lock *(u64 *)(r8 + 8) += r3"),
        (PLAIN, "r3 = 1; r3 = atomic64_fetch_add((u64 *)(r6 + 8), r3)"),
        (PLAIN, f"{ATOMIC}; lock *(u64 *)(r6 + 8) += r3"),
        (PLAIN, f"{ATOMIC}; r3 = *(u64 *)(r6 + 8)"),
        ("r3 = *(u64 *)(r6 + 8); r3 += 1; *(u64 *)(r6 + 16) = r3", ATOMIC),
        (
            "r3 = *(u64 *)(r6 + 8); r4 = *(u64 *)(r8 + 0); r3 += 1; *(u64 *)(r6 + 8) = r3",
            f"{ATOMIC}; r4 = *(u64 *)(r8 + 0)",
        ),
        (
            "r3 = *(u64 *)(r6 + 8); *(u64 *)(r8 + 0) = r7; r3 += 1; *(u64 *)(r6 + 8) = r3",
            f"*(u64 *)(r8 + 0) = r7; {ATOMIC}",
        ),
        ("*(u64 *)(r6 + 8) = r7; r3 = *(u64 *)(r6 + 8)", "lock *(u64 *)(r6 + 8) += r7"),
        ("*(u64 *)(r6 + 8) = r7", "lock *(u64 *)(r6 + 8) += r7"),
        ("r3 = *(u64 *)(r6 + 4); r3 += 1; *(u64 *)(r6 + 4) = r3", "r3 = 1; lock *(u64 *)(r6 + 4) += r3"),
    ],
)
def test_nothing_else_does(before: str, after: str) -> None:
    assert not verdict(before, after).is_proved


@pytest.mark.parametrize("map_type, proved", [(1, True), (2, True), (6, True), (11, False), (22, False)])
def test_values_must_be_aligned(map_type: int, proved: bool) -> None:
    assert verdict(PLAIN, ATOMIC, map_type=map_type).is_proved is proved


@pytest.mark.parametrize(
    "entry",
    [
        "r6 map_value base=3 size=64 max=8 symbol=hits",
        "r6 map_value base=3 size=64 off=4 symbol=hits",
        "r6 map_value base=3 size=64",
        "r6 map_value base=3 size=64 symbol=hits assumed_safe",
        "r6 memory base=3 size=64",
        "r6 object base=3",
        "r6 data base=3 size=64 symbol=.bss",
    ],
)
def test_only_where_the_place_is_known(entry: str) -> None:
    assert not verdict(PLAIN, ATOMIC, entry).is_proved


def test_the_loaded_number_is_gone() -> None:
    assert verdict(PLAIN, ATOMIC, demand="r3").status is not Status.PROVED

"""The count of processed instructions against the running kernel's, on tiny programs beside twins that count otherwise.

The numbers are those of Linux 6.18, whose walk `checker.work` repeats; other kernels keep other states.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import verifier_model.checker.work as counting
from tests.checker.programs import CASES, MAPS, Case, unit_of
from tests.checker.test_check import linked
from verifier_model.checker import check
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.programs import load_insns
from verifier_model.kernel.syscall import Refused, map_create

# r6 and r7 are numbers that nobody knows; `one` and the rest of each program follow.
START = "r6 = *(u32 *)(r1 +12)\nr7 = *(u32 *)(r1 +16)\n"
FILLER = "r0 += 1\n"
ROOM = "*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0\n"


class Pair(NamedTuple):
    """Two programs that differ a little, and what the verifier processes of each."""

    name: str
    text: str
    number: int
    twin: str
    twin_number: int


def meeting(before: str, otherwise: str, after: str, filler: str = 6 * FILLER) -> str:
    """Two ways, one with `before` and one with `otherwise`, that meet in front of a place worth keeping a state."""
    return (
        f"{START}r0 = 0\nif r6 == 1 goto other\n{before}\ngoto both\nother:\n{otherwise}\nboth:\n{filler}"
        f"if r7 == 2 goto out\n{after}\nout:\nr0 = 2\nexit\n"
    )


def packet(first: int, second: int) -> str:
    check = "r4 = r2\nr4 += {}\nif r4 > r3 goto out\n"
    return (
        f"r9 = r1\n{START}r2 = *(u32 *)(r9 +0)\nr3 = *(u32 *)(r9 +4)\nr0 = 0\nif r6 == 1 goto other\n"
        f"{check.format(first)}goto both\nother:\n{check.format(second)}both:\n{6 * FILLER}if r7 == 2 goto out\n"
        "r5 = *(u8 *)(r2 +1)\nout:\nr0 = 2\nexit\n"
    )


def lookup(key: str, off: int) -> str:
    return (
        f"{key}r2 = r10\nr2 += {off}\nr1 = map_fd(map[m]) ll\ncall 1\nif r0 == 0 goto out\n"
        "r0 = *(u64 *)(r0 +0)\nout:\nr0 = 2\nexit\n"
    )


def through_callee(after: str) -> str:
    return (
        f"{START}r1 = 1\nif r6 == 1 goto other\nr1 = 2\nother:\nr0 = 0\n{6 * FILLER}if r7 == 7 goto out\n"
        f"call fn[sub]\nr8 = r0\n{after}\nout:\nr0 = 2\nexit\n-- sub\nr0 = r1\nexit\n"
    )


def bounded(change: str, bits: int = 16) -> str:
    """Is a number known to fit into so many bits?"""
    return f"{START}{change}\nr7 = {(1 << bits) - 1} ll\nr0 = 0\nif r6 > r7 goto out\nout:\nr0 = 2\nexit\n"


def linked_copy(mask: str) -> str:
    return (
        f"{START}r8 = r6\n{mask}if r6 > 3 goto out\nr0 = 0\n{6 * FILLER}if r7 == 1 goto out\n{IN_STACK}\n"
        "out:\nr0 = 2\nexit\n"
    )


def turns(count: int) -> str:
    return f"r6 = 0\nagain:\nr6 += 1\nif r6 < {count} goto again\nr0 = 2\nexit\n"


def stored(value: int, off: int) -> str:
    return f"r8 = {value}\n*(u64 *)(r10 {off}) = r8"


IN_STACK = "r2 = r10\nr2 += -16\nr2 += r8\n*(u8 *)(r2 +0) = 0"
FILL = "r8 = *(u64 *)(r10 -24)\n"
OUTPUT = "r1 = r10\nr1 += -16\nr2 = {}\nr3 = 0\ncall 113"
PAIRS = (
    Pair(
        "a number becomes an offset, or nothing depends on it",
        meeting("r8 = 1", "r8 = 2", IN_STACK),
        37,
        meeting("r8 = 1", "r8 = 2", "r0 = r8"),
        26,
    ),
    Pair(
        "a register of two types is read, or overwritten first",
        meeting("r8 = r10", "r8 = 2", "r9 = r8"),
        31,
        meeting("r8 = r10", "r8 = 2", "r8 = 3\nr9 = r8"),
        27,
    ),
    Pair(
        "a state is kept after eight instructions, not after seven",
        meeting("r8 = 1\nr9 = 1", "r8 = 2", "r0 = r8"),
        21,
        meeting("r8 = 1", "r8 = 2", "r0 = r8"),
        26,
    ),
    Pair(
        "a filled number becomes an offset, or nothing depends on it",
        meeting(stored(1, -24), stored(2, -24), FILL + IN_STACK),
        39,
        meeting(stored(1, -24), stored(2, -24), FILL + "r9 = r8"),
        23,
    ),
    Pair(
        "a slot of two types is read, or overwritten first",
        meeting("*(u64 *)(r10 -24) = r10", "*(u64 *)(r10 -24) = r6", FILL),
        31,
        meeting("*(u64 *)(r10 -24) = r10", "*(u64 *)(r10 -24) = r6", "r8 = 1\n*(u64 *)(r10 -24) = r8\n" + FILL),
        28,
    ),
    Pair(
        "a number decides a branch, or another one does",
        meeting("r8 = 1", "r8 = 2", "if r8 == 1 goto out"),
        31,
        meeting("r8 = 1", "r8 = 2", "if r6 == 1 goto out"),
        28,
    ),
    Pair("the packet is proved shorter, or longer", packet(20, 14), 38, packet(14, 20), 29),
    Pair("a copy learns a range, or is none", linked_copy(""), 20, linked_copy("r8 &= 7\n"), 21),
    Pair(
        "an index inside the array, or behind it",
        lookup("r6 = 3\n*(u32 *)(r10 -8) = r6\n", -8),
        10,
        lookup("r6 = 4\n*(u32 *)(r10 -8) = r6\n", -8),
        11,
    ),
    Pair("a remainder may be any number, a mask is kept", bounded("r6 %= 8"), 10, bounded("r6 &= 7"), 8),
    Pair("half of a number is swapped, or all of it", bounded("r6 = be16 r6"), 8, bounded("r6 = be64 r6"), 10),
    Pair("half of a number is negated, or all of it", bounded("w6 = -w6", 32), 8, bounded("r6 = -r6", 32), 10),
    Pair(
        "a key is the upper half of a zero, or its lower one",
        lookup("*(u64 *)(r10 -8) = 0\n", -4),
        9,
        lookup("*(u64 *)(r10 -8) = 0\n", -8),
        10,
    ),
    Pair(
        "a key of zero bytes, or a number that is not kept",
        lookup("*(u32 *)(r10 -4) = 0\n", -4),
        9,
        lookup("*(u32 *)(r10 -4) = 1\n", -4),
        10,
    ),
    Pair(
        "a sign or more under a mask",
        f"{START}r6 <<= 40\nr6 s>>= 63\nr6 &= 7\nr0 = 2\nexit\n",
        10,
        f"{START}r6 <<= 40\nr6 s>>= 62\nr6 &= 7\nr0 = 2\nexit\n",
        7,
    ),
    Pair(
        "a number four away decides a branch, or one that was added to twice",
        f"{START}r8 = r6\nr8 += 4\nr0 = 0\nif r6 > 3 goto out\nif r8 > 7 goto out\nr0 = 1\nout:\nr0 = 2\nexit\n",
        11,
        f"{START}r8 = r6\nr8 += 3\nr8 += 1\nr0 = 0\nif r6 > 3 goto out\nif r8 > 7 goto out\nr0 = 1\nout:\nr0 = 2\n"
        "exit\n",
        13,
    ),
    Pair(
        "a loop that may be left at any turn, or after three",
        "r8 = 0\nagain:\nmay_goto out\nr8 += 1\nif r8 < 40 goto again\nout:\nr0 = 2\nexit\n",
        203,
        "r8 = 0\nagain:\nmay_goto out\nr8 += 1\nif r8 < 3 goto again\nout:\nr0 = 2\nexit\n",
        18,
    ),
    Pair(
        "half of a number keeps its sign, or gets another",
        f"{START}w6 = (s8)w6\nr0 = 0\nif w6 s> 127 goto out\nif w6 s< -128 goto out\nr0 = 2\nout:\nexit\n",
        8,
        f"{START}w6 = (s16)w6\nr0 = 0\nif w6 s> 127 goto out\nif w6 s< -128 goto out\nr0 = 2\nout:\nexit\n",
        10,
    ),
    Pair("thirty turns, or one more", turns(30), 63, turns(31), 65),
    Pair(
        "zero bytes cost precision, a narrow spill does not",
        meeting("r8 = 0\n*(u32 *)(r10 -4) = r8", "r8 = 1\n*(u32 *)(r10 -4) = r8", "r8 = *(u32 *)(r10 -4)"),
        31,
        meeting("r8 = 0\n*(u32 *)(r10 -8) = r8", "r8 = 1\n*(u32 *)(r10 -8) = r8", "r8 = *(u32 *)(r10 -8)"),
        22,
    ),
    Pair(
        "a size that helpers take, or another",
        meeting("r8 = 8", "r8 = 16", OUTPUT.format("r8"), ROOM + 4 * FILLER),
        37,
        meeting("r8 = 8", "r8 = 16", OUTPUT.format(8), ROOM + 4 * FILLER),
        30,
    ),
    Pair("an offset comes through a callee, or not", through_callee(IN_STACK), 42, through_callee("r9 = r8"), 33),
)


@pytest.fixture(scope="module")
def map_fds() -> Iterator[dict[str, int]]:
    fds = {row.name: map_create(row.type, row.key_size, row.value_size, row.max_entries) for row in MAPS.values()}
    yield fds
    for fd in fds.values():
        os.close(fd)


def verified(case: Case, fds: dict[str, int]) -> int | None:
    """What the running kernel processed; None when it refuses the program."""
    unit, main = unit_of(case)
    loaded = load_insns(linked(unit, fds), PROGRAM_TYPES[main.program_type or "xdp"].number)
    if isinstance(loaded, Refused):
        return None
    with_count = loaded.verified_insns
    loaded.close()
    return with_count


def processed(text: str) -> int:
    report = check(*unit_of(Case("", text, None)))
    assert report.accepted, str(report.rejection)
    return report.processed


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_model_counts(pair: Pair) -> None:
    assert pair.number != pair.twin_number
    assert (processed(pair.text), processed(pair.twin)) == (pair.number, pair.twin_number)


@pytest.mark.needs("bpf", "linux-6.18")
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_kernel_counts_the_same(pair: Pair, map_fds: dict[str, int]) -> None:
    assert verified(Case("", pair.text, None), map_fds) == pair.number
    assert verified(Case("", pair.twin, None), map_fds) == pair.twin_number


@pytest.mark.needs("bpf", "linux-6.18")
@pytest.mark.parametrize("case", [case for case in CASES if case.refused is None], ids=lambda case: case.name)
def test_what_both_accept_is_counted_alike(case: Case, map_fds: dict[str, int]) -> None:
    count = verified(case, map_fds)
    assert count is None or check(*unit_of(case)).processed == count


def test_what_cannot_be_counted_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, main = unit_of(Case("", turns(30), None))
    assert counting.work(unit, main, 63) == 63 and counting.work(unit, main, 62) is None
    monkeypatch.setattr(sys.modules["verifier_model.checker.check"], "WORK_LIMIT", 63)
    assert check(unit, main).accepted
    monkeypatch.setattr(sys.modules["verifier_model.checker.check"], "WORK_LIMIT", 62)
    report = check(unit, main)
    assert not report.accepted and report.rejection is not None and "too large" in report.rejection.reason

"""What the check takes that a coarser one would refuse, each beside a twin that every kernel refuses.

Stack that was never written, packet pointers known to lie behind the end, and stack slots that nothing reads any more.
"""

from __future__ import annotations

import pytest

from tests.checker.programs import START, Case, unit_of
from tests.checker.test_check import linked, map_fds
from tests.checker.test_regressions import END, NEWEST, Pair
from verifier_model.checker import check
from verifier_model.checker.knowledge import knowledge
from verifier_model.contracts.kernels import Release
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.domains.lattice import includes, join
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State
from verifier_model.kernel.programs import load_insns
from verifier_model.kernel.syscall import Refused

__all__ = ["map_fds"]

INDEX = "r6 = *(u32 *)(r1 +12)\n"
PART = "if r6 == 0 goto in\n*(u64 *)(r10 -8) = {}\nin:\nr0 = *(u8 *)(r10 -5)\nr0 = 0\nexit\n"
WHOLE = "if r6 == 0 goto in\n*(u64 *)(r10 -8) = {}\nin:\nr2 = *(u64 *)(r10 -8)\nr2 *= 3\nr0 = 0\nexit\n"
TWICE = f"{START}r4 = r2\nr4 += 8\nr5 = 0\nif r4 {{}} r3 goto in\nr5 = r2\nin:\nif r4 > r3 goto out\n{{}}{END}"
BYTE = "r0 = *(u8 *)(r5 +0)\n"
# The second path to `in` brings a pointer where the first one brought a number.
LATER = f"{INDEX}*(u64 *)(r10 -8) = 7\n*(u64 *)(r10 -16) = 7\nif r6 != 0 goto other\nin:\n"
TIMES = "r2 = *(u64 *)(r10 -8)\nr2 *= 3\nr0 = 0\nexit\nother:\n*(u64 *)(r10 -8) = r1\ngoto in\n"
LOOP = "r7 = 0\nagain:\nr7 += 1\nif r7 < 4 goto again\n"
EITHER = "r5 = r10\nif r6 == {} goto low\nr5 += -16\ngoto on\nlow:\nr5 += -8\non:\n*(u64 *)(r5 +0) = 0\n"

PAIRS = (
    Pair("stack", "part of a slot", INDEX + PART.format("r1"), "invalid size of", INDEX + PART.format("r6")),
    Pair("stack", "a whole slot", INDEX + WHOLE.format("r1"), "pointer arithmetic", INDEX + WHOLE.format("r6")),
    Pair(
        "stack",
        "a slot of the caller's",
        f"{INDEX}r7 = r10\nr7 += -8\nif r6 == 0 goto in\n*(u64 *)(r10 -8) = r1\nin:\nr1 = r7\ncall fn[sub]\nexit\n"
        "-- sub\nr0 = *(u8 *)(r1 +3)\nr0 = 0\nexit\n",
        "invalid size of",
        f"{INDEX}r7 = r10\nr7 += -8\nif r6 == 0 goto in\n*(u64 *)(r10 -8) = r6\nin:\nr1 = r7\ncall fn[sub]\nexit\n"
        "-- sub\nr0 = *(u8 *)(r1 +3)\nr0 = 0\nexit\n",
    ),
    Pair(
        "depth",
        "frames in units of 16 bytes",
        "*(u64 *)(r10 -272) = 0\ncall fn[sub]\nexit\n-- sub\n*(u64 *)(r10 -248) = 0\nr0 = 0\nexit\n",
        "combined stack size",
        "*(u64 *)(r10 -272) = 0\ncall fn[sub]\nexit\n-- sub\n*(u64 *)(r10 -240) = 0\nr0 = 0\nexit\n",
    ),
    Pair("end", "at the end is not behind it", TWICE.format(">=", BYTE), "invalid mem", TWICE.format(">", BYTE)),
    Pair(
        "end",
        "another pointer is not known to lie there",
        TWICE.format(">", BYTE).replace("in:\n", "in:\nr4 = r2\nr4 += 9\n"),
        "invalid mem",
        TWICE.format(">", BYTE).replace("in:\n", "in:\nr7 = r2\nr7 += 9\n"),
    ),
    Pair("dead", "a slot that is read", LATER + TIMES, "pointer arithmetic", f"{LATER}*(u64 *)(r10 -8) = 0\n{TIMES}"),
    Pair(
        "dead",
        "read behind a loop",
        f"{LATER}{LOOP}{TIMES}",
        "pointer arithmetic",
        f"{LATER}{LOOP}*(u64 *)(r10 -8) = 0\n{TIMES}",
    ),
    Pair(
        "dead",
        "half of it overwritten",
        f"{LATER}*(u32 *)(r10 -16) = 0\n{TIMES}",
        "pointer arithmetic",
        f"{LATER}*(u32 *)(r10 -8) = 0\n{TIMES}",
    ),
    Pair(
        "dead",
        "one of two slots overwritten",
        LATER + EITHER.format("2") + TIMES,
        "pointer arithmetic",
        f"{LATER}{EITHER.format('2')}*(u64 *)(r10 -8) = 1\n{TIMES}",
    ),
    Pair(
        "dead",
        "read by a subprogram",
        f"{LATER}r1 = r10\nr1 += -8\ncall fn[sub]\nr0 = 0\nexit\nother:\n*(u64 *)(r10 -8) = r1\ngoto in\n"
        "-- sub\nr2 = *(u64 *)(r1 +0)\nr2 *= 3\nr0 = 0\nexit\n",
        "pointer arithmetic",
        f"{LATER}r1 = r10\nr1 += -8\ncall fn[sub]\nr0 = 0\nexit\nother:\n*(u64 *)(r10 -8) = r1\ngoto in\n"
        "-- sub\n*(u64 *)(r1 +0) = 0\nr2 = *(u64 *)(r1 +0)\nr2 *= 3\nr0 = 0\nexit\n",
    ),
)


def _cases() -> list[Case]:
    return [
        Case(f"{pair.source}: {pair.name}{suffix}", text, refused, "xdp")
        for pair in PAIRS
        for suffix, text, refused in ((", wrong", pair.wrong, pair.refused), (", right", pair.right, None))
    ]


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.name)
def test_right_is_accepted_and_its_twin_is_not(case: Case) -> None:
    report = check(*unit_of(case), NEWEST)
    if case.refused is None:
        assert report.accepted, str(report.rejection)
    else:
        assert report.rejection is not None and case.refused in report.rejection.reason, str(report.rejection)


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.name)
def test_the_running_kernel_says_so(case: Case, map_fds: dict[str, int]) -> None:
    unit, main = unit_of(case)
    assert main.program_type is not None
    loaded = load_insns(linked(unit, map_fds), PROGRAM_TYPES[main.program_type].number)
    assert isinstance(loaded, Refused) == (case.refused is not None), getattr(loaded, "log", "accepted")
    if not isinstance(loaded, Refused):
        loaded.close()


@pytest.mark.parametrize(
    "text, old, new",
    (
        (INDEX + PART.format("r6"), (6, 2, 0), (6, 8, 0)),
        ("r0 = *(u8 *)(r10 -5)\nr0 = 0\nexit\n", (6, 3, 0), (6, 8, 0)),
        (TWICE.format(">", BYTE), (5, 10, 0), (5, 11, 0)),
        (
            "*(u64 *)(r10 -272) = 0\ncall fn[sub]\nexit\n-- sub\n*(u64 *)(r10 -240) = 0\nr0 = 0\nexit\n",
            (6, 6, 0),
            (6, 12, 117),
        ),
    ),
)
def test_what_a_kernel_came_to_accept(text: str, old: Release, new: Release) -> None:
    unit, main = unit_of(Case("", text, None, "xdp"))
    assert not check(unit, main, knowledge(old)).accepted
    report = check(unit, main, knowledge(new))
    assert report.accepted, str(report.rejection)


def diamonds(count: int, end: str) -> str:
    """`count` times two paths that leave other things in the stack."""
    turns = (
        f"if r6 == {at} goto l{at}\n*(u64 *)(r10 -{8 + 8 * at}) = 1\nl{at}:\nr6 = *(u32 *)(r1 +12)\n"
        for at in range(count)
    )
    clear = "".join(f"*(u64 *)(r10 -{8 + 8 * at}) = 0\n" for at in range(count))
    return f"{INDEX}{clear}{''.join(turns)}{end}r0 = 0\nexit\n"


def test_dead_slots_keep_no_paths_apart() -> None:
    count = 12
    dead = unit_of(Case("", diamonds(count, ""), None, "xdp"))
    assert check(*dead, NEWEST, limit=1000).accepted
    reads = "".join(f"r2 = *(u64 *)(r10 -{8 + 8 * at})\n" for at in range(count))
    report = check(*unit_of(Case("", diamonds(count, reads), None, "xdp")), NEWEST, limit=1000)
    assert report.rejection is not None and "too large" in report.rejection.reason


def test_offsets_from_a_region_are_signed() -> None:
    below = Register(Region.STACK, Scalar.const(0), off=-8)
    assert below.constant_off == -8
    assert Register(Region.STACK, Scalar.const(-16), off=8).constant_off == -8
    assert Register(Region.STACK, Scalar.const(16), off=-8).constant_off == 8
    assert Register(Region.STACK, Scalar.between(0, 1)).constant_off is None


@pytest.mark.parametrize("large, small, is_included", ((0, -2, True), (-2, 0, False), (-2, -1, False), (8, -2, False)))
def test_a_pointer_behind_the_end_is_its_own_kind(large: int, small: int, is_included: bool) -> None:
    def state(reach: int) -> State:
        return State((Register(Region.PACKET, Scalar.const(0), 8, 1, 1, packet_range=reach),))

    assert includes(state(large), state(small), as_kernel=True) is is_included
    assert join(state(large), state(small), iter(range(100, 200)).__next__).regs[0].packet_range == 0

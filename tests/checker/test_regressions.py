"""Programs that some verifier once took wrongly, ours or another, each beside a twin that differs a little and is fine.

Sources: `p` the soundness fixes of PREVAIL (github.com/vbpf/prevail, by number of the issue or pull request), `k` what
K2 silently miscompiles, `m` mutants and kernel cases that our own model once accepted and a kernel did not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.checker.programs import LOOKUP, RESERVE, START, Case, unit_of
from tests.checker.test_check import linked, map_fds
from verifier_model.checker import check
from verifier_model.checker.knowledge import EVERY_KERNEL, Knowledge, knowledge
from verifier_model.contracts.kernels import Release
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.programs import load_insns
from verifier_model.kernel.syscall import Refused

__all__ = ["map_fds"]
NEWEST = knowledge((6, 18, 0))


class Pair(NamedTuple):
    source: str
    name: str
    wrong: str
    refused: str
    right: str


# With a key that is not known: kernels see that a constant one lies inside an array.
AGAIN = "*(u32 *)(r10 -4) = r6\nr2 = r10\nr2 += -4\nr1 = map_fd(map[m]) ll\ncall 1\n"
SEARCH = f"r6 = *(u32 *)(r1 +12)\n{AGAIN}"
BYTES = f"{START}r4 = r2\nr4 += 8\nif r4 > r3 goto out\n"
END = "r0 = 0\nout:\nexit\n"
EIGHT = f"if w4 != 8 goto out\nif r4 == 8 goto in\nr0 = *(u8 *)(r9 +0)\nin:\n{END}"
HALVES = f"in:\nif r4 s> -2 goto out\nr0 = *(u8 *)(r9 +0)\n{END}"
STORE = "*(u8 *)(r5 +0) = 0\n"


def at(low: int, index: str) -> str:
    """A byte stored at r10 + low + r4, where `index` makes r4."""
    return f"{BYTES}{index}r5 = r10\nr5 += {low}\nr5 += r4\n{STORE}{END}"


def moved(index: str) -> str:
    """A byte of the packet behind r4, where `index` makes r4."""
    return f"{BYTES}{index}r2 += r4\nr5 = r2\nr5 += 1\nif r5 > r3 goto out\nr0 = *(u8 *)(r2 +0)\n{END}"


PAIRS = (
    Pair(
        "p1028",
        "a value ends where its map says",
        f"{LOOKUP}if r0 == 0 goto out\nr1 = *(u8 *)(r0 +16)\n{END}",
        "invalid access to map_value",
        f"{LOOKUP}if r0 == 0 goto out\nr1 = *(u8 *)(r0 +15)\n{END}",
    ),
    Pair(
        "p1028",
        "r1 to r5 are gone behind a subprogram",
        "r3 = 1\ncall fn[sub]\nr0 = r3\nexit\n-- sub\nr0 = 0\nexit\n",
        "R3 !read_ok",
        "r6 = 1\ncall fn[sub]\nr0 = r6\nexit\n-- sub\nr0 = 0\nexit\n",
    ),
    Pair(
        "p1149",
        "a second lookup is checked by itself",
        f"{SEARCH}if r0 == 0 goto out\n{AGAIN}r1 = *(u8 *)(r0 +0)\n{END}",
        "map_value_or_null",
        f"{SEARCH}if r0 == 0 goto out\n{AGAIN}if r0 == 0 goto out\nr1 = *(u8 *)(r0 +0)\n{END}",
    ),
    Pair(
        "p1153",
        "a sign-extended byte may be negative",
        at(-512, "r4 = *(s8 *)(r2 +0)\n"),
        "invalid write to stack",
        at(-384, "r4 = *(s8 *)(r2 +0)\n"),
    ),
    Pair(
        "p1214",
        "a 32-bit sign extension onto itself clears the upper half",
        at(-8, "r4 = -1\nw4 = (s8)w4\n"),
        "is not allowed",
        at(-8, "r4 = -1\nr4 = (s8)r4\n"),
    ),
    Pair(
        "p1214",
        "half a comparison bounds half a number",
        at(-16, "r4 = *(u64 *)(r2 +0)\nif w4 > 7 goto out\n"),
        "unbounded",
        at(-16, "r4 = *(u64 *)(r2 +0)\nif r4 > 7 goto out\n"),
    ),
    Pair(
        "p755",
        "the stack ends below its pointer",
        "*(u8 *)(r10 +0) = 0\nr0 = 0\nexit\n",
        "invalid write to stack",
        "*(u8 *)(r10 -1) = 0\nr0 = 0\nexit\n",
    ),
    Pair(
        "p841",
        "a stored byte has lost its sign",
        at(-128, "r4 = -1\n*(u8 *)(r10 -1) = r4\nr4 = *(u8 *)(r10 -1)\n"),
        "stack",
        at(-256, "r4 = -1\n*(u8 *)(r10 -1) = r4\nr4 = *(u8 *)(r10 -1)\n"),
    ),
    Pair(
        "p1202",
        "nothing is stored from a register that nobody wrote",
        "*(u64 *)(r10 -8) = r9\nr0 = 0\nexit\n",
        "R9 !read_ok",
        "r9 = 0\n*(u64 *)(r10 -8) = r9\nr0 = 0\nexit\n",
    ),
    Pair("p739", "no product of a pointer", "r1 *= 3\nr0 = 0\nexit\n", "prohibited", "r1 = 2\nr1 *= 3\nr0 = 0\nexit\n"),
    Pair(
        "k",
        "a quotient is unsigned",
        at(-8, "r4 = -8\nr4 /= 2\n"),
        "unbounded",
        at(-8, "r4 = 8\nr4 /= 2\nr4 &= 3\n"),
    ),
    Pair(
        "k",
        "a 32-bit exclusive or clears the upper half",
        at(-8, "r4 = -4\nw4 ^= 0\n"),
        "is not allowed",
        at(-8, "r4 = -4\nr4 ^= 0\n"),
    ),
    Pair(
        "m",
        "the start below the end proves no byte to the kernel",
        f"{START}if r2 < r3 goto in\nexit\nin:\nr0 = *(u8 *)(r2 +0)\nr0 = 0\nexit\n",
        "invalid access to packet",
        f"{START}r4 = r2\nr4 += 1\nif r4 <= r3 goto in\nexit\nin:\nr0 = *(u8 *)(r2 +0)\nr0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "shifted by as much as the width",
        at(-512, "r4 = *(u8 *)(r2 +0)\nr6 = 64\nr4 <<= r6\n"),
        "unbounded",
        at(-512, "r4 = *(u8 *)(r2 +0)\nr6 = 1\nr4 <<= r6\n"),
    ),
    Pair(
        "m",
        "a left shift forgets the sign",
        at(-300, "r4 = *(s8 *)(r2 +0)\nr4 <<= 1\n"),
        "unbounded",
        at(-300, "r4 = *(s8 *)(r2 +0)\n"),
    ),
    Pair(
        "m",
        "an unsigned bound replaces a signed one of numbers without a least",
        at(-2, "r4 = *(u64 *)(r2 +0)\nif r4 s> 1 goto out\nif r4 > 0x40000000 goto out\n"),
        "",
        at(-2, "r4 = *(u64 *)(r2 +0)\nif r4 > 0x40000000 goto out\nif r4 s> 1 goto out\n"),
    ),
    Pair(
        "m",
        "a negative half says nothing of the whole",
        f"{BYTES}r4 = *(u64 *)(r2 +0)\nr4 s>>= 32\nif w4 s> -2 goto in\nr0 = 0\nexit\n{HALVES}",
        "R9 !read_ok",
        f"{BYTES}r4 = *(u64 *)(r2 +0)\nr4 s>>= 32\nif r4 s> -2 goto in\nr0 = 0\nexit\nin:\nif r4 s> -2 goto out\n"
        f"r0 = *(u8 *)(r9 +0)\n{END}",
    ),
    Pair(
        "m",
        "a register that holds 0 is no NULL check",
        f"{SEARCH}r7 = 0\nif r7 == r0 goto out\nr1 = *(u8 *)(r0 +0)\n{END}",
        "map_value_or_null",
        f"{SEARCH}r7 = 0\nif r0 == 0 goto out\nr1 = *(u8 *)(r0 +0)\n{END}",
    ),
    Pair(
        "m",
        "a 32-bit quotient is any number of 64 bits",
        f"{BYTES}r4 = *(u32 *)(r2 +0)\nw4 /= 3\n{EIGHT}",
        "R9 !read_ok",
        f"{BYTES}r4 = *(u32 *)(r2 +0)\nw4 += 3\n{EIGHT}",
    ),
    Pair(
        "m",
        "beyond the end a pointer has no range any more",
        f"{BYTES}if r2 > r3 goto in\n{END}in:\nr0 = *(u8 *)(r2 +0)\nr0 = 0\nexit\n",
        "invalid access to packet",
        f"{BYTES}r5 = r2\nif r2 > r3 goto in\n{END}in:\nr0 = *(u8 *)(r5 +0)\nr0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "a number plus a record is no record to give back",
        f"{RESERVE}if r0 == 0 goto out\nr1 = 0\nr1 += r0\nr2 = 0\ncall 132\n{END}",
        "",
        f"{RESERVE}if r0 == 0 goto out\nr1 = r0\nr1 += 0\nr2 = 0\ncall 132\n{END}",
    ),
    Pair(
        "m",
        "swapped bytes are any number",
        moved("r4 = *(u16 *)(r2 +0)\nr4 = be16 r4\n"),
        "unbounded",
        moved("r4 = *(u16 *)(r2 +0)\nr4 = be16 r4\nr4 &= 4095\n"),
    ),
    Pair(
        "m",
        "a negated number is any number",
        at(-300, "r4 = *(u8 *)(r2 +0)\nr4 = -r4\n"),
        "unbounded",
        at(-300, "r4 = *(u8 *)(r2 +0)\n"),
    ),
    Pair(
        "m",
        "a pointer to the own stack does not go into the caller's",
        "r1 = r10\nr1 += -8\ncall fn[sub]\nexit\n-- sub\n*(u64 *)(r1 +0) = r10\nr0 = 0\nexit\n",
        "into stack frame of the caller",
        "r1 = r10\nr1 += -8\ncall fn[sub]\nexit\n-- sub\n*(u64 *)(r1 +0) = 5\nr0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "one load, two types of pointer",
        "*(u64 *)(r10 -8) = 0\nr2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +12)\nif r3 == 0 goto in\nr1 = r10\nr1 += -24\n"
        "*(u64 *)(r10 -8) = 0\nin:\nr0 = *(u32 *)(r1 +16)\nr0 = 0\nexit\n",
        "different pointers",
        "*(u64 *)(r10 -8) = 0\nr2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +12)\nif r3 == 0 goto in\nr0 = 0\nexit\n"
        "in:\nr0 = *(u32 *)(r1 +16)\nr0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "code that nothing reaches",
        "r0 = 0\ngoto out\nr0 = 1\nout:\nexit\n",
        "unreachable insn",
        "r0 = 0\ngoto out\nout:\nexit\n",
    ),
    Pair(
        "m",
        "the last instruction goes on",
        "goto in\nout:\nexit\nin:\nr0 = 0\nif r0 == 1 goto out\n",
        "",
        "r0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "a comparison of the context with 0 is not decided",
        "r0 = 0\nif r1 != 0 goto out\nr0 = *(u8 *)(r9 +0)\nout:\nexit\n",
        "R9 !read_ok",
        f"{LOOKUP}if r0 == 0 goto out\nif r0 != 0 goto out\nr0 = *(u8 *)(r9 +0)\nout:\nr0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "a pointer moved too far in two steps",
        "r2 = r10\nr2 += 0x1fffffff\nr2 += 0x1fffffff\nr0 = 0\nexit\n",
        "is not allowed",
        "r2 = r10\nr2 += 0x0fffffff\nr2 += 0x0fffffff\nr0 = 0\nexit\n",
    ),
    Pair(
        "m",
        "no bytes behind the stack",
        "r1 = 0\nr2 = 0\nr3 = r10\nr4 = 0\nr5 = 0\ncall 28\nr0 = 0\nexit\n",
        "stack",
        "r1 = 0\nr2 = 0\n*(u64 *)(r10 -8) = 0\nr3 = r10\nr3 += -8\nr4 = 4\nr5 = 0\ncall 28\nr0 = 0\nexit\n",
    ),
)


def _cases() -> list[Case]:
    return [
        Case(f"{pair.source}: {pair.name}{suffix}", text, refused, "xdp")
        for pair in PAIRS
        for suffix, text, refused in ((", wrong", pair.wrong, pair.refused), (", right", pair.right, None))
    ]


@pytest.mark.parametrize("knows", (EVERY_KERNEL, NEWEST), ids=("every", "newest"))
@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.name)
def test_wrong_is_refused_and_right_is_not(case: Case, knows: Knowledge) -> None:
    unit, main = unit_of(case)
    report = check(unit, main, knows)
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
        ("r0 = *(u64 *)(r1 +184)\nr0 = 0\nexit\n", (5, 15, 0), (5, 16, 0)),
        ("r0 = *(u8 *)(r1 +180)\nr0 = 0\nexit\n", (5, 17, 0), (5, 18, 0)),
        ("*(u32 *)(r1 +8) = 5\nr0 = 0\nexit\n", (6, 2, 0), (6, 3, 0)),
        ("r0 = 0\nr2 = 0\ngoto in\nagain:\nr2 += 1\nin:\nif r2 < 4 goto again\nexit\n", (6, 6, 0), (6, 7, 0)),
        ("r0 = 0\nmay_goto out\nr0 = 1\nout:\nexit\n", (6, 8, 0), (6, 9, 0)),
        ("r0 = 0\nmay_goto out\nout:\nexit\n", (6, 12, 117), (6, 14, 0)),
    ),
)
def test_what_a_kernel_came_to_accept(text: str, old: Release, new: Release) -> None:
    unit, main = unit_of(Case("", text, None, "sched_cls"))
    assert not check(unit, main, knowledge(old)).accepted
    report = check(unit, main, knowledge(new))
    assert report.accepted, str(report.rejection)


def test_legacy_loads_give_any_number() -> None:
    text = "r6 = r1\nr0 = *(u16 *)skb[12]\nif r0 != 0x1ffff goto out\nr0 = *(u8 *)(r9 +0)\nout:\nr0 = 0\nexit\n"
    unit, main = unit_of(Case("", text, None, "socket_filter"))
    assert not check(unit, main, NEWEST).accepted
    unit, main = unit_of(
        Case(
            "",
            text.replace("r9 +0", "r10 -1").replace("r6 = r1", "r6 = r1\n*(u8 *)(r10 -1) = 0"),
            None,
            "socket_filter",
        )
    )
    assert check(unit, main, NEWEST).accepted


def test_only_a_program_at_a_function_asks_for_its_address() -> None:
    text = "call 173\nr0 = 0\nexit\n"
    unit, main = unit_of(Case("", text, None, "perf_event"))
    assert not check(unit, main, NEWEST).accepted
    unit, main = unit_of(Case("", text, None, "kprobe"))
    at_function = replace(main, section="kprobe/x")
    assert check(unit.with_function(at_function), at_function, NEWEST).accepted


def test_a_helper_that_settings_take_away_is_refused() -> None:
    text = "r6 = r1\nr1 = 0\n*(u64 *)(r10 -8) = 0\nr2 = r10\nr2 += -8\nr3 = 8\ncall {}\nr0 = 0\nexit\n"
    unit, main = unit_of(Case("", text.format(36), None, "kprobe"))
    assert not check(unit, main, NEWEST).accepted
    unit, main = unit_of(Case("", "call 5\nr0 = 0\nexit\n", None, "kprobe"))
    assert check(unit, main, NEWEST).accepted

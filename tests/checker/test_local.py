"""Local safety of replacements: each that may pass stands beside a twin that must not."""

from __future__ import annotations

import pytest

from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.unit import Block, DataSection, MapDef, Point, Unit
from verifier_model.checker import local_safety
from verifier_model.facts import analyse
from verifier_model.verdict import Obligation

MAPS = {"m": MapDef("m", 2, 4, 16, 4)}
DATA = {".bss": DataSection(".bss", 16, True)}
PACKET = "r6 = r1\nr2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 14\nif r4 > r3 goto out\n"
VALUE = "r6 = r1\n*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[m] ll\ncall 1\nif r0 == 0 goto out\n"
STACK = "r2 = 1\n*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = r1\nif r2 == 1 goto win\nr2 = 2\n"
BSS = "r1 = data[.bss] ll\nr2 = 0\nif r2 == 1 goto win\n"
TAIL = "\nr0 = r5\nr0 += r7\nexit\nout:\nr0 = 0\nexit\n"


def safety(setup: str, before: str, after: str, tail: str = TAIL) -> str | None:
    """Local safety of `before` -> `after`, as a window that starts the block `win` behind `setup`."""
    text = f"r5 = 0\nr7 = 0\n{setup}win:\n{before}{tail}"
    function = parse_function(text, "f", section="xdp", program_type="xdp")
    unit = Unit((function,), maps=MAPS, data=DATA, cpu_level=4)
    old, new = parse_insns(before), parse_insns(after)
    facts = analyse(unit, function)
    demand = facts.demand_after(Point("win", len(old) - 1)) if old else facts.demand_before(Point("win", 0))
    assert function.block("win").insns[: len(old)] == old
    assert isinstance(function.block("win"), Block)
    return local_safety(Obligation(old, new, facts.before(Point("win", 0)), demand, unit, function))


FINE = [
    ("same", PACKET, "r5 = *(u8 *)(r2 +0)", "r5 = *(u8 *)(r2 +0)"),
    ("wider inside the proved range", PACKET, "r5 = *(u8 *)(r2 +0)", "r5 = *(u64 *)(r2 +0)"),
    ("last proved byte", PACKET, "r5 = *(u8 *)(r2 +0)", "r5 = *(u8 *)(r2 +13)"),
    (
        "map bytes that the original reads",
        VALUE,
        "r5 = *(u32 *)(r0 +0)\nr7 = *(u32 *)(r0 +4)",
        "r5 = *(u64 *)(r0 +0)\nr7 = r5",
    ),
    ("same context access", PACKET, "r5 = *(u32 *)(r6 +12)", "r7 = *(u32 *)(r6 +12)\nr5 = r7"),
    ("initialised stack", STACK, "r5 = *(u64 *)(r10 -8)", "r5 = *(u32 *)(r10 -8)"),
    ("constant", STACK, "r5 = r2", "r5 = 1"),
    ("dropped", STACK, "r8 = r2", ""),
    ("shift below the width", STACK, "r5 <<= 3", "r5 <<= 63"),
    ("aligned word of a section", BSS, "*(u32 *)(r1 +0) = 1\n*(u32 *)(r1 +4) = 1", "*(u64 *)(r1 +0) = 1"),
    ("spilled pointer by another way", STACK, "r5 = *(u64 *)(r10 -16)\nr5 = 0", "r5 = 0"),
    ("copied pointer", PACKET, "r5 = r2\nr5 += 4\nr5 = *(u8 *)(r5 +0)", "r5 = *(u8 *)(r2 +4)"),
]
REFUSED = [
    ("beyond the proved range", PACKET, "r5 = *(u8 *)(r2 +0)", "r5 = *(u8 *)(r2 +14)", "invalid access to packet"),
    ("straddles the range's end", PACKET, "r5 = *(u8 *)(r2 +0)", "r5 = *(u64 *)(r2 +8)", "invalid access to packet"),
    ("map bytes that it does not", VALUE, "r5 = *(u32 *)(r0 +0)", "r5 = *(u64 *)(r0 +0)", "does not touch"),
    ("map bytes read, then written", VALUE, "r5 = *(u32 *)(r0 +0)", "*(u32 *)(r0 +0) = 0\nr5 = 0", "does not touch"),
    (
        "less aligned",
        VALUE,
        "r5 = *(u32 *)(r0 +0)\nr7 = *(u32 *)(r0 +4)\nr7 = *(u32 *)(r0 +8)",
        "r5 = *(u64 *)(r0 +4)",
        "aligned",
    ),
    ("narrow context access", PACKET, "r5 = *(u32 *)(r6 +12)", "r5 = *(u16 *)(r6 +12)", "context access"),
    ("another context field", PACKET, "r5 = *(u32 *)(r6 +12)", "r5 = *(u32 *)(r6 +16)", "context access"),
    ("stack never written", STACK, "r5 = *(u64 *)(r10 -8)", "r5 = *(u64 *)(r10 -24)", "invalid read from stack"),
    ("misaligned stack", STACK, "r5 = *(u64 *)(r10 -8)", "r5 = *(u32 *)(r10 -7)", "misaligned stack access"),
    ("part of a pointer", STACK, "r5 = *(u64 *)(r10 -8)", "r5 = *(u32 *)(r10 -16)", "register fill"),
    (
        "part of a pointer overwritten",
        STACK,
        "r5 = *(u64 *)(r10 -16)",
        "*(u32 *)(r10 -16) = 0\nr5 = *(u64 *)(r10 -16)",
        "R5 changes",
    ),
    ("register never written", STACK, "r5 = r2", "r5 = r9", "!read_ok"),
    ("clobbered by a call", PACKET, "call 5\nr5 = r0", "call 5\nr5 = r2", "!read_ok"),
    ("frame pointer", STACK, "r5 = r2", "r10 = r2\nr5 = r2", "frame pointer"),
    ("shift by the width", STACK, "r5 <<= 3", "r5 <<= 64", "invalid shift"),
    ("32-bit shift by the width", STACK, "w5 <<= 3", "w5 <<= 32", "invalid shift"),
    ("dropped although needed", STACK, "r5 = r2", "", "R5 changes from scalar to uninit"),
    ("division by zero", STACK, "r5 /= 2", "r5 /= 0", "div by zero"),
    (
        "32-bit arithmetic on a pointer",
        PACKET,
        "r5 = r2\nr5 += 4\nr5 = *(u8 *)(r5 +0)",
        "r5 = r2\nw5 += 4\nr5 = *(u8 *)(r2 +0)",
        "32-bit pointer",
    ),
    ("pointer where a number was", PACKET, "r5 = 0", "r5 = r2", "R5 changes"),
    ("half a pointer stored", STACK, "r5 = 0", "*(u32 *)(r10 -24) = r10\nr5 = 0", "register spill"),
    ("misaligned section word", BSS, "*(u32 *)(r1 +4) = 1\n*(u32 *)(r1 +8) = 1", "*(u64 *)(r1 +4) = 1", "aligned"),
    (
        "atomic where none was",
        VALUE,
        "r5 = *(u32 *)(r0 +0)",
        "r5 = 0\nlock *(u64 *)(r0 +0) += r5",
        "no access of that width",
    ),
    (
        "call with another key",
        VALUE,
        "r5 = 0",
        "r1 = map[m] ll\nr2 = r10\nr2 += -24\ncall 1\nr5 = 0",
        "invalid indirect read",
    ),
]


@pytest.mark.parametrize("name, setup, before, after", FINE, ids=[row[0] for row in FINE])
def test_nothing_speaks_against(name: str, setup: str, before: str, after: str) -> None:
    assert safety(setup, before, after) is None


@pytest.mark.parametrize("name, setup, before, after, why", REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(name: str, setup: str, before: str, after: str, why: str) -> None:
    reason = safety(setup, before, after)
    assert reason is not None and why in reason


CHECK = "r6 = r1\nr2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\n"
CHECKED = "\nr5 = *(u8 *)(r2 +13)\nr0 = r5\nexit\nout:\nr0 = 0\nexit\n"


def test_a_packet_check_stays() -> None:
    before = "r4 = r2\nr4 += 14\nif r4 > r3 goto out"
    assert safety(CHECK, before, "r5 = r2\nr5 += 14\nif r5 > r3 goto out", CHECKED) is None
    weaker = safety(CHECK, before, "r4 = r2\nr4 += 13\nif r4 > r3 goto out", CHECKED)
    assert weaker is not None and "comparison of pointers" in weaker
    gone = safety(CHECK, before, "r4 = 1\nif r4 > 2 goto out", CHECKED)
    assert gone is not None and "comparison of pointers" in gone

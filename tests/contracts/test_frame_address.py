"""A number may be the address of a frame only where such an address was stored or calculated with."""

from __future__ import annotations

import pytest

from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Point, Unit
from verifier_model.contracts.frame_address import may_leak_frame
from verifier_model.facts import analyse

ROWS = [
    ("a copy is handed to a helper", "r1 = r10\nr1 += -8\nw2 = 8\ncall 6", False),
    ("a number is stored", "r1 = 7\n*(u64 *)(r10 -8) = r1", False),
    ("an address is stored", "r1 = r10\n*(u64 *)(r10 -8) = r1", True),
    ("a moved address is stored", "r1 = r10\nr1 += -16\nr2 = r1\n*(u64 *)(r10 -8) = r2", True),
    ("the register holds a number again", "r1 = r10\nr1 = 7\n*(u64 *)(r10 -8) = r1", False),
    ("a call leaves nothing in r1", "r1 = r10\ncall 5\n*(u64 *)(r10 -8) = r0", False),
    ("half an address", "w1 = w10", True),
    ("an address taken from a number", "r1 = 7\nr1 -= r10", True),
    ("a distance", "r1 = r10\nr1 += -8\nr1 -= r10\n*(u64 *)(r10 -8) = r1", False),
    ("a copy that outlives a call", "r6 = r10\ncall 5\n*(u64 *)(r10 -8) = r6", True),
    ("on one of two ways", "r1 = 0\nif r2 == 0 goto L\nr1 = r10\nL:\n*(u64 *)(r10 -8) = r1", True),
    ("on neither way", "r1 = 0\nif r2 == 0 goto L\nr1 = 1\nL:\n*(u64 *)(r10 -8) = r1", False),
]


@pytest.mark.parametrize(("body", "leaks"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_leaks(body: str, leaks: bool) -> None:
    function = parse_function(f"{body}\nr0 = 0\nexit", program_type="kprobe")
    assert may_leak_frame(function, Unit((function,))) is leaks


# bpf_probe_read_kernel reads 8 bytes at a number that was loaded from the stack.
READS = """
*(u64 *)(r10 -24) = 0
{spill}
r3 = *(u64 *)(r10 -8)
r3 ^= 0
r1 = r10
r1 += -16
w2 = 8
call 113
r0 = 0
exit
"""


@pytest.mark.parametrize(("spill", "is_needed"), [("r1 = r10\n*(u64 *)(r10 -8) = r1", True), ("", False)])
def test_a_leaked_address_keeps_the_stack_alive(spill: str, is_needed: bool) -> None:
    before = READS.format(spill=spill or "*(u64 *)(r10 -8) = r1")
    text = before if spill else "r1 = *(u32 *)(r1 +0)\n" + before
    function = parse_function(text, program_type="kprobe")
    facts = analyse(Unit((function,)), function)
    label = function.blocks[0].label
    first = 1 if not spill else 0
    assert (-24 in facts.demand_after(Point(label, first)).stack) is is_needed

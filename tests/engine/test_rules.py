"""What the static walk lets through: each refused candidate stands beside one that differs in one thing and passes."""

from __future__ import annotations

import pytest

from synth.search import NoSearch, WindowSearch
from tests.engine.windows import CONTEXT, FRAME, MAP_VALUE, NUMBER, PACKET_64, window
from verifier_model.bpf.asm import parse_insns
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot

REFUSED = -1
PACKET_END = Register(Region.PACKET_END, Scalar.const(0))
NULLABLE = Register(Region.MAP_VALUE, Scalar.const(0), id=3, base=3, nullable=True, size=8)
REGS = {1: NUMBER, 2: NUMBER, 6: PACKET_64, 7: MAP_VALUE, 8: CONTEXT, 9: NULLABLE, 5: PACKET_END}


def verdict(candidate: str, code: str = "r0 = r1", stack: dict[int, StackSlot] | None = None) -> int:
    """The engine's word on a candidate for a window after which r0 matters only in its lowest bit."""
    search = WindowSearch(window(code, REGS, {0: 1}, stack=stack), 1)
    return search.session.errors(search.translated(parse_insns(candidate)))


PAIRS = [
    ("arithmetic on a pointer in 32 bits", "w6 += 1\nr0 = r1", "r6 += 1\nr0 = r1"),
    ("multiplying a pointer", "r6 *= 2\nr0 = r1", "r1 *= 1\nr0 = r1"),
    ("a pointer as an operand", "r1 &= r6\nr0 = r1", "r1 &= r1\nr0 = r1"),
    ("adding two pointers", "r6 += r7\nr0 = r1", "r6 += r2\nr0 = r1"),
    ("arithmetic on the context", "r8 += 8\nr0 = r1", "r7 += 8\nr0 = r1"),
    ("arithmetic on what may be null", "r9 += 8\nr0 = r1", "r3 = r9\nr0 = r1"),
    ("moving the packet's end", "r5 += 8\nr0 = r1", "r5 -= r6\nr0 = r1"),
    ("writing the frame pointer", "r10 = r1\nr0 = r1", "r3 = r10\nr0 = r1"),
    ("reading what nobody set", "r0 = r3", "r0 = r1"),
    ("a load through a number", "r3 = *(u8 *)(r1 + 0)\nr0 = r1", "r3 = *(u8 *)(r6 + 0)\nr0 = r1"),
    ("a load through what may be null", "r3 = *(u8 *)(r9 + 0)\nr0 = r1", "r3 = *(u8 *)(r6 + 1)\nr0 = r1"),
    ("a load past the readable packet", "r3 = *(u8 *)(r6 + 64)\nr0 = r1", "r3 = *(u8 *)(r6 + 63)\nr0 = r1"),
    ("a load before the packet", "r3 = *(u8 *)(r6 - 1)\nr0 = r1", "r3 = *(u8 *)(r6 + 0)\nr0 = r1"),
    ("a misaligned stack store", "*(u32 *)(r10 - 6) = 0\nr0 = r1", "*(u32 *)(r10 - 8) = 0\nr0 = r1"),
    ("a store above the stack", "*(u32 *)(r10 + 0) = 0\nr0 = r1", "*(u32 *)(r10 - 4) = 0\nr0 = r1"),
    ("a store below the stack", "*(u64 *)(r10 - 520) = 0\nr0 = r1", "*(u64 *)(r10 - 512) = 0\nr0 = r1"),
    (
        "stack bytes that nobody wrote",
        "r3 = *(u64 *)(r10 - 8)\nr0 = r1",
        "*(u64 *)(r10 - 8) = r1\nr0 = *(u64 *)(r10 - 8)",
    ),
    (
        "a spill cut in half",
        "*(u64 *)(r10 - 8) = r6\nr3 = *(u32 *)(r10 - 8)\nr0 = r1",
        "*(u64 *)(r10 - 8) = r6\nr3 = *(u64 *)(r10 - 8)\nr0 = r1",
    ),
    ("a narrow spill", "*(u32 *)(r10 - 8) = r6\nr0 = r1", "*(u64 *)(r10 - 8) = r6\nr0 = r1"),
    ("an address into the packet", "*(u64 *)(r6 + 0) = r7\nr0 = r1", "*(u64 *)(r10 - 8) = r7\nr0 = r1"),
    ("a new access to shared memory", "r3 = *(u8 *)(r7 + 0)\nr0 = r1", "r3 = *(u8 *)(r6 + 0)\nr0 = r1"),
    ("an address in place of a number", "r0 = r7", "r0 = r1"),
    ("division by the constant zero", "r1 /= 0\nr0 = r1", "r1 /= 1\nr0 = r1"),
    ("a shift by the width", "w3 = w1\nw3 <<= 32\nr0 = r1", "r3 = r1\nr3 <<= 32\nr0 = r1"),
]


@pytest.mark.parametrize(("what", "refused", "accepted"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_refused_and_its_twin(what: str, refused: str, accepted: str) -> None:
    assert verdict(refused) == REFUSED, what
    assert verdict(accepted) == 0, what


SHARED_CODE = "r1 = *(u32 *)(r7 + 0)\n*(u32 *)(r7 + 4) = r2\nr0 = r1"
SHARED = [
    ("kept", SHARED_CODE, 0),
    ("a dropped load", "*(u32 *)(r7 + 4) = r2\nr0 = r1", REFUSED),
    ("a dropped store", "r1 = *(u32 *)(r7 + 0)\nr0 = r1", REFUSED),
    ("another order", "*(u32 *)(r7 + 4) = r2\nr1 = *(u32 *)(r7 + 0)\nr0 = r1", REFUSED),
    ("a narrower store", "r1 = *(u32 *)(r7 + 0)\n*(u16 *)(r7 + 4) = r2\nr0 = r1", REFUSED),
    ("a wider load", "r1 = *(u64 *)(r7 + 0)\n*(u32 *)(r7 + 4) = r2\nr0 = r1", REFUSED),
    ("one access more", SHARED_CODE + "\nr2 = *(u32 *)(r7 + 0)", REFUSED),
    ("the same through a copy", "r3 = r7\nr0 = *(u32 *)(r3 + 0)\nr3 += 4\n*(u32 *)(r3 + 0) = r2", 0),
]


@pytest.mark.parametrize(("what", "candidate", "wanted"), SHARED, ids=[row[0] for row in SHARED])
def test_shared_accesses_keep_number_width_and_order(what: str, candidate: str, wanted: int) -> None:
    assert verdict(candidate, SHARED_CODE) == wanted


def test_a_shared_access_at_another_place_or_with_another_value_counts_as_difference() -> None:
    assert verdict("r1 = *(u32 *)(r7 + 1)\n*(u32 *)(r7 + 4) = r2\nr0 = r1", SHARED_CODE) > 0
    assert verdict("r1 = *(u32 *)(r7 + 0)\n*(u32 *)(r7 + 5) = r2\nr0 = r1", SHARED_CODE) > 0
    assert verdict("r1 = *(u32 *)(r7 + 0)\nr2 += 1\n*(u32 *)(r7 + 4) = r2\nr0 = r1", SHARED_CODE) > 0
    # Only the stored half of the register counts.
    assert verdict("r1 = *(u32 *)(r7 + 0)\nw2 = w2\n*(u32 *)(r7 + 4) = r2\nr0 = r1", SHARED_CODE) == 0


def test_a_shared_store_of_a_constant_may_become_immediate_but_not_in_the_context() -> None:
    assert verdict("*(u32 *)(r7 + 0) = 7\nr0 = r1", "r2 = 7\n*(u32 *)(r7 + 0) = r2\nr0 = r1") == 0
    assert verdict("*(u32 *)(r8 + 0) = 7\nr0 = r1", "r2 = 7\n*(u32 *)(r8 + 0) = r2\nr0 = r1") == REFUSED


def test_wanted_stack_bytes_and_spills_stay() -> None:
    code = "*(u64 *)(r10 - 8) = r6"
    search = WindowSearch(window(code, REGS, (), live_stack=range(-8, 0)), 1)
    assert search.passes(parse_insns(code))
    assert not search.passes(())
    assert not search.passes(parse_insns("*(u64 *)(r10 - 8) = r7"))
    unwanted = WindowSearch(window(code, REGS, ()), 1)
    assert unwanted.passes(())


def test_a_spilled_pointer_comes_back_as_one() -> None:
    stack = {-8: StackSlot("ssssssss", PACKET_64), -16: StackSlot("mmmmmmmm")}
    assert verdict("r3 = *(u64 *)(r10 - 8)\nr3 = *(u8 *)(r3 + 0)\nr0 = r1", stack=stack) == 0
    assert verdict("r3 = *(u64 *)(r10 - 16)\nr3 = *(u8 *)(r3 + 0)\nr0 = r1", stack=stack) == REFUSED


def test_windows_that_are_none() -> None:
    with pytest.raises(NoSearch, match="engine does not have"):
        WindowSearch(window("call 5", {1: NUMBER}, (0,)), 1)
    with pytest.raises(NoSearch, match="breaks the rules"):
        WindowSearch(window("r0 = r3", {}, (0,)), 1)
    with pytest.raises(NoSearch, match="not known to be a pointer"):
        WindowSearch(window("r0 = *(u8 *)(r1 + 0)", {1: NUMBER}, (0,)), 1)


def test_the_frame_pointer_is_a_frame() -> None:
    search = WindowSearch(window("r0 = r1", {1: FRAME}, (0,)), 1)
    assert search.passes(parse_insns("r0 = r10"))
    assert not search.passes(parse_insns("r0 = r10\nr0 += 8"))

"""Copies and swaps written anew with wide accesses."""

from synth.passes.rearrange import rearrange
from tests.passes.straight_line import demand, pointer, replacement
from verifier_model.domains.registers import Region

ETHERNET = pointer(Region.PACKET, base=1, readable=14)
SHORT = pointer(Region.PACKET, base=1, readable=12)


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";") if part.strip())


SWAP = """r1 = *(u16 *)(r6 + 0); r2 = *(u16 *)(r6 + 6); *(u16 *)(r6 + 0) = r2; r2 = *(u16 *)(r6 + 8)
r3 = *(u16 *)(r6 + 2); *(u16 *)(r6 + 8) = r3; *(u16 *)(r6 + 2) = r2; r2 = *(u16 *)(r6 + 10)
r3 = *(u16 *)(r6 + 4); *(u16 *)(r6 + 10) = r3; *(u16 *)(r6 + 6) = r1; *(u16 *)(r6 + 4) = r2"""


def count(text: str | None) -> int | None:
    return None if text is None else text.count(";") + 1


def test_swap_of_two_hardware_addresses() -> None:
    got = replacement(rearrange, lines(SWAP), demand(), r6=ETHERNET)
    assert got is not None and count(got) == 6 and "u64" in got


def test_swap_reads_nothing_behind_the_proved_packet() -> None:
    got = replacement(rearrange, lines(SWAP), demand(), r6=SHORT)
    assert got is not None and count(got) == 8 and "u64" not in got


def test_swap_in_shared_memory_stays() -> None:
    assert replacement(rearrange, lines(SWAP), demand(), r6=pointer(Region.MAP_VALUE)) is None


def test_swap_whose_middle_is_read_stays() -> None:
    seen = SWAP.replace("r3 = *(u16 *)(r6 + 4)", "r9 = *(u16 *)(r6 + 8); r3 = *(u16 *)(r6 + 4)")
    got = replacement(rearrange, lines(seen), demand(9), r6=ETHERNET)
    assert got is None or "r9 = *(u16 *)(r6 +8)" in got


def test_swap_on_the_stack_needs_alignment() -> None:
    text = SWAP.replace("r6 + ", "r10 - 1")  # -10, -16, ... : two-byte pieces at odd distances from words
    assert replacement(rearrange, lines(text), demand(stack=((-512, 0),))) is None


def test_six_bytes_then_six_bytes_overshoot_and_repair() -> None:
    copies = (
        "r1 = *(u32 *)(r7 + 0); *(u32 *)(r6 + 0) = r1; r1 = *(u16 *)(r7 + 4); *(u16 *)(r6 + 4) = r1;"
        "r1 = *(u32 *)(r10 - 8); *(u32 *)(r6 + 6) = r1; r1 = *(u16 *)(r10 - 4); *(u16 *)(r6 + 10) = r1"
    )
    source = pointer(Region.PACKET, 40, base=1, readable=80)
    got = replacement(rearrange, lines(copies), demand(), r6=pointer(Region.PACKET, base=1, readable=80), r7=source)
    assert got is not None and "r0 = *(u64 *)(r6 +40); *(u64 *)(r6 +0) = r0" in got and count(got) == 6
    far = pointer(Region.PACKET, 40, base=1, readable=46)
    assert replacement(rearrange, lines(copies), demand(), r6=ETHERNET, r7=far) is None

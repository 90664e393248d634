"""Copies, addresses and constants in registers; each case has a twin that must be left alone."""

import pytest

from synth.passes.legacy import fold_into_packet_load
from synth.passes.registers import coalesce, commute, commute_into, fold_offset, immediate_operand, relieve, substitute
from tests.passes.straight_line import demand, pointer, propose, replacement
from verifier_model.domains.registers import Region

PACKET = pointer(Region.PACKET, base=1, readable=64)


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


def test_copy_goes_when_its_source_still_holds() -> None:
    text = lines("r2 = r6; r1 = *(u8 *)(r2 + 3); r1 += r2")
    assert replacement(substitute, text, demand(1, 6)) == "r1 = *(u8 *)(r6 +3); r1 += r6"


def test_copy_stays_when_its_source_changes() -> None:
    text = lines("r2 = r6; r6 += {}; r1 = *(u8 *)(r2 + 3)")
    assert replacement(substitute, text.format("r7"), demand(1, 6)) is None
    assert replacement(substitute, text.format(1), demand(1, 6)) == "r6 += 1; r1 = *(u8 *)(r6 +2)"


def test_copy_stays_when_it_is_an_argument() -> None:
    assert replacement(substitute, lines("r2 = r6; call 1"), demand(0, 6)) is None


def test_copy_stays_when_read_behind_the_block() -> None:
    assert replacement(substitute, lines("r2 = r6; r1 = r2"), demand(1, 2, 6)) is None


def test_address_pair_becomes_a_displacement() -> None:
    text = lines("r2 = r10; r2 += -24; r1 = *(u64 *)(r2 + 8)")
    assert replacement(substitute, text, demand(1), r6=PACKET) == "r1 = *(u64 *)(r10 -16)"


def test_address_pair_with_an_unknown_part_stays() -> None:
    text = lines("r2 = r10; r2 += r3; r1 = *(u64 *)(r2 + 8)")
    assert replacement(substitute, text, demand(1), r6=PACKET) is None


def test_register_constant_in_a_branch() -> None:
    text = lines("r3 = 7; if r2 > r3 goto L1")
    assert replacement(substitute, text, demand(2)) == "if r2 > 0x7 goto L1"
    assert replacement(substitute, lines("r3 = 7; if r3 > r2 goto L1"), demand(2)) == "if r2 < 0x7 goto L1"
    assert replacement(substitute, lines("r3 = 7; if r3 > r2 goto L1"), demand(2, 3)) is None


@pytest.mark.parametrize("shift, ok", [(31, True), (32, False)])
def test_shift_counts_stay_below_the_width(shift: int, ok: bool) -> None:
    text = lines(f"r3 = {shift}; w2 <<= w3")
    assert bool(propose(immediate_operand, text, demand(2, 3))) is ok


def test_division_by_a_zero_immediate_is_never_made() -> None:
    assert not propose(immediate_operand, lines("r3 = 0; r2 /= r3"), demand(2, 3))
    assert propose(immediate_operand, lines("r3 = 3; r2 /= r3"), demand(2, 3))


def test_value_arrives_where_it_is_wanted() -> None:
    text = lines("r1 = *(u32 *)(r6 + 0); r1 += 1; r2 = r1")
    assert replacement(coalesce, text, demand(2)) == "r2 = *(u32 *)(r6 +0); r2 += 1"


def test_value_cannot_arrive_in_a_register_in_use() -> None:
    text = lines("r1 = *(u32 *)(r6 + 0); r1 += r2; r2 = r1")
    assert replacement(coalesce, text, demand(2)) is None


def test_value_of_a_call_stays_in_r0() -> None:
    assert replacement(coalesce, lines("call 1; r7 = r0"), demand(7)) is None


def test_value_goes_on_in_its_source() -> None:
    text = lines("r2 = r1; r2 += 4; *(u32 *)(r6 + 0) = r2")
    assert replacement(coalesce, text, demand(6)) == "r1 += 4; *(u32 *)(r6 +0) = r1"
    assert replacement(coalesce, text, demand(1, 6)) is None


def test_copy_of_the_low_half_is_no_copy() -> None:
    text = lines("r1 = *(u64 *)(r6 + 0); w2 = w1")
    assert replacement(coalesce, text, demand(2)) is None
    assert replacement(coalesce, text.replace("u64", "u32"), demand(2), r6=PACKET) == "r2 = *(u32 *)(r6 +0)"


def test_sum_in_the_other_operand() -> None:
    text = lines("r1 = r6; r1 += r7; r2 = *(u8 *)(r1 + 2)")
    assert replacement(commute, text, demand(2, 6)) == "r7 += r6; r2 = *(u8 *)(r7 +2)"
    assert replacement(commute, text, demand(2, 6, 7)) is None
    assert replacement(commute, text.replace("+= r7", "-= r7"), demand(2, 6)) is None


def test_other_operand_arrives_in_the_result() -> None:
    text = lines("r1 = r7; r2 = *(u64 *)(r6 + 8); r1 += r2; r1 += 14")
    assert replacement(commute_into, text, demand(1)) == "r1 = *(u64 *)(r6 +8); r1 += r7; r1 += 14"
    assert replacement(commute_into, text, demand(1, 2)) is None
    assert replacement(commute_into, text.replace("+= r2", "-= r2"), demand(1)) is None
    assert replacement(commute_into, text.replace("(r6 + 8)", "(r6 + 8)\nr7 += 1"), demand(1)) is None
    assert replacement(commute_into, text.replace("r1 = r7", "w1 = w7"), demand(1)) is None


def test_addition_moves_into_displacements() -> None:
    text = lines("r1 += -64; r1 += r6; r2 = *(u8 *)(r1 + 9)")
    assert replacement(fold_offset, text, demand(2)) == "r1 += r6; r2 = *(u8 *)(r1 -55)"
    assert replacement(fold_offset, text, demand(1, 2)) is None
    assert replacement(fold_offset, text.replace("+= r6", "*= r6"), demand(2)) is None


def test_register_that_lives_on_serves_for_one_that_dies() -> None:
    text = "r1 = *(u8 *)(r2 + 3)"
    at_14 = pointer(Region.PACKET, 14, base=1, readable=64)
    assert replacement(relieve, text, demand(1, 6), r6=PACKET, r2=at_14) == "r1 = *(u8 *)(r6 +17)"
    assert replacement(relieve, text, demand(1), r6=PACKET, r2=at_14) is None
    assert replacement(relieve, text, demand(1, 2, 6), r6=PACKET, r2=at_14) is None
    assert replacement(relieve, text, demand(1, 6), r6=PACKET, r2=pointer(Region.PACKET, 14, base=2)) is None


def test_pinned_moves_stay() -> None:
    assert not propose(coalesce, lines("r1 = r1; r2 = r1"), demand(2))


def test_packet_load_adds_the_number_itself() -> None:
    text = lines("r1 = r8; r1 += {}; r0 = *(u32 *)skb[r1 + 2]")
    assert replacement(fold_into_packet_load, text.format(12), demand(0, 8)) == "r0 = *(u32 *)skb[r8 + 14]"
    assert replacement(fold_into_packet_load, text.format("r7"), demand(0, 8)) is None
    assert replacement(fold_into_packet_load, text.format(2147483647), demand(0, 8)) is None


def test_packet_load_keeps_a_number_that_others_read() -> None:
    text = lines("r8 += 4; {}r0 = *(u32 *)skb[r8 + 2]")
    assert replacement(fold_into_packet_load, text.format(""), demand(0)) == "r0 = *(u32 *)skb[r8 + 6]"
    assert replacement(fold_into_packet_load, text.format(""), demand(0, 8)) is None
    assert replacement(fold_into_packet_load, text.format("r7 = r8; "), demand(0, 7)) is None
    changed = lines("r1 = r8; r8 = 0; r1 += 4; r0 = *(u32 *)skb[r1 + 2]")
    assert replacement(fold_into_packet_load, changed, demand(0, 8)) != "r8 = 0; r0 = *(u32 *)skb[r8 + 6]"

"""Stores: immediates and merging, each with a twin that differs in one thing and must be left alone."""

from synth.passes.dead import dead_code
from synth.passes.memory import merge_stores, store_immediate
from tests.passes.straight_line import demand, pointer, propose, replacement
from verifier_model.bpf.asm import print_insn
from verifier_model.domains.registers import Region

PACKET = pointer(Region.PACKET, base=1, readable=64)
ALL = ((-512, 0),)


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


def test_known_number_goes_into_the_store() -> None:
    text = lines("w1 = 7; *(u32 *)(r10 - 4) = r1")
    assert replacement(store_immediate, text, demand(stack=ALL)) == "*(u32 *)(r10 -4) = 7"


def test_unknown_number_stays() -> None:
    assert replacement(store_immediate, "*(u32 *)(r10 - 4) = r1", demand(stack=ALL)) is None


def test_number_above_signed_32_bits_stays() -> None:
    text = lines("r1 = 0x80000000 ll; *(u64 *)(r10 - 8) = r1")
    assert replacement(store_immediate, text, demand(stack=ALL)) is None
    text = lines("r1 = 0x7fffffff ll; *(u64 *)(r10 - 8) = r1")
    assert replacement(store_immediate, text, demand(stack=ALL)) == "*(u64 *)(r10 -8) = 2147483647"


def test_shared_memory_takes_immediates_too() -> None:
    text = lines("r1 = 1; *(u16 *)(r6 + 2) = r1")
    shared = pointer(Region.MAP_VALUE)
    assert replacement(store_immediate, text, demand(), r6=shared) == "*(u16 *)(r6 +2) = 1"


def test_neighbouring_constants_merge() -> None:
    text = lines("r1 = 0; *(u32 *)(r10 - 4) = r1; *(u32 *)(r10 - 8) = r1")
    assert replacement(merge_stores, text, demand(stack=ALL)) == "*(u64 *)(r10 -8) = 0"


def test_constants_that_are_no_aligned_word_stay() -> None:
    text = lines("r1 = 0; *(u32 *)(r10 - 8) = r1; *(u32 *)(r10 - 12) = r1")
    assert replacement(merge_stores, text, demand(stack=ALL)) is None


def test_shared_stores_never_merge() -> None:
    text = lines("r1 = 0; *(u32 *)(r6 + 0) = r1; *(u32 *)(r6 + 4) = r1")
    for region in (Region.MAP_VALUE, Region.DATA, Region.MEMORY, Region.UNKNOWN, Region.OBJECT):
        assert replacement(merge_stores, text, demand(), r6=pointer(region)) is None


def test_free_bytes_are_set_to_whatever_fits() -> None:
    text = lines("*(u32 *)(r10 - 8) = 2; *(u16 *)(r10 - 4) = 3")
    assert replacement(merge_stores, text, demand(stack=((-8, -2),))) is None  # 2 | 3 << 32 is no immediate
    text = lines("*(u16 *)(r10 - 8) = 2; *(u8 *)(r10 - 5) = 3")
    assert replacement(merge_stores, text, demand(stack=((-8, -6), (-5, -4)))) == "*(u32 *)(r10 -8) = 50331650"
    assert replacement(merge_stores, text, demand(stack=((-8, -4),))) is None


def test_later_store_wins() -> None:
    text = lines("*(u64 *)(r10 - 8) = 0; *(u32 *)(r10 - 8) = 5")
    assert replacement(merge_stores, text, demand(stack=ALL)) == "*(u64 *)(r10 -8) = 5"


def test_a_read_in_between_keeps_the_store() -> None:
    text = lines("*(u64 *)(r10 - 8) = 0; r1 = *(u32 *)(r10 - 4); *(u32 *)(r10 - 8) = 5")
    assert replacement(merge_stores, text, demand(1, stack=ALL)) is None


def test_scattered_register_is_one_store() -> None:
    text = lines("*(u8 *)(r6 + 0) = r1; w1 >>= 8; *(u8 *)(r6 + 1) = r1")
    got = replacement(merge_stores, lines("r1 = *(u16 *)(r10 - 2); " + text.replace("\n", ";")), demand(), r6=PACKET)
    assert got == "r0 = *(u16 *)(r10 -2); *(u16 *)(r6 +0) = r0"


def test_scatter_in_the_wrong_order_stays() -> None:
    text = lines("r1 = *(u16 *)(r10 - 2); *(u8 *)(r6 + 1) = r1; w1 >>= 8; *(u8 *)(r6 + 0) = r1")
    assert replacement(merge_stores, text, demand(), r6=PACKET) is None


COPY = "r1 = *(u32 *)(r6 + 4); *(u32 *)(r10 - 4) = r1; r1 = *(u32 *)(r6 + 0); *(u32 *)(r10 - 8) = r1"


def test_copies_widen() -> None:
    got = replacement(merge_stores, lines(COPY), demand(stack=ALL), r6=PACKET)
    assert got == "r0 = *(u64 *)(r6 +0); *(u64 *)(r10 -8) = r0"


def test_copies_from_shared_memory_stay() -> None:
    assert replacement(merge_stores, lines(COPY), demand(stack=ALL), r6=pointer(Region.MAP_VALUE)) is None


def test_copies_that_cross_stay() -> None:
    crossed = COPY.replace("r10 - 4", "r10 - 99").replace("r10 - 8", "r10 - 4").replace("r10 - 99", "r10 - 8")
    assert replacement(merge_stores, lines(crossed), demand(stack=ALL), r6=PACKET) is None


def test_copy_takes_a_register_that_is_free_there() -> None:
    got = replacement(merge_stores, lines(COPY), demand(*range(11), stack=ALL), r6=PACKET)
    assert got == "r1 = *(u64 *)(r6 +0); *(u64 *)(r10 -8) = r1; r1 = *(u32 *)(r6 +0)"
    text = COPY.replace(
        "r1 = *(u32 *)(r6 + 0); *(u32 *)(r10 - 8) = r1", "r0 = *(u32 *)(r6 + 0); *(u32 *)(r10 - 8) = r0"
    )
    assert replacement(merge_stores, lines(text), demand(*range(11), stack=ALL), r6=PACKET) is None


def test_byte_that_a_later_store_sets_is_free_and_the_window_shows_it() -> None:
    text = "*(u8 *)(r6 + 0) = 1; *(u8 *)(r6 + 1) = 2; *(u8 *)(r6 + 2) = 3; w1 = w2; *(u16 *)(r6 + 3) = r3"
    widest = propose(merge_stores, lines(text), demand(1), r6=PACKET)[-1]
    assert "*(u32 *)" in print_insn(widest.after[0]) and widest.window.stop == 5
    seen = text.replace("w1 = w2", "r1 = *(u8 *)(r6 + 3)")
    assert all("u32" not in print_insn(r.after[0]) for r in propose(merge_stores, lines(seen), demand(1), r6=PACKET))


def test_copy_does_not_read_back_what_the_stores_that_go_had_written() -> None:
    text = lines("*(u8 *)(r10 - 8) = 10; *(u8 *)(r10 - 7) = r4; *(u16 *)(r10 - 6) = 0")
    assert replacement(merge_stores, text, demand(stack=ALL)) is None


def test_dead_code_goes_and_live_code_stays() -> None:
    assert replacement(dead_code, lines("r1 = 1; r2 = 2"), demand(2)) == "r2 = 2"
    assert replacement(dead_code, lines("r1 = 1; r2 = 2"), demand(1, 2)) is None


def test_dead_stack_store_goes_only_with_all_its_bytes() -> None:
    assert propose(dead_code, "*(u64 *)(r10 - 8) = 0", demand(stack=((-16, -8),)))
    assert not propose(dead_code, "*(u64 *)(r10 - 8) = 0", demand(stack=((-8, -7),)))


def test_dead_loads_of_shared_memory_stay() -> None:
    assert propose(dead_code, "r1 = *(u64 *)(r6 + 0)", demand(), r6=PACKET)
    assert not propose(dead_code, "r1 = *(u64 *)(r6 + 0)", demand(), r6=pointer(Region.MAP_VALUE))

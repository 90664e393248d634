"""Register contents reached by a cheaper way; each case has a twin that differs in one thing and must be left alone."""

from dataclasses import replace

from synth.passes.bytewise import constant_of
from synth.passes.symbols import SymbolicBlock
from synth.passes.values import recompute
from tests.passes.straight_line import demand, entry, pointer, propose, replacement, scalar
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import Origin
from verifier_model.domains.registers import Region
from verifier_model.domains.state import State

PACKET = pointer(Region.PACKET, base=1, readable=64)


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


GATHER = "r1 = *(u8 *)(r6 + 12); r9 = *(u8 *)(r6 + 13); w9 <<= 8; w9 |= w1"


def test_byte_gather_is_one_load() -> None:
    assert replacement(recompute, lines(GATHER), demand(9), r6=PACKET) == "r9 = *(u16 *)(r6 +12)"


def test_gather_in_the_other_order_is_a_load_and_a_swap() -> None:
    text = lines(GATHER.replace("+ 12", "+ 99").replace("+ 13", "+ 12").replace("+ 99", "+ 13"))
    assert replacement(recompute, text, demand(9), r6=PACKET) == "r9 = *(u16 *)(r6 +12); r9 = be16 r9"


def test_gather_of_bytes_apart_stays() -> None:
    assert replacement(recompute, lines(GATHER.replace("+ 13", "+ 14")), demand(9), r6=PACKET) is None


def test_gather_from_shared_memory_stays() -> None:
    assert replacement(recompute, lines(GATHER), demand(9), r6=pointer(Region.MAP_VALUE)) is None


def test_gather_with_a_shift_of_seven_stays() -> None:
    assert replacement(recompute, lines(GATHER.replace("<<= 8", "<<= 7")), demand(9), r6=PACKET) is None


def test_gather_across_a_store_that_may_hit_it_stays() -> None:
    text = lines(GATHER.replace("r9 =", "*(u8 *)(r7 + 0) = 2; r9 ="))
    assert replacement(recompute, text, demand(9), r6=PACKET, r7=pointer(Region.PACKET, 8, base=2)) is None
    got = replacement(recompute, text, demand(9, stack=((-8, 0),)), r6=PACKET, r7=pointer(Region.STACK, -8))
    assert got == "*(u8 *)(r7 +0) = 2; r9 = *(u16 *)(r6 +12)"


def test_stack_gather_needs_alignment() -> None:
    text = "r1 = *(u8 *)(r10 - {}); r9 = *(u8 *)(r10 - {}); w9 <<= 8; w9 |= w1"
    assert replacement(recompute, lines(text.format(4, 3)), demand(9)) == "r9 = *(u16 *)(r10 -4)"
    assert replacement(recompute, lines(text.format(5, 4)), demand(9)) is None


def test_shift_pair_is_a_move_of_the_low_half() -> None:
    assert replacement(recompute, lines("r1 <<= 32; r1 >>= 32"), demand(1)) == "w1 = w1"
    assert replacement(recompute, lines("r1 <<= 32; r1 >>= 31"), demand(1)) is None


def test_mask_of_a_byte_load_goes() -> None:
    assert (
        replacement(recompute, lines("r1 = *(u8 *)(r6 + 0); w1 &= 255"), demand(1), r6=PACKET) == "r1 = *(u8 *)(r6 +0)"
    )
    assert replacement(recompute, lines("r1 = *(u8 *)(r6 + 0); w1 &= 254"), demand(1), r6=PACKET) is None


def test_mask_whose_bits_nobody_reads_goes() -> None:
    low = Demand((0, 0xFF, *(0,) * 9), frozenset())
    wide = Demand((0, 0x1FF, *(0,) * 9), frozenset())
    assert len(propose(recompute, "r1 &= 255", low)) == 1
    assert not propose(recompute, "r1 &= 255", wide)


def test_wide_constant_that_fits_an_immediate() -> None:
    assert replacement(recompute, "r1 = 0x7fffffff ll", demand(1)) == "r1 = 2147483647"
    assert replacement(recompute, "r1 = 0x80000000 ll", demand(1)) is None


def test_reload_of_a_spilled_value_is_a_move() -> None:
    text = lines("*(u64 *)(r10 - 8) = r7; r1 = *(u64 *)(r10 - 8)")
    stack = ((-8, 0),)
    assert replacement(recompute, text, demand(1, 7, stack=stack)) == "*(u64 *)(r10 -8) = r7; r1 = r7"
    changed = text.replace("r1 =", "r7 = *(u64 *)(r6 + 0)\nr1 =")
    assert replacement(recompute, changed, demand(1, 7, stack=stack), r6=PACKET) is None


def test_known_number_is_not_taken_from_elsewhere() -> None:
    assert not propose(recompute, "r1 = r2", demand(1), r2=scalar(1 << 40))


def test_instruction_that_the_loader_patches_is_no_constant() -> None:
    """A field offset by CO-RE: `r1 = 8` may become any number."""
    insns = parse_insns("r1 = 8\nr1 = r1\nr1 <<= 0\nr2 = 8")
    patched = replace(insns[0], origin=Origin(core=((1, 2, 0),)))
    for first, expected in ((insns[0], 8), (patched, None)):
        states = [State(entry())]
        block = SymbolicBlock((first, *insns[1:]), states, [], "little")
        assert constant_of(block.before[-1].regs[1]) == expected
        assert constant_of(block.before[-1].regs[2]) == 8

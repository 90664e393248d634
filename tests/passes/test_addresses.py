"""One wide load for a section, with twins that must be left alone."""

from synth.passes.addresses import keep_address
from synth.passes.registers import substitute
from tests.passes.straight_line import demand, entry, pointer, replacement
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.unit import Block, DataSection, Function, Unit
from verifier_model.checker.local import local_safety
from verifier_model.contracts.effects import UNKNOWN_CALL
from verifier_model.domains.registers import Region
from verifier_model.domains.state import State
from verifier_model.verdict import Obligation


def lines(text: str) -> str:
    return "\n".join(part.strip() for part in text.split(";"))


TWO = "r1 = data[.bss] ll; r1 = *(u64 *)(r1 + 0); r2 = data[.bss+8] ll; r1 += 1; *(u64 *)(r2 + 0) = r1"


def test_second_address_of_a_section_goes() -> None:
    got = replacement(keep_address, lines(TWO), demand())
    assert got == "r0 = data[.bss] ll; r1 = *(u64 *)(r0 +0); r1 += 1; *(u64 *)(r0 +8) = r1"


def test_address_of_another_section_stays() -> None:
    assert replacement(keep_address, lines(TWO.replace(".bss+8", ".data+8")), demand()) is None


def test_address_that_is_used_as_a_number_stays() -> None:
    assert replacement(keep_address, lines(TWO.replace("r1 += 1", "r1 += r2")), demand()) is None
    assert replacement(keep_address, lines(TWO), demand(2)) is None


def test_no_register_means_no_rewrite() -> None:
    assert replacement(keep_address, lines(TWO), demand(0, *range(2, 10))) is None
    called = TWO.replace("r1 += 1", "call 7; r1 = r0; r2 = data[.bss+8] ll")
    assert UNKNOWN_CALL.writes_all and replacement(keep_address, lines(called), demand(6, 7, 8, 9)) is None


def test_register_that_still_holds_a_near_address_serves() -> None:
    text = "r2 = *(u64 *)(r1 + 0); r1 += 8; *(u64 *)(r1 + 0) = r2"
    packet = pointer(Region.PACKET, base=1, readable=64)
    assert replacement(substitute, lines(text), demand(), r1=packet) == "r2 = *(u64 *)(r1 +0); *(u64 *)(r1 +8) = r2"
    assert replacement(substitute, lines(text), demand(1), r1=packet) is None


def obligation(before: str, after: str) -> Obligation:
    function = Function("f", "xdp", (Block("L0", parse_insns(lines(before))),), program_type="xdp")
    section = DataSection(".bss", 16, is_writable=True)
    unit = Unit((function,), data={".bss": section, ".data": section}, cpu_level=3)
    return Obligation(function.blocks[0].insns, parse_insns(lines(after)), State(entry()), demand(), unit, function)


def test_safety_knows_that_a_section_is_one_object() -> None:
    right = "r0 = data[.bss] ll; r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 8) = r1"
    assert local_safety(obligation(TWO, right)) is None
    for old, new in (("r0 + 8", "r0 + 16"), (".bss", ".data"), ("r0 + 0", "r0 + 24")):
        wrong = right.replace(old, new)
        assert "the original does not touch" in str(local_safety(obligation(TWO, wrong))), wrong

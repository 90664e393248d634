"""Slices: members that others stand between are searched as if they stood together."""

from __future__ import annotations

from synth.enumerate import EnumerateSession
from synth.pipeline import optimise
from synth.rewrite import Window
from synth.settings import Settings
from synth.slices import Slice, slice_window, slices
from verifier_model.bpf.asm import parse_function, print_function, print_insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.facts import analyse

APART = """
    r2 = *(u32 *)(r1 + 16)
    r3 = *(u32 *)(r1 + 12)
    w4 = w2
    w5 = w3
    w4 <<= 3
    w5 *= 77
    w4 >>= 3
    w5 += 1
    w4 &= 4095
    w0 = w4
    w0 ^= w5
    exit
"""


def made(text: str) -> tuple[Unit, Function]:
    function = parse_function(text, section="xdp", program_type="xdp")
    return Unit((function,), cpu_level=3), function


def found(text: str) -> list[Slice]:
    unit, function = made(text)
    return list(slices(function, analyse(unit, function)))


def test_a_chain_through_others_is_a_slice() -> None:
    chains = [piece.members for piece in found(APART)]
    assert (2, 4, 6) in [members[-3:] for members in chains]
    assert all(len(members) >= 2 and members[0] + len(members) <= members[-1] for members in chains)


def test_what_another_one_reads_or_overwrites_is_not_moved_over_it() -> None:
    read = APART.replace("w5 *= 77", "w5 *= w4")
    assert not any({4, 6} <= set(piece.members) and 5 not in piece.members for piece in found(read))
    stored = APART.replace("w5 *= 77", "*(u32 *)(r10 - 4) = r5").replace("w4 <<= 3", "r4 = *(u32 *)(r10 - 8)")
    stored = stored.replace("w4 = w2", "*(u64 *)(r10 - 8) = 1")
    assert not any(4 in piece.members and piece.members[-1] > 5 for piece in found(stored))


def test_a_slice_goes_behind_the_others_and_keeps_them() -> None:
    unit, function = made(APART)
    facts = analyse(unit, function)
    piece = Slice(Window(function.blocks[0].label, 2, 9), (2, 4, 6, 8))
    window = slice_window(function, facts, unit, piece)
    assert window is not None
    assert [print_insn(insn) for insn in window.insns] == ["w4 = w2", "w4 <<= 3", "w4 >>= 3", "w4 &= 4095"]
    insns = function.blocks[0].insns
    after = piece.rewritten(insns, window.insns[:1])
    assert [print_insn(insn) for insn in after] == ["w5 = w3", "w5 *= 77", "w5 += 1", "w4 = w2"]


def test_the_masks_of_a_slice_become_one_and_the_whole_is_proved() -> None:
    unit, function = made(APART)
    after, record = optimise(unit, Settings(tiers=("enumerate",), effort=2))
    assert after.functions[0].slots <= function.slots - 2
    assert all(rewrite.method for rewrite in record.functions[0].rewrites)
    text = print_function(after.functions[0])
    assert "<<=" not in text
    # The twin: one bit less of shift, and the shifts matter no longer to the mask but to what is left of it.
    unit, function = made(APART.replace("w4 >>= 3", "w4 >>= 2"))
    twin, _ = optimise(unit, Settings(tiers=("enumerate",), effort=2))
    assert print_function(twin.functions[0]) != text


def test_sessions_look_at_slices_too() -> None:
    unit, function = made(APART)
    session = EnumerateSession(function, analyse(unit, function), unit, Settings(effort=2))
    assert any(isinstance(place, Slice) for place, _ in session._ranked())

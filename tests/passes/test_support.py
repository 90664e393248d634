"""Windows take in what a rewrite rests on, and no more."""

from synth.passes.block_view import BlockView
from synth.passes.support import supported
from synth.passes.values import recompute
from synth.rewrite import Rewrite, Window
from tests.passes.straight_line import HandFacts, demand, entry, pointer, propose
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.domains.registers import Region

PACKET = pointer(Region.PACKET, base=1, readable=64)
TEXT = """r5 = r4
r1 = *(u32 *)(r6 + 0)
r5 += 1
w2 = w1
w2 >>= 16
"""


def view_of(text: str, *live: int) -> BlockView:
    insns = parse_insns(text)
    function = Function("f", "xdp", (Block("L0", insns),), program_type="xdp")
    facts = HandFacts(insns, entry(r6=PACKET), demand(*live))
    return BlockView(function, function.blocks[0], facts, Unit((function,), cpu_level=3))


def test_window_takes_in_the_load_that_the_rewrite_rests_on() -> None:
    view = view_of(TEXT, 1, 2, 5)
    (rewrite,) = propose(recompute, TEXT, demand(1, 2, 5), r6=PACKET)
    assert rewrite.window == Window("L0", 3, 5)
    assert supported(view, rewrite).window == Window("L0", 1, 5)
    assert supported(view, rewrite).slots_saved == rewrite.slots_saved


def test_window_that_says_enough_stays() -> None:
    view = view_of("r5 = r4\nr1 <<= 32\nr1 >>= 32\n", 1, 5)
    rewrite = Rewrite(Window("L0", 1, 3), view.insns[1:3], parse_insns("w1 = w1"), "pass:recompute", "")
    assert supported(view, rewrite) is not rewrite
    assert supported(view, rewrite).window == rewrite.window


def test_wrong_rewrite_is_handed_on_as_it_is() -> None:
    view = view_of(TEXT, 1, 2, 5)
    rewrite = Rewrite(Window("L0", 3, 5), view.insns[3:5], parse_insns("r2 = *(u16 *)(r6 + 1)"), "pass:recompute", "")
    assert supported(view, rewrite) is rewrite

"""Facts behind calls that call back: what the callback may have written is lost, what it cannot reach stays."""

from __future__ import annotations

import pytest

from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.domains.registers import Region
from verifier_model.facts import analyse

LOOP = 181
MAIN = """
r6 = *(u32 *)(r1 +0)
*(u64 *)(r10 -8) = 1
*(u64 *)(r10 -16) = 2
r1 = 10
r2 = func(fn[{callback}]) ll
r3 = r10
r3 += -8
r4 = 0
call 181
r0 = *(u64 *)(r10 -16)
r7 = *(u64 *)(r10 -8)
exit
"""
CALLBACKS = {
    "writes": "r1 = 5\n*(u64 *)(r2 +0) = r1\nr0 = 0\nexit\n",
    "reads": "r1 = *(u64 *)(r2 +0)\nr0 = 0\nexit\n",
    "beyond": "r1 = 5\n*(u64 *)(r2 -8) = r1\nr0 = 0\nexit\n",
}


def unit_with(callback: str) -> tuple[Unit, Function]:
    main = parse_function(MAIN.format(callback=callback), "main", section="xdp", program_type="xdp")
    inner = parse_function(
        CALLBACKS[callback], callback, section=".text", is_global=False, is_subprogram=True, argument_count=2
    )
    return Unit((main, inner), cpu_level=3), main


def constants(callback: str) -> tuple[int | None, int | None]:
    """What is known of the two slots at the program's end."""
    unit, main = unit_with(callback)
    facts = analyse(unit, main)
    assert facts.incomplete is None
    label = main.blocks[-1].label
    state = facts.before(Point(label, len(main.blocks[-1].insns) - 1))
    found = [state.regs[reg] for reg in (7, 0)]
    low, high = (register.value.constant if register.region is Region.SCALAR else None for register in found)
    return low, high


@pytest.mark.parametrize(
    ("callback", "expected"), [("reads", (1, 2)), ("writes", (None, 2)), ("beyond", (1, None))], ids=str
)
def test_what_a_callback_writes_is_lost_and_the_rest_stays(
    callback: str, expected: tuple[int | None, int | None]
) -> None:
    assert constants(callback) == expected


def test_the_callback_knows_its_context_on_this_way_but_anyone_may_call_it() -> None:
    unit, _ = unit_with("writes")
    callback = unit.function("writes")
    facts = analyse(unit, callback)
    assert facts.incomplete is None
    assert facts.before(Point(callback.blocks[0].label, 0)).regs[2].region is Region.UNKNOWN

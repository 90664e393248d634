"""Helpers with fewer arguments than registers: what was never set points nowhere, what was set may."""

from __future__ import annotations

import pytest

from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import DataSection, Function, Unit
from verifier_model.prover import prove_functions
from verifier_model.verdict import Status

# bpf_trace_printk looks at as many of r3 to r5 as its format says.
PRINTS = """
*(u32 *)(r10 -8) = {number}
r3 = *(u32 *)(r1 +0)
r1 = data[.rodata] ll
w2 = 17
{more}
call 6
r0 = 0
exit
"""


def _function(number: int, more: str) -> Function:
    return parse_function(PRINTS.format(number=number, more=more), program_type="sock_ops")


@pytest.mark.parametrize(
    ("more", "status"),
    [("", Status.PROVED), ("r4 = r10\nr4 += -8", Status.REFUTED)],
    ids=["r4 and r5 were never set", "r4 points to the store"],
)
def test_a_store_before_a_print(more: str, status: Status) -> None:
    before, after = _function(0, more), _function(1, more)
    unit = Unit((before,), data={".rodata": DataSection(".rodata", 32, False)})
    assert prove_functions(before, after, unit).status is status

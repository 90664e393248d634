"""The layout of memory that the tests of facts run programs in, and what a state claims of it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.agreement.claims import Seen, contradictions
from verifier_model.bpf.concrete import Machine
from verifier_model.domains.registers import Region
from verifier_model.domains.state import State

CONTEXT, PACKET, STACK_TOP, VALUES = 0x1000, 0x20000, 0x9000, 0x40000
MAP = 0x666000
VALUE_STRIDE = 0x1000


def mismatches(
    state: State, machine: Machine, packet_length: int, values: int, tops: tuple[int, ...] = (STACK_TOP,)
) -> Iterator[str]:
    """Every claim of `state` that the machine belies; `values` map values of the layout exist.

    `tops`: the r10 of the running function and of its callers, innermost first.
    """
    bases = {Region.MAP_VALUE: [VALUES + at * VALUE_STRIDE for at in range(values)]}
    seen = Seen(
        machine.registers,
        tops,
        machine.load,
        CONTEXT,
        PACKET,
        PACKET + packet_length,
        PACKET,
        lambda region, symbol: bases.get(region, []),
        lambda ref: MAP,
    )
    return contradictions(state, seen)

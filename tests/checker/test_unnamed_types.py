"""Programs whose section says no type: taken for what their context allows, accepted as everything they may be."""

from __future__ import annotations

from itertools import product

import pytest

from synth.pipeline import optimise
from synth.settings import Settings
from tests.prover.functions import function, unit_of
from verifier_model.bpf.sections import types_of_context
from verifier_model.bpf.unit import Function
from verifier_model.checker import check
from verifier_model.checker.per_kernel import guards, loaded_as
from verifier_model.contracts.kernels import kernels
from verifier_model.contracts.programs import PROGRAM_TYPES

CONTEXTS = ("__sk_buff", "xdp_md", "pt_regs", "bpf_perf_event_data", "bpf_sock_ops", "sk_msg_md")
BUFFER = types_of_context("__sk_buff")
TAKEN, *OTHERS = BUFFER
NEWEST = kernels("6.18")


def program(text: str) -> Function:
    return function(text, section="redirect", program_type=TAKEN, also_types=tuple(OTHERS))


@pytest.mark.parametrize("name", CONTEXTS)
def test_types_have_that_context(name: str) -> None:
    found = types_of_context(name)
    assert found and all(PROGRAM_TYPES[kind].struct == name for kind in found)


def test_what_two_types_may_read_is_the_same_in_both() -> None:
    """So a proof about one holds for the other."""
    for (one, other), off, size in product(product(BUFFER, repeat=2), range(256), (1, 2, 4, 8)):
        first, second = (PROGRAM_TYPES[name].field_at(off, size) for name in (one, other))
        if first is not None and second is not None:
            assert (first.off, first.size, first.region, first.nullable) == (
                second.off,
                second.size,
                second.region,
                second.nullable,
            ), (one, other, off, size)


# r0 = 2 is no answer of a cgroup's programs; tc_classid is nothing that socket filters may read.
ROWS: tuple[tuple[str, str, bool], ...] = (
    ("r0 = 1; exit", "cgroup_skb", True),
    ("r0 = 2; exit", "cgroup_skb", False),
    ("r0 = *(u32 *)(r1 +0); r0 &= 1; exit", "socket_filter", True),
    ("r0 = *(u32 *)(r1 +72); r0 &= 1; exit", "socket_filter", False),
)


@pytest.mark.parametrize(("text", "kind", "accepted"), ROWS)
def test_every_type_that_accepts_is_a_guard(text: str, kind: str, accepted: bool) -> None:
    f = program(text)
    found = guards(unit_of(f), f, NEWEST)
    assert isinstance(found, tuple)
    assert (kind in {guard.as_type for guard in found}) is accepted
    unit = loaded_as(unit_of(f), kind)
    assert check(unit, unit.function("f")).accepted is accepted


def test_a_change_that_one_of_them_refuses_is_refused() -> None:
    f = program("r0 = 1; exit")
    found = guards(unit_of(f), f, NEWEST)
    assert isinstance(found, tuple)
    worse = program("r0 = 2; exit")
    refusing = {guard.as_type for guard in found if not guard.allows(guard.report(unit_of(f), worse))}
    assert refusing == {"cgroup_skb"}


def test_nothing_that_the_first_type_refuses_is_touched() -> None:
    local_port_of_sk_skb = program("r2 = *(u32 *)(r1 +112); r0 = 0; exit")
    unit, record = optimise(unit_of(local_port_of_sk_skb), Settings(tiers=("passes",)))
    assert unit.function("f") == local_port_of_sk_skb
    assert "does not accept" in record.functions[0].kept_reason
    twin = program("r2 = *(u32 *)(r1 +0); r0 = 0; exit")
    assert optimise(unit_of(twin), Settings(tiers=("passes",)))[0].function("f").slots < twin.slots

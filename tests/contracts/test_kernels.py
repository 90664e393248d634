"""Kernels by name, what they have and lack, and the check for each of a set."""

from __future__ import annotations

import pytest

from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.allowance import helper_problem
from verifier_model.checker.per_kernel import check_kernels, guards
from verifier_model.contracts.availability import (
    asked_series,
    helpers_anywhere,
    helpers_everywhere,
    helpers_of,
    needs_gpl,
)
from verifier_model.contracts.helpers import BY_NAME as HELPER
from verifier_model.contracts.kernels import PROFILES, KernelSetError, Profile, kernels, knowing, known_since
from verifier_model.contracts.places import BY_NAME as PLACE
from verifier_model.contracts.places import place_of


def names(text: str) -> list[str]:
    return [profile.name for profile in kernels(text)]


def test_names_ranges_and_lists() -> None:
    assert names("6.1") == ["6.1.0", "6.1.192"]
    assert names("6.1.36") == ["6.1.36"]
    assert names("6.1.36..6.6") == ["6.1.36", "6.1.192", "6.6.0", "6.6.98"]
    assert names("6.6 5.10.262, 6.6") == ["5.10.262", "6.6.0", "6.6.98"]
    assert len(kernels("5.10..6.18")) == len(PROFILES) == 12
    assert names("6.12.117+strict") == ["6.12.117+strict"]
    assert names(" ".join(names("5.10..6.18"))) == names("5.10..6.18")


@pytest.mark.parametrize("text", ["", "6", "6.1..", "6.18..6.1", "4.19", "6.2", "6.2.3", "6.1+fast", "6.1.x", "five"])
def test_what_names_no_kernel_is_refused(text: str) -> None:
    with pytest.raises(KernelSetError):
        kernels(text)


def test_only_what_a_real_kernel_answers_for_is_verified() -> None:
    verified = [profile.name for profile in PROFILES if profile.is_verified]
    assert [name.rpartition(".")[0] for name in verified] == ["5.10", "6.1", "6.12", "6.18"]
    assert not Profile((6, 1, 192), strict_alignment=True).is_verified
    assert Profile((6, 1, 192)).is_verified
    assert not Profile((6, 1, 0)).is_verified


def test_instructions_by_release() -> None:
    ages = {
        "r0 = r1": (5, 10, 0),
        "lock *(u64 *)(r1 +0) += r2": (5, 10, 0),
        "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)": (5, 12, 0),
        "r0 = (s8)r1": (6, 6, 0),
        "may_goto L0": (6, 9, 0),
    }
    assert {text: known_since(parse_insns(text)[0].row) for text in ages} == ages
    assert {profile.series for profile in knowing(3)} == {profile.series for profile in PROFILES}
    assert min(knowing(4)).release == (6, 6, 0)


def test_helpers_by_place_and_kernel() -> None:
    xdp, probe = PLACE["xdp"], PLACE["kprobe"]
    assert asked_series() == ((5, 10), (6, 1), (6, 12), (6, 18))
    adjust, read, loop = HELPER["xdp_adjust_head"].id, HELPER["probe_read"].id, HELPER["loop"].id
    for series in asked_series():
        assert adjust in (helpers_of(series, xdp) or ())
        assert adjust not in (helpers_of(series, probe) or ())
        assert read in (helpers_of(series, probe) or ())
    assert loop not in (helpers_of((5, 10), xdp) or ())
    assert loop in (helpers_of((6, 1), xdp) or ())
    # Nobody asked 5.15 and 6.6: what both neighbours give.
    assert helpers_of((5, 15), xdp) == (helpers_of((5, 10), xdp) or set()) & (helpers_of((6, 1), xdp) or set())
    assert helpers_of((5, 10), PLACE["syscall"]) is None
    assert helpers_anywhere(xdp) >= (helpers_of((6, 18), xdp) or frozenset())
    assert helpers_everywhere() <= helpers_anywhere(xdp)
    assert {read, HELPER["trace_printk"].id} <= needs_gpl()
    assert HELPER["map_lookup_elem"].id not in needs_gpl()


def program(text: str, section: str = "xdp", type: str = "xdp") -> Function:
    return parse_function(text, name="f", section=section, program_type=type)


def test_a_place_is_known_by_section_or_by_type() -> None:
    expected = {
        ("cgroup/connect4", "cgroup_sock_addr"): "cgroup/connect4",
        ("fentry.s/sys_x", "tracing"): "fentry.s",
        ("?tp_btf/sched_switch", "tracing"): "tp_btf",
        ("xdp_fwd", "xdp"): "xdp",
        ("iter/tcp", "tracing"): "iter/tcp",
        ("iter/task", "tracing"): "iter",
        ("freplace/f", "ext"): None,
    }
    places = {key: place_of(program("r0 = 0\nexit", *key)) for key in expected}
    assert {key: place and place.name for key, place in places.items()} == expected


LOOP_FREE = "r0 = 0\nexit"
CASES = [
    # text, section, type, licence, first release that accepts it (None: none)
    (LOOP_FREE, "xdp", "xdp", "", (5, 10, 0)),
    ("r1 = 1\nr0 = (s8)r1\nexit", "xdp", "xdp", "", (6, 6, 0)),
    (f"call {HELPER['get_current_pid_tgid'].id}\nr0 = 0\nexit", "kprobe/f", "kprobe", "", (5, 10, 0)),
    (f"call {HELPER['get_current_pid_tgid'].id}\nr0 = 0\nexit", "xdp", "xdp", "", (6, 12, 0)),
    (f"r1 = 0\ncall {HELPER['get_func_ip'].id}\nr0 = 0\nexit", "xdp", "xdp", "GPL", None),
    (f"call {HELPER['ktime_get_ns'].id}\nr0 = 0\nexit", "xdp", "xdp", "GPL", (5, 10, 0)),
    (f"call {HELPER['jiffies64'].id}\nr0 = 0\nexit", "xdp", "xdp", "", (5, 10, 0)),
    (f"call {HELPER['get_current_task'].id}\nr0 = 0\nexit", "kprobe/f", "kprobe", "GPL", (5, 10, 0)),
    (f"call {HELPER['get_current_task'].id}\nr0 = 0\nexit", "kprobe/f", "kprobe", "Proprietary", None),
]


@pytest.mark.parametrize(("text", "section", "type", "license", "first"), CASES)
def test_each_kernel_accepts_by_itself(
    text: str, section: str, type: str, license: str, first: tuple[int, int, int] | None
) -> None:
    function = program(text, section, type)
    unit = Unit((function,), license=license)
    reports = check_kernels(unit, function, PROFILES)
    accepted = [profile.release for profile, report in reports.items() if report.accepted]
    assert accepted == [profile.release for profile in PROFILES if first is not None and profile.release >= first]
    assert isinstance(guards(unit, function, PROFILES), tuple) == (first is not None)


def test_helpers_are_not_used_inside_themselves() -> None:
    unit = Unit((), license="GPL")
    helper = HELPER["sk_storage_get"]
    inside, outside = (program("r0 = 0\nexit", f"fentry/{name}", "tracing") for name in ("bpf_sk_storage_free", "f"))
    assert "not allowed" in (helper_problem(unit, inside, helper, (6, 12, 0)) or "")
    assert helper_problem(unit, outside, helper, (6, 12, 0)) is None


def test_what_is_not_modelled_is_refused() -> None:
    function = program(LOOP_FREE)
    report = check_kernels(Unit((function,)), function, kernels("6.1.192+unprivileged"))
    assert [one.accepted for one in report.values()] == [False]


PACKET = """
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 8
    r0 = 0
    if r4 > r3 goto out
    r0 = *(u32 *)(r2 +{off})
out:
    exit
"""


@pytest.mark.parametrize(("off", "strict"), [(0, False), (2, True)])
def test_strict_alignment_counts_from_the_ip_header(off: int, strict: bool) -> None:
    function = program(PACKET.format(off=off))
    unit = Unit((function,))
    loose, aligned = kernels("6.1.192"), kernels("6.1.192+strict")
    assert check_kernels(unit, function, loose)[loose[0]].accepted
    assert check_kernels(unit, function, aligned)[aligned[0]].accepted is strict
    found = guards(unit, function, loose + aligned)
    assert isinstance(found, tuple)
    assert len(found) == 1 + strict, "each alignment is guarded by itself"


# What Debian's kernels are built without: error injection and infrared remote controls.
NOT_BUILT = {"override_return", "rc_repeat", "rc_keydown", "rc_pointer_rel"}


def test_helpers_appear_in_the_release_that_their_rows_name() -> None:
    for series in asked_series():
        there = frozenset().union(*(helpers_of(series, place) or () for place in PLACE.values()))
        by_rows = {helper.id for helper in HELPER.values() if helper.since <= series and helper.name not in NOT_BUILT}
        assert there == by_rows, series
    assert not frozenset(HELPER[name].id for name in NOT_BUILT) & helpers_anywhere(PLACE["kprobe"])

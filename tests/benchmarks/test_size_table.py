"""The table of sizes: its committed list, what its claims hold rows to, and the means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.size.measure import Plan, Result, known_results
from benchmarks.size.objects import Subject
from benchmarks.size.packages import embedded
from benchmarks.size.programs import NETWORK, OTHER, TRACING, group_of, linked, priors, samples, type_of
from benchmarks.size.table import (
    Row,
    absolute_shortfalls,
    details,
    gain_shortfalls,
    mean_cut,
    speed_shortfalls,
    summary,
    times,
)

GOOD = Row(
    "f",
    "xdp1_kern.c",
    NETWORK,
    "v2",
    "size",
    2,
    "-O2",
    before=100,
    after=80,
    object_slots=100,
    seconds_cold=2.0,
    seconds_warm=0.2,
    work_before={"6.1": 50},
    work_after={"6.1": 50},
)


def test_the_list_names_every_group_and_every_section_that_libbpf_does_not_know() -> None:
    assert len(samples()) == 47
    assert linked() <= set(samples())
    assert {source for source, _ in priors()} <= set(samples())
    assert type_of("filter", samples()["test_cgrp2_tc_kern.c"]) == "sched_cls"
    assert type_of("filter", {}) is None
    assert [group_of(kind) for kind in ("xdp", "sched_cls", "kprobe", "tracing", "cgroup_skb", None)] == [
        NETWORK,
        NETWORK,
        TRACING,
        TRACING,
        OTHER,
        OTHER,
    ]


def test_the_larger_of_k2s_two_figures_counts() -> None:
    assert priors()["xdp_fwd_kern.c", "xdp_fwd_prog"].best_cut == pytest.approx(100 * 27 / 155)
    assert priors()["xdp1_kern.c", "xdp_prog1"].best_cut == pytest.approx(100 * 5 / 61)


def test_a_failure_counts_as_nothing_gained_and_is_not_left_out() -> None:
    failed = replace(GOOD, program="g", after=100, failure="the optimiser took more than 1 s")
    assert mean_cut([GOOD, failed]) == 10.0
    assert any("took more" in line for line in absolute_shortfalls([GOOD, failed]))
    assert summary([GOOD, failed])[2].startswith("| size | 2 | v2 | xdp, tc and socket filter | 2 | **10.0 %** |")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: replace(row, after=101), "grows from 100 to 101 slots"),
        (lambda row: replace(row, work_after={"6.1": 51}), "6.1's work grows from 50 to 51"),
        (lambda row: replace(row, work_after={}, refused={"6.1": "R1 invalid"}), "6.1 refuses ours: R1 invalid"),
    ],
)
def test_a_row_that_breaks_an_absolute_claim_is_told(spoil: Callable[[Row], Row], told: str) -> None:
    assert absolute_shortfalls([GOOD]) == []
    assert [line for line in absolute_shortfalls([spoil(GOOD)]) if told in line]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: replace(row, after=83), "size v2: a mean cut of 17.0 % where 18 % is wanted"),
        (lambda row: replace(row, goal="balanced", after=86), "balanced v2: a mean cut of 14.0 %"),
        (lambda row: replace(row, program="xdp_prog1", after=93), "7.0 % where K2 has 8.2 %"),
    ],
)
def test_a_gain_that_falls_short_is_told(spoil: Callable[[Row], Row], told: str) -> None:
    assert gain_shortfalls([GOOD, replace(GOOD, program="xdp_prog1", after=80)]) == []
    assert [line for line in gain_shortfalls([spoil(GOOD)]) if told in line]
    other = replace(spoil(GOOD), group=TRACING, program="h")
    assert gain_shortfalls([other]) == [], "tracing programs stand apart"


@pytest.mark.parametrize(
    ("spoil", "is_slow"),
    [
        (lambda row: row, False),
        (lambda row: replace(row, seconds_cold=3.1), True),
        (lambda row: replace(row, seconds_warm=0.31), True),
        (lambda row: replace(row, seconds_cold=3.1, object_slots=201), False),
        (lambda row: replace(row, seconds_cold=60.1, object_slots=2500), True),
        (lambda row: replace(row, seconds_cold=60.1, object_slots=2501), False),
    ],
)
def test_effort_1_is_held_to_its_seconds(spoil: Callable[[Row], Row], is_slow: bool) -> None:
    row = spoil(replace(GOOD, effort=1))
    assert bool(speed_shortfalls([row])) is is_slow
    assert speed_shortfalls([replace(row, effort=2)]) == []


def test_times_are_by_object_and_not_by_function() -> None:
    row = replace(GOOD, effort=1, cpu_seconds=1.5, cpu_seconds_warm=0.1)
    slow = replace(row, source="y.c", seconds_cold=4.0)
    lines = times([row, replace(row, program="g"), slow, replace(row, source="z.c", failure="crashed")])
    assert lines[2:] == ["| 1 | 1 to 200 | 2 | 3.00 | 4.00 | 1.50 | 1.50 | 0.20 | 0.20 | 0.10 | 0.10 |"]


def test_the_details_have_a_line_for_every_function() -> None:
    assert len(details([GOOD, replace(GOOD, program="g")])) == 4


def test_the_key_of_a_measurement_names_object_goal_effort_and_level(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject("x.c", "v2", "-O2", b"", ())
    plans = [
        Plan(subject, "size", 1),
        Plan(subject, "size", 2),
        Plan(subject, "balanced", 1),
        Plan(replace(subject, cpu="v3"), "size", 1),
        Plan(replace(subject, data=b"x"), "size", 1),
    ]
    monkeypatch.setattr("benchmarks.size.measure.function_slots", lambda data: {})  # an empty object is enough here
    keys = [plan.key for plan in plans]
    assert len(set(keys)) == len(keys)
    assert Plan(subject, "size", 1).key == keys[0]


def test_a_ledger_that_was_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text('{"key": "a", "seconds": 1.0}\n{"key": "b", "sec')
    assert known_results(path) == {"a": Result("a", seconds=1.0)}
    assert known_results(tmp_path / "none") == {}


def test_only_whole_objects_for_bpf_are_taken_out_of_a_program() -> None:
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (1).to_bytes(2, "little") + (247).to_bytes(2, "little")
    header += (
        bytes(20) + (64).to_bytes(8, "little") + bytes(10) + (64).to_bytes(2, "little") + (1).to_bytes(2, "little")
    )
    header += bytes(2)
    image = header.ljust(64, b"\0") + bytes(64)
    assert list(embedded(b"some program" + image + b"rest")) == [image]
    assert list(embedded(b"some program" + image[:-1])) == []
    host = image[:18] + (62).to_bytes(2, "little") + image[20:]
    assert list(embedded(host)) == []

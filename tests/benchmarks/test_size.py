"""The gain over clang-19 that the project promises, measured, and the judge of such measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.size import LEAST_PERCENT, LEVELS, Row, Table, example_table, function_slots, percent, shortfalls
from tests.llvm_bridge.objects import compile_text

GOOD = Row("x.c", "-O2", "f", 100, 90, 50, 45, "accepted")


@pytest.mark.needs("clang-19")
def test_the_five_examples_are_eight_percent_smaller_than_the_smallest_of_clang() -> None:
    table = example_table(LEVELS, ask=False)
    assert len({row.source for row in table.rows}) == 5
    assert shortfalls(table, LEAST_PERCENT) == []
    assert percent(table.before, table.after) >= 8


@pytest.mark.needs("clang-19", "bpf")
def test_the_running_kernel_accepts_every_example() -> None:
    table = example_table(("-O2",), ask=True)
    asked = [row for row in table.rows if row.kernel != "not asked"]
    assert {row.source for row in asked} == {row.source for row in table.rows}
    assert {row.kernel for row in asked} == {"accepted"}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: replace(row, after=101), "grows from 100 to 101 slots"),
        (lambda row: replace(row, verified_after=51), "work grows from 50 to 51"),
        (lambda row: replace(row, verified_after=None, kernel="refused: invalid access"), "refused: invalid access"),
        (lambda row: replace(row, after=93), "7.0 % is less than 8.0 %"),
    ],
)
def test_a_table_that_breaks_one_claim_is_told(spoil: Callable[[Row], Row], told: str) -> None:
    assert shortfalls(Table("t", "-O2", (GOOD,)), LEAST_PERCENT) == []
    found = shortfalls(Table("t", "-O2", (spoil(GOOD),)), LEAST_PERCENT)
    assert any(told in line for line in found)


@pytest.mark.needs("clang-19")
def test_slots_are_counted_from_the_symbols() -> None:
    text = 'int f(int x) { return x; } __attribute__((section("xdp"))) int g(void *c) { return 2; }'
    assert function_slots(compile_text(text)) == {"f": 2, "g": 2}

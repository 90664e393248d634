"""What the verifier processes is compared program by program: one program's gain never pays for another's loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker import check
from verifier_model.checker.per_kernel import Guard, guards
from verifier_model.contracts.kernels import kernels

RELEASE = kernels("6.18.15")
FILLER = "r0 += 1\n"


def shared(short: int, long: int, is_global: bool = False) -> Function:
    """A subprogram with `short` instructions for callers that pass 0, and `long` for the others."""
    text = f"r0 = 0\nif r1 == 0 goto zero\n{long * FILLER}exit\nzero:\n{short * FILLER}exit\n"
    return parse_function(text, "shared", is_subprogram=True, is_global=is_global)


def unit_with(callee: Function) -> Unit:
    programs = [
        parse_function(f"r1 = {argument}\ncall fn[shared]\nr0 = 2\nexit\n", name, section="xdp", program_type="xdp")
        for name, argument in (("passes_zero", 0), ("passes_one", 1))
    ]
    return Unit((callee, *programs), cpu_level=3, license="GPL")


def guard_of(callee: Function) -> Guard:
    found = guards(unit_with(callee), callee, RELEASE)
    assert isinstance(found, tuple)
    return found[0]


@pytest.mark.parametrize(
    ("short", "long", "is_allowed"),
    [(3, 9, True), (2, 9, True), (3, 7, True), (4, 7, False), (4, 9, False), (1, 10, False)],
)
def test_no_program_pays_for_another(short: int, long: int, is_allowed: bool) -> None:
    guard = guard_of(shared(3, 9))
    after = shared(short, long)
    report = check(unit_with(after), after, guard.knows)
    assert report.accepted
    assert guard.allows(report) is is_allowed


def test_the_sum_alone_would_not_tell() -> None:
    before, after = shared(3, 9), shared(4, 7)
    first, second = check(unit_with(before), before), check(unit_with(after), after)
    assert second.processed < first.processed
    assert [now - then for now, then in zip(second.loads, first.loads, strict=True)] == [1, -2]
    assert sum(first.loads) == first.processed


def test_a_global_function_counts_once_for_each_type_of_program() -> None:
    callee = shared(3, 9, is_global=True)
    unit = unit_with(callee)
    first, second = unit.functions[1:]
    assert check(unit, callee).loads == (16,)
    other = Unit((callee, first, replace(second, section="tc", program_type="sched_cls")), cpu_level=3, license="GPL")
    assert check(other, callee).loads == (16, 16)


def test_what_is_refused_is_never_allowed() -> None:
    guard = guard_of(shared(3, 9))
    broken = parse_function("r0 = *(u8 *)(r1 +0)\nexit\n", "shared", is_subprogram=True, is_global=False)
    report = check(unit_with(broken), broken, guard.knows)
    assert not report.accepted and not guard.allows(report)

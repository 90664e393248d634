"""The upper half of a 32-bit compare-and-exchange's result: what kernels make of it, and that nobody builds on it."""

from __future__ import annotations

import pytest

from synth.pipeline import optimise
from synth.settings import Settings
from tests.prover.functions import compared, function, unit_of
from verifier_model.bpf.exchange_halves import UNDEFINED_HALF, used_upper_half
from verifier_model.bpf.unit import Function, Unit
from verifier_model.kernel.loading import load_function
from verifier_model.kernel.programs import LoadedObject
from verifier_model.verdict import Status

START = """
r6 = *(u32 *)(r1 +12); r7 = -1; r7 <<= 32; r7 |= r6
*(u32 *)(r10 -8) = r6; *(u32 *)(r10 -4) = r6; r0 = r7
"""
EXCHANGE = "r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r6)"
SHOWN = "r0 >>= 32; exit"
STRAIGHT = f"{START}{EXCHANGE}; {SHOWN}"
# The way that is walked first ends in the same state, without a 32-bit result.
JOINED = f"{START}if r6 != 0x12345 goto X; B: r0 = *(u64 *)(r10 -8); goto OUT; X: {EXCHANGE}; OUT: {SHOWN}"
MENDED = JOINED.replace(EXCHANGE, f"{EXCHANGE}; w0 = w0")


def result(text: str) -> int:
    loaded = load_function(Unit((function(text),), {}, cpu_level=4), "f")
    assert isinstance(loaded, LoadedObject)
    with loaded:
        return loaded.programs["f"].test_run(bytes(64)).result


@pytest.mark.needs("bpf")
def test_what_the_running_kernel_leaves_there() -> None:
    assert result(STRAIGHT) == 0
    assert result(MENDED) == 0
    assert result(JOINED) in (0, 0xFFFFFFFF), "zero as the instruction set says, or what was there before"


USES: tuple[tuple[str, bool], ...] = (
    (STRAIGHT, True),
    (JOINED, True),
    (MENDED, False),
    (STRAIGHT.replace("u32 *)(r10 -8), r0", "u64 *)(r10 -8), r0").replace("atomic_", "atomic64_"), False),
    (f"{START}{EXCHANGE}; w0 >>= 31; exit", False),
    (f"{START}{EXCHANGE}; r0 >>= 31; exit", True),
    (f"{START}{EXCHANGE}; if w0 == w6 goto E; B: r0 = 1; exit; E: r0 = 2; exit", False),
    (f"{START}{EXCHANGE}; if r0 == r6 goto E; B: r0 = 1; exit; E: r0 = 2; exit", True),
    (f"{START}{EXCHANGE}; *(u64 *)(r10 -16) = r0; r0 = 0; exit", True),
    (f"{START}{EXCHANGE}; *(u32 *)(r10 -16) = r0; r0 = 0; exit", False),
)


@pytest.mark.parametrize(("text", "used"), USES)
def test_use_of_the_upper_half(text: str, used: bool) -> None:
    assert (used_upper_half(function(text)) is not None) is used


def optimised(f: Function) -> tuple[Function, str]:
    unit, record = optimise(unit_of(f), Settings(tiers=("passes",)))
    return unit.function("f"), record.functions[0].kept_reason


def test_a_function_that_looks_there_is_nobodys_to_change() -> None:
    wasteful = function(JOINED.replace("r0 >>= 32", "r2 = r0; r2 >>= 32; r0 = r2"))
    assert optimised(wasteful) == (wasteful, UNDEFINED_HALF)
    twin = function(MENDED.replace("r0 >>= 32", "r2 = r0; r2 >>= 32; r0 = r2"))
    better, _ = optimised(twin)
    assert better.slots < twin.slots and used_upper_half(better) is None


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (MENDED, JOINED, Status.UNKNOWN),
        (JOINED, MENDED, Status.UNKNOWN),
        (JOINED, JOINED, Status.PROVED),
        (MENDED, MENDED.replace("r0 >>= 32", "r0 >>= 16; r0 >>= 16"), Status.PROVED),
        (MENDED, MENDED.replace("r0 >>= 32", "r0 >>= 16; r0 >>= 15"), Status.REFUTED),
    ],
)
def test_whole_functions(before: str, after: str, status: Status) -> None:
    verdict = compared(before, after)
    assert verdict.status is status
    if status is Status.UNKNOWN:
        assert verdict.reason == UNDEFINED_HALF

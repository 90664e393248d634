"""Who can reach private memory: callers' frames, slices that kfuncs return, arguments of subprograms, and callees."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.prover.obligations import demand, obligation
from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.unit import Function
from verifier_model.prover import prove
from verifier_model.verdict import Obligation, Status, Verdict

WITH_KFUNC = parse_function("entry:\n  call kfunc[work]\n  r0 = 0\n  exit\n", name="other")
STATIC = parse_function(
    "entry:\n  r0 = *(u64 *)(r1 - 8)\n  *(u8 *)(r1 - 16) = r0\n  exit\n",
    name="helper",
    is_global=False,
    is_subprogram=True,
    argument_count=1,
)
MEMORY = "r6 memory base=3 size=64; r2 packet base=1; r7 scalar"


def difference(verdict: Verdict) -> str:
    assert verdict.status is Status.REFUTED, verdict
    assert verdict.counterexample is not None
    return verdict.counterexample.difference.split(": 0x")[0]


def test_a_callers_frame_is_looked_at_later() -> None:
    entry = "r2 stack frame=1; r7 scalar"
    store = "*(u64 *)(r2 - 8) = 0"
    assert difference(prove(obligation(entry, store, "", ""))) == "stack of caller 1 byte -8 at the end"
    twice = obligation(entry, f"*(u64 *)(r2 - 8) = r7; {store}", store, "")
    assert prove(twice).status is Status.PROVED
    own = obligation(entry, "*(u64 *)(r10 - 8) = 0", "", "")
    assert prove(own).status is Status.PROVED


def test_frames_are_apart() -> None:
    entry = "r2 stack frame=1; r7 scalar; r8 scalar"
    before = "*(u64 *)(r2 - 8) = r7; *(u64 *)(r10 - 8) = r8"
    after = "*(u64 *)(r10 - 8) = r8; *(u64 *)(r2 - 8) = r7"
    assert prove(obligation(entry, before, after, "-8..-1")).status is Status.PROVED
    twin = "*(u64 *)(r10 - 8) = r7; *(u64 *)(r2 - 8) = r7"
    assert difference(prove(obligation(entry, before, twin, "-8..-1"))) == "stack byte -8 at the end"


@pytest.mark.parametrize(
    ("others", "is_subprogram", "is_apart"),
    [((), False, True), ((WITH_KFUNC,), False, False), ((), True, False)],
)
def test_memory_of_unknown_origin_may_be_the_packet(
    others: tuple[Function, ...], is_subprogram: bool, is_apart: bool
) -> None:
    before = "*(u32 *)(r2 + 0) = r7; r3 = *(u32 *)(r6 + 0)"
    after = "r3 = *(u32 *)(r6 + 0); *(u32 *)(r2 + 0) = r7"
    verdict = prove(obligation(MEMORY, before, after, "r3", others=others, is_subprogram=is_subprogram))
    if is_apart:
        assert verdict.status is Status.PROVED
    else:
        assert difference(verdict) == "packet byte +0 at 32-bit load of shared memory"


def test_a_store_to_unknown_memory_changes_the_packet() -> None:
    before = "*(u32 *)(r6 + 0) = r7; r3 = *(u32 *)(r2 + 0)"
    after = "r3 = *(u32 *)(r2 + 0); *(u32 *)(r6 + 0) = r7"
    assert difference(prove(obligation(MEMORY, before, after, "r3", others=(WITH_KFUNC,)))) == "r3"
    assert prove(obligation(MEMORY, before, after, "r3")).status is Status.PROVED


def test_a_callee_reads_the_frame_that_it_gets() -> None:
    before = "*(u64 *)(r10 - 8) = 1; r1 = r10; call fn[helper]"
    after = "r1 = r10; call fn[helper]"
    verdict = prove(obligation("", before, after, "", others=(STATIC,)))
    assert difference(verdict) == "stack byte -8 at the call of helper"


def test_a_callee_without_a_frame_pointer_leaves_the_stack_alone() -> None:
    before = "*(u64 *)(r10 - 8) = 1; r1 = 7; call fn[helper]; r6 = *(u64 *)(r10 - 8)"
    after = "*(u64 *)(r10 - 8) = 1; r1 = 7; call fn[helper]; r6 = 1"
    assert prove(obligation("", before, after, "r6 -8..-1", others=(STATIC,))).status is Status.PROVED
    twin = "*(u64 *)(r10 - 8) = 1; r1 = 7; call fn[helper]; r6 = 2"
    assert difference(prove(obligation("", before, twin, "r6 -8..-1", others=(STATIC,)))) == "r6"


def test_the_packet_changes_under_a_local_callee() -> None:
    entry = "r6 packet base=1"
    before = "r7 = *(u8 *)(r6 + 0); r1 = 7; call fn[helper]"
    after = "r1 = 7; call fn[helper]; r7 = *(u8 *)(r6 + 0)"
    assert difference(prove(obligation(entry, before, after, "r7", others=(STATIC,)))) == "r7"


def test_provenance_of_an_argument_comes_from_the_original() -> None:
    """A buffer whose pointer the replacement builds in another way is overwritten all the same."""
    call = "r2 = 8; call 16; r7 = *(u64 *)(r10 - 8)"
    before = f"*(u64 *)(r10 - 8) = 5; r1 = r10; r1 += -8; {call}"
    after = f"*(u64 *)(r10 - 8) = 5; r1 = -8; r1 += r10; {call}"
    assert prove(obligation("", before, after, "r7")).status is Status.PROVED
    twin = f"*(u64 *)(r10 - 8) = 5; r1 = -8; r1 += r10; {call}; r7 = 5"
    assert difference(prove(obligation("", before, twin, "r7"))) == "r7"


def test_a_lock_keeps_its_place() -> None:
    entry = "r6 map_value base=3; r7 scalar"
    before = "r1 = r6; call 93; *(u32 *)(r6 + 8) = 1; r1 = r6; call 94"
    after = "r1 = r6; call 93; r1 = r6; call 94; *(u32 *)(r6 + 8) = 1"
    expected = "event 1: 32-bit store to shared memory before, the call of bpf_spin_unlock after"
    assert difference(prove(obligation(entry, before, after, ""))) == expected


def test_long_shared_chains_stay_cheap() -> None:
    """Terms share their parts: sixty rounds of mixing do not grow exponentially, whichever half is looked at."""
    rounds = "; ".join(["r8 = r7; r8 >>= 7; r7 ^= r8; r7 *= r7"] * 60)
    before = f"{rounds}; r0 = 0; r0 += r7; w7 = w7; r8 = 0"
    after = f"{rounds}; r0 = r7; w7 = w7; r8 = 0"
    assert prove(obligation("r7 scalar", before, after, "r0 r7")).method == "simplified"
    assert (
        prove(obligation("r7 scalar", before, f"{rounds}; r0 = r7; w7 = w7; r8 = 1", "r0 r7 r8")).status
        is Status.REFUTED
    )


def canonical_run() -> str:
    """Verdicts of a few obligations that pass through every method."""
    questions: list[Obligation] = [
        obligation("r7 scalar; r8 scalar", "r7 *= r8", "r8 *= r7; r7 = r8", "r7"),
        obligation("r2 packet base=1; r3 packet base=2", "*(u8 *)(r2 + 0) = 1; *(u8 *)(r3 + 0) = 2", "", ""),
        obligation("r7 scalar; r8 scalar", "w7 /= w8; w7 *= 3", "w7 /= w8; r8 = r7; w7 += w7; w7 += w8", "r7"),
        obligation("r3 scalar range=3..9; r7 scalar", "if r3 s> 9 goto L", "if r3 > 8 goto L", ""),
    ]
    return "\n".join(repr(prove(question)) for question in questions)


def test_verdicts_do_not_depend_on_hashing() -> None:
    outputs = set()
    for seed in ("0", "1", "77"):
        code = "from tests.prover.test_reach import canonical_run; print(canonical_run())"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert outputs.pop().count("Verdict(") == 4


def test_earlier_proofs_change_nothing() -> None:
    first = canonical_run()
    other = obligation("r7 scalar", "r7 %= 7", "r7 %= 9", "r7")
    prove(replace(other, demand=demand("r7 r8"), before=parse_insns("r8 = 1")))
    assert canonical_run() == first

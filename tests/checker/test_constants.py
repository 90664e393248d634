"""Frozen data: the acceptance check takes it for anything, the count of the verifier's work also for what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kernel_word import kernel_words
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.llvm_bridge.objects import compile_text
from tests.prover.functions import function
from verifier_model.bpf.unit import DataSection, Unit
from verifier_model.checker import check
from verifier_model.checker.knowledge import knowledge
from verifier_model.checker.per_kernel import guards
from verifier_model.contracts.kernels import kernels

SOURCE = """
#define SEC(name) __attribute__((section(name), used))
typedef unsigned int u32;
struct ctx { u32 data, data_end, data_meta, ingress, queue; };
const volatile u32 limit = LIMIT;
const volatile signed char small = -3;
char _license[] SEC("license") = "GPL";
SEC("xdp") int f(struct ctx *c) {
  u32 sum = c->queue;
  if (limit > 4) { sum += c->ingress; sum ^= sum >> 3; sum *= 77; if (sum & 64) sum -= 5; }
  if (small > 0) { sum += 9; if (sum & 32) sum ^= 12345; }
  return sum & 1;
}
"""
NEWEST = knowledge((6, 18, 44))


@pytest.mark.needs("bpf", "clang-19")
@pytest.mark.parametrize("limit", [3, 7])
def test_the_count_with_what_the_object_says_is_the_running_kernels(limit: int, tmp_path: Path) -> None:
    data = compile_text(SOURCE.replace("LIMIT", str(limit)), "clang-19", "bpf", "v3", "-g")
    (tmp_path / "x.o").write_bytes(data)
    source = read_object(data)
    assert isinstance(source, Object)
    report = check(source.unit, source.unit.function("f"), NEWEST)
    assert report.accepted
    assert report.written_loads == (kernel_words(tmp_path / "x.o")["f"].verified_insns,)
    assert report.loads > report.written_loads


WORDS = {".rodata": DataSection(".rodata", 8, False, constants=bytes([9, 0, 0, 0, 1, 0, 0, 0]))}
# One branch looks at the word, the other at what nobody knows.
HALVES = """
r6 = *(u32 *)(r1 +12); r2 = data[.rodata] ll; r2 = *(u32 *)(r2 +0)
if FIRST goto L
A: r6 += 1; r6 += 2; r6 += 3
L: if SECOND goto M
B: r6 += 4
M: r0 = 0; exit
"""


def halves(first: str, second: str) -> Unit:
    return Unit((function(HALVES.replace("FIRST", first).replace("SECOND", second)),), data=WORDS, cpu_level=3)


def test_a_known_word_decides_a_branch() -> None:
    known = halves("r2 != 0x8", "r6 == 0x5")
    report = check(known, known.function("f"), NEWEST)
    assert report.accepted and report.written_loads < report.loads
    unknown = replace(known, data={".rodata": replace(WORDS[".rodata"], constants=b"")})
    report = check(unknown, unknown.function("f"), NEWEST)
    assert report.written_loads == report.loads


def test_acceptance_builds_on_no_word() -> None:
    """A loader may write another word before it loads."""
    text = """
    r0 = data[.rodata] ll; r2 = *(u32 *)(r0 +0); if r2 == 0x9 goto M; B: r0 = *(u8 *)(r10 +8); exit; M: r0 = 0; exit
    """
    unit = Unit((function(text),), data=WORDS, cpu_level=3)
    assert not check(unit, unit.function("f"), NEWEST).accepted


def test_more_work_in_either_sense_is_refused() -> None:
    before, after = halves("r2 != 0x8", "r6 == 0x5"), halves("r2 != 0x9", "r6 == 0x5")
    found = guards(before, before.function("f"), kernels("6.18"))
    assert isinstance(found, tuple)
    plain, changed = (check(unit, unit.function("f"), NEWEST) for unit in (before, after))
    assert changed.loads == plain.loads and changed.written_loads > plain.written_loads
    assert not any(guard.allows(guard.report(after, after.function("f"))) for guard in found)
    assert all(guard.allows(guard.report(before, before.function("f"))) for guard in found)

"""Maps and variables that another object defines: what one of two linked objects becomes, and what is left alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from object_stage import optimise_bytes
from synth.settings import Settings
from tests.llvm_bridge.objects import compile_text
from verifier_model.checker import check
from verifier_model.checker.per_kernel import guards, reaching
from verifier_model.contracts.kernels import kernels
from verifier_model.kernel.differential import compare

pytestmark = pytest.mark.needs("clang-19")
SEED = 20

HEAD = """
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
typedef unsigned int u32; typedef unsigned long long u64;
struct ctx { u32 data, data_end, data_meta; };
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
struct record { u64 packets; u64 bytes; };
struct table { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, struct record); };
"""
# clang leaves a mere name of the record where nothing else in BTF needs it.
READS = """
extern struct table counters;
char _license[] SEC("license") = "GPL";
SEC("xdp") int f(struct ctx *c) {
  u32 key = 1, spare[3] = {1, 1, 1};
  asm volatile("" :: "r"(&spare) : "memory");
  struct record *found = lookup(&counters, &key);
  if (!found) return 0;
  found->bytes += (u64)c->data_end - c->data;
  return 2;
}
"""
WRITES = """
extern struct table counters;
SEC("xdp") int f(struct ctx *c) {
  u32 key = 1;
  struct record fresh = {1, 2};
  update(&counters, &key, &fresh, 0);
  return 2;
}
"""
DEFINES = 'struct table counters SEC(".maps");'
LIMITED = """
extern const volatile u32 limit;
extern u32 seen[4];
char _license[] SEC("license") = "GPL";
SEC("xdp") int f(struct ctx *c) {
  u32 spare[3] = {1, 1, 1};
  asm volatile("" :: "r"(&spare) : "memory");
  if ((u64)c->data_end - c->data > limit) return 1;
  seen[2] += limit;
  return 2;
}
"""
LIMITS = "const volatile u32 limit = 70; u32 seen[4];"


def built(text: str) -> bytes:
    return compile_text(HEAD + text, "clang-19", "bpf", "v3", "-g")


def read(text: str) -> Object:
    found = read_object(built(text))
    assert isinstance(found, Object)
    return found


def optimised(data: bytes) -> tuple[bytes, str]:
    outcome = optimise_bytes(data, Settings(tiers=("passes",)))
    return outcome.data, outcome.record.functions[0].kept_reason


def test_what_another_object_defines_is_read() -> None:
    definition = read(READS).unit.maps["counters"]
    assert definition.is_external
    assert (definition.type, definition.key_size, definition.max_entries) == (2, 4, 4)
    assert not read(READS.replace("extern struct table counters;", DEFINES)).unit.maps["counters"].is_external


def test_variables_of_another_object_are_data() -> None:
    found = read(LIMITED).unit.data
    assert {name: (found[name].size, found[name].is_writable) for name in ("limit", "seen")} == {
        "limit": (4, False),
        "seen": (16, True),
    }
    weak = read(LIMITED.replace("extern u32 seen[4];", "extern u32 seen[4] __attribute__((weak));")).unit.data
    assert "seen" not in weak and "limit" in weak


def test_an_access_beyond_the_variable_is_refused() -> None:
    unit = read(LIMITED).unit
    assert check(unit, unit.function("f")).accepted
    beyond = read(LIMITED.replace("seen[2] +=", "seen[4] +=")).unit
    assert not check(beyond, beyond.function("f")).accepted


def test_the_least_reach_that_clangs_own_code_needs() -> None:
    unit = read(READS).unit
    if unit.maps["counters"].value_size:
        pytest.fail("the value's size is known, so that nothing is tried here")
    found = guards(unit, unit.function("f"), kernels("6.18"))
    assert isinstance(found, tuple)
    assert {guard.reach for guard in found} == {16}
    short = reaching(unit, 8)
    assert not check(short, short.function("f")).accepted


def test_values_of_unknown_size_are_not_handed_over() -> None:
    data = built(WRITES)
    after, reason = optimised(data)
    assert after == data
    assert "does not accept" in reason


@pytest.mark.needs("bpf", "bpftool")
@pytest.mark.parametrize(("text", "other"), [(READS, DEFINES), (LIMITED, LIMITS)])
def test_a_linked_program_behaves_as_before(text: str, other: str, tmp_path: Path) -> None:
    first, second = built(text), built(other)
    better, _ = optimised(first)
    assert len(better) <= len(first) and better != first
    linked = []
    for name, data in (("before", first), ("after", better)):
        for part, content in ((f"{name}.1.o", data), (f"{name}.2.o", second)):
            (tmp_path / part).write_bytes(content)
        command = ["bpftool", "gen", "object", f"{name}.o", f"{name}.1.o", f"{name}.2.o"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=20)
        linked.append((tmp_path / f"{name}.o").read_bytes())
    comparison = compare(linked[0], linked[1], 400, SEED)
    assert comparison.is_equal, comparison

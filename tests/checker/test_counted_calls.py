"""Processed instructions around calls of kernel functions, beside the running kernel's number for the same object."""

from __future__ import annotations

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.checker.kernel_programs import HEAD, REFERENCES
from tests.llvm_bridge.objects import compile_text
from verifier_model.bpf.unit import Unit
from verifier_model.checker import check
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused

HOOK = 'SEC("tp_btf/sched_switch") int {}(u64 *ctx) {{ '
# name, number, body.
BODIES = (
    ("gives_back", 10, "r = bpf_task_acquire(current()); if (r) bpf_task_release(r); return 0; }"),
    ("takes_two", 19, "r = bpf_task_acquire(current()); if (!r) return 0; q = bpf_task_acquire(r); "
     "if (q) bpf_task_release(q); bpf_task_release(r); return 0; }"),
    ("asks_number", 19, "r = bpf_task_from_pid(current()->pid); if (!r) return 0; q = bpf_task_acquire(r); "
     "if (q) bpf_task_release(q); bpf_task_release(r); return 0; }"),
    ("keeps_number", 19, "int n = current()->pid; r = bpf_task_from_pid(n); if (r) bpf_task_release(r); "
     "if (n == 7) return 0; if (n == 9) { r = bpf_task_from_pid(n + 1); if (r) bpf_task_release(r); } return 0; }"),
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> bytes:
    text = HEAD.replace("LICENSE", "GPL") + REFERENCES
    text += "struct task_struct *bpf_task_from_pid(int pid) KSYM; "
    for name, _, body in BODIES:
        text += HOOK.format(name) + "struct task_struct *r, *q; " + body
    return compile_text(text, "clang-19", "bpf", "v3", "-g", "-Wno-everything")


def unit_of(data: bytes) -> Unit:
    found = read_object(data)
    assert isinstance(found, Object), found
    return found.unit


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize(("name", "number"), [row[:2] for row in BODIES])
def test_the_model_counts(data: bytes, name: str, number: int) -> None:
    unit = unit_of(data)
    report = check(unit, unit.function(name))
    assert report.accepted, report.rejection
    assert report.processed == number


@pytest.mark.needs("bpf", "clang-19", "libbpf-dev", "linux-6.18")
@pytest.mark.parametrize(("name", "number"), [row[:2] for row in BODIES])
def test_the_kernel_counts_the_same(data: bytes, name: str, number: int) -> None:
    loaded = load_object(data, LoadOptions(only=frozenset({name})))
    assert not isinstance(loaded, Refused), loaded
    with loaded:
        assert loaded.programs[name].verified_insns == number

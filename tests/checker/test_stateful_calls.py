"""Calls with state: what the kernel takes, the model takes; what differs in one thing and is refused, it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from verifier_model.bpf.unit import Unit
from verifier_model.checker import check
from verifier_model.checker.knowledge import knowledge
from verifier_model.checker.work import work
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused

SOURCE = Path(__file__).with_name("stateful.bpf.c")
NAMES = (
    "inner_map",
    "lock",
    "same_lock",
    "lock_bytes",
    "call_under_lock",
    "timer",
    "timer_map",
    "loop",
    "loop_result",
    "loop_changes",
    "each",
    "iterate",
    "element",
    "iterator_bytes",
    "record",
    "slice_of_record",
    "slice_size",
    "slice_of_packet",
    "reference",
    "empty",
    "throw",
)
NEWEST = knowledge((6, 18, 0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("stateful") / "x.o"
    command = ["clang-19", "-target", "bpf", "-O2", "-g", "-mcpu=v3", "-I/usr/include/x86_64-linux-gnu"]
    subprocess.run([*command, "-c", str(SOURCE), "-o", str(output)], check=True, timeout=60)
    return output.read_bytes()


def unit_of(data: bytes) -> Unit:
    read = read_object(data)
    assert isinstance(read, Object)
    return read.unit


def kernel_takes(data: bytes, name: str) -> bool:
    loaded = load_object(data, LoadOptions(only=frozenset({name})))
    if isinstance(loaded, Refused):
        assert "processed " in loaded.log, f"the verifier was never asked: {loaded}"
        return False
    with loaded:
        return name in loaded.programs


@pytest.mark.needs("clang-19", "libbpf-dev")
@pytest.mark.parametrize("name", NAMES)
def test_the_one_is_taken_and_its_twin_refused(data: bytes, name: str) -> None:
    unit = unit_of(data)
    taken = check(unit, unit.function(f"ok_{name}"), NEWEST)
    assert taken.accepted, taken.rejection
    assert taken.processed > 0
    assert not check(unit, unit.function(f"bad_{name}"), NEWEST).accepted


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_a_walk_without_an_end_is_refused(data: bytes) -> None:
    unit = unit_of(data)
    found = check(unit, unit.function("bad_endless"), NEWEST)
    assert not found.accepted
    assert found.rejection is not None and "too large" in found.rejection.reason


@pytest.mark.needs("bpf", "clang-19", "libbpf-dev")
@pytest.mark.parametrize("name", NAMES)
def test_the_running_kernel_says_the_same(data: bytes, name: str) -> None:
    assert kernel_takes(data, f"ok_{name}")
    assert not kernel_takes(data, f"bad_{name}")


@pytest.mark.needs("bpf", "clang-19", "libbpf-dev", "linux-6.18")
@pytest.mark.parametrize("name", ["loop", "loop_changes", "each", "iterate", "element", "timer"])
def test_work_is_counted_as_the_kernel_counts_it(data: bytes, name: str) -> None:
    unit = unit_of(data)
    counted = work(unit, unit.function(f"ok_{name}"))
    loaded = load_object(data, LoadOptions(only=frozenset({f"ok_{name}"})))
    assert not isinstance(loaded, Refused)
    with loaded:
        said = loaded.programs[f"ok_{name}"].verified_insns
    assert counted is not None
    assert abs(counted - said) <= max(3, said // 10), f"model {counted}, kernel {said}"

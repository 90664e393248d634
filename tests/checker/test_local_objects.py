"""Objects of a program's own, lists, trees and kept pointers: the model and the running kernel, and twins of each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.checker.test_stateful_calls import NEWEST, kernel_takes, unit_of
from verifier_model.checker import check
from verifier_model.checker.knowledge import knowledge
from verifier_model.contracts.map_fields import fields_of
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.types import running_kernel_types

SOURCE = Path(__file__).with_name("local_objects.bpf.c")
NAMES = tuple(re.findall(r'^PAIR(?:_OF\("[^"]*", |\()(\w+)', SOURCE.read_text(), re.M))
needs_kernel = pytest.mark.needs("bpf", "clang-19", "libbpf-dev", "linux-6.18")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("local_objects") / "x.o"
    command = ["clang-19", "-target", "bpf", "-O2", "-g", "-mcpu=v3", "-I/usr/include/x86_64-linux-gnu"]
    subprocess.run([*command, "-c", str(SOURCE), "-o", str(output)], check=True, timeout=60)
    return output.read_bytes()


@needs_kernel
@pytest.mark.parametrize("name", NAMES)
def test_the_one_is_taken_and_its_twin_refused(data: bytes, name: str) -> None:
    types = running_kernel_types()
    assert types is not None
    unit = for_kernel(unit_of(data), types)
    taken = check(unit, unit.function(f"ok_{name}"), NEWEST)
    assert taken.accepted, taken.rejection
    assert not check(unit, unit.function(f"bad_{name}"), NEWEST).accepted


@needs_kernel
@pytest.mark.parametrize("name", NAMES)
def test_the_running_kernel_says_the_same(data: bytes, name: str) -> None:
    assert kernel_takes(data, f"ok_{name}")
    assert not kernel_takes(data, f"bad_{name}")


@needs_kernel
def test_kernels_without_it_take_none_of_it(data: bytes) -> None:
    """Neither a unit that is meant for any kernel nor a kernel before 6.6 is known to follow kept pointers."""
    unit = unit_of(data)
    for name in ("own", "push", "add", "exchange", "task"):
        assert not check(unit, unit.function(f"ok_{name}")).accepted
    types = running_kernel_types()
    assert types is not None
    patched = for_kernel(unit, types)
    for name in ("own", "take_out"):
        assert not check(patched, patched.function(f"ok_{name}"), knowledge((6, 1, 0))).accepted
        assert check(patched, patched.function(f"ok_{name}"), knowledge((6, 6, 0))).accepted
        assert not check(patched, patched.function(f"ok_{name}")).accepted


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_variables_of_a_section_lie_where_its_symbols_say(data: bytes) -> None:
    """The compiler writes 0 into BTF for all of them; the loader corrects that, and so must we."""
    unit = unit_of(data)
    fields = fields_of(unit.maps[".data.A"], unit)
    assert fields is not None
    assert sorted((row.kind, row.off) for row in fields) == [
        ("bpf_list_head", 0),
        ("bpf_rb_root", 24),
        ("bpf_spin_lock", 16),
    ]
    assert not check(unit, unit.function("bad_variable"), NEWEST).accepted

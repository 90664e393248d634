"""From C to a smaller, proven, loadable object: what issue 2 promises of every example."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llvm_bridge.lint import lint
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from object_stage import optimise_bytes
from synth.settings import Settings
from tests.differential.scenarios import SCENARIOS
from tests.end_to_end.objects import COMPILERS, NAMES, compiled, optimised
from verifier_model.kernel.differential import compare
from verifier_model.kernel.libbpf import load_object
from verifier_model.kernel.syscall import Refused

INPUTS = 10_000
SEED = 7

MATRIX = [
    pytest.param(
        name,
        *compiler,
        # One worker of pytest-xdist for all tests of an object, so that it is optimised once.
        marks=[pytest.mark.needs(compiler[0]), pytest.mark.xdist_group("-".join((name, *compiler)))],
        id="-".join((name, *compiler)),
    )
    for name in NAMES
    for compiler in COMPILERS
]

PROOF = re.compile("simplified|solver|[0-9]+ segments")


@pytest.mark.parametrize(("name", "compiler", "cpu"), MATRIX)
def test_no_function_grows_and_every_change_is_proved(name: str, compiler: str, cpu: str) -> None:
    outcome = optimised(name, compiler, cpu)
    assert outcome.record.functions
    for function in outcome.record.functions:
        assert function.slots_after <= function.slots_before
        assert function.latency_after <= function.latency_before
        assert all(PROOF.fullmatch(rewrite.method) for rewrite in function.rewrites)
        assert "does not accept" not in function.kept_reason
    assert outcome.record.slots_after < outcome.record.slots_before
    assert not set(lint(outcome.data)) - set(lint(compiled(name, compiler, cpu)))


@pytest.mark.parametrize(("name", "compiler", "cpu"), MATRIX)
def test_the_record_tells_the_sizes_that_the_object_has(name: str, compiler: str, cpu: str) -> None:
    outcome = optimised(name, compiler, cpu)
    written = read_object(outcome.data, int(cpu[1:]))
    assert not isinstance(written, Untouched)
    sizes = {function.name: function.slots for function in written.unit.functions}
    assert sizes == {function.name: function.slots_after for function in outcome.record.functions}
    levels = [insn.row.level for function in written.unit.functions for _, insn in function.insns()]
    assert max(levels) <= int(cpu[1:])


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(("name", "compiler", "cpu"), MATRIX)
def test_the_kernel_loads_it(name: str, compiler: str, cpu: str) -> None:
    for data in (compiled(name, compiler, cpu), optimised(name, compiler, cpu).data):
        loaded = load_object(data)
        assert not isinstance(loaded, Refused), loaded.log[-2000:]
        loaded.close()


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(("name", "compiler", "cpu"), [case for case in MATRIX if case.values[0] in SCENARIOS])
def test_it_does_what_clangs_object_does(name: str, compiler: str, cpu: str) -> None:
    image = compiled(name, compiler, cpu)
    found = compare(image, optimised(name, compiler, cpu).data, INPUTS, SEED, SCENARIOS[name](image))
    assert found.is_equal, (SEED, found.refused, found.differences)
    assert found.inputs == {name: INPUTS} and not found.not_run


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("name", NAMES)
def test_with_every_tier_off_the_bytes_are_clangs(name: str) -> None:
    image = compiled(name)
    assert optimise_bytes(image, Settings(tiers=("none",)), 3).data == image


DIGEST = """
import hashlib, sys
from object_stage import optimise_bytes
from synth.settings import Settings
data = open(sys.argv[1], "rb").read()
print(hashlib.sha256(optimise_bytes(data, Settings(), 3).data).hexdigest())
"""


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("name", ["xdp_router", "trace_open"])
def test_another_process_with_another_hash_seed_writes_the_same_bytes(name: str, tmp_path: Path) -> None:
    source = tmp_path / "x.o"
    source.write_bytes(compiled(name))
    digests = {hashlib.sha256(optimised(name).data).hexdigest()}
    for seed in ("1", "2"):
        command = [sys.executable, "-c", DIGEST, str(source)]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
        digests.add(done.stdout.strip())
    assert len(digests) == 1


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("name", NAMES)
def test_optimising_our_own_output_keeps_every_promise_again(name: str) -> None:
    """Not yet a fixed point in every case, but never larger and still lint-clean."""
    once = optimised(name).data
    twice = optimise_bytes(once, Settings(tiers=("passes",)), 3)
    assert twice.record.slots_after <= twice.record.slots_before
    assert not set(lint(twice.data)) - set(lint(once))

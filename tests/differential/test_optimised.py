"""What the optimiser makes of the examples, against clang's own objects in the running kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from object_stage import optimise_bytes
from synth.settings import Settings
from tests.differential.scenarios import SCENARIOS
from verifier_model.kernel.differential import compare
from verifier_model.kernel.libbpf import load_object
from verifier_model.kernel.programs import LoadedObject

pytestmark = pytest.mark.needs("bpf")

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = (*sorted(SCENARIOS), "trace_open")
INPUTS = 10_000
SEED = 2
UNWIND = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
CLANG = ("clang-19", "-target", "bpf")
WHEEL = (sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", *UNWIND)


def check(name: str, command: tuple[str, ...], effort: int, folder: Path) -> None:
    """Compile, optimise without asking the kernel, load all programs, and compare on `INPUTS` packets."""
    out = folder / "example.o"
    flags = ("-O2", "-g", f"-I{EXAMPLES / 'include'}")
    source = EXAMPLES / f"{name}.bpf.c"
    subprocess.run([*command, *flags, "-c", str(source), "-o", str(out)], check=True, timeout=120)
    clangs = out.read_bytes()
    outcome = optimise_bytes(clangs, Settings(effort=effort))
    ours = outcome.data
    assert ours != clangs, outcome.record.counters
    before, after = load_object(clangs), load_object(ours)
    assert isinstance(before, LoadedObject) and isinstance(after, LoadedObject), (before, after)
    with before, after:
        assert sorted(before.programs) == sorted(after.programs)
    if name in SCENARIOS:
        found = compare(clangs, ours, INPUTS, SEED, SCENARIOS[name](clangs))
        assert found.is_equal, (SEED, found.refused, found.differences)
        assert found.inputs == {name: INPUTS}


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize(("level", "effort"), [("v1", 0), ("v2", 0), ("v3", 1), ("v4", 0)])
@pytest.mark.parametrize("name", NAMES)
def test_our_object_behaves_as_clangs(name: str, level: str, effort: int, tmp_path: Path) -> None:
    check(name, (*CLANG, f"-mcpu={level}"), effort, tmp_path)


@pytest.mark.needs("ziglang")
@pytest.mark.parametrize("name", NAMES)
def test_our_object_behaves_as_the_wheels_clangs(name: str, tmp_path: Path) -> None:
    check(name, WHEEL, 0, tmp_path)


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_gate_holds_back_what_gives_the_verifier_more_work(name: str, tmp_path: Path) -> None:
    source, out = EXAMPLES / f"{name}.bpf.c", tmp_path / "example.o"
    flags = ("-mcpu=v3", "-O2", "-g", f"-I{EXAMPLES / 'include'}")
    subprocess.run([*CLANG, *flags, "-c", str(source), "-o", str(out)], check=True, timeout=120)
    clangs = out.read_bytes()
    ours = optimise_bytes(clangs, Settings(effort=0, gate="kernel")).data
    before, after = load_object(clangs), load_object(ours)
    assert ours != clangs and isinstance(before, LoadedObject) and isinstance(after, LoadedObject)
    with before, after:
        for program, loaded in after.programs.items():
            assert loaded.verified_insns <= before.programs[program].verified_insns, program

"""The two functions of the shape whose proof times K2 reports, as whole functions: clang's against other versions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from synth.pipeline import optimise
from synth.settings import Settings
from verifier_model.bpf.unit import Function, Unit
from verifier_model.prover import prove_functions
from verifier_model.verdict import Status

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"packet_counter": 22, "tracepoint": 36}  # slots at -mcpu=v3
pytestmark = pytest.mark.needs("clang-19")


def compiled(name: str, folder: Path, *options: str) -> tuple[Unit, Function]:
    source, output = Path(__file__).parent / "shapes" / f"{name}.bpf.c", folder / f"{name}.o"
    clang = shutil.which("clang-19")
    assert clang is not None
    command = [clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I", str(ROOT / "examples" / "include"), *options]
    subprocess.run([*command, "-c", str(source), "-o", str(output)], check=True, capture_output=True)
    found = read_object(output.read_bytes())
    assert isinstance(found, Object)
    return found.unit, found.unit.functions[0]


@pytest.mark.parametrize("name", SHAPES)
def test_a_rewritten_source_gives_the_same_function(name: str, tmp_path: Path) -> None:
    unit, before = compiled(name, tmp_path)
    _, after = compiled(name, tmp_path, "-DREWRITTEN")
    assert before.slots == SHAPES[name] and before != after
    assert prove_functions(before, after, unit).status is Status.PROVED
    assert prove_functions(after, before, unit.with_function(after)).status is Status.PROVED


@pytest.mark.parametrize("name", SHAPES)
def test_another_source_is_refuted(name: str, tmp_path: Path) -> None:
    unit, before = compiled(name, tmp_path)
    _, after = compiled(name, tmp_path, "-DREWRITTEN", "-DWRONG")
    assert prove_functions(before, after, unit).status is Status.REFUTED


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_optimiser_makes_is_proved_as_a_whole(name: str, tmp_path: Path) -> None:
    unit, before = compiled(name, tmp_path)
    new, _ = optimise(unit, Settings(effort=0))
    assert prove_functions(before, new.function(before.name), unit).status is Status.PROVED

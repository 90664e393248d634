"""The passes on what clang writes for the examples: worth it, and hardly ever refuted."""

import subprocess
from pathlib import Path

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from synth.passes import PASSES
from synth.pipeline import optimise
from synth.settings import Settings

ROOT = Path(__file__).parents[2]
LEVELS = ("-O2",)
# Percent of the slots that passes alone save; measured figures are some points above.
AT_LEAST = {"xdp_firewall": 12, "xdp_router": 9, "xdp_balancer": 15, "tc_flow_stats": 10, "trace_open": 2}


def unit_of(name: str, level: str, folder: Path) -> Object:
    out = folder / f"{name}{level}.o"
    source = ROOT / "examples" / f"{name}.bpf.c"
    include = ROOT / "examples" / "include"
    command = ["clang-19", "-target", "bpf", level, "-g", "-mcpu=v3", f"-I{include}", "-c", str(source), "-o", str(out)]
    subprocess.run(command, check=True, timeout=60)
    found = read_object(out.read_bytes())
    assert isinstance(found, Object)
    return found


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("name", sorted(AT_LEAST))
def test_passes_pay_on_an_example(name: str, tmp_path: Path) -> None:
    before, after = [], []
    for level in LEVELS:
        unit = unit_of(name, level, tmp_path).unit
        better, record = optimise(unit, Settings(tiers=("passes",)))
        before.append(sum(function.slots for function in unit.functions))
        after.append(sum(function.slots for function in better.functions))
        for function in record.functions:
            asked = sum(function.verdicts.values())
            assert function.verdicts.get("PROVED", 0) >= 0.9 * asked, f"{function.name}: {function.verdicts}"
    saved = 100 * (min(before) - min(after)) / min(before)
    assert saved >= AT_LEAST[name], f"{min(before)} -> {min(after)}"


def test_every_pass_has_a_name_and_an_equation_of_its_own() -> None:
    assert len({row.name for row in PASSES}) == len({row.equation for row in PASSES}) == len(PASSES)
    assert all("==" in row.equation for row in PASSES)

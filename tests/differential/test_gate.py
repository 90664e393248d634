"""The gate that asks the running kernel, on real objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from object_stage import optimise_bytes
from synth.settings import Settings
from tests.differential.test_differential import example
from verifier_model.kernel.libbpf import load_object
from verifier_model.kernel.programs import LoadedObject

pytestmark = pytest.mark.needs("bpf", "libbpf-dev", "clang-19")

NAMES = ("tc_flow_stats", "trace_open", "xdp_balancer", "xdp_firewall", "xdp_router")


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_back_what_gives_the_verifier_more_work(name: str, tmp_path: Path) -> None:
    clangs = example(name, tmp_path)
    ours = optimise_bytes(clangs, Settings(effort=0, gate="kernel")).data
    before, after = load_object(clangs), load_object(ours)
    assert ours != clangs and isinstance(before, LoadedObject) and isinstance(after, LoadedObject)
    with before, after:
        for program, loaded in after.programs.items():
            assert loaded.verified_insns <= before.programs[program].verified_insns, program

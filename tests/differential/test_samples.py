"""The kernel's own XDP samples, optimised, against clang's objects; the forwarder with routes to look up."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from random import Random

import pytest

from benchmarks.kernel_tree import KernelTree, kernel_tree, system_headers
from benchmarks.kernel_word import ROOT
from benchmarks.size.examples import compile_source
from object_stage import optimise_bytes
from synth.settings import Settings
from tests.differential.network import private_network
from verifier_model.kernel.contents import Entries
from verifier_model.kernel.differential import Scenario, compare
from verifier_model.kernel.maps import KernelMap

pytestmark = pytest.mark.needs("bpf", "libbpf-dev", "clang-19", "linux-source-6.1", "ip")

INPUTS = 10_000
SEED = 11
REDIRECT = 4


def sample_options(tree: KernelTree) -> list[str]:
    """What the samples need in front of them; they themselves stay as shipped."""
    own = ["-include", str(ROOT / "benchmarks" / "include" / "linux_sample.h"), "-Wno-compare-distinct-pointer-types"]
    return [*own, "-I", str(tree.folder / "include"), "-I", str(tree.libbpf_include), *system_headers()]


@cache
def objects(name: str) -> tuple[bytes, bytes]:
    """clang's object and ours."""
    tree = kernel_tree("6.1")
    image = compile_source(tree.folder / "samples" / "bpf" / name, "-O2", sample_options(tree))
    ours = optimise_bytes(image, Settings(effort=0)).data
    assert ours != image
    return image, ours


@pytest.mark.parametrize("name", ["xdp1_kern.c", "xdp2_kern.c"])
def test_a_sample_behaves_as_before(name: str) -> None:
    found = compare(*objects(name), INPUTS, SEED)
    assert found.is_equal, (SEED, found.refused, found.differences)
    assert sum(found.outcomes["xdp_prog1"].values()) == INPUTS


def test_the_forwarder_behaves_as_before_and_forwards() -> None:
    with private_network() as interfaces:

        def contents(random: Random, map: KernelMap, packets: Sequence[bytes]) -> Entries | None:
            if map.type_name != "devmap":
                return None
            return [(struct.pack("=I", at), struct.pack("=I", at)) for at in interfaces if random.random() < 0.8]

        scenario = Scenario(contents, ingress=interfaces[0])
        found = compare(*objects("xdp_fwd_kern.c"), INPUTS, SEED, scenario)
    assert found.is_equal, (SEED, found.refused, found.differences)
    assert set(found.inputs.values()) == {INPUTS} and len(found.inputs) == 2
    assert all(outcomes.get(REDIRECT, 0) > INPUTS // 50 for outcomes in found.outcomes.values()), found.outcomes

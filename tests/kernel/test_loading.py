"""Units loaded by raw bpf(2) behave as the objects they came from, loaded by libbpf."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Unit
from verifier_model.kernel.libbpf import load_object
from verifier_model.kernel.loading import load_function
from verifier_model.kernel.packets import Packets
from verifier_model.kernel.programs import LoadedObject
from verifier_model.kernel.syscall import Refused

pytestmark = pytest.mark.needs("bpf", "libbpf-dev")

EXAMPLES = Path(__file__).parents[2] / "examples"
SEED = 5


def read(name: str, folder: Path) -> tuple[bytes, Unit]:
    out = folder / "x.o"
    command = ["clang-19", "-target", "bpf", "-O2", "-g", "-mcpu=v3", f"-I{EXAMPLES / 'include'}"]
    subprocess.run([*command, "-c", str(EXAMPLES / f"{name}.bpf.c"), "-o", str(out)], check=True, timeout=60)
    source = read_object(out.read_bytes())
    assert isinstance(source, Object), source
    return out.read_bytes(), source.unit


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("name", ["xdp_firewall", "xdp_router", "xdp_balancer"])
def test_a_unit_runs_as_its_object(name: str, tmp_path: Path) -> None:
    image, unit = read(name, tmp_path)
    by_libbpf = load_object(image)
    assert isinstance(by_libbpf, LoadedObject), by_libbpf
    with by_libbpf:
        contents = {
            section: map.lookup(bytes(4)) or b"" for section, map in by_libbpf.maps.items() if section in unit.data
        }
        raw = load_function(unit, name, contents)
        assert isinstance(raw, LoadedObject), raw
        with raw:
            packets, results = Packets(Random(SEED)), set()
            for _ in range(500):
                packet = packets.next()
                one, two = by_libbpf.programs[name].test_run(packet), raw.programs[name].test_run(packet)
                assert (one.result, one.packet, one.error) == (two.result, two.packet, two.error), (SEED, packet.hex())
                results.add(one.result)
            assert len(results) > 1


@pytest.mark.needs("clang-19")
def test_what_only_libbpf_can_do_is_refused_with_the_reason(tmp_path: Path) -> None:
    _, unit = read("trace_open", tmp_path)
    refused = load_function(unit, "trace_open_exit")
    assert isinstance(refused, Refused) and "CO-RE" in refused.reason


def unit_of(text: str) -> Unit:
    main = replace(parse_function(text, "main"), section="xdp", program_type="xdp")
    return Unit((main,), license="GPL")


def test_branches_go_where_their_labels_are() -> None:
    text = """
        r0 = 1
        r2 = *(u32 *)(r1 + 0)
        r3 = *(u32 *)(r1 + 4)
        r2 += 64
        if r2 > r3 goto L1
        r0 = 2
    L1:
        exit
    """
    loaded = load_function(unit_of(text), "main")
    assert isinstance(loaded, LoadedObject), loaded
    with loaded:
        run = loaded.programs["main"].test_run
        assert (run(bytes(63)).result, run(bytes(64)).result) == (1, 2)


def test_the_verifiers_reason_comes_back() -> None:
    refused = load_function(unit_of("r0 = *(u8 *)(r1 + 100)\nexit"), "main")
    assert isinstance(refused, Refused) and "invalid bpf_context access" in refused.log
    no_type = load_function(
        replace(unit_of("r0 = 0\nexit"), functions=(parse_function("r0 = 0\nexit", "main"),)), "main"
    )
    assert isinstance(no_type, Refused) and "program type" in no_type.reason

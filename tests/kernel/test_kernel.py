"""The kernel oracle: raw programs, maps, and whole objects through libbpf."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from verifier_model.bpf.insn import Insn, encode, make
from verifier_model.contracts.maps import BY_NAME
from verifier_model.kernel.gate import ask_kernel
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.programs import LoadedObject, LoadedProgram, load_insns
from verifier_model.kernel.syscall import Refused

pytestmark = pytest.mark.needs("bpf", "libbpf-dev")

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("tc_flow_stats", "trace_open", "xdp_balancer", "xdp_firewall", "xdp_router")
XDP = 6


def assemble(*insns: Insn) -> bytes:
    return b"".join(encode(insn, "little") for insn in insns)


def build(source: Path, out: Path, level: str = "v3", optimise: str = "-O2") -> bytes:
    command = ["clang-19", "-target", "bpf", optimise, "-g", f"-mcpu={level}", f"-I{EXAMPLES / 'include'}"]
    subprocess.run([*command, "-c", str(source), "-o", str(out)], check=True, timeout=60)
    return out.read_bytes()


def loaded(result: LoadedProgram | Refused) -> LoadedProgram:
    assert isinstance(result, LoadedProgram), result
    return result


def test_a_program_runs_and_its_twin_is_refused() -> None:
    program = loaded(load_insns(assemble(make("mov64_imm", 0, imm=2), make("exit")), XDP))
    run = program.test_run(bytes(range(64)))
    assert (run.result, run.packet, run.error) == (2, bytes(range(64)), 0)
    assert program.verified_insns == 2
    program.close()
    # r0 is never written: one opcode bit away (mov to r1 instead of r0).
    refused = load_insns(assemble(make("mov64_imm", 1, imm=2), make("exit")), XDP)
    assert isinstance(refused, Refused) and "R0 !read_ok" in refused.log


def test_a_packet_too_short_is_an_error_value() -> None:
    program = loaded(load_insns(assemble(make("mov64_imm", 0, imm=2), make("exit")), XDP))
    assert program.test_run(b"short").error != 0
    with pytest.raises(ValueError, match="page"):
        program.test_run(bytes(5000))
    program.close()


@pytest.mark.parametrize(
    "name", ["hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lpm_trie", "devmap_hash", "queue"]
)
def test_map_contents_come_back(name: str) -> None:
    if name == "queue":
        queue = KernelMap.create(BY_NAME[name].number, 0, 8, 4)
        with pytest.raises((OSError, ValueError)):
            queue.dump()
        queue.close()
        return
    flags = 1 if name == "lpm_trie" else 0
    value_size = 4 if name == "devmap_hash" else 12
    key_size = 8 if name == "lpm_trie" else 4
    made = KernelMap.create(BY_NAME[name].number, key_size, value_size, 8, flags)
    key = struct.pack("=I", 3) if key_size == 4 else struct.pack("=I4s", 16, b"\x0a\0\0\0")
    value = struct.pack("=I", 1) if name == "devmap_hash" else bytes(range(made.stored_size))
    # Per-CPU copies are padded to 8 bytes, and the padding reads back as zero or as written.
    made.update(key, value)
    found = made.dump()
    assert key in found and found[key][:4] == value[:4] and len(found) == (8 if made.is_array else 1)
    assert made.lookup(key) == found[key]
    made.clear()
    assert not any(any(entry) for entry in made.dump().values())
    made.close()


def test_maps_within_maps_and_maps_without_bytes() -> None:
    inner = KernelMap.create(BY_NAME["hash"].number, 4, 8, 4)
    for kind in ("array_of_maps", "hash_of_maps"):
        outer = KernelMap.create(BY_NAME[kind].number, 4, 4, 2, inner_fd=inner.fd)
        outer.update(bytes(4), struct.pack("=I", inner.fd))
        # User space reads the inner map's id, not the descriptor it wrote.
        assert struct.unpack("=I", outer.lookup(bytes(4)) or bytes(4))[0] > 0
        outer.close()
    inner.close()
    for kind in ("prog_array", "perf_event_array", "cpumap", "xskmap", "ringbuf"):
        sizes = (0, 0, 4096) if kind == "ringbuf" else (4, 4, 2)
        made = KernelMap.create(BY_NAME[kind].number, *sizes)
        assert made.fd > 0
        made.close()
    with pytest.raises(OSError, match="MAP_CREATE"):
        KernelMap.create(BY_NAME["hash"].number, 0, 8, 4)


def test_a_large_array_is_read_in_batches() -> None:
    made = KernelMap.create(BY_NAME["array"].number, 4, 4, 10_000)
    made.update(struct.pack("=I", 9_999), b"last")
    found = made.dump()
    assert len(found) == 10_000 and found[struct.pack("=I", 9_999)] == b"last"
    made.clear()
    assert made.lookup(struct.pack("=I", 9_999)) == bytes(4)
    made.close()


def test_wrong_sizes_are_refused_before_the_kernel_reads_beyond_them() -> None:
    made = KernelMap.create(BY_NAME["hash"].number, 4, 8, 4)
    with pytest.raises(ValueError, match="wrong size"):
        made.update(b"key4", b"short")
    made.close()


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("level", ["v1", "v2", "v3", "v4"])
@pytest.mark.parametrize("name", NAMES)
def test_every_example_loads(name: str, level: str, tmp_path: Path) -> None:
    data = build(EXAMPLES / f"{name}.bpf.c", tmp_path / "x.o", level)
    result = load_object(data)
    assert isinstance(result, LoadedObject), result
    with result:
        assert all(program.verified_insns > 0 for program in result.programs.values())


@pytest.mark.needs("ziglang")
@pytest.mark.parametrize("name", NAMES)
def test_every_example_loads_from_the_wheels_clang(name: str, tmp_path: Path) -> None:
    import sys

    out = tmp_path / "x.o"
    flags = ["-target", "bpfel-freestanding", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-O2", "-g"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, f"-I{EXAMPLES / 'include'}"]
    subprocess.run([*command, "-c", str(EXAMPLES / f"{name}.bpf.c"), "-o", str(out)], check=True, timeout=120)
    result = load_object(out.read_bytes())
    assert isinstance(result, LoadedObject), result
    result.close()


BROKEN = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned int data, data_end; };
SEC("xdp") int good(struct xdp_md *ctx) { return 2; }
SEC("xdp") int bad(struct xdp_md *ctx) { return *(unsigned char *)(long)ctx->data; }
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.needs("clang-19")
def test_the_gate_judges_each_program(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text(BROKEN)
    good, bad = ask_kernel(build(source, tmp_path / "x.o"), ("good", "bad"))
    assert good.accepted and good.verified_insns == 2
    assert not bad.accepted and "invalid access to packet" in bad.log
    assert not load_object_is_good(b"not an object")


def load_object_is_good(data: bytes) -> bool:
    result = load_object(data)
    if isinstance(result, Refused):
        return False
    result.close()
    return True


@pytest.mark.needs("clang-19")
def test_options_reach_the_object(tmp_path: Path) -> None:
    data = build(EXAMPLES / "xdp_firewall.bpf.c", tmp_path / "x.o")
    # XDP_DROP as default action: the first word of .rodata in declaration order.
    result = load_object(data, LoadOptions(max_entries={"rules": 16}, data={".rodata": struct.pack("=I", 1)}))
    assert isinstance(result, LoadedObject), result
    with result:
        assert result.maps["rules"].max_entries == 16
        udp = bytes.fromhex("ffffffffffff02000000000108004500001c00000000401100000a0000010a0000020035003500080000")
        assert result.programs["xdp_firewall"].test_run(udp.ljust(64, b"\0")).result == 1
    plain = load_object(data)
    assert isinstance(plain, LoadedObject)
    with plain:
        assert plain.programs["xdp_firewall"].test_run(udp.ljust(64, b"\0")).result == 2


@pytest.mark.needs("clang-19")
def test_instructions_can_be_rewritten_at_load(tmp_path: Path) -> None:
    data = build(EXAMPLES / "xdp_router.bpf.c", tmp_path / "x.o")
    answer = assemble(make("mov64_imm", 0, imm=3), make("exit"))
    result = load_object(data, LoadOptions(rewrite=lambda name, insns: answer))
    assert isinstance(result, LoadedObject), result
    with result:
        assert result.programs["xdp_router"].test_run(bytes(64)).result == 3

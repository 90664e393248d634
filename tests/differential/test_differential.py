"""The differential bench finds no difference where there is none, and finds every kind of difference there can be."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.differential.mutate import constants, with_wrong_constant
from tests.differential.scenarios import SCENARIOS
from verifier_model.bpf.insn import RawSlot, write_slot
from verifier_model.kernel.differential import Comparison, Scenario, compare
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.packets import Packets, internet_checksum
from verifier_model.kernel.programs import LoadedObject
from verifier_model.kernel.ring import RingReader

pytestmark = pytest.mark.needs("bpf", "libbpf-dev", "clang-19")

EXAMPLES = Path(__file__).parents[2] / "examples"
INPUTS = 10_000
SEED = 20261123
# Results that the generated inputs must reach, or the comparison would say little.
REACHED = {"xdp_firewall": {1, 2}, "xdp_router": {1, 2, 4}, "xdp_balancer": {1, 2, 3}, "tc_flow_stats": {0}}


def build(source: Path, out: Path, *flags: str) -> bytes:
    command = ["clang-19", "-target", "bpf", "-O2", "-g", "-mcpu=v3", f"-I{EXAMPLES / 'include'}", *flags]
    subprocess.run([*command, "-c", str(source), "-o", str(out)], check=True, timeout=60)
    return out.read_bytes()


def example(name: str, folder: Path, *flags: str) -> bytes:
    return build(EXAMPLES / f"{name}.bpf.c", folder / "example.o", *flags)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_an_example_equals_itself_and_much_of_it_is_reached(name: str, tmp_path: Path) -> None:
    image = example(name, tmp_path)
    found = compare(image, image, INPUTS, SEED, SCENARIOS[name](image))
    assert found.is_equal, (SEED, found.refused, found.differences)
    assert found.inputs == {name: INPUTS} and not found.not_run
    assert set(found.outcomes[name]) >= REACHED[name]
    assert sum(found.outcomes[name].values()) > 0.9 * INPUTS


@pytest.mark.parametrize("flags", [("-Os",), ("-mcpu=v1",), ("-O1", "-mcpu=v4")])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_same_source_compiled_otherwise_is_equal(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    image, other = example(name, tmp_path), example(name, tmp_path, *flags)
    assert image != other or flags == ("-Os",)
    found = compare(image, other, INPUTS // 4, SEED, SCENARIOS[name](image))
    assert found.is_equal, (SEED, found.refused, found.differences)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_wrong_constant_behind_the_provers_back_is_caught(name: str, tmp_path: Path) -> None:
    """Some changed constants change nothing (a mask of zero bits) and the kernel refuses some; most must show."""
    image, tries = example(name, tmp_path), 16
    caught, loaded, missed = 0, 0, []
    for number in range(tries):
        wrong, what = with_wrong_constant(image, Random(f"{SEED}:{number}"))
        found = compare(image, wrong, INPUTS // 4, SEED, SCENARIOS[name](image))
        loaded += not found.refused
        caught += bool(found.differences)
        if not found.refused and not found.differences:
            missed.append(what)
        assert found.is_equal is (not found.refused and not found.differences)
    assert loaded >= tries // 2 and caught >= 0.6 * loaded, (SEED, missed)


def test_the_twin_with_another_ttl_is_caught(tmp_path: Path) -> None:
    """The router adds -1 to the TTL; a program that adds -4 differs in one byte."""
    image = example("xdp_router", tmp_path)
    minus_one = [(at, slot) for at, slot in constants(image) if slot.code in (0x04, 0x07) and slot.imm == -1]
    assert minus_one
    for at, slot in minus_one:
        twin = RawSlot(slot.code, slot.dst, slot.src, slot.off, slot.imm ^ 3)
        wrong = image[:at] + write_slot(twin, "little") + image[at + 8 :]
        found = compare(image, wrong, INPUTS // 4, SEED, SCENARIOS["xdp_router"](image))
        assert any(difference.what.startswith("packet") for difference in found.differences), found


SMALL = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u64);
} seen SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 65536);
} ring SEC(".maps");
static volatile __u64 total;
SEC("xdp") int small(struct xdp_md *ctx) {
    unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u64 value = bpf_ktime_get_ns() ^ bpf_get_prandom_u32() ^ bpf_get_smp_processor_id();
    __u32 key = value & 15;
    if (data + 14 > end) return XDP_ABORTED;
    value += VALUE;
    bpf_map_update_elem(&seen, &key, &value, BPF_ANY);
    total += TOTAL;
    __u64 *record = bpf_ringbuf_reserve(&ring, 8, 0);
    if (record) {
        *record = value + RECORD;
        if (key == DISCARD)
            bpf_ringbuf_discard(record, 0);
        else
            bpf_ringbuf_submit(record, 0);
    }
    data[13] ^= PACKET;
    return RESULT;
}
char _license[] SEC("license") = "GPL";
"""
PLAIN = {"VALUE": 1, "TOTAL": 1, "RECORD": 1, "DISCARD": 3, "PACKET": 0x40, "RESULT": 2}


def small(folder: Path, **changed: int) -> bytes:
    source = folder / "small.bpf.c"
    source.write_text(SMALL)
    return build(source, folder / "small.o", *(f"-D{name}={value}" for name, value in {**PLAIN, **changed}.items()))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"VALUE": 3}, "map seen"),
        ({"TOTAL": 2}, "map .bss"),
        ({"RECORD": 2}, "ring buffer ring, record 0"),
        ({"DISCARD": 4}, "ring buffer ring"),
        ({"PACKET": 0x41}, "packet of"),
        ({"RESULT": 3}, "result 2 became 3"),
    ],
)
def test_every_kind_of_difference_is_seen(changed: dict[str, int], expected: str, tmp_path: Path) -> None:
    """One constant differs and shows in one place; without the change, time and random numbers are alike in both."""
    plain = small(tmp_path)
    assert compare(plain, small(tmp_path), 600, SEED).is_equal
    found = compare(plain, small(tmp_path, **changed), 600, SEED)
    assert any(difference.what.startswith(expected) for difference in found.differences), found


def test_the_inputs_depend_on_the_seed_alone(tmp_path: Path) -> None:
    plain, other = small(tmp_path), small(tmp_path, PACKET=0x41)
    first, again, different = (compare(plain, other, 300, seed) for seed in (1, 1, 2))
    assert first == again
    assert [difference.packet for difference in first.differences] != [d.packet for d in different.differences]


def test_a_refused_object_or_no_input_is_never_equal(tmp_path: Path) -> None:
    plain = small(tmp_path)
    broken = compare(plain, plain[:200], 10, SEED)
    assert broken.refused and not broken.is_equal
    assert not compare(plain, plain, 0, SEED).is_equal
    assert not Comparison(SEED).is_equal
    assert compare(plain, plain, 7, SEED, Scenario(rounds=3)).inputs == {"small": 7}


def test_a_discarded_record_is_not_read(tmp_path: Path) -> None:
    loaded = load_object(small(tmp_path), LoadOptions())
    assert isinstance(loaded, LoadedObject), loaded
    with loaded:
        ring = RingReader(loaded.maps["ring"])
        for _ in range(400):
            loaded.programs["small"].test_run(bytes(64))
        records = ring.drain()
        assert 0 < len(records) < 400 and all(len(record) == 8 for record in records)
        assert ring.drain() == []
        ring.close()


def test_generated_packets_are_what_they_claim() -> None:
    packets = [Packets(Random(SEED)).ipv4() for _ in range(1)]
    stream = Packets(Random(SEED))
    packets += [stream.ipv4() for _ in range(200)]
    for packet in packets:
        assert internet_checksum(packet[: 4 * (packet[0] & 15)]) == 0
        assert int.from_bytes(packet[2:4], "big") == len(packet)
    raw = [stream.next() for _ in range(2000)]
    assert all(14 <= len(packet) <= 1500 for packet in raw)
    kinds = {packet[12:14] for packet in raw}
    assert {b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x88\xa8"} <= kinds
    assert any(len(packet) < 34 for packet in raw)

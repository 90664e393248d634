"""The ten rewrites that K2 and Merlin are known for, on C that people write, through the whole tool.

Each function is compiled by clang, optimised by passes alone, and must hold what the rewrite leads to and no longer
what it starts from; and the whole function must be proved again from the two objects, by nobody who knows the passes.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from k2_tools.validation import validate
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from object_stage import Outcome, optimise_bytes
from synth.settings import Settings

pytestmark = pytest.mark.needs("clang-19")

HEAD = """
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
struct xdp_md { __u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct ethhdr { __u8 dest[6], source[6]; __u16 proto; } __attribute__((packed));
struct in6_addr { __u32 word[4]; };
struct { __u32 (*type)[1]; __u32 (*max_entries)[64]; __u64 *key; __u64 *value; } hits
    __attribute__((section(".maps"), used));
static void *(*lookup)(void *map, const void *key) = (void *)1;
static __u64 (*ktime)(void) = (void *)5;
#define SEC(name) __attribute__((section(name), used))
#define PACKET(n) __u8 *p = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end; if (p + (n) > end) return 1
char _license[] SEC("license") = "GPL";
"""


@dataclass(frozen=True)
class Rewrite:
    """`gone` and `there`: patterns that occur in clang's code only, and in ours only."""

    name: str
    source: str
    gone: str
    there: str
    saved: int
    level: str = "v2"
    goal: str = "balanced"


REWRITES = [
    Rewrite(
        "byte gather",
        "PACKET(16); return p[12] | p[13] << 8;",
        r"u8 \*\)\(r\d \+12\)",
        r"u16 \*\)\(r\d [+-]\d+\)",
        3,
    ),
    Rewrite(
        "scatter",
        "PACKET(16); __u32 v = ctx->rx_queue_index; p[4] = v; p[5] = v >> 8; p[6] = v >> 16; p[7] = v >> 24; return 2;",
        r"\*\(u8 \*\)\(r\d \+6\) = ",
        r"\*\(u32 \*\)\(r\d [+-]\d+\) = r",
        7,
    ),
    Rewrite(
        "copy widening",
        "PACKET(80); struct in6_addr *a = (void *)(p + 16), *b = (void *)(p + 48);"
        " for (int i = 0; i < 4; i++) b->word[i] = a->word[i]; return 2;",
        r"\*\(u32 \*\)\(r\d \+56\) = ",
        r"\*\(u64 \*\)\(r\d [+-]\d+\) = r",
        4,
    ),
    Rewrite(
        "overshoot then repair",
        "PACKET(64); struct ethhdr *from = (void *)(p + 20), *to = (void *)p;"
        " __builtin_memcpy(to->dest, from->source, 6); __builtin_memcpy(to->source, from->dest, 6); return 3;",
        r"\*\(u8 \*\)\(r\d \+3\) = ",
        r"\*\(u64 \*\)\(r\d [+-]\d+\) = r",
        17,
    ),
    Rewrite(
        "swap with wide temporaries",
        "PACKET(14); __u16 *q = (void *)p, d[3]; d[0] = q[0]; d[1] = q[1]; d[2] = q[2];"
        " q[0] = q[3]; q[1] = q[4]; q[2] = q[5]; q[3] = d[0]; q[4] = d[1]; q[5] = d[2]; return 3;",
        r"\*\(u16 \*\)\(r\d \+10\) = ",
        r"\*\(u64 \*\)\(r\d [+-]\d+\) = r",
        6,
    ),
    Rewrite("store immediate", "PACKET(16); p[8] = 64; return 2;", r"r\d = 64", r"u8 \*\)\(r\d [+-]\d+\) = 64", 1),
    Rewrite(
        "don't-care initialisation",
        "struct { __u32 low, high; } key = {}; __u64 *n = lookup(&hits, &key); return n ? *n : 1;",
        r"\*\(u64 \*\)\(r10 -8\) = r\d|\*\(u32 \*\)\(r10 -8\) = r\d",
        r"\*\(u64 \*\)\(r10 -8\) = 0",
        1,
    ),
    Rewrite(
        "read, modify and write",
        "__u64 key = 7; __u64 *n = lookup(&hits, &key); if (n) *n += 1; return 2;",
        r"\*\(u64 \*\)\(r\d \+0\) = r\d",
        r"lock \*\(u64 \*\)\(r\d \+0\) \+= r\d",
        2,
        goal="size",
    ),
    Rewrite(
        "known-value masks",
        "return (ktime() & 0xffff0000) >> 18;",
        r"= 0xfff\w+ ll",
        r"<<= 32",
        1,
    ),
    Rewrite(
        "mask and shift",
        "PACKET(32); __u64 v = *(__u64 *)(p + 8); return (v & 0xf0000000) >> 28;",
        r"= 0xf0000000 ll",
        r">>= 60|w\d >>= 28",
        1,
    ),
]


def function(rewrite: Rewrite, folder: Path) -> bytes:
    source = folder / "one.c"
    source.write_text(f'{HEAD}SEC("xdp") int one(struct xdp_md *ctx)\n{{ {rewrite.source} }}\n')
    command = ["clang-19", "-O2", "-g", "--target=bpf", f"-mcpu={rewrite.level}", "-c", "one.c", "-o", "one.o"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return (folder / "one.o").read_bytes()


def optimised(data: bytes, rewrite: Rewrite, goal: str) -> Outcome:
    return optimise_bytes(data, Settings(tiers=("passes",), goal=goal), int(rewrite.level[1]))


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda rewrite: rewrite.name)
def test_found(rewrite: Rewrite, tmp_path: Path) -> None:
    data = function(rewrite, tmp_path)
    outcome = optimised(data, rewrite, rewrite.goal)
    (record,) = outcome.record.functions
    assert re.search(rewrite.gone, record.text_before), record.text_before
    assert not re.search(rewrite.gone, record.text_after), record.text_after
    assert re.search(rewrite.there, record.text_after), record.text_after
    assert record.slots_before - record.slots_after >= rewrite.saved, record.text_after
    before, after = read_object(data), read_object(outcome.data)
    assert isinstance(before, Object) and isinstance(after, Object)
    assert all(pair.verdict.is_proved for pair in validate(before, after))


def test_atomics_are_for_size_alone(tmp_path: Path) -> None:
    (rewrite,) = (row for row in REWRITES if row.goal == "size")
    (record,) = optimised(function(rewrite, tmp_path), rewrite, "balanced").record.functions
    assert "lock" not in record.text_after and "lock" not in record.text_before


@pytest.mark.parametrize(
    "source",
    [
        "PACKET(16); return p[12] | p[14] << 8;",
        'PACKET(16); p[4] = ctx->rx_queue_index; asm volatile("" ::: "memory"); return p[4];',
    ],
)
def test_what_is_none_of_them_stays(source: str, tmp_path: Path) -> None:
    """Bytes that do not lie side by side are not gathered, and a single byte is not widened."""
    rewrite = Rewrite("none", source, "", "", 0)
    (record,) = optimised(function(rewrite, tmp_path), rewrite, "size").record.functions
    wide = re.compile(r"\*\(u(16|32|64) \*\)\(r[2-9] ")
    assert not wide.search(record.text_after), record.text_after

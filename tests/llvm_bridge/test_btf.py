"""The BTF graph, against bpftool and against types made by hand."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.llvm_bridge.objects import compile_text, compiled, needs
from verifier_model.bpf import btf
from verifier_model.bpf.btf import Btf, BtfError, Kind

BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin")
TEXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define tag(x) __attribute__((btf_decl_tag(x)))
enum big { HUGE = 0x123456789abcULL, SMALL = 1 };
struct wide { long long a, b; };
struct bits { unsigned a : 3, b : 7; int plain; struct { short s[3]; }; };
typedef const volatile struct bits *pointer;
union either { char c; long l; } u;
__attribute__((noinline)) int takes(int x, struct bits *y tag("arg"), long z) { return x + y->b + z; }
__attribute__((noinline)) void nothing(void) { u.l++; }
__attribute__((noinline)) int sixteen(int first, pointer p, enum big e) { return e == HUGE ? first : p->plain; }
float f;
SEC("xdp") int main_program(struct xdp_md *c) { struct bits b = { 1, 2, 3 }; nothing();
	return takes(1, &b, 2) + sixteen(1, &b, HUGE); }
char LICENSE[] SEC("license") = "GPL";
"""


def graph_of(data: bytes) -> Btf:
    from llvm_bridge.elf import parse

    elf = parse(data)
    index = elf.section_index(".BTF")
    assert index is not None
    return btf.parse(elf.sections[index].data, elf.order)


@needs("clang-19", "bpftool")
@pytest.mark.parametrize("target", ["bpf"])
@pytest.mark.parametrize("name", ["text", "calls", "core", "externs", "packets"])
def test_bpftool_sees_the_same_types(name: str, target: str, tmp_path: Path) -> None:
    data = compile_text(TEXT, "clang-19", target, "v3", "-g") if name == "text" else compiled(name)
    path = tmp_path / "x.o"
    path.write_bytes(data)
    assert BPFTOOL is not None
    dump = subprocess.run([BPFTOOL, "-j", "btf", "dump", "file", path], check=True, capture_output=True, timeout=20)
    theirs = json.loads(dump.stdout)["types"]
    ours = graph_of(data).types
    assert len(ours) == len(theirs) + 1
    for entry in theirs:
        mine = ours[entry["id"]]
        assert mine.kind.name == entry["kind"]
        assert mine.name == entry["name"].replace("(anon)", "")
        for field in ("type_id", "ret_type_id"):
            assert entry.get(field, mine.type) == mine.type
        if "size" in entry:
            assert mine.size == entry["size"]
        if "nr_elems" in entry:
            assert mine.count == entry["nr_elems"]
        if "component_idx" in entry:
            assert mine.component == entry["component_idx"]
        if mine.kind in (Kind.STRUCT, Kind.UNION):
            got = [(m.name, m.type, m.value, m.bits) for m in mine.members]
            assert got == [
                (m["name"].replace("(anon)", ""), m["type_id"], m["bits_offset"], m.get("bitfield_size", 0))
                for m in entry["members"]
            ]
        if mine.kind is Kind.ENUM:
            assert [(m.name, m.value) for m in mine.members] == [(v["name"], v["val"]) for v in entry["values"]]
        if mine.kind is Kind.FUNC_PROTO:
            assert [m.type for m in mine.members] == [p["type_id"] for p in entry["params"]]


@needs("clang-19")
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_signatures_and_sizes(target: str) -> None:
    graph = graph_of(compile_text(TEXT, "clang-19", target, "v3", "-g"))

    def signature(name: str) -> btf.Prototype | None:
        number = graph.function(name)
        assert number is not None
        return graph.prototype(number)

    assert signature("takes") == btf.Prototype(3, False)
    assert signature("nothing") == btf.Prototype(0, True)
    assert signature("main_program") == btf.Prototype(1, False)
    assert graph.function("missing") is None
    assert graph.prototype(0) is None
    assert graph.prototype(len(graph.types)) is None
    sizes = {t.name: graph.size_of(n) for n, t in enumerate(graph.types) if t.name in ("bits", "either", "pointer")}
    assert sizes == {"bits": 16, "either": 8, "pointer": 8}
    big = next(t for t in graph.types if t.kind is Kind.ENUM64)
    assert [(m.name, m.value) for m in big.members] == [("HUGE", 0x123456789ABC), ("SMALL", 1)]


def test_arguments_that_take_two_registers_or_an_unknown_number() -> None:
    strings = b"\0wide\0f\0"
    types = struct.pack("<III", 1, Kind.STRUCT << 24, 16)  # 1: struct wide, 16 bytes
    types += struct.pack("<IIIII", 0, Kind.FUNC_PROTO << 24 | 1, 1, 0, 1)  # 2: wide (wide)
    types += struct.pack("<III", 6, Kind.FUNC << 24 | 1, 2)  # 3: f
    types += struct.pack("<IIIIIII", 0, Kind.FUNC_PROTO << 24 | 2, 0, 0, 1, 0, 0)  # 4: void (wide, ...)
    types += struct.pack("<III", 6, Kind.FUNC << 24 | 1, 4)  # 5: f
    data = struct.pack("<HBBIIIII", btf.MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    graph = btf.parse(data, "little")
    assert graph.prototype(3) == btf.Prototype(2, False)
    assert graph.prototype(5) == btf.Prototype(None, True)
    with pytest.raises(BtfError):
        btf.parse(data, "big")
    spoilt = bytearray(data)
    spoilt[24 + 12 + 16] = 9  # the parameter's type
    with pytest.raises(BtfError, match="does not exist"):
        btf.parse(bytes(spoilt), "little")

"""The unit patched for the running kernel beside what libbpf hands to that kernel, instruction by instruction."""

from __future__ import annotations

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.llvm_bridge.objects import compile_text
from verifier_model.bpf.insn import ByteOffset, Insn, read_slot
from verifier_model.bpf.unit import Unit
from verifier_model.contracts.relocation import POISON, for_kernel
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused
from verifier_model.kernel.types import running_kernel_types

pytestmark = pytest.mark.needs("bpf", "clang-19", "libbpf-dev")

SOURCE = r"""
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(n) __attribute__((section(n), used))
#define CORE __attribute__((preserve_access_index))
#define INFO(field, kind) sum += __builtin_preserve_field_info(field, kind)
#define TYPE(type, kind) sum += __builtin_preserve_type_info(*(type *)0, kind)
#define VALUE(type, name, kind) sum += __builtin_preserve_enum_value(*(typeof(type) *)name, kind)
struct list_head { struct list_head *next; } CORE;
struct mm_struct { u64 total_vm; } CORE;
struct task_struct { int pid; int tgid; char comm[16]; struct task_struct *real_parent; struct list_head tasks;
                     struct mm_struct *mm; unsigned in_execve : 1; unsigned in_iowait : 1; u64 utime; } CORE;
struct task_struct___old { long state; int no_such_field; } CORE;
struct task_struct___narrow { u32 start_time; short pid; } CORE;
struct no_such_struct { int a; } CORE;
struct xdp_md { u32 data; u32 rx_queue_index; } CORE;
struct task_struct___same { int pid; struct task_struct___same *real_parent; } CORE;
struct task_struct___other { u64 pid; } CORE;
struct net_device { u32 ifindex; u32 mtu; } CORE;
struct sk_buff { u32 len; u8 pkt_type : 3; u32 mark; struct net_device *dev; } CORE;
enum bpf_map_type { BPF_MAP_TYPE_UNSPEC, BPF_MAP_TYPE_RINGBUF = 77, BPF_MAP_TYPE_NONE_SUCH = 78 };
enum bpf_map_type___e1 { BPF_MAP_TYPE_HASH___e1 };
char _license[] SEC("license") = "GPL";
SEC("raw_tp/x") int p(u64 *ctx) {
    struct task_struct *t = (void *)ctx[0]; struct sk_buff *s = (void *)ctx[1]; u64 sum = 0;
    struct task_struct___old *o = (void *)t; struct task_struct___narrow *n = (void *)t;
    INFO(t->pid, 0); INFO(t->tgid, 0); INFO(t->comm, 1); INFO(t->comm[3], 0); INFO(t->mm, 2); INFO(t->pid, 3);
    INFO(t->in_execve, 0); INFO(t->in_execve, 1); INFO(t->in_iowait, 4); INFO(t->in_iowait, 5);
    INFO(t->in_iowait, 3); INFO(s->pkt_type, 0); INFO(s->pkt_type, 4); INFO(s->pkt_type, 5); INFO(s->mark, 0);
    INFO(o->state, 2); INFO(o->no_such_field, 2); INFO(n->start_time, 0); INFO(n->start_time, 1); INFO(n->pid, 1);
    INFO(t->tasks.next, 0); INFO(s->dev, 0);
    TYPE(struct task_struct, 0); TYPE(struct task_struct, 1); TYPE(struct no_such_struct, 0);
    TYPE(struct no_such_struct, 1); TYPE(struct task_struct___same, 2); TYPE(struct task_struct___other, 2);
    TYPE(struct xdp_md, 2);
    VALUE(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF, 0); VALUE(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF, 1);
    VALUE(enum bpf_map_type, BPF_MAP_TYPE_NONE_SUCH, 0); VALUE(enum bpf_map_type, BPF_MAP_TYPE_NONE_SUCH, 1);
    VALUE(enum bpf_map_type___e1, BPF_MAP_TYPE_HASH___e1, 1);
    return sum;
}
SEC("tp_btf/sched_switch") int q(u64 *ctx) {
    struct task_struct *t = (void *)ctx[1]; struct task_struct___narrow *n = (void *)t;
    return t->pid + t->comm[2] + n->start_time + (t->mm == 0) + ((struct task_struct___old *)t)->no_such_field;
}
"""


def patched_by_libbpf(data: bytes, name: str) -> bytes:
    seen: dict[str, bytes] = {}

    def note(program: str, insns: bytes) -> bytes:
        seen[program] = insns
        return insns

    loaded = load_object(data, LoadOptions(only=frozenset({name}), rewrite=note))
    if not isinstance(loaded, Refused):
        loaded.close()
    return seen[name]


def agrees(ours: Insn, code: bytes, at: int) -> bool:
    low = read_slot(code, ByteOffset(at), "little")
    if ours.row.name == "call_helper" and ours.imm == POISON:
        return (low.code, low.imm) == (ours.row.code, POISON)
    if ours.slots == 2:
        high = read_slot(code, ByteOffset(at + 8), "little")
        return (high.imm & 0xFFFFFFFF) << 32 | low.imm & 0xFFFFFFFF == ours.imm
    return (low.code, low.off, low.imm) == (ours.row.code, ours.off, ours.imm)


def patched(unit: Unit) -> Unit:
    types = running_kernel_types()
    assert types is not None
    return for_kernel(unit, types)


def test_every_record_is_resolved_as_libbpf_does_it() -> None:
    data = compile_text(SOURCE, "clang-19", "bpf", "v3", "-g", "-Wno-everything")
    source = read_object(data)
    assert isinstance(source, Object)
    unit = patched(source.unit)
    records, moved, poisoned = 0, 0, 0
    for name in ("p", "q"):
        code, at = patched_by_libbpf(data, name), 0
        for (point, old), (_, new) in zip(source.unit.function(name).insns(), unit.function(name).insns(), strict=True):
            if old.origin.core:
                records += 1
                moved += (old.off, old.imm) != (new.off, new.imm)
                poisoned += new.row.name == "call_helper"
                assert agrees(new, code, at), (name, point, old, new)
                assert not new.origin.core and new.origin.line == old.origin.line
            else:
                assert new is old
            at += 8 * old.slots
    assert records > 35 and moved > 15 and poisoned == 2, (records, moved, poisoned)


def test_without_types_of_its_own_nothing_is_patched() -> None:
    unit = Unit(())
    assert patched(unit).functions == () and patched(unit).kernel_types is running_kernel_types()

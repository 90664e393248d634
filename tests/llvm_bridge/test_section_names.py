"""Program types by section name, against libbpf's own answer."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from verifier_model.bpf.sections import program_type

# enum bpf_prog_type of include/uapi/linux/bpf.h by number
KERNEL_NUMBERS = {
    1: "socket_filter", 2: "kprobe", 3: "sched_cls", 4: "sched_act", 5: "tracepoint", 6: "xdp", 7: "perf_event",
    8: "cgroup_skb", 9: "cgroup_sock", 10: "lwt_in", 11: "lwt_out", 12: "lwt_xmit", 13: "sock_ops", 14: "sk_skb",
    15: "cgroup_device", 16: "sk_msg", 17: "raw_tracepoint", 18: "cgroup_sock_addr", 19: "lwt_seg6local",
    20: "lirc_mode2", 21: "sk_reuseport", 22: "flow_dissector", 23: "cgroup_sysctl", 24: "raw_tracepoint_writable",
    25: "cgroup_sockopt", 26: "tracing", 27: "struct_ops", 28: "ext", 29: "lsm", 30: "sk_lookup", 31: "syscall",
}  # fmt: skip

NAMES = [
    "socket",
    "sk_reuseport/migrate",
    "sk_reuseport",
    "kprobe",
    "kprobe/do_x",
    "uprobe/p:f",
    "uprobe.s/x",
    "kretprobe/x",
    "uretprobe/x",
    "uretprobe.s",
    "kprobe.multi/x",
    "kretprobe.multi/x",
    "ksyscall/x",
    "kretsyscall/x",
    "usdt/x",
    "tc",
    "classifier",
    "action",
    "tracepoint/a/b",
    "tp/a/b",
    "raw_tracepoint/x",
    "raw_tp/x",
    "raw_tracepoint.w/x",
    "raw_tp.w/x",
    "tp_btf/x",
    "fentry/x",
    "fmod_ret/x",
    "fexit/x",
    "fentry.s/x",
    "fmod_ret.s/x",
    "fexit.s/x",
    "freplace/x",
    "lsm/x",
    "lsm.s/x",
    "lsm_cgroup/x",
    "iter/x",
    "iter.s/x",
    "syscall",
    "xdp.frags/devmap",
    "xdp/devmap",
    "xdp.frags/cpumap",
    "xdp/cpumap",
    "xdp.frags",
    "xdp",
    "perf_event",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "lwt_seg6local",
    "sockops",
    "sk_skb/stream_parser",
    "sk_skb/stream_verdict",
    "sk_skb",
    "sk_msg",
    "lirc_mode2",
    "flow_dissector",
    "cgroup_skb/ingress",
    "cgroup_skb/egress",
    "cgroup/skb",
    "cgroup/sock_create",
    "cgroup/sock_release",
    "cgroup/sock",
    "cgroup/post_bind4",
    "cgroup/post_bind6",
    "cgroup/bind4",
    "cgroup/bind6",
    "cgroup/connect4",
    "cgroup/connect6",
    "cgroup/sendmsg4",
    "cgroup/sendmsg6",
    "cgroup/recvmsg4",
    "cgroup/recvmsg6",
    "cgroup/getpeername4",
    "cgroup/getpeername6",
    "cgroup/getsockname4",
    "cgroup/getsockname6",
    "cgroup/sysctl",
    "cgroup/getsockopt",
    "cgroup/setsockopt",
    "cgroup/dev",
    "struct_ops",
    "struct_ops/x",
    "sk_lookup",
]


@pytest.mark.needs("libbpf-dev")
@pytest.mark.parametrize("name", NAMES)
def test_libbpf_says_the_same(name: str) -> None:
    libbpf = ctypes.CDLL(ctypes.util.find_library("bpf") or "libbpf.so.1")
    libbpf.libbpf_set_print(None)
    kind, attach = ctypes.c_int(), ctypes.c_int()
    status = libbpf.libbpf_prog_type_by_name(name.encode(), ctypes.byref(kind), ctypes.byref(attach))
    assert status == 0
    assert program_type(name) == KERNEL_NUMBERS[kind.value]


@pytest.mark.parametrize(
    "name", ["", "?", ".text", "license", "maps", "kprobes", "tpx/a", "fentryx", "cgroup", "struct_opsx"]
)
def test_other_names_say_nothing(name: str) -> None:
    assert program_type(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("?xdp", "xdp"),
        ("?kprobe/x", "kprobe"),
        ("xdp_fwd", "xdp"),
        ("xdp1", "xdp"),
        ("classifier/ingress", "sched_cls"),
        ("tcx/ingress", "sched_cls"),
        ("netkit/peer", "sched_cls"),
        ("socket1", "socket_filter"),
        ("sockops_x", "sock_ops"),
        ("netfilter", "netfilter"),
        ("lsm.s/file_open", "lsm"),
        ("uprobe.session/x", "kprobe"),
    ],
)
def test_optional_old_and_new_spellings(name: str, expected: str) -> None:
    assert program_type(name) == expected

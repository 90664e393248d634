"""Where a program is attached, as far as the kernel's verifier cares: program type, expected attach type, may it sleep.

Sources: libbpf's `section_defs` (src/libbpf.c, 1.5) for sections; include/uapi/linux/bpf.h, enum bpf_attach_type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from verifier_model.bpf.unit import Function
from verifier_model.contracts.programs import PROGRAM_TYPES

SLEEPABLE: Final = 1 << 4  # BPF_F_SLEEPABLE


@dataclass(frozen=True, slots=True)
class Place:
    """One kind of attachment.

    `sections`: whole section names, or their heads up to the first slash.  `attach_type` and `flags` as PROG_LOAD takes
    them.  `hook`: what a probe of the kind is attached to (`kernel.questions.RawProgram.attach`), empty where there is
    nothing to name.
    """

    name: str
    program_type: str
    attach_type: int = 0
    flags: int = 0
    hook: str = ""
    sections: tuple[str, ...] = ()


def _place(name: str, type: str, attach: int = 0, sections: str = "", hook: str = "", sleeps: bool = False) -> Place:
    return Place(name, type, attach, SLEEPABLE if sleeps else 0, hook, tuple((sections or name).split()))


PLACES: Final[tuple[Place, ...]] = (
    _place("socket", "socket_filter"),
    _place("kprobe", "kprobe", 0, "kprobe kretprobe uprobe uretprobe usdt ksyscall kretsyscall"),
    _place("kprobe.multi", "kprobe", 42, "kprobe.multi kretprobe.multi"),
    _place("kprobe.session", "kprobe", 56),
    _place("uprobe.s", "kprobe", 0, "uprobe.s uretprobe.s usdt.s", sleeps=True),
    _place("uprobe.multi", "kprobe", 48, "uprobe.multi uretprobe.multi"),
    _place("uprobe.multi.s", "kprobe", 48, "uprobe.multi.s uretprobe.multi.s", sleeps=True),
    _place("uprobe.session", "kprobe", 57),
    _place("uprobe.session.s", "kprobe", 57, sleeps=True),
    _place("tc", "sched_cls", 0, "tc tcx netkit classifier"),
    _place("action", "sched_act"),
    _place("tracepoint", "tracepoint", 0, "tracepoint tp"),
    _place("xdp", "xdp", 0, "xdp xdp.frags"),
    _place("perf_event", "perf_event"),
    _place("cgroup_skb/ingress", "cgroup_skb", 0, "cgroup_skb/ingress cgroup_skb cgroup/skb"),
    _place("cgroup_skb/egress", "cgroup_skb", 1),
    _place("cgroup/sock_create", "cgroup_sock", 2, "cgroup/sock_create cgroup/sock"),
    _place("cgroup/sock_release", "cgroup_sock", 34),
    _place("cgroup/post_bind4", "cgroup_sock", 12),
    _place("cgroup/post_bind6", "cgroup_sock", 13),
    _place("lwt_in", "lwt_in"),
    _place("lwt_out", "lwt_out"),
    _place("lwt_xmit", "lwt_xmit"),
    _place("lwt_seg6local", "lwt_seg6local"),
    _place("sockops", "sock_ops", 3),
    _place("sk_skb/stream_parser", "sk_skb", 4),
    _place("sk_skb/stream_verdict", "sk_skb", 5, "sk_skb/stream_verdict sk_skb"),
    _place("sk_skb/verdict", "sk_skb", 38),
    _place("cgroup/dev", "cgroup_device", 6),
    _place("sk_msg", "sk_msg", 7),
    _place("raw_tp", "raw_tracepoint", 0, "raw_tp raw_tracepoint"),
    _place("raw_tp.w", "raw_tracepoint_writable", 0, "raw_tp.w raw_tracepoint.w"),
    _place("cgroup/bind4", "cgroup_sock_addr", 8),
    _place("cgroup/bind6", "cgroup_sock_addr", 9),
    _place("cgroup/connect4", "cgroup_sock_addr", 10),
    _place("cgroup/connect6", "cgroup_sock_addr", 11),
    _place("cgroup/connect_unix", "cgroup_sock_addr", 49),
    _place("cgroup/sendmsg4", "cgroup_sock_addr", 14),
    _place("cgroup/sendmsg6", "cgroup_sock_addr", 15),
    _place("cgroup/sendmsg_unix", "cgroup_sock_addr", 50),
    _place("cgroup/recvmsg4", "cgroup_sock_addr", 19),
    _place("cgroup/recvmsg6", "cgroup_sock_addr", 20),
    _place("cgroup/recvmsg_unix", "cgroup_sock_addr", 51),
    _place("cgroup/getpeername4", "cgroup_sock_addr", 29),
    _place("cgroup/getpeername6", "cgroup_sock_addr", 30),
    _place("cgroup/getpeername_unix", "cgroup_sock_addr", 52),
    _place("cgroup/getsockname4", "cgroup_sock_addr", 31),
    _place("cgroup/getsockname6", "cgroup_sock_addr", 32),
    _place("cgroup/getsockname_unix", "cgroup_sock_addr", 53),
    _place("lirc_mode2", "lirc_mode2", 16),
    _place("sk_reuseport", "sk_reuseport", 39),
    _place("sk_reuseport/migrate", "sk_reuseport", 40),
    _place("flow_dissector", "flow_dissector", 17),
    _place("cgroup/sysctl", "cgroup_sysctl", 18),
    _place("cgroup/getsockopt", "cgroup_sockopt", 21),
    _place("cgroup/setsockopt", "cgroup_sockopt", 22),
    _place("tp_btf", "tracing", 23, hook="sched_switch"),
    _place("fentry", "tracing", 24, hook="bpf_fentry_test1"),
    _place("fentry.s", "tracing", 24, hook="bpf_fentry_test1", sleeps=True),
    _place("fexit", "tracing", 25, hook="bpf_fentry_test1"),
    _place("fexit.s", "tracing", 25, hook="bpf_fentry_test1", sleeps=True),
    _place("fmod_ret", "tracing", 26, hook="security_task_kill"),
    _place("fmod_ret.s", "tracing", 26, hook="bpf_fentry_test1", sleeps=True),
    _place("iter", "tracing", 28, hook="task"),
    _place("iter.s", "tracing", 28, hook="task", sleeps=True),
    _place("iter/tcp", "tracing", 28, hook="tcp"),
    _place("lsm", "lsm", 27, hook="file_open"),
    _place("lsm.s", "lsm", 27, hook="file_open", sleeps=True),
    _place("lsm_cgroup", "lsm", 43, hook="socket_bind"),
    # Hooks with helpers of their own: socket options where the socket is (un)locked, paths where there is one.
    _place("lsm_cgroup/socket_post_create", "lsm", 43, hook="socket_post_create"),
    _place("lsm_cgroup/inet_csk_clone", "lsm", 43, hook="inet_csk_clone"),
    _place("fentry/filp_close", "tracing", 24, hook="filp_close"),
    _place("fentry/security_inode_getattr", "tracing", 24, hook="security_inode_getattr"),
    # Which structure of operations it is shows later: what the poorest member known may use.
    _place("struct_ops", "struct_ops", 0, "struct_ops struct_ops.s", hook="struct tcp_congestion_ops.release"),
    _place("sk_lookup", "sk_lookup", 36),
    _place("syscall", "syscall", 0, sleeps=True),
    _place("netfilter", "netfilter", 45),
)  # fmt: skip
BY_NAME: Final = {place.name: place for place in PLACES}
_BY_SECTION: Final = {section: place for place in PLACES for section in place.sections}
# Sections by older names say the type alone.
_BY_TYPE: Final = {place.program_type: place for place in reversed(PLACES)}


def place_of(function: Function) -> Place | None:
    """Where the program is attached, by its section, else by its type; None where neither is known."""
    name = function.section.removeprefix("?")
    found = _BY_SECTION.get(name) or _BY_SECTION.get(name.partition("/")[0])
    if found is not None and (function.program_type is None or found.program_type == function.program_type):
        return found
    return _BY_TYPE.get(function.program_type or "")


assert all(place.program_type in PROGRAM_TYPES for place in PLACES)

"""Which program type a section name means: libbpf's table (src/libbpf.c, section_defs) as data.

A rule's name ends in "+" when it stands alone or in front of "/anything", in "/" when it is a prefix, in "*" when
libbpf before 1.0 took it as a bare prefix (SEC("xdp_fwd"), SEC("classifier1")), and else means itself.  Exact forms
go first. Types are the kernel's own words (enum bpf_prog_type without BPF_PROG_TYPE_, in lower case).
"""

from __future__ import annotations

from typing import Final

_RULES: Final[tuple[tuple[str, str], ...]] = (
    ("kprobe", "kprobe+ kretprobe+ uprobe+ uretprobe+ uprobe.s+ uretprobe.s+ kprobe.multi+ kretprobe.multi+ "
               "kprobe.session+ uprobe.multi+ uretprobe.multi+ uprobe.session+ uprobe.multi.s+ uretprobe.multi.s+ "
               "uprobe.session.s+ ksyscall+ kretsyscall+ usdt+ usdt.s+"),
    ("sched_cls", "tc tc/ingress tc/egress tcx/ingress tcx/egress netkit/primary netkit/peer tc/ classifier*"),
    ("sched_act", "action*"),
    ("tracepoint", "tracepoint+ tp+"),
    ("raw_tracepoint", "raw_tracepoint+ raw_tp+"),
    ("raw_tracepoint_writable", "raw_tracepoint.w+ raw_tp.w+"),
    ("tracing", "tp_btf+ fentry+ fentry.s+ fexit+ fexit.s+ fsession+ fsession.s+ fmod_ret+ fmod_ret.s+ iter+ iter.s+"),
    ("ext", "freplace+"),
    ("lsm", "lsm+ lsm.s+ lsm_cgroup+"),
    ("struct_ops", "struct_ops+ struct_ops.s+"),
    ("syscall", "syscall"),
    ("xdp", "xdp xdp.frags xdp/devmap xdp.frags/devmap xdp/cpumap xdp.frags/cpumap xdp*"),
    ("perf_event", "perf_event*"),
    ("lwt_in", "lwt_in*"),
    ("lwt_out", "lwt_out*"),
    ("lwt_xmit", "lwt_xmit*"),
    ("lwt_seg6local", "lwt_seg6local*"),
    ("sock_ops", "sockops*"),
    ("sk_skb", "sk_skb/stream_parser sk_skb/stream_verdict sk_skb/verdict sk_skb*"),
    ("sk_msg", "sk_msg*"),
    ("sk_reuseport", "sk_reuseport sk_reuseport/migrate"),
    ("sk_lookup", "sk_lookup sk_lookup/"),
    ("lirc_mode2", "lirc_mode2*"),
    ("flow_dissector", "flow_dissector*"),
    ("cgroup_skb", "cgroup_skb/ingress cgroup_skb/egress cgroup/skb*"),
    ("cgroup_sock", "cgroup/sock_create cgroup/sock_release cgroup/sock cgroup/post_bind4 cgroup/post_bind6"),
    ("cgroup_sock_addr", "cgroup/bind4 cgroup/bind6 cgroup/connect4 cgroup/connect6 cgroup/connect_unix "
                         "cgroup/sendmsg4 cgroup/sendmsg6 cgroup/sendmsg_unix cgroup/recvmsg4 cgroup/recvmsg6 "
                         "cgroup/recvmsg_unix cgroup/getpeername4 cgroup/getpeername6 cgroup/getpeername_unix "
                         "cgroup/getsockname4 cgroup/getsockname6 cgroup/getsockname_unix"),
    ("cgroup_sysctl", "cgroup/sysctl"),
    ("cgroup_sockopt", "cgroup/getsockopt cgroup/setsockopt"),
    ("cgroup_device", "cgroup/dev"),
    ("netfilter", "netfilter"),
    ("socket_filter", "socket*"),
)  # fmt: skip

# What a program with that context may be, where its section says nothing: iproute2 loads any section as a classifier,
# and libbpf's users call bpf_program__set_type. The first row is the one that allows the most. Types whose contract
# hangs on the place of attachment are left out: nobody knows the place.
_TYPES_OF_CONTEXT: Final[dict[str, tuple[str, ...]]] = {
    "__sk_buff": (
        "sched_cls", "sched_act", "socket_filter", "cgroup_skb",
        "lwt_xmit", "lwt_in", "lwt_out", "lwt_seg6local", "sk_skb",
    ),
    "xdp_md": ("xdp",),
    "pt_regs": ("kprobe",),
    "bpf_perf_event_data": ("perf_event",),
    "bpf_sock_ops": ("sock_ops",),
    "sk_msg_md": ("sk_msg",),
}  # fmt: skip


def types_of_context(struct: str) -> tuple[str, ...]:
    """Program types with a context of that name, the most permissive first; () where the name says nothing."""
    return _TYPES_OF_CONTEXT.get(struct, ())


def _index(ending: str) -> dict[str, str]:
    return {
        rule.rstrip("+/*"): program_type
        for program_type, rules in _RULES
        for rule in rules.split()
        if rule.endswith(ending)
    }


_EXACT: Final = {rule: kind for kind, rules in _RULES for rule in rules.split() if rule[-1] not in "+/*"}
_OPEN: Final = _index("+")
_SLASHED: Final = _index("/")
_SLOPPY: Final = tuple(sorted(_index("*").items(), key=lambda item: -len(item[0])))


def program_type(section: str) -> str | None:
    """The program type that libbpf derives from a section name, None when the name says nothing.

    A leading "?" (do not load by default) is ignored, as libbpf does.
    """
    name = section.removeprefix("?")
    if name in _EXACT:
        return _EXACT[name]
    head, slash, _ = name.partition("/")
    if head in _OPEN:
        return _OPEN[head]
    for stem, found in _SLASHED.items():
        if slash and name.startswith(stem + "/"):
            return found
    for stem, found in _SLOPPY:
        if name.startswith(stem):
            return found
    return None


def loose_stems() -> tuple[tuple[str, str], ...]:
    """(stem, program type), longest stem first: section names that libbpf before 1.0 took by their beginning."""
    return _SLOPPY

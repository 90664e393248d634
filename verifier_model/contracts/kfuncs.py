"""Functions of the kernel that programs may call: rows, and signatures by BTF (check_kfunc_args, 6.12).

A signature comes from the kernel's BTF where the unit was patched for one, else from the object's own declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.unit import Function
from verifier_model.contracts.kfunc_rows import KFUNC_ROWS
from verifier_model.contracts.programs import section_head

# Groups of program types (bpf_prog_type_to_kfunc_hook in kernel/bpf/btf.c).
_HOOKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "xdp": "xdp",
        "sched_cls": "tc",
        "struct_ops": "struct_ops",
        "tracing": "tracing",
        "tracepoint": "tracing",
        "perf_event": "tracing",
        "lsm": "tracing",
        "syscall": "syscall",
        "cgroup_skb": "cgroup",
        "cgroup_sock": "cgroup",
        "cgroup_device": "cgroup",
        "cgroup_sock_addr": "cgroup",
        "cgroup_sockopt": "cgroup",
        "cgroup_sysctl": "cgroup",
        "sched_act": "act",
        "sk_skb": "sk_skb",
        "socket_filter": "socket_filter",
        "lwt_in": "lwt",
        "lwt_out": "lwt",
        "lwt_xmit": "lwt",
        "lwt_seg6local": "lwt",
        "netfilter": "netfilter",
        "kprobe": "kprobe",
    }
)
_FLAGS: Final = frozenset(
    {
        "acquire",
        "release",
        "ret_null",
        "trusted_args",
        "sleepable",
        "destructive",
        "rcu",
        "iter_new",
        "iter_next",
        "iter_destroy",
        "rcu_protected",
    }
)


@dataclass(frozen=True, slots=True)
class Kfunc:
    """One function: who may call it (`hooks`, `only`: see `kfunc_rows`), and its KF_ flags."""

    name: str
    hooks: frozenset[str]
    flags: frozenset[str]
    only: str

    @property
    def wants_trust(self) -> bool:
        return "trusted_args" in self.flags or "release" in self.flags

    def is_for(self, function: Function) -> bool:
        """May programs of the function's type call it?"""
        if self.only == "kprobe_multi":
            return section_head(function.section) in ("kprobe.session", "kprobe.multi.session")
        if self.only == "tracing_iter":
            return section_head(function.section).startswith("iter")
        if self.only and function.program_type != "lsm":
            return False
        return "common" in self.hooks or _HOOKS.get(function.program_type or "") in self.hooks


KFUNCS: Final[Mapping[str, Kfunc]] = MappingProxyType(
    {
        row.name: Kfunc(row.name, frozenset(row.hooks.split()), frozenset(row.flags.split()), row.only)
        for row in KFUNC_ROWS
    }
)
assert all(kfunc.flags <= _FLAGS for kfunc in KFUNCS.values())


CASTS: Final = frozenset({"bpf_cast_to_kern_ctx", "bpf_rdonly_cast"})  # see `checker.kernel_calls`
# What bpf_cast_to_kern_ctx makes of a context (include/linux/bpf_types.h).
KERNEL_CONTEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "__sk_buff": "sk_buff",
        "xdp_md": "xdp_buff",
        "bpf_sock": "sock",
        "bpf_sock_addr": "bpf_sock_addr_kern",
        "bpf_sock_ops": "bpf_sock_ops_kern",
        "sk_msg_md": "sk_msg",
        "sk_reuseport_md": "sk_reuseport_kern",
        "bpf_sk_lookup": "bpf_sk_lookup_kern",
        "bpf_sysctl": "bpf_sysctl_kern",
        "bpf_sockopt": "bpf_sockopt_kern",
        "bpf_nf_ctx": "bpf_nf_ctx",
        "bpf_perf_event_data": "bpf_perf_event_data_kern",
    }
)

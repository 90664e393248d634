"""Program types: what their context holds, what they may do to packets, and which results the kernel demands.

Sources: net/core/filter.c (`bpf_skb_is_valid_access` and the per-type `*_is_valid_access`), kernel/trace/bpf_trace.c,
kernel/bpf/verifier.c (may_access_direct_pkt_data, check_return_code).  Several types change with the place that a
program is attached to: `program_of` knows it from the section, as libbpf does.
A type or a byte without a row: its accesses stay exactly as clang wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.unit import Function
from verifier_model.contracts import contexts
from verifier_model.contracts.contexts import ContextField, Fields, field_of, without, writable

__all__ = ["BY_NUMBER", "PROGRAM_TYPES", "ContextField", "ProgramType", "is_sleepable", "program_of"]


@dataclass(frozen=True, slots=True)
class ProgramType:
    """One program type.

    `fields` sorted by offset; None: the layout is not described here.  `opaque`: (first byte, end) of a context that
    may be read (and written, with `opaque_writable`) at any aligned width and holds only numbers for us.
    `packet_writable`: direct packet stores allowed.  `results`: range that the kernel demands of r0 at exit, None when
    any number goes (check_return_code); with `half_result` of its lower half, taken as signed.  `struct`: name of the
    context's type as sources write it, "" where they do not.  `arguments`: the context is an array of 8-byte arguments
    whose types the place of attachment decides (`checker.kernel_objects`).
    """

    name: str
    number: int
    fields: Fields | None = None
    opaque: tuple[int, int] | None = None
    packet_writable: bool = False
    results: tuple[int, int] | None = None
    struct: str = ""
    opaque_writable: bool = False
    arguments: bool = False
    half_result: bool = False

    def field_at(self, off: int, size: int, is_store: bool = False) -> ContextField | None:
        """The field in which this access is allowed, or None."""
        found = field_of(self.fields or (), off, size, is_store)
        if found is None and self.opaque is not None and (self.opaque_writable or not is_store):
            first, end = self.opaque
            if first <= off and off + size <= end and off % size == 0:
                return ContextField("", off, size, (size,), (size,) if self.opaque_writable else ())
        return found


_SOCKET_ADDRESSES: Final = frozenset(
    {"family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6", "remote_port", "local_port"}
)
_DISSECTOR_ONLY: Final = frozenset({"flow_keys"})
_TC_LACKS: Final = _SOCKET_ADDRESSES | _DISSECTOR_ONLY
_TC_WRITES: Final = frozenset({"mark", "tc_index", "priority", "tc_classid", "cb", "tstamp", "queue_mapping"})
_FILTER_LACKS: Final = _TC_LACKS | {
    "tstamp_type",
    "tc_classid",
    "data",
    "data_meta",
    "data_end",
    "tstamp",
    "wire_len",
    "hwtstamp",
}
_CGROUP_LACKS: Final = _DISSECTOR_ONLY | {"tstamp_type", "tc_classid", "data_meta", "wire_len"}
_LWT_LACKS: Final = _TC_LACKS | {"tstamp_type", "tc_classid", "data_meta", "tstamp", "wire_len", "hwtstamp"}
_SK_SKB_LACKS: Final = _DISSECTOR_ONLY | {
    "mark",
    "tstamp_type",
    "tc_classid",
    "data_meta",
    "tstamp",
    "wire_len",
    "hwtstamp",
}
# What only some places of attachment may see; `_AT` gives it back.
_SOCK_CONDITIONAL: Final = frozenset({"bound_dev_if", "mark", "priority", "src_ip4", "src_ip6", "src_port"})
_ADDR_CONDITIONAL: Final = frozenset({"user_ip4", "user_ip6", "msg_src_ip4", "msg_src_ip6"})
_ADDR_WRITES: Final = _ADDR_CONDITIONAL | {"user_port"}

_PT_REGS_BYTES: Final = 168  # x86-64; smaller than elsewhere, and reads beyond it are not described
_PERF_RECORD_BYTES: Final = 8192  # PERF_MAX_TRACE_SIZE
_RAW_ARGUMENTS: Final = (0, 96)  # MAX_BPF_FUNC_ARGS numbers of 8 bytes
_SYSCALL_BYTES: Final = 0xFFFF
_BINARY: Final = (0, 1)
_LARGEST_ERROR: Final = 4095  # MAX_ERRNO


def _types() -> tuple[ProgramType, ...]:
    tc = writable(without(contexts.SKB, _TC_LACKS), _TC_WRITES)
    lwt = writable(without(contexts.SKB, _LWT_LACKS), frozenset({"mark", "priority", "cb"}))
    sk_skb = writable(without(contexts.SKB, _SK_SKB_LACKS), frozenset({"tc_index", "priority"}))
    cgroup_skb = writable(without(contexts.SKB, _CGROUP_LACKS), frozenset({"mark", "priority", "cb", "tstamp"}))
    socket_filter = writable(without(contexts.SKB, _FILTER_LACKS), frozenset({"cb"}))
    sock_ops = writable(contexts.SOCK_OPS, frozenset({"sk_txhash"}))
    skb = "__sk_buff"
    return (
        ProgramType("socket_filter", 1, socket_filter, struct=skb),
        ProgramType("kprobe", 2, opaque=(0, _PT_REGS_BYTES), struct="pt_regs"),
        ProgramType("sched_cls", 3, tc, packet_writable=True, struct=skb),
        ProgramType("sched_act", 4, tc, packet_writable=True, struct=skb),
        # The first 8 bytes of a trace record are not for programs (tp_prog_is_valid_access).
        ProgramType("tracepoint", 5, opaque=(8, _PERF_RECORD_BYTES)),
        ProgramType(
            "xdp", 6, without(contexts.XDP_MD, frozenset({"egress_ifindex"})), packet_writable=True, struct="xdp_md"
        ),
        ProgramType("perf_event", 7, contexts.PERF_EVENT, struct="bpf_perf_event_data"),
        ProgramType("cgroup_skb", 8, cgroup_skb, results=_BINARY, struct=skb),
        ProgramType("cgroup_sock", 9, without(contexts.SOCK_FIELDS, _SOCK_CONDITIONAL), results=_BINARY,
                    struct="bpf_sock"),
        ProgramType("lwt_in", 10, lwt, struct=skb),
        ProgramType("lwt_out", 11, lwt, struct=skb),
        ProgramType("lwt_xmit", 12, lwt, packet_writable=True, struct=skb),
        ProgramType("sock_ops", 13, _replies(sock_ops), results=_BINARY, struct="bpf_sock_ops"),
        ProgramType("sk_skb", 14, sk_skb, packet_writable=True, struct=skb),
        ProgramType("cgroup_device", 15, contexts.CGROUP_DEVICE, results=_BINARY, struct="bpf_cgroup_dev_ctx"),
        ProgramType("sk_msg", 16, contexts.SK_MSG, packet_writable=True, struct="sk_msg_md"),
        ProgramType("raw_tracepoint", 17, opaque=_RAW_ARGUMENTS, struct="bpf_raw_tracepoint_args"),
        ProgramType("cgroup_sock_addr", 18,
                    writable(without(contexts.SOCK_ADDR, _ADDR_CONDITIONAL), _ADDR_WRITES), results=_BINARY,
                    struct="bpf_sock_addr"),
        ProgramType("lwt_seg6local", 19, lwt, struct=skb),
        ProgramType("lirc_mode2", 20, contexts.LIRC),
        ProgramType("sk_reuseport", 21, contexts.SK_REUSEPORT, struct="sk_reuseport_md"),
        ProgramType("flow_dissector", 22, contexts.FLOW_DISSECTOR, struct=skb),
        ProgramType("cgroup_sysctl", 23, contexts.SYSCTL, results=_BINARY, struct="bpf_sysctl"),
        # Its first argument is a buffer, which is not described here.
        ProgramType("raw_tracepoint_writable", 24, opaque=(1, 96), struct="bpf_raw_tracepoint_args"),
        ProgramType("cgroup_sockopt", 25,
                    writable(without(contexts.SOCKOPT, frozenset({"retval"})), frozenset({"optlen"})),
                    packet_writable=True, results=_BINARY, struct="bpf_sockopt"),
        ProgramType("tracing", 26, results=(0, 0), arguments=True),
        ProgramType("struct_ops", 27, arguments=True),
        ProgramType("ext", 28),
        ProgramType("lsm", 29, results=(-_LARGEST_ERROR, 0), arguments=True, half_result=True),
        ProgramType("sk_lookup", 30, contexts.SK_LOOKUP, results=_BINARY, struct="bpf_sk_lookup"),
        ProgramType("syscall", 31, opaque=(0, _SYSCALL_BYTES), opaque_writable=True),
        ProgramType("netfilter", 32, contexts.NETFILTER, results=_BINARY, struct="bpf_nf_ctx"),
    )  # fmt: skip


def _replies(fields: Fields) -> Fields:
    """`reply` is the first word of the arguments: the only one that may be written."""
    rows: list[ContextField] = []
    for row in fields:
        if row.name == "args":
            rows.append(ContextField("reply", row.off, 4, contexts.WORD, contexts.WORD))
            rows.append(ContextField("replylong", row.off + 4, 12, contexts.WORD))
        else:
            rows.append(row)
    return tuple(rows)


PROGRAM_TYPES: Final[Mapping[str, ProgramType]] = MappingProxyType({row.name: row for row in _types()})
BY_NUMBER: Final[Mapping[int, ProgramType]] = MappingProxyType({row.number: row for row in PROGRAM_TYPES.values()})


@dataclass(frozen=True, slots=True)
class _Place:
    """What a place of attachment changes.

    `fields`: names of fields that programs see here beyond those of the type; `stores`: fields that they may write
    here; `results`: the demanded range, `any_result`: none is demanded.
    """

    fields: str = ""
    stores: str = ""
    results: tuple[int, int] | None = None
    any_result: bool = False


_ALL_FIELDS: Final[Mapping[str, Fields]] = MappingProxyType(
    {
        "cgroup_sock": contexts.SOCK_FIELDS,
        "cgroup_sock_addr": writable(contexts.SOCK_ADDR, _ADDR_WRITES),
        "cgroup_sockopt": writable(contexts.SOCKOPT, frozenset({"optlen"})),
        "xdp": contexts.XDP_MD,
    }
)
_ONE: Final = (1, 1)
_SOCK_OWN: Final = "bound_dev_if mark priority"
_CREATE: Final = _Place(_SOCK_OWN, _SOCK_OWN)
_GET: Final = _Place(results=_ONE)
_ANY: Final = _Place(any_result=True)
_YES_OR_NO: Final = ("xfrm_state_pol_flow_match", "audit_rule_known", "inode_xattr_skipcap")
# Every hook that returns nothing in some kernel from 5.10 to 6.18, from the kernels' own BTF.
_NO_ANSWER_WORDS: Final = (
    "audit_rule_free backing_file_free bdev_free_security bpf_map_free bpf_map_free_security "
    "bpf_prog_free bpf_prog_free_security bpf_token_free bprm_committed_creds bprm_committing_creds "
    "cred_free cred_getlsmprop cred_getsecid cred_transfer current_getlsmprop_subj current_getsecid_subj "
    "d_instantiate file_free_security file_release file_set_fowner ib_free_security inet_conn_established "
    "inet_csk_clone initramfs_populated inode_free_security inode_free_security_rcu inode_getlsmprop "
    "inode_getsecid inode_invalidate_secctx inode_post_create_tmpfile inode_post_remove_acl "
    "inode_post_removexattr inode_post_set_acl inode_post_setattr inode_post_setxattr ipc_getlsmprop "
    "ipc_getsecid key_free key_post_create_or_update msg_msg_free_security msg_queue_free_security "
    "path_post_mknod perf_event_free release_secctx req_classify_flow sb_delete sb_free_mnt_opts "
    "sb_free_security sctp_sk_clone secmark_refcount_dec secmark_refcount_inc sem_free_security "
    "shm_free_security sk_clone_security sk_free_security sk_getsecid sock_graft task_free "
    "task_getlsmprop_obj task_getsecid task_getsecid_obj task_to_inode tun_dev_free_security "
    "xfrm_policy_free_security xfrm_state_free_security"
)
_WITHOUT_ANSWER: Final = tuple(_NO_ANSWER_WORDS.split())
# By section without its leading "?" (expected_attach_type of libbpf's section_defs).
_AT: Final[Mapping[str, _Place]] = MappingProxyType(
    {
        "xdp/devmap": _Place("egress_ifindex"),
        "xdp.frags/devmap": _Place("egress_ifindex"),
        "cgroup_skb/egress": _Place(results=(0, 3)),
        "cgroup/sock": _CREATE,
        "cgroup/sock_create": _CREATE,
        "cgroup/sock_release": _CREATE,
        "cgroup/post_bind4": _Place("src_ip4 src_port"),
        "cgroup/post_bind6": _Place("src_ip6 src_port"),
        "cgroup/bind4": _Place("user_ip4", results=(0, 3)),
        "cgroup/bind6": _Place("user_ip6", results=(0, 3)),
        "cgroup/connect4": _Place("user_ip4"),
        "cgroup/connect6": _Place("user_ip6"),
        "cgroup/sendmsg4": _Place("user_ip4 msg_src_ip4"),
        "cgroup/sendmsg6": _Place("user_ip6 msg_src_ip6"),
        "cgroup/recvmsg4": _Place("user_ip4", results=_ONE),
        "cgroup/recvmsg6": _Place("user_ip6", results=_ONE),
        "cgroup/recvmsg_unix": _GET,
        "cgroup/getpeername4": _Place("user_ip4", results=_ONE),
        "cgroup/getpeername6": _Place("user_ip6", results=_ONE),
        "cgroup/getpeername_unix": _GET,
        "cgroup/getsockname4": _Place("user_ip4", results=_ONE),
        "cgroup/getsockname6": _Place("user_ip6", results=_ONE),
        "cgroup/getsockname_unix": _GET,
        "cgroup/getsockopt": _Place("retval", "retval"),
        "cgroup/setsockopt": _Place("", "level optname"),
        # Hooks that answer yes or no (bool_lsm_hooks in kernel/bpf/bpf_lsm.c), and some that a cgroup's programs cannot
        # refuse: the others give 0 or an error, and to a cgroup's programs 0 or 1.
        **dict.fromkeys(
            [f"{head}/{hook}" for head in ("lsm", "lsm.s") for hook in _YES_OR_NO],
            _Place(results=_BINARY),
        ),
        **dict.fromkeys([f"lsm_cgroup/{hook}" for hook in _WITHOUT_ANSWER], _Place(results=_ONE)),
        "lsm_cgroup": _Place(results=_BINARY),
        # By the first word: the rest names what a program is attached to.
        "kprobe.session": _Place(results=_BINARY),
        "uprobe.session": _Place(results=_BINARY),
        "uprobe.session.s": _Place(results=_BINARY),
        "tp_btf": _ANY,
        "fmod_ret": _ANY,
        "fmod_ret.s": _ANY,
        "iter": _Place(results=_BINARY),
        "iter.s": _Place(results=_BINARY),
    }
)


def section_head(section: str) -> str:
    """The first word of a section's name: "fentry.s" of "?fentry.s/do_nanosleep"."""
    return section.removeprefix("?").partition("/")[0]


def program_of(function: Function) -> ProgramType | None:
    """The row of a program with what the place of its attachment changes; None for subprograms and unknown types."""
    if function.program_type is None:
        return None
    row = PROGRAM_TYPES.get(function.program_type)
    if row is None:
        return None
    name = function.section.removeprefix("?")
    place = _AT.get(name) or _AT.get(section_head(name))
    return row if place is None else _at(row, place)


def _at(row: ProgramType, place: _Place) -> ProgramType:
    fields, stores = row.fields, frozenset(place.stores.split())
    if fields is not None and (place.fields or stores):
        names = {field.name for field in fields} | set(place.fields.split())
        fields = writable(tuple(field for field in _ALL_FIELDS[row.name] if field.name in names), stores)
    return replace(row, fields=fields, results=None if place.any_result else place.results or row.results)


def is_sleepable(function: Function) -> bool:
    """May the program sleep (BPF_F_SLEEPABLE by its section)?"""
    return section_head(function.section).endswith(".s") or function.program_type == "syscall"

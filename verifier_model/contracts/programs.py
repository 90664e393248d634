"""Program types: what their context holds and how it may be accessed.

Offsets and sizes in bytes.  Sources: include/uapi/linux/bpf.h (struct xdp_md, struct __sk_buff); net/core/filter.c
(`bpf_skb_is_valid_access` and the per-type `*_is_valid_access`); kernel/trace/bpf_trace.c for tracing.
A type or a byte without a row: its accesses stay exactly as clang wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from verifier_model.domains.registers import Region

_NARROW: Final = (1, 2, 4)
_WORD: Final = (4,)
_DOUBLE: Final = (8,)


@dataclass(frozen=True, slots=True)
class ContextField:
    """`size` bytes at `off`.

    `reads`, `writes`: widths in bytes of the loads and stores allowed inside the field, each aligned to its own width.
    `region` says what a full-width load gives: PACKET and its kin, OBJECT, or a SCALAR.
    """

    name: str
    off: int
    size: int
    reads: tuple[int, ...] = _NARROW
    writes: tuple[int, ...] = ()
    region: Region = Region.SCALAR
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class ProgramType:
    """One program type.

    `fields` sorted by offset; None: the layout is not described here.  `opaque`: (first byte, end) of a context that
    may be read at any aligned width and holds only numbers for us.  `packet_writable`: direct packet stores allowed.
    `results`: range that the kernel demands of r0 at exit, None when any number goes (check_return_code).
    """

    name: str
    number: int
    fields: tuple[ContextField, ...] | None = None
    opaque: tuple[int, int] | None = None
    packet_writable: bool = False
    results: tuple[int, int] | None = None

    def field_at(self, off: int, size: int, is_store: bool = False) -> ContextField | None:
        """The field in which this access is allowed, or None."""
        for row in self.fields or ():
            if row.off <= off and off + size <= row.off + row.size and off % size == 0:
                return row if size in (row.writes if is_store else row.reads) else None
        if self.opaque is not None and not is_store:
            first, end = self.opaque
            if first <= off and off + size <= end and off % size == 0:
                return ContextField("", off, size, (size,))
        return None


_XDP_MD: Final = (
    ContextField("data", 0, 4, _WORD, region=Region.PACKET),
    ContextField("data_end", 4, 4, _WORD, region=Region.PACKET_END),
    ContextField("data_meta", 8, 4, _WORD, region=Region.PACKET_META),
    ContextField("ingress_ifindex", 12, 4, _WORD),
    ContextField("rx_queue_index", 16, 4, _WORD),
    # Only devmap programs may read it, which the section does not always tell: clang's own loads stay legal.
    ContextField("egress_ifindex", 20, 4, _WORD),
)

# Everything that some skb program may read; the types below say which fields they lack and which they may write.
_SKB: Final = (
    ContextField("len", 0, 4),
    ContextField("pkt_type", 4, 4),
    ContextField("mark", 8, 4),
    ContextField("queue_mapping", 12, 4),
    ContextField("protocol", 16, 4),
    ContextField("vlan_present", 20, 4),
    ContextField("vlan_tci", 24, 4),
    ContextField("vlan_proto", 28, 4),
    ContextField("priority", 32, 4),
    ContextField("ingress_ifindex", 36, 4),
    ContextField("ifindex", 40, 4),
    ContextField("tc_index", 44, 4),
    ContextField("cb", 48, 20, (1, 2, 4, 8)),
    ContextField("hash", 68, 4),
    ContextField("tc_classid", 72, 4),
    ContextField("data", 76, 4, _WORD, region=Region.PACKET),
    ContextField("data_end", 80, 4, _WORD, region=Region.PACKET_END),
    ContextField("napi_id", 84, 4),
    ContextField("family", 88, 4),
    ContextField("remote_ip4", 92, 4, _WORD),
    ContextField("local_ip4", 96, 4, _WORD),
    ContextField("remote_ip6", 100, 16, _WORD),
    ContextField("local_ip6", 116, 16, _WORD),
    ContextField("remote_port", 132, 4),
    ContextField("local_port", 136, 4),
    ContextField("data_meta", 140, 4, _WORD, region=Region.PACKET_META),
    ContextField("flow_keys", 144, 8, _DOUBLE, region=Region.OBJECT),
    ContextField("tstamp", 152, 8, _DOUBLE),
    ContextField("wire_len", 160, 4),
    ContextField("gso_segs", 164, 4),
    ContextField("sk", 168, 8, _DOUBLE, region=Region.OBJECT, nullable=True),
    ContextField("gso_size", 176, 4),
    ContextField("tstamp_type", 180, 1, (1,)),
    ContextField("hwtstamp", 184, 8, _DOUBLE),
)


def _skb(without: frozenset[str], writable: frozenset[str]) -> tuple[ContextField, ...]:
    """The skb context of one program type; only full-width stores are allowed, except in `cb`."""
    rows = (row for row in _SKB if row.name not in without)
    return tuple(
        replace(row, writes=row.reads if row.name == "cb" else (row.size,)) if row.name in writable else row
        for row in rows
    )


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

_PT_REGS_BYTES: Final = 168  # x86-64; smaller than elsewhere, and reads beyond it are not described
_PERF_RECORD_BYTES: Final = 8192  # PERF_MAX_TRACE_SIZE


def _types() -> tuple[ProgramType, ...]:
    tc = _skb(_TC_LACKS, _TC_WRITES)
    lwt = _skb(_LWT_LACKS, frozenset({"mark", "priority", "cb"}))
    raw = (0, 96)  # MAX_BPF_FUNC_ARGS numbers of 8 bytes
    return (
        ProgramType("socket_filter", 1, _skb(_FILTER_LACKS, frozenset({"cb"}))),
        ProgramType("kprobe", 2, opaque=(0, _PT_REGS_BYTES)),
        ProgramType("sched_cls", 3, tc, packet_writable=True),
        ProgramType("sched_act", 4, tc, packet_writable=True),
        # The first 8 bytes of a trace record are not for programs (tp_prog_is_valid_access).
        ProgramType("tracepoint", 5, opaque=(8, _PERF_RECORD_BYTES)),
        ProgramType("xdp", 6, _XDP_MD, packet_writable=True),
        ProgramType("perf_event", 7),
        ProgramType(
            "cgroup_skb", 8, _skb(_CGROUP_LACKS, frozenset({"mark", "priority", "cb", "tstamp"})), results=(0, 3)
        ),
        ProgramType("cgroup_sock", 9, results=(0, 1)),
        ProgramType("lwt_in", 10, lwt),
        ProgramType("lwt_out", 11, lwt),
        ProgramType("lwt_xmit", 12, lwt, packet_writable=True),
        ProgramType("sock_ops", 13, results=(0, 1)),
        ProgramType("sk_skb", 14, _skb(_SK_SKB_LACKS, frozenset({"tc_index", "priority"})), packet_writable=True),
        ProgramType("cgroup_device", 15, results=(0, 1)),
        ProgramType("sk_msg", 16),
        ProgramType("raw_tracepoint", 17, opaque=raw),
        ProgramType("cgroup_sock_addr", 18, results=(0, 3)),
        ProgramType("lwt_seg6local", 19),
        ProgramType("lirc_mode2", 20),
        ProgramType("sk_reuseport", 21),
        ProgramType("flow_dissector", 22),
        ProgramType("cgroup_sysctl", 23, results=(0, 1)),
        ProgramType("raw_tracepoint_writable", 24),
        ProgramType("cgroup_sockopt", 25, results=(0, 1)),
        ProgramType("tracing", 26),
        ProgramType("struct_ops", 27),
        ProgramType("ext", 28),
        ProgramType("lsm", 29),
        ProgramType("sk_lookup", 30, results=(0, 1)),
        ProgramType("syscall", 31),
        ProgramType("netfilter", 32, results=(0, 1)),
    )


PROGRAM_TYPES: Final = MappingProxyType({row.name: row for row in _types()})
BY_NUMBER: Final = MappingProxyType({row.number: row for row in PROGRAM_TYPES.values()})

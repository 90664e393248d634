"""Layouts of program contexts and of the kernel's UAPI views of sockets, as rows of fields.

Offsets and sizes in bytes.  Layouts: include/uapi/linux/bpf.h.  Which access is allowed: the `*_is_valid_access`
functions of net/core/filter.c, kernel/bpf/cgroup.c, kernel/bpf/syscall.c, kernel/trace/bpf_trace.c,
net/netfilter/nf_bpf_link.c and drivers/media/rc/bpf-lirc.c (6.12); `tests/contracts/test_contexts.py` asks the running
kernel about every offset and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from verifier_model.domains.registers import Region

OLDEST: Final = (5, 10)
NARROW: Final = (1, 2, 4)
_HALVES: Final = (1, 2)
WORD: Final = (4,)
DOUBLE: Final = (8,)
_WIDE: Final = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class ContextField:
    """`size` bytes at `off`.

    `reads`, `writes`: widths in bytes of the loads and stores allowed inside the field, each aligned to its own width.
    `region` says what a full-width load gives: PACKET and its kin, OBJECT, or a SCALAR; `object` which object, a view
    (`VIEWS`) or a structure of the kernel.  `at_start`: only the field's first byte may be addressed.
    `since`: the first kernel that has it, where that is not the oldest one here.
    """

    name: str
    off: int
    size: int
    reads: tuple[int, ...] = NARROW
    writes: tuple[int, ...] = ()
    region: Region = Region.SCALAR
    nullable: bool = False
    object: str = ""
    at_start: bool = False
    since: tuple[int, int] = OLDEST

    def allows(self, off: int, size: int, is_store: bool = False) -> bool:
        """May `size` bytes at `off`, counted from the context, be accessed as part of this field?"""
        if off < self.off or off + size > self.off + self.size or off % size or (self.at_start and off != self.off):
            return False
        return size in (self.writes if is_store else self.reads)


Fields = tuple[ContextField, ...]


def _pointer(name: str, off: int, region: Region) -> ContextField:
    return ContextField(name, off, 8, DOUBLE, region=region)


def _socket(name: str, off: int, view: str, nullable: bool = False) -> ContextField:
    return ContextField(name, off, 8, DOUBLE, region=Region.OBJECT, nullable=nullable, object=view)


def _words(first: int, names: str, widths: tuple[int, ...] = WORD) -> Fields:
    """Fields of four bytes, one behind the other; "name:N" is N bytes long."""
    rows, off = [], first
    for word in names.split():
        name, _, size = word.partition(":")
        rows.append(ContextField(name, off, int(size or 4), widths))
        off += int(size or 4)
    return tuple(rows)


def writable(fields: Fields, names: frozenset[str]) -> Fields:
    """The fields with full-width stores into those named; `cb` takes every width that it gives, addresses two words."""

    def widths(row: ContextField) -> tuple[int, ...]:
        return row.reads if row.name == "cb" else (4, 8) if row.size == 16 else (row.size,)

    return tuple(replace(row, writes=widths(row)) if row.name in names else row for row in fields)


def without(fields: Fields, names: frozenset[str]) -> Fields:
    return tuple(row for row in fields if row.name not in names)


XDP_MD: Final[Fields] = (
    ContextField("data", 0, 4, WORD, region=Region.PACKET),
    ContextField("data_end", 4, 4, WORD, region=Region.PACKET_END),
    ContextField("data_meta", 8, 4, WORD, region=Region.PACKET_META),
    ContextField("ingress_ifindex", 12, 4, WORD),
    ContextField("rx_queue_index", 16, 4, WORD),
    ContextField("egress_ifindex", 20, 4, WORD),  # devmap programs alone
)

# Everything that some skb program may read; the program types say which fields they lack and which they may write.
SKB: Final[Fields] = (
    *_words(0, "len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex "
               "ifindex tc_index", NARROW),
    ContextField("cb", 48, 20, _WIDE),
    ContextField("hash", 68, 4),
    ContextField("tc_classid", 72, 4),
    ContextField("data", 76, 4, WORD, region=Region.PACKET),
    ContextField("data_end", 80, 4, WORD, region=Region.PACKET_END),
    ContextField("napi_id", 84, 4),
    ContextField("family", 88, 4),
    *_words(92, "remote_ip4 local_ip4 remote_ip6:16 local_ip6:16"),
    ContextField("remote_port", 132, 4),
    ContextField("local_port", 136, 4),
    ContextField("data_meta", 140, 4, WORD, region=Region.PACKET_META),
    ContextField("flow_keys", 144, 8, DOUBLE, region=Region.OBJECT, object="bpf_flow_keys"),
    ContextField("tstamp", 152, 8, DOUBLE),
    ContextField("wire_len", 160, 4),
    ContextField("gso_segs", 164, 4),
    _socket("sk", 168, "bpf_sock_common", nullable=True),
    ContextField("gso_size", 176, 4),
    ContextField("tstamp_type", 180, 1, (1,), since=(5, 18)),
    ContextField("hwtstamp", 184, 8, DOUBLE, since=(5, 16)),
)  # fmt: skip

FLOW_DISSECTOR: Final[Fields] = tuple(row for row in SKB if row.name in ("data", "data_end", "flow_keys"))

SOCK: Final[Fields] = (
    ContextField("bound_dev_if", 0, 4, WORD),
    *(replace(row, at_start=True) for row in _words(4, "family type protocol", NARROW)),
    *_words(16, "mark priority"),
    *_words(24, "src_ip4 src_ip6:16", NARROW),
    ContextField("src_port", 44, 4, at_start=True),
    ContextField("dst_port", 48, 4, WORD),
    *_words(52, "dst_ip4 dst_ip6:16", NARROW),
    *(replace(row, at_start=True) for row in _words(72, "state rx_queue_mapping", NARROW)),
)
_SOCK_DST_PORT: Final = ContextField("dst_port", 48, 2, _HALVES)  # its two bytes may also be read as what they are
SOCK_FIELDS: Final[Fields] = tuple(sorted((*SOCK, _SOCK_DST_PORT), key=lambda row: row.off))

SOCK_ADDR: Final[Fields] = (
    *_words(0, "user_family"),
    *_words(4, "user_ip4", NARROW),
    ContextField("user_ip6", 8, 16, _WIDE),
    *_words(24, "user_port", NARROW),
    *_words(28, "family type protocol"),
    *_words(40, "msg_src_ip4", NARROW),
    ContextField("msg_src_ip6", 44, 16, _WIDE),
    _socket("sk", 64, "bpf_sock"),
)

SOCK_OPS: Final[Fields] = (
    *_words(0, "op args:16 family remote_ip4 local_ip4 remote_ip6:16 local_ip6:16 remote_port local_port is_fullsock "
               "snd_cwnd srtt_us bpf_sock_ops_cb_flags state rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache "
               "ecn_flags rate_delivered rate_interval_us packets_out retrans_out total_retrans segs_in data_segs_in "
               "segs_out data_segs_out lost_out sacked_out sk_txhash"),
    ContextField("bytes_received", 168, 8, DOUBLE),
    ContextField("bytes_acked", 176, 8, DOUBLE),
    _socket("sk", 184, "bpf_sock", nullable=True),
    _pointer("skb_data", 192, Region.PACKET),
    _pointer("skb_data_end", 200, Region.PACKET_END),
    *_words(208, "skb_len"),
    ContextField("skb_tcp_flags", 212, 4, at_start=True),
    ContextField("skb_hwtstamp", 216, 8, DOUBLE, since=(6, 2)),
)  # fmt: skip

SK_MSG: Final[Fields] = (
    _pointer("data", 0, Region.PACKET),
    _pointer("data_end", 8, Region.PACKET_END),
    *_words(16, "family remote_ip4 local_ip4 remote_ip6:16 local_ip6:16 remote_port local_port size"),
    _socket("sk", 72, "bpf_sock"),
)

SK_REUSEPORT: Final[Fields] = (
    _pointer("data", 0, Region.PACKET),
    _pointer("data_end", 8, Region.PACKET_END),
    *_words(16, "len", NARROW),
    ContextField("eth_protocol", 20, 4, (2, 4)),
    *_words(24, "ip_protocol bind_inany", NARROW),
    ContextField("hash", 32, 4, WORD),
    replace(_socket("sk", 40, "bpf_sock"), since=(5, 14)),
    replace(_socket("migrating_sk", 48, "bpf_sock_common", nullable=True), since=(5, 14)),
)

SK_LOOKUP: Final[Fields] = (
    _socket("sk", 0, "bpf_sock", nullable=True),
    *_words(8, "family protocol remote_ip4 remote_ip6:16", NARROW),
    ContextField("remote_port", 36, 4, WORD),
    ContextField("remote_port", 36, 2, _HALVES),
    ContextField("", 38, 2, _HALVES),
    *_words(40, "local_ip4 local_ip6:16 local_port", NARROW),
    ContextField("ingress_ifindex", 64, 4, since=(5, 17)),
)

CGROUP_DEVICE: Final[Fields] = (*_words(0, "access_type", NARROW), *_words(4, "major minor"))
SYSCTL: Final[Fields] = writable(_words(0, "write file_pos", NARROW), frozenset({"file_pos"}))
SOCKOPT: Final[Fields] = (
    _socket("sk", 0, "bpf_sock"),
    _pointer("optval", 8, Region.PACKET),
    _pointer("optval_end", 16, Region.PACKET_END),
    *_words(24, "level optname optlen retval"),
)
PERF_EVENT: Final[Fields] = (  # x86-64; smaller than elsewhere, and reads beyond it are not described
    ContextField("regs", 0, 168, DOUBLE),
    ContextField("sample_period", 168, 8, _WIDE),
    ContextField("addr", 176, 8, _WIDE),
)
NETFILTER: Final[Fields] = (_socket("state", 0, "nf_hook_state"), _socket("skb", 8, "sk_buff"))
LIRC: Final[Fields] = (ContextField("sample", 0, 4, WORD),)

_TCP_SOCK: Final[Fields] = (
    *_words(0, "snd_cwnd srtt_us rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache ecn_flags rate_delivered "
               "rate_interval_us packets_out retrans_out total_retrans segs_in data_segs_in segs_out data_segs_out "
               "lost_out sacked_out"),
    ContextField("bytes_received", 80, 8, DOUBLE),
    ContextField("bytes_acked", 88, 8, DOUBLE),
    *_words(96, "dsack_dups delivered delivered_ce icsk_retransmits"),
)  # fmt: skip
_COMMON_LACKS: Final = frozenset({"type", "protocol", "mark", "priority"})
# The kernel's own words for what it shows of its sockets (enum bpf_reg_type: PTR_TO_SOCKET, ...).
VIEWS: Final[Mapping[str, Fields]] = MappingProxyType(
    {
        "bpf_sock": SOCK_FIELDS,
        "bpf_sock_common": without(SOCK_FIELDS, _COMMON_LACKS),
        "bpf_tcp_sock": _TCP_SOCK,
        "bpf_xdp_sock": _words(0, "queue_id"),
        # check_flow_keys_access asks for nothing but the bounds.
        "bpf_flow_keys": (ContextField("keys", 0, 56, _WIDE, _WIDE),),
    }
)


def field_of(fields: Fields, off: int, size: int, is_store: bool = False) -> ContextField | None:
    """The field in which this access is allowed, or None."""
    for row in fields:
        if row.allows(off, size, is_store):
            return row
    return None

"""Structures of operations that programs implement (struct_ops): what they may write into the kernel's objects.

Sources: net/ipv4/bpf_tcp_ca.c, net/bpf/bpf_dummy_struct_ops.c and net/netfilter/nf_conntrack_bpf.c (their
btf_struct_access, 6.12).  Of other structures nothing is known: no stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from verifier_model.bpf.btf import Btf, BtfError, Kind


@dataclass(frozen=True, slots=True)
class Writable:
    """A field that may be written: a way of names from the start of `structure`; `inside`: at any place in it."""

    structure: str
    names: tuple[str, ...]
    inside: bool = False


# The structure whose fields these are, by that of the operations; all of `structure` below lie at its start.
OWNERS: Final[Mapping[str, str]] = MappingProxyType(
    {"tcp_congestion_ops": "tcp_sock", "bpf_dummy_ops": "bpf_dummy_ops_state"}
)
# Arguments that the program may take for more than they are declared to be.
PROMOTED: Final[Mapping[tuple[str, str], str]] = MappingProxyType({("tcp_congestion_ops", "sock"): "tcp_sock"})
WRITABLE: Final[Mapping[str, tuple[Writable, ...]]] = MappingProxyType(
    {
        "tcp_congestion_ops": (
            Writable("sock", ("sk_pacing_rate",)),
            Writable("sock", ("sk_pacing_status",)),
            Writable("inet_connection_sock", ("icsk_ca_priv",), inside=True),
            Writable("inet_connection_sock", ("icsk_ack", "pending")),
            *(
                Writable("tcp_sock", (name,))
                for name in ("snd_cwnd", "snd_cwnd_cnt", "snd_cwnd_stamp", "snd_ssthresh", "ecn_flags", "app_limited")
            ),
        ),
        "bpf_dummy_ops": (Writable("bpf_dummy_ops_state", (), inside=True),),
    }
)


# What programs that see packets may write into a connection (nf_conntrack_btf_struct_access).
_CONNECTIONS: Final = frozenset({"nf_conn", "nf_conn___init"})
_CONNECTION_WRITERS: Final = frozenset({"xdp", "sched_cls", "sched_act"})
_MARK: Final = Writable("nf_conn", ("mark",))


def may_write_connection(types: Btf, program_type: str | None, owner: str, off: int, size: int) -> bool:
    """May a program of that type write `size` bytes at `off` in the structure `owner`?"""
    if owner not in _CONNECTIONS or program_type not in _CONNECTION_WRITERS:
        return False
    span = _span(types, _MARK)
    return span is not None and off == span[0] and off + size <= span[1]


def may_write(types: Btf, operations: str, owner: str, off: int, size: int) -> bool:
    """May a program of these operations write `size` bytes at `off` in the structure `owner`?"""
    if OWNERS.get(operations) != owner:
        return False
    for row in WRITABLE[operations]:
        span = _span(types, row)
        if span is not None and off + size <= span[1] and (off == span[0] or (row.inside and off > span[0])):
            return True
    return False


def _span(types: Btf, row: Writable) -> tuple[int, int] | None:
    """First byte and end of the field."""
    at, off = types.named(row.structure, Kind.STRUCT), 0
    try:
        for name in row.names:
            found = _member(types, at, name, 0)
            if not at or found is None:
                return None
            at, off = found[0], off + found[1]
        return off, off + types.size_of(at)
    except BtfError:
        return None


def _member(types: Btf, owner: int, name: str, depth: int) -> tuple[int, int] | None:
    """The type and offset of a member, also of nested structures without a name."""
    found = types.resolve(owner)
    if found.kind not in (Kind.STRUCT, Kind.UNION) or depth > 8:
        return None
    for member in found.members:
        if member.name == name and not member.bits:
            return member.type, member.value // 8
        inner = None if member.name else _member(types, member.type, name, depth + 1)
        if inner is not None:
            return inner[0], inner[1] + member.value // 8
    return None

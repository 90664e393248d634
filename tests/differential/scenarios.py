"""Map contents and settings for the examples, made so that the generated packets hit them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from verifier_model.kernel.contents import Entries
from verifier_model.kernel.differential import Scenario
from verifier_model.kernel.maps import KernelMap

ROUNDS = 4


@dataclass(frozen=True)
class Flow:
    family: int
    source: bytes
    target: bytes
    protocol: int
    sport: bytes
    dport: bytes


def flow_of(packet: bytes) -> Flow | None:
    """The 5-tuple behind Ethernet and VLAN tags, as far as a well-formed packet has one."""
    at = 12
    while packet[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    kind, ip = packet[at : at + 2], packet[at + 2 :]
    if kind == b"\x08\x00" and len(ip) >= 20:
        flow, rest = Flow(4, ip[12:16], ip[16:20], ip[9], b"\0\0", b"\0\0"), ip[4 * (ip[0] & 15) :]
    elif kind == b"\x86\xdd" and len(ip) >= 40:
        flow, rest = Flow(6, ip[8:24], ip[24:40], ip[6], b"\0\0", b"\0\0"), ip[40:]
    else:
        return None
    if flow.protocol in (6, 17) and len(rest) >= 4:
        return Flow(flow.family, flow.source, flow.target, flow.protocol, rest[:2], rest[2:4])
    return flow


def flows_of(packets: Sequence[bytes]) -> list[Flow]:
    return [flow for flow in map(flow_of, packets) if flow is not None]


def settings(image: bytes, values: Callable[[Random], Mapping[str, bytes]]) -> Callable[[Random], Mapping[str, bytes]]:
    """.rodata with some of its variables set, found by symbol."""
    elf = ELFFile(io.BytesIO(image))
    section = elf.get_section_by_name(".rodata")
    number = elf.get_section_index(".rodata")
    symbols = elf.get_section_by_name(".symtab")
    assert section is not None and isinstance(symbols, SymbolTableSection)
    places = {s.name: s["st_value"] for s in symbols.iter_symbols() if s["st_shndx"] == number}
    plain = section.data()

    def data(random: Random) -> Mapping[str, bytes]:
        contents = bytearray(plain)
        for name, value in values(random).items():
            contents[places[name] : places[name] + len(value)] = value
        return {".rodata": bytes(contents)}

    return data


def byte(number: int) -> bytes:
    return bytes([number])


def word(number: int) -> bytes:
    return struct.pack("=I", number)


def per_cpu(value: bytes, map: KernelMap) -> bytes:
    return value.ljust((len(value) + 7) // 8 * 8, b"\0") * map.cpus


def firewall(image: bytes) -> Scenario:
    def contents(random: Random, map: KernelMap, packets: Sequence[bytes]) -> Entries | None:
        if map.name != "rules":
            return None
        rules = {}
        for flow in flows_of(packets):
            if random.random() < 0.6:
                continue
            wide = random.randrange(3)
            source = bytes(16) if wide == 2 else flow.source.ljust(16, b"\0")
            sport = flow.sport if wide == 0 else b"\0\0"
            key = source + flow.target.ljust(16, b"\0") + sport + flow.dport + byte(flow.protocol) + byte(flow.family)
            numbers = random.getrandbits(64), random.getrandbits(40)
            rules[key + b"\0\0"] = word(random.randrange(5)) + word(random.randrange(99)) + struct.pack("=QQ", *numbers)
        return sorted(rules.items())

    def values(random: Random) -> Mapping[str, bytes]:
        switches = {name: byte(random.randrange(2)) for name in ("drop_fragments", "allow_icmp", "drop_bogus_tcp")}
        return {"default_action": word(random.randrange(4)), **switches}

    return Scenario(contents, settings(image, values), ROUNDS)


def router(image: bytes) -> Scenario:
    def contents(random: Random, map: KernelMap, packets: Sequence[bytes]) -> Entries | None:
        if map.name in ("routes_v4", "routes_v6"):
            family, width = (4, 32) if map.name == "routes_v4" else (6, 128)
            routes = {}
            for flow in flows_of(packets):
                if flow.family == family and random.random() < 0.2:
                    key = word(random.choice((0, 8, width // 2, width - 1, width, width))) + flow.target
                    next_hop = random.choice((random.randrange(8), random.randrange(300)))
                    routes[key] = word(next_hop) + word(random.choice((0, 0, 0, 0, 1, 2)))
            return sorted(routes.items())
        if map.name == "next_hops":
            return [
                (word(at), random.randbytes(12) + word(at % 5) + word(random.choice((64, 576, 1500, 9000))))
                for at in range(16)
            ]
        return None

    return Scenario(contents)


def balancer(image: bytes) -> Scenario:
    def contents(random: Random, map: KernelMap, packets: Sequence[bytes]) -> Entries | None:
        flows = [flow for flow in flows_of(packets) if flow.family == 4 and flow.protocol in (6, 17)]
        if map.name == "vips":
            keys = {flow.target + flow.dport + byte(flow.protocol) + b"\0" for flow in flows if random.random() < 0.9}
            return [
                (key, word(random.choice((0, 1, 3, 7, 9, 600))) + word(random.randrange(4))) for key in sorted(keys)
            ]
        if map.name == "connections":
            known = {
                f.source + f.target + f.sport + f.dport + byte(f.protocol) + b"\0\0\0"
                for f in flows
                if random.random() < 0.3
            }
            return [(key, word(random.randrange(2200)) + word(random.randrange(9))) for key in sorted(known)]
        if map.name == "rings":
            return [(word(at), word(random.randrange(2200))) for at in range(0, map.max_entries, 3)]
        if map.name == "backends":
            return [
                (word(at), random.randbytes(4) + word(random.choice((0, 1, 1, 1))))
                for at in range(0, map.max_entries, 2)
            ]
        return None

    def values(random: Random) -> Mapping[str, bytes]:
        return {
            "outer_saddr": random.randbytes(4),
            "gateway_mac": random.randbytes(6),
            "hash_seed": random.randbytes(4),
        }

    return Scenario(contents, settings(image, values), ROUNDS, 500)


def flow_stats(image: bytes) -> Scenario:
    def contents(random: Random, map: KernelMap, packets: Sequence[bytes]) -> Entries | None:
        if map.name != "flows":
            return None
        known = {}
        for flow in flows_of(packets):
            if random.random() < 0.6:
                continue
            prefix = bytes(10) + b"\xff\xff" if flow.family == 4 else b""
            key = prefix + flow.source + prefix + flow.target + flow.sport + flow.dport + byte(flow.protocol) + bytes(3)
            times = random.getrandbits(40), random.getrandbits(41)
            numbers = random.randrange(99), random.randrange(1 << 20), random.randrange(1 << 20)
            known[key] = struct.pack("=QQQQQB7x", *times, *numbers, random.randrange(256))
        return sorted(known.items())

    return Scenario(
        contents,
        settings(image, lambda random: {"report_bytes": struct.pack("=Q", random.choice((0, 99, 1500, 1 << 20)))}),
        ROUNDS,
    )


SCENARIOS: dict[str, Callable[[bytes], Scenario]] = {
    "xdp_firewall": firewall,
    "xdp_router": router,
    "xdp_balancer": balancer,
    "tc_flow_stats": flow_stats,
}

"""Generated packets: valid, truncated, hostile; addresses and ports from small pools, so that random maps are hit."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random
from typing import Final

SHORTEST: Final = 14  # TEST_RUN refuses less than an Ethernet header
LONGEST: Final = 1500
IPV4: Final = tuple(
    bytes(map(int, text.split(".")))
    for text in (
        "10.0.0.1",
        "10.0.0.2",
        "10.0.1.7",
        "10.1.2.3",
        "10.255.255.254",
        "172.16.5.9",
        "192.168.1.1",
        "192.168.1.200",
        "198.51.100.7",
        "203.0.113.80",
        "8.8.8.8",
        "224.0.0.251",
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    )
)
IPV6: Final = tuple(
    bytes.fromhex(text.ljust(28, "0") + tail)
    for text, tail in (
        ("20010db8", "0001"),
        ("20010db8", "0002"),
        ("20010db80001", "0053"),
        ("fd00", "00aa"),
        ("fe80", "0001"),
        ("febf", "0001"),
        ("fec0", "0001"),
        ("ff02", "0001"),
        ("", "0001"),
    )
)
PORTS: Final = (0, 22, 53, 80, 123, 443, 8080, 40000, 51820, 65535)
TCP, UDP, ICMP, ICMPV6, IPIP, IPV6_IN_IP, GRE, SCTP = 6, 17, 1, 58, 4, 41, 47, 132
_TCP_FLAGS: Final = (0x02, 0x12, 0x10, 0x18, 0x11, 0x01, 0x04, 0x14, 0x00, 0x03, 0x06, 0x29, 0xFF)
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60


def internet_checksum(data: bytes) -> int:
    """RFC 1071, over an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, slots=True)
class Packets:
    """A stream of packets from one generator."""

    random: Random

    def next(self) -> bytes:
        random = self.random
        packet = self._ethernet()
        fate = random.random()
        if fate < 0.12:
            packet = packet[: random.randint(SHORTEST, max(SHORTEST, min(len(packet), 100)))]
        elif fate < 0.24:
            packet = self._damaged(packet)
        return packet[:LONGEST].ljust(SHORTEST, b"\0")

    def _damaged(self, packet: bytes) -> bytes:
        """A few bytes of the headers changed, or everything behind Ethernet random."""
        random, data = self.random, bytearray(packet)
        kind = random.random()
        if kind < 0.1:
            return bytes(data[:SHORTEST]) + random.randbytes(random.randint(0, 80))
        if kind < 0.4 and len(data) > SHORTEST:
            # Version and header length of IPv4, just out of bounds; the first bits of IPv6.
            data[SHORTEST] = random.choice((0x44, 0x40, 0x43, 0x46, 0x4F, 0x55, 0x35, 0x50, 0x60, 0x70))
            return bytes(data)
        for _ in range(random.randint(1, 4)):
            data[random.randrange(12, min(len(data), 80))] = random.choice((0, 0xFF, random.randrange(256)))
        return bytes(data)

    def _ethernet(self) -> bytes:
        random = self.random
        header = random.randbytes(12) if random.random() < 0.5 else bytes.fromhex("020000000001020000000002")
        tags = b""
        if random.random() < 0.2:
            for _ in range(random.choice((1, 1, 2, 3))):
                tags += struct.pack(">HH", random.choice((0x8100, 0x88A8)), random.randrange(1 << 16))
        kind = random.random()
        if kind < 0.62:
            proto, rest = 0x0800, self.ipv4()
        elif kind < 0.94:
            proto, rest = 0x86DD, self.ipv6()
        else:
            proto, rest = random.choice((0x0806, 0x88CC, 0x8847, 0, 0xFFFF)), random.randbytes(random.randint(0, 60))
        return header + tags + struct.pack(">H", proto) + rest

    def ipv4(self) -> bytes:
        random = self.random
        protocol, body = self._transport((TCP, TCP, UDP, UDP, ICMP, IPIP, IPV6_IN_IP, GRE, SCTP, random.randrange(256)))
        words = 5 if random.random() < 0.85 else random.randint(6, 15)
        options = bytes(random.choice((0, 1, 7, 148)) for _ in range(4 * (words - 5)))
        fragment = 0
        if random.random() < 0.1:
            fragment = random.choice((0x2000, 0x2000 | random.randrange(0x2000), 1 << random.randrange(13), 0x8000))
        elif random.random() < 0.5:
            fragment = 0x4000
        head = struct.pack(
            ">BBHHHBBH4s4s",
            0x40 | words,
            random.choice((0, 0, 0x10, 0xB8)),
            4 * words + len(body),
            random.randrange(1 << 16),
            fragment,
            random.choice((0, 1, 2, 64, 64, 64, 128, 255)),
            protocol,
            0,
            random.choice(IPV4),
            random.choice(IPV4),
        )
        check = internet_checksum(head + options)
        return head[:10] + struct.pack(">H", check) + head[12:] + options + body

    def ipv6(self) -> bytes:
        random = self.random
        protocol, body = self._transport((TCP, TCP, UDP, UDP, ICMPV6, IPIP, SCTP, 59, random.randrange(256)))
        if random.random() < 0.15:
            for _ in range(random.randint(1, 2)):
                protocol, body = self._extension(protocol, body)
        first = 6 << 28 | random.choice((0, 0, random.randrange(1 << 28)))
        hops = random.choice((0, 1, 2, 64, 64, 255))
        addresses = random.choice(IPV6) + random.choice(IPV6)
        return struct.pack(">IHBB", first, len(body), protocol, hops) + addresses + body

    def _extension(self, protocol: int, body: bytes) -> tuple[int, bytes]:
        random = self.random
        kind = random.choice((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION))
        if kind == _FRAGMENT:
            return kind, struct.pack(">BBHI", protocol, 0, random.randrange(1 << 16), random.randrange(1 << 32)) + body
        words = random.randint(0, 2)
        return kind, struct.pack(">BB", protocol, words) + random.randbytes(8 * words + 6) + body

    def _transport(self, protocols: tuple[int, ...]) -> tuple[int, bytes]:
        random = self.random
        protocol = random.choice(protocols)
        source, target = random.choice(PORTS), random.choice(PORTS)
        payload = random.randbytes(random.choice((0, 0, 1, 8, 18, 26, 64, 300)))
        if protocol == TCP:
            flags, offset = random.choice(_TCP_FLAGS), random.choice((5, 5, 5, 8, 15, 0))
            numbers = random.randrange(1 << 32), random.randrange(1 << 32)
            head = struct.pack(">HHIIBBHHH", source, target, *numbers, offset << 4, flags, 65535, 0xABCD, 0)
            return protocol, head + bytes(max(0, 4 * offset - 20)) + payload
        if protocol == UDP:
            return protocol, struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload
        if protocol in (ICMP, ICMPV6):
            return protocol, struct.pack(">BBHI", random.choice((0, 8, 3, 128, 135)), 0, 0, 1) + payload
        return protocol, payload

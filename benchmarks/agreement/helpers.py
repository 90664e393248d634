"""Helpers answered without a kernel, for programs on packets (net/core/filter.c, kernel/bpf/helpers.c, bpf_trace.c).

Time, random numbers and the CPU's number follow the seeded generator that the differential tests put in their place in
the kernel (`verifier_model.kernel.substitution`), so that runs can be compared.  A result that the kernel may choose
otherwise makes a run incomparable, never wrong: it is one that the helper's contract allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.agreement.maps import E2BIG, EINVAL, ENOENT, MapModel, Memory
from benchmarks.agreement.world import CONTEXT, MAP_HELPERS, PACKET, VALUES_END, Helper, World
from verifier_model.bpf.concrete import UnmodelledError
from verifier_model.contracts.helpers import BY_NAME as HELPER
from verifier_model.kernel.packets import internet_checksum

ETHERNET: Final = 14
EFAULT: Final = -14
_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407
_MASK64: Final = (1 << 64) - 1
_XDP_REDIRECT, _TC_REDIRECT, _TC_SHOT = 4, 7, 2
_FRAME_STRUCT: Final = 40  # struct xdp_frame, which lies in the headroom
_LARGEST: Final = 4096 - 256 - 320  # of a page: headroom before, struct skb_shared_info behind
_INTERFACE: Final = 1
RECORDS: Final = VALUES_END  # ring buffer records lie here
_XDP: Final = "xdp"


@dataclass
class PacketWorld(World):
    """The world of one program on one packet.

    `data`, `end`, `meta` are where the packet's parts lie now; `moves` lists (position in the trace, data, end, meta)
    from when on.  `state` is the seeded generator: number, clock, CPU.  `is_comparable` turns false with the first
    result that the kernel need not give; `why` says which.
    """

    kind: str = _XDP
    data: int = PACKET
    end: int = PACKET
    meta: int = PACKET
    state: tuple[int, int, int] = (0, 0, 0)
    is_comparable: bool = True
    why: str = ""
    records: int = RECORDS

    def made_up(self, what: str, value: int) -> int:
        if self.is_comparable:
            self.is_comparable, self.why = False, what
        return value

    @property
    def is_skb(self) -> bool:
        return self.kind != _XDP

    def number(self) -> int:
        """The next state of the generator."""
        number, clock, cpu = self.state
        number = number * _MULTIPLIER + _INCREMENT & _MASK64
        self.state = number, clock, cpu
        return number

    def show_packet(self, memory: Memory) -> None:
        """Put the packet's present place into the context."""
        if not self.is_skb:
            memory.map(CONTEXT, b"".join(place.to_bytes(4, "little") for place in (self.data, self.end, self.meta)))
            return
        memory.map(CONTEXT + 76, self.data.to_bytes(4, "little") + self.end.to_bytes(4, "little"))
        memory.map(CONTEXT + 140, self.meta.to_bytes(4, "little"))


def _packet_world(world: World) -> PacketWorld:
    if not isinstance(world, PacketWorld):
        raise UnmodelledError("a helper for packets without one")
    return world


def _signed(value: int, width: int = 64) -> int:
    value &= (1 << width) - 1
    return value - (1 << width) if value >> width - 1 else value


def _time(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run = _packet_world(world)
    step = run.number() >> 43
    number, clock, cpu = run.state
    run.state = number, clock + step & _MASK64, cpu
    return run.state[1]


def _random(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _packet_world(world).number() >> 32


def _cpu(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _packet_world(world).state[2]


def _redirect(world: World, memory: Memory, regs: Sequence[int]) -> int:
    if not _packet_world(world).is_skb:
        return _XDP_REDIRECT if regs[2] == 0 else 0
    return _TC_REDIRECT if regs[2] & ~1 == 0 else _TC_SHOT


def _tail_call(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return 0  # nobody filled the array, so the call falls through; r0 is nobody's


def _print(world: World, memory: Memory, regs: Sequence[int]) -> int:
    memory.read(regs[1], regs[2] & 0xFFFFFFFF)
    return _packet_world(world).made_up("bpf_trace_printk", 0)


def _perf_output(world: World, memory: Memory, regs: Sequence[int]) -> int:
    memory.read(regs[4], regs[5])
    return ENOENT  # nobody opened an event


def _load_bytes(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset, size = _packet_world(world), regs[2] & 0xFFFFFFFF, regs[4] & 0xFFFFFFFF
    if offset > 0x7FFFFFFF or run.data + offset + size > run.end:
        memory.write(regs[3], bytes(size))
        return EFAULT
    memory.write(regs[3], memory.read(run.data + offset, size))
    return 0


def _store_bytes(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset, size = _packet_world(world), regs[2] & 0xFFFFFFFF, regs[4] & 0xFFFFFFFF
    if regs[5] & ~3:
        return EINVAL
    if offset > 0x7FFFFFFF or run.data + offset + size > run.end:
        return EFAULT
    memory.write(run.data + offset, memory.read(regs[3], size))
    return 0


def _replaced_sum(old: bytes, difference: int) -> bytes:
    """A checksum field after `difference`, a ones' complement sum, was added to what it covers (RFC 1624)."""
    total = ~int.from_bytes(old, "little") & 0xFFFF
    total += difference
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "little")


def _l3_sum(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _replace_sum(_packet_world(world), memory, regs, is_transport=False)


def _l4_sum(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _replace_sum(_packet_world(world), memory, regs, is_transport=True)


def _replace_sum(run: PacketWorld, memory: Memory, regs: Sequence[int], is_transport: bool) -> int:
    offset, old, new, flags = regs[2] & 0xFFFFFFFF, regs[3], regs[4], regs[5]
    if flags & ~(0x7F if is_transport else 0xF):
        return EINVAL
    if offset > 0xFFFF or offset & 1 or run.data + offset + 2 > run.end:
        return EFAULT
    field = memory.read(run.data + offset, 2)
    if is_transport and flags & 0x20 and not flags & 0x40 and field == b"\0\0":
        return 0
    size = flags & 0xF
    if size == 0:
        if old:
            return EINVAL
        field = _replaced_sum(field, new & 0xFFFFFFFF)
    elif size in (2, 4):
        mask = (1 << 8 * size) - 1
        field = _replaced_sum(field, (~old & mask) + (new & mask))
    else:
        return EINVAL
    if is_transport and flags & 0x20 and field == b"\0\0":
        field = b"\xff\xff"
    memory.write(run.data + offset, field)
    run.made_up("a checksum that is only equal modulo 0xffff", 0)
    return 0


def _sum_of_difference(world: World, memory: Memory, regs: Sequence[int]) -> int:
    old_size, new_size, seed = regs[2] & 0xFFFFFFFF, regs[4] & 0xFFFFFFFF, regs[5] & 0xFFFFFFFF
    if (old_size | new_size) & 3:
        return EINVAL
    total = seed
    if new_size:
        total += ~internet_checksum(memory.read(regs[3], new_size)) & 0xFFFF
    if old_size:
        total += internet_checksum(memory.read(regs[1], old_size))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    swapped = (total & 0xFF) << 8 | total >> 8
    return _packet_world(world).made_up("bpf_csum_diff", swapped)


def _pull(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run = _packet_world(world)
    return 0 if run.data + (regs[2] & 0xFFFFFFFF) <= run.end else run.made_up("bpf_skb_pull_data", -12)


def _hash(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _packet_world(world).made_up("bpf_get_hash_recalc", 0x12345678)


def _adjust_head(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset = _packet_world(world), _signed(regs[2], 32)
    data, metadata = run.data + offset, run.data - run.meta
    if data < PACKET - 256 + _FRAME_STRUCT + metadata or data > run.end - ETHERNET:
        return EINVAL
    content = memory.read(run.meta, metadata) if metadata else b""
    if offset < 0:
        memory.map(data, bytes(-offset))
    memory.map(data - metadata, content)
    run.data, run.meta = data, data - metadata
    run.show_packet(memory)
    return 0


def _adjust_tail(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset = _packet_world(world), _signed(regs[2], 32)
    end = run.end + offset
    if end > PACKET + _LARGEST or end < run.data + ETHERNET:
        return EINVAL
    if offset > 0:
        memory.map(run.end, bytes(offset))
    run.end = end
    run.show_packet(memory)
    return 0


def _adjust_meta(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset = _packet_world(world), _signed(regs[2], 32)
    meta = run.meta + offset
    if meta < PACKET - 256 + _FRAME_STRUCT or meta > run.data:
        return EINVAL
    if (run.data - meta) % 4 or run.data - meta > 252:
        return -13
    if offset < 0:
        memory.map(meta, bytes(-offset))
    run.meta = meta
    run.show_packet(memory)
    return 0


def _no_route(world: World, memory: Memory, regs: Sequence[int]) -> int:
    memory.read(regs[2], regs[3] & 0xFFFFFFFF)
    return _packet_world(world).made_up("bpf_fib_lookup", 4)


def _nothing(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return 0


def _nothing_found(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _packet_world(world).made_up("an object of the kernel", 0)


def _redirect_map(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _packet_world(world).made_up("bpf_redirect_map", regs[3] & 3)


def _length(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run = _packet_world(world)
    return run.end - run.data


def _load_xdp_bytes(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset, size = _packet_world(world), regs[2] & 0xFFFFFFFF, regs[4] & 0xFFFFFFFF
    if offset > 0xFFFF or size > 0xFFFF or run.data + offset + size > run.end:
        return EINVAL
    memory.write(regs[3], memory.read(run.data + offset, size))
    return 0


def _store_xdp_bytes(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, offset, size = _packet_world(world), regs[2] & 0xFFFFFFFF, regs[4] & 0xFFFFFFFF
    if offset > 0xFFFF or size > 0xFFFF or run.data + offset + size > run.end:
        return EINVAL
    memory.write(run.data + offset, memory.read(regs[3], size))
    return 0


def _reserve(world: World, memory: Memory, regs: Sequence[int]) -> int:
    run, size = _packet_world(world), regs[2] & 0x3FFFFFFF
    if regs[3] or size > 0x1000:
        return run.made_up("bpf_ringbuf_reserve", 0)
    place, run.records = run.records, run.records + (size + 0x1F & ~0xF)
    memory.map(place, bytes(size))
    return place


def _ring_output(world: World, memory: Memory, regs: Sequence[int]) -> int:
    memory.read(regs[2], regs[3])
    return 0


def _queue(world: World, memory: Memory, regs: Sequence[int]) -> int:
    return _packet_world(world).made_up("a queue", E2BIG)


def record_places(world: PacketWorld) -> list[int]:
    """Where records may start: a helper places them at multiples of 16."""
    return list(range(RECORDS, world.records, 16))


def value_places(model: MapModel) -> list[int]:
    """Every address that a value of the map ever had."""
    return list(range(model.start, model.free, model.stride))


_ANSWERS: Final[tuple[tuple[str, Helper], ...]] = (
    ("ktime_get_ns", _time),
    ("ktime_get_boot_ns", _time),
    ("ktime_get_coarse_ns", _time),
    ("ktime_get_tai_ns", _time),
    ("jiffies64", _time),
    ("get_prandom_u32", _random),
    ("get_smp_processor_id", _cpu),
    ("get_numa_node_id", _cpu),
    ("redirect", _redirect),
    ("redirect_map", _redirect_map),
    ("tail_call", _tail_call),
    ("trace_printk", _print),
    ("perf_event_output", _perf_output),
    ("skb_load_bytes", _load_bytes),
    ("skb_store_bytes", _store_bytes),
    ("l3_csum_replace", _l3_sum),
    ("l4_csum_replace", _l4_sum),
    ("csum_diff", _sum_of_difference),
    ("skb_pull_data", _pull),
    ("get_hash_recalc", _hash),
    ("xdp_adjust_head", _adjust_head),
    ("xdp_adjust_tail", _adjust_tail),
    ("xdp_adjust_meta", _adjust_meta),
    ("xdp_get_buff_len", _length),
    ("xdp_load_bytes", _load_xdp_bytes),
    ("xdp_store_bytes", _store_xdp_bytes),
    ("fib_lookup", _no_route),
    ("ringbuf_reserve", _reserve),
    ("ringbuf_submit", _nothing),
    ("ringbuf_discard", _nothing),
    ("ringbuf_output", _ring_output),
    ("spin_lock", _nothing),
    ("spin_unlock", _nothing),
    ("sk_lookup_tcp", _nothing_found),
    ("sk_lookup_udp", _nothing_found),
    ("skc_lookup_tcp", _nothing_found),
    ("map_push_elem", _queue),
)
PACKET_HELPERS: Final[Mapping[int, Helper]] = {
    **MAP_HELPERS,
    **{HELPER[name].id: helper for name, helper in _ANSWERS if name in HELPER},
}

"""Do two objects behave alike in the running kernel?  Equal inputs, equal maps; results, packets and all maps compared.

Every program that TEST_RUN can give a packet runs in both objects.  Maps are filled alike, compared and renewed every
few inputs; ring buffers are drained and compared record by record.  Time, random numbers and CPU numbers come from a
seeded map in both (see `substitution`).  This finds differences; it proves nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

from verifier_model.kernel.contents import Contents, random_entries
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.packets import Packets
from verifier_model.kernel.programs import LoadedObject, LoadedProgram, TestRun
from verifier_model.kernel.ring import RingReader
from verifier_model.kernel.substitution import SeededMap
from verifier_model.kernel.syscall import Refused

RUNNABLE: Final = frozenset(
    {"xdp", "sched_cls", "sched_act", "socket_filter", "cgroup_skb", "lwt_in", "lwt_out", "lwt_xmit"}
)
_LARGEST_ARRAY: Final = 2048
_MOST_DIFFERENCES: Final = 5


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the caller knows of the objects.

    `contents` gives entries for a map (see `contents.Contents`); `data(random)` gives initial contents of data sections
    by name; `rounds` is how often both objects are loaded anew with other data; maps are renewed every
    `inputs_per_filling` inputs.  `ingress` is the interface that XDP inputs come from, 0 for the kernel's choice.
    """

    contents: Contents = lambda random, map, packets: None
    data: Callable[[Random], Mapping[str, bytes]] = lambda random: {}
    rounds: int = 1
    inputs_per_filling: int = 250
    ingress: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """`input` counts from 0 within the program; for a map it is the last input before the comparison."""

    program: str
    input: int
    what: str
    packet: bytes = b""


@dataclass
class Comparison:
    """Per program: `inputs`, how many ran; `outcomes`, the first object's results and how often each came."""

    seed: int
    inputs: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, dict[int, int]] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()
    refused: str = ""
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Did something run, and nothing differ?  A refused object is never equal."""
        return not self.refused and not self.differences and any(self.inputs.values())


def compare(object_a: bytes, object_b: bytes, inputs: int, seed: int, scenario: Scenario | None = None) -> Comparison:
    """Run both ELF objects on `inputs` packets per program, generated from `seed`; stops early after a difference.

    Raises as `libbpf.load_object` where the kernel cannot be asked at all.
    """
    scenario = scenario or Scenario()
    comparison = Comparison(seed)
    for round_number in range(scenario.rounds):
        data = scenario.data(Random(f"{seed}:{round_number}:data"))
        share = inputs // scenario.rounds + (round_number < inputs % scenario.rounds)
        with _one_cpu(), ExitStack() as stack:
            sides = []
            for which, image in (("first", object_a), ("second", object_b)):
                side = _open(image, data)
                if isinstance(side, Refused):
                    comparison.refused = f"{which} object, program {side.program}: {side.reason}\n{side.log}"
                    return comparison
                stack.callback(side.close)
                sides.append(side)
            _Bench(comparison, scenario, f"{seed}:{round_number}", *sides).run(share)
        if comparison.differences:
            break
    return comparison


@dataclass
class _Side:
    """One object in the kernel, with its seeded map, its ring readers and what its data maps held at first."""

    loaded: LoadedObject
    seeded: SeededMap
    rings: dict[str, RingReader]
    initial: dict[str, dict[bytes, bytes]]

    @property
    def maps(self) -> dict[str, KernelMap]:
        """The maps that can change, by name: constants may lie differently in two compilations."""
        return {name: map for name, map in sorted(self.loaded.maps.items()) if not _is_frozen(name)}

    def close(self) -> None:
        for ring in self.rings.values():
            ring.close()
        self.loaded.close()
        self.seeded.close()


def _open(image: bytes, data: Mapping[str, bytes]) -> _Side | Refused:
    seeded = SeededMap()
    options = LoadOptions(largest_array=_LARGEST_ARRAY, data=data, rewrite=seeded.rewrite)
    loaded = load_object(image, options)
    if isinstance(loaded, Refused):
        seeded.close()
        return loaded
    maps = loaded.maps
    rings = {name: RingReader(map) for name, map in maps.items() if map.type_name == "ringbuf"}
    return _Side(loaded, seeded, rings, {name: map.dump() for name, map in maps.items() if _is_data(name)})


def _is_data(name: str) -> bool:
    return name.startswith(".")


def _is_frozen(name: str) -> bool:
    return name.startswith((".rodata", ".kconfig"))


@contextmanager
def _one_cpu() -> Iterator[None]:
    """On one CPU, so that per-CPU values of both objects lie at one place and free lists empty in one order.

    Which one makes no difference; the process decides, so that several benches spread out.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[os.getpid() % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class _Bench:
    """Two loaded objects and one stream of inputs."""

    comparison: Comparison
    scenario: Scenario
    seed: str
    a: _Side
    b: _Side

    def run(self, inputs: int) -> None:
        programs, others = self.a.loaded.programs, self.b.loaded.programs
        if sorted(programs) != sorted(others) or sorted(self.a.maps) != sorted(self.b.maps):
            self._differ("", 0, "the objects do not hold the same programs and maps")
            return
        runnable = [name for name in sorted(programs) if programs[name].type in RUNNABLE]
        self.comparison.not_run = tuple(name for name in sorted(programs) if name not in runnable)
        for name in runnable:
            self._run_program(programs[name], others[name], inputs)

    def _run_program(self, program: LoadedProgram, other: LoadedProgram, inputs: int) -> None:
        name, per_filling = program.name, self.scenario.inputs_per_filling
        stream = Random(f"{self.seed}:{name}")
        for start in range(0, inputs, per_filling):
            packets = _batch(stream, min(per_filling, inputs - start))
            self._refill(f"{self.seed}:{name}:{start}", packets)
            for number, packet in enumerate(packets, start):
                self._run_input(program, other, number, packet, stream)
            if not self._maps_agree(name, start + len(packets) - 1) or self.comparison.differences:
                return

    def _run_input(
        self, program: LoadedProgram, other: LoadedProgram, number: int, bare: bytes, stream: Random
    ) -> None:
        packet, context = _input(program.type, bare, stream, self.scenario.ingress)
        state = stream.getrandbits(64), stream.getrandbits(48), stream.randrange(4)
        self.a.seeded.seed(*state)
        self.b.seeded.seed(*state)
        first, second = program.test_run(packet, context), other.test_run(packet, context)
        comparison, name = self.comparison, program.name
        comparison.inputs[name] = comparison.inputs.get(name, 0) + 1
        outcomes = comparison.outcomes.setdefault(name, {})
        if not first.error:
            outcomes[first.result] = outcomes.get(first.result, 0) + 1
        if _outcome(first) != _outcome(second) and len(comparison.differences) < _MOST_DIFFERENCES:
            self._differ(name, number, _explain(first, second), packet)

    def _refill(self, seed: str, packets: Sequence[bytes]) -> None:
        for name, first in self.a.maps.items():
            second = self.b.maps[name]
            if _is_data(name):
                first.fill(self.a.initial[name].items())
                second.fill(self.b.initial[name].items())
                continue
            random = Random(f"{seed}:{name}")
            given = self.scenario.contents(random, first, packets)
            entries = random_entries(random, first) if given is None else given
            for map in (first, second):
                map.clear()
                map.fill(entries)
        for side in (self.a, self.b):
            for ring in side.rings.values():
                ring.drain()

    def _maps_agree(self, program: str, number: int) -> bool:
        agree = True
        for name, first in self.a.maps.items():
            if name in self.a.rings:
                what = _ring_difference(name, self.a.rings[name].drain(), self.b.rings[name].drain())
            else:
                what = _map_difference(name, first, self.b.maps[name])
            if what:
                self._differ(program, number, what)
                agree = False
        return agree

    def _differ(self, program: str, number: int, what: str, packet: bytes = b"") -> None:
        self.comparison.differences.append(Difference(program, number, what, packet))


def _batch(stream: Random, count: int) -> list[bytes]:
    """Packets of which every third repeats an earlier one: flows have more than one packet."""
    packets, fresh = Packets(stream), list[bytes]()
    for _ in range(count):
        fresh.append(stream.choice(fresh) if fresh and stream.random() < 0.33 else packets.next())
    return fresh


def _input(kind: str, packet: bytes, random: Random, ingress: int) -> tuple[bytes, bytes]:
    """The packet and context of one run; for XDP now and then with metadata in front."""
    if kind != "xdp":
        context = bytearray(192)  # struct __sk_buff: mark, priority and cb may be given
        struct.pack_into("=I", context, 8, random.choice((0, 1, random.getrandbits(32))))
        struct.pack_into("=I", context, 32, random.choice((0, 7)))
        context[48:68] = random.randbytes(20)
        return packet, bytes(context)
    metadata = 0 if random.random() < 0.75 else random.choice((4, 8, 16, 32))
    if not metadata and not ingress:
        return packet, b""
    packet = random.randbytes(metadata) + packet
    return packet, struct.pack("=6I", metadata, len(packet), 0, ingress, 0, 0)


def _outcome(run: TestRun) -> tuple[int, int, bytes, bytes]:
    return run.error, run.result, run.packet, run.context


def _explain(first: TestRun, second: TestRun) -> str:
    if first.error != second.error:
        return f"error {first.error} became {second.error}"
    if first.result != second.result:
        return f"result {first.result} became {second.result}"
    what, one, two = "packet", first.packet, second.packet
    if one == two:
        what, one, two = "context", first.context, second.context
    at = next((i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two)))
    return (
        f"{what} of {len(one)} and {len(two)} bytes: byte {at} is {one[at : at + 1].hex()} or {two[at : at + 1].hex()}"
    )


def _map_difference(name: str, first: KernelMap, second: KernelMap) -> str:
    if not first.has_contents:
        return ""
    one, two = first.dump(), second.dump()
    if one == two:
        return ""
    key = min(key for key in {**one, **two} if one.get(key) != two.get(key))
    return f"map {name}, key {key.hex()}: {_hex(one.get(key))} became {_hex(two.get(key))}"


def _hex(value: bytes | None) -> str:
    return "absent" if value is None else value.hex()


def _ring_difference(name: str, one: list[bytes], two: list[bytes]) -> str:
    if one == two:
        return ""
    if len(one) != len(two):
        return f"ring buffer {name}: {len(one)} records became {len(two)}"
    at = next(index for index, pair in enumerate(zip(one, two, strict=True)) if pair[0] != pair[1])
    return f"ring buffer {name}, record {at}: {one[at].hex()} became {two[at].hex()}"

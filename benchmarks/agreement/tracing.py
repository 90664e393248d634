"""One program on one packet as native code with a trace: every moment against the facts, the end against the kernel."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from benchmarks.agreement.claims import Seen, contradictions
from benchmarks.agreement.helpers import ETHERNET, PACKET_HELPERS, PacketWorld, record_places, value_places
from benchmarks.agreement.maps import ARRAYS
from benchmarks.agreement.world import ARENA_BYTES, CONTEXT, FRAMES, PACKET, STACK_TOP, ArenaMemory
from llvm_bridge.native import Arena, Call, LeftProgramError, Native, NativeRun, Sample, Stop, compile_functions
from verifier_model.bpf.concrete import FRAME_BYTES, UnmodelledError
from verifier_model.bpf.insn import FRAME_POINTER, Ref
from verifier_model.bpf.isa import LOAD_KINDS, MEMORY_KINDS, Kind
from verifier_model.bpf.unit import MapDef, Unit
from verifier_model.domains.registers import Region
from verifier_model.domains.state import SLOT_SIZE
from verifier_model.facts import Facts, analyse
from verifier_model.kernel.contents import random_entries
from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.programs import LoadedObject
from verifier_model.kernel.substitution import SeededMap

_TRACE_BYTES: Final = 1 << 25
_STEPS: Final = 200_000
_NET_OFFSET, _LINK_OFFSET = 0x100000, 0x200000  # SKF_NET_OFF and SKF_LL_OFF of legacy loads, negated
_L2_KINDS: Final = frozenset({"xdp", "sched_cls", "sched_act"})
_BROADCAST: Final = b"\xff" * 6
Entries = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Input:
    """A packet, the context's fields that TEST_RUN takes, map contents by name, the seeded generator's state."""

    packet: bytes
    metadata: int
    mark: int
    priority: int
    cb: bytes
    maps: Mapping[str, Entries]
    state: tuple[int, int, int]

    def context(self, kind: str) -> bytes:
        """What TEST_RUN is given beside the packet."""
        if kind == "xdp":
            return struct.pack("<6I", self.metadata, len(self.packet), 0, 0, 0, 0) if self.metadata else b""
        context = bytearray(192)
        struct.pack_into("<I", context, 8, self.mark)
        struct.pack_into("<I", context, 32, self.priority)
        context[48:68] = self.cb
        return bytes(context)


def draw_input(rng: random.Random, kind: str, packet: bytes, maps: Mapping[str, KernelMap]) -> Input:
    metadata = rng.choice((4, 8, 16, 32)) if kind == "xdp" and rng.random() < 0.2 else 0
    contents = {name: dict(random_entries(rng, map)) for name, map in sorted(maps.items()) if not name.startswith(".")}
    cb = rng.randbytes(20) if rng.random() < 0.5 else bytes(20)
    state = rng.getrandbits(64), rng.getrandbits(48), rng.randrange(4)
    marks = rng.choice((0, 1, rng.getrandbits(32))), rng.choice((0, 7))
    return Input(rng.randbytes(metadata) + packet, metadata, *marks, cb, contents, state)


def skb_context(given: Input, data: int, end: int) -> bytes:
    """struct __sk_buff as a program of a packet just made by TEST_RUN sees it (net/bpf/test_run.c)."""
    context, packet = bytearray(192), given.packet
    (protocol,) = struct.unpack_from(">H", packet, 12)
    if protocol < 0x600:
        protocol = 1 if packet[14:16] == b"\xff\xff" else 4
    kind = 0
    if packet[:6] != bytes(6):
        kind = (1 if packet[:6] == _BROADCAST else 2) if packet[0] & 1 else 3
    length = end - data
    for offset, value in ((0, length), (4, kind), (8, given.mark), (32, given.priority), (40, 1), (160, length)):
        struct.pack_into("<I", context, offset, value)
    struct.pack_into(">H", context, 16, protocol)
    context[48:68] = given.cb
    return bytes(context)


@dataclass
class Outcome:
    """What came of one run.  `stop` says why it ended early, "" when it exited."""

    moments: int = 0
    values: int = 0
    stop: str = ""
    contradiction: str = ""
    kernel: str = ""  # "equal", "not compared: why" or "different: what"


class Tracer:
    """One program with its facts, compiled with a trace.  Raises UnmodelledError for symbols that nobody can place."""

    def __init__(self, unit: Unit, program: str, maps: Mapping[str, KernelMap]) -> None:
        self.maps = maps
        self.unit = replace(unit, maps={name: _as_loaded(unit, name, maps) for name in unit.maps})
        self.program, self.kind = program, unit.function(program).program_type or ""
        self.world = PacketWorld(self.unit, PACKET_HELPERS, kind=self.kind)
        self.native: Native = compile_functions(unit, [program], is_traced=True, address=self.world.address)
        self.facts: dict[str, Facts] = {
            name: analyse(unit, function) for name, function in self.native.functions.items()
        }
        self.arena = Arena(ARENA_BYTES)
        self.noise = 0  # which bytes uninitialised stack holds
        self.last: Sample | None = None  # the last moment of the last run

    @property
    def incomplete(self) -> str:
        """Why there are no facts, "" when there are."""
        return next((facts.incomplete for facts in self.facts.values() if facts.incomplete is not None), "")

    def run(self, given: Input, data: Mapping[str, bytes]) -> tuple[Outcome, NativeRun]:
        """Run and compare every moment with the facts; `data` holds what the data sections hold."""
        memory = self._prepare(given, data)
        run = self.native.run(
            self.program,
            self.arena,
            (CONTEXT,),
            STACK_TOP,
            FRAMES,
            _STEPS,
            lambda call: self._call(memory, call),
            _TRACE_BYTES,
        )
        outcome = Outcome()
        if run.stop is Stop.FAULT and self._reads_map(run):
            # Behind the arena's map pointers there is nothing; the kernel has its struct bpf_map there.
            outcome.stop = "unmodelled: fields of a map"
        elif run.stop is not Stop.EXIT:
            where = "" if run.stop is not Stop.FAULT else f" in {run.function} at {run.point}"
            outcome.stop = f"{run.stop.name.lower()}: {run.reason}{where}"
        self._compare(run, outcome)
        return outcome, run

    def _reads_map(self, run: NativeRun) -> bool:
        if run.point is None:
            return False
        insn = self.native.functions[run.function].block(run.point.label).insns[run.point.at]
        return (
            insn.kind in LOAD_KINDS and self.facts[run.function].before(run.point).regs[insn.src].region is Region.MAP
        )

    @property
    def may_return_address(self) -> bool:
        """May r0 at the end of the last run be an address, which is another one in the kernel?"""
        last = self.last
        return last is None or self.facts[last.function].before(last.point).regs[0].region is not Region.SCALAR

    def shows_addresses(self, run: NativeRun) -> bool:
        """Did the run store a pointer elsewhere than whole on the stack, or touch a part of one there?"""
        for _, sample in self.native.numbered_samples(run, STACK_TOP):
            insn = self.native.functions[sample.function].block(sample.point.label).insns[sample.point.at]
            if insn.kind not in MEMORY_KINDS:
                continue
            state, is_load = self.facts[sample.function].before(sample.point), insn.kind in LOAD_KINDS
            base, is_part = state.regs[insn.src if is_load else insn.dst], insn.row.size < SLOT_SIZE
            is_own = base.region is Region.STACK and base.frame == 0
            if not is_load and "src" in insn.row.uses and state.regs[insn.src].is_pointer and (is_part or not is_own):
                return True
            at = base.constant_off if is_own and is_part else None
            slot = None if at is None else state.stack.get(at + insn.off & -SLOT_SIZE)
            if slot is not None and slot.spill is not None and slot.spill.is_pointer:
                return True
        return False

    def _prepare(self, given: Input, data: Mapping[str, bytes]) -> ArenaMemory:
        arena, memory = self.arena, ArenaMemory(self.arena)
        tokens, sections = self.world.tokens, self.world.sections
        start, end = PACKET + given.metadata, PACKET + len(given.packet)
        start += 0 if self.kind in _L2_KINDS else ETHERNET
        meta = PACKET if self.kind == "xdp" else start
        self.world = PacketWorld(
            self.unit, PACKET_HELPERS, kind=self.kind, data=start, end=end, meta=meta, state=given.state
        )
        self.world.tokens, self.moves = tokens, [(0, start, end, meta)]
        arena.clear()
        arena.map(PACKET, given.packet)
        noise = random.Random(f"{given.state[0]} {self.noise}")
        arena.map(STACK_TOP - FRAMES * FRAME_BYTES, noise.randbytes(FRAMES * FRAME_BYTES))
        arena.map(
            CONTEXT, skb_context(given, start, end) if self.world.is_skb else struct.pack("<6I", 0, 0, 0, 1, 0, 0)
        )
        self.world.show_packet(memory)
        for name, model in self.world.maps.items():
            if model.is_modelled:
                model.fill(memory, given.maps.get(name, {}))
        for name, place in sections.items():
            section = self.unit.data[name]
            content = data.get(name, b"")[: section.size].ljust(section.size, b"\0")
            arena.map(place, content, writable=section.is_writable)
        return memory

    def _call(self, memory: ArenaMemory, call: Call) -> int:
        if call.insn.kind is Kind.LEGACY_LOAD:
            return self._legacy_load(memory, call)
        world = self.world
        before = world.data, world.end, world.meta
        result = world.call(memory, call.insn, call.registers)
        if before != (world.data, world.end, world.meta):
            self.moves.append((self.native.trace_length, world.data, world.end, world.meta))
        return result

    def _legacy_load(self, memory: ArenaMemory, call: Call) -> int:
        insn, index = call.insn, 0
        if insn.row.op == "ind":
            index = call.registers[insn.src] & 0xFFFFFFFF
        offset = (insn.imm + index) & 0xFFFFFFFF
        offset -= (1 << 32) if offset >> 31 else 0
        start = self.world.data + offset
        if offset < 0:
            if offset >= -_NET_OFFSET:
                start = PACKET + ETHERNET + offset + _NET_OFFSET
            elif offset >= -_LINK_OFFSET:
                start = PACKET + offset + _LINK_OFFSET
            else:
                raise LeftProgramError
        if start < PACKET or start + insn.row.size > self.world.end:
            raise LeftProgramError
        return int.from_bytes(memory.read(start, insn.row.size), "big")

    def _compare(self, run: NativeRun, outcome: Outcome) -> None:
        bases = self._bases()
        moves = list(self.moves)
        for at, sample in self.native.numbered_samples(run, STACK_TOP):
            while len(moves) > 1 and moves[1][0] <= at:
                moves.pop(0)
            self.last = sample
            facts = self.facts[sample.function]
            state = facts.before(sample.point)
            outcome.moments += 1
            outcome.values += len(state.regs) + len(state.stack)
            wrong = "was reached" if not facts.is_reachable(sample.point) else None
            wrong = wrong or next(contradictions(state, self._seen(sample, moves[0], bases)), None)
            if wrong is not None:
                outcome.contradiction = f"{sample.function} {sample.point}: {wrong}"
                return

    def _seen(
        self, sample: Sample, place: tuple[int, int, int, int], bases: Mapping[tuple[Region, str], Sequence[int]]
    ) -> Seen:
        bottom = sample.registers[FRAME_POINTER] - FRAME_BYTES

        def load(address: int, size: int) -> int:
            return int.from_bytes(sample.stack[address - bottom : address - bottom + size], "little")

        tops = range(sample.registers[FRAME_POINTER], STACK_TOP + 1, FRAME_BYTES)
        _, data, end, meta = place
        return Seen(
            sample.registers,
            tops,
            load,
            CONTEXT,
            data,
            end,
            meta,
            lambda region, symbol: bases.get((region, symbol), ()),
            self._address,
        )

    def _address(self, ref: Ref) -> int | None:
        try:
            return self.world.address(ref)
        except UnmodelledError:
            return None

    def _bases(self) -> dict[tuple[Region, str], Sequence[int]]:
        found: dict[tuple[Region, str], Sequence[int]] = {}
        anything: list[int] = []
        for name, model in self.world.maps.items():
            places = value_places(model)
            found[Region.MAP_VALUE, name] = places
            anything += places
        found[Region.MAP_VALUE, ""] = sorted(anything)
        for name, place in self.world.sections.items():
            found[Region.DATA, name] = [place]
        found[Region.DATA, ""] = sorted(self.world.sections.values())
        found[Region.MEMORY, ""] = record_places(self.world)
        return found

    def result(self, run: NativeRun) -> tuple[int, bytes]:
        """r0 and the packet, as TEST_RUN shows them."""
        start = self.world.meta if self.kind == "xdp" else PACKET
        return run.result & 0xFFFFFFFF, self.arena.read(start, self.world.end - start)

    def contents(self) -> dict[str, dict[bytes, bytes]]:
        """What the maps hold that are modelled."""
        memory = ArenaMemory(self.arena)
        found = {name: model.contents(memory) for name, model in self.world.maps.items() if model.is_modelled}
        for name, place in self.world.sections.items():
            if self.unit.data[name].is_writable:
                found[name] = {bytes(4): self.arena.read(place, self.unit.data[name].size)}
        return found


def _as_loaded(unit: Unit, name: str, maps: Mapping[str, KernelMap]) -> MapDef:
    definition, loaded = unit.maps[name], maps.get(name)
    if loaded is None:
        return definition
    return replace(
        definition,
        type=loaded.type,
        key_size=loaded.key_size,
        value_size=loaded.value_size,
        max_entries=loaded.max_entries,
    )


@dataclass
class KernelSide:
    """The same program in the running kernel."""

    loaded: LoadedObject
    seeded: SeededMap
    cpu: int
    initial: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, map in self.loaded.maps.items():
            if name.startswith("."):
                with suppress(OSError):
                    self.initial[name] = map.dump()

    @property
    def data(self) -> dict[str, bytes]:
        """What the data sections hold before a run."""
        return {name: next(iter(entries.values()), b"") for name, entries in self.initial.items()}

    def prepare(self, given: Input) -> Input:
        """Fill the maps; the input with what they really hold then (the kernel keeps a lock's bytes for itself)."""
        held: dict[str, Entries] = {}
        for name, map in self.loaded.maps.items():
            if name in self.initial:
                if not name.startswith((".rodata", ".kconfig")):
                    map.fill(self.initial[name].items())
            elif map.has_contents:
                with suppress(OSError):  # some types can be neither listed nor emptied
                    map.clear()
                    map.fill(given.maps.get(name, {}).items())
                    held[name] = self.contents(name)
        return replace(given, maps=held)

    def run(self, program: str, kind: str, given: Input) -> tuple[str, int, bytes]:
        """(error, r0, packet); the maps are `prepare`d."""
        self.seeded.seed(*given.state)
        run = self.loaded.programs[program].test_run(given.packet, given.context(kind))
        return (f"TEST_RUN says {run.error}" if run.error else ""), run.result, run.packet

    def contents(self, name: str) -> dict[bytes, bytes]:
        """A map as the program saw it: of per-CPU values, this CPU's."""
        map = self.loaded.maps[name]
        size = (map.value_size + 7) // 8 * 8
        start = self.cpu * size if map.is_per_cpu else 0
        return {key: value[start : start + map.value_size] for key, value in map.dump().items()}


def is_arbitrary(tracer: Tracer, run: NativeRun, given: Input, data: Mapping[str, bytes]) -> bool:
    """Does what the run leaves depend on uninitialised stack, which privileged programs may read?"""
    left = tracer.result(run), tracer.contents()
    tracer.noise += 1
    _, other = tracer.run(given, data)
    return (tracer.result(other), tracer.contents()) != left


def difference(tracer: Tracer, run: NativeRun, side: KernelSide, given: Input) -> str:
    """How the kernel's run of the same input differs, "" when it does not.  A word in brackets: it did not run."""
    error, result, packet = side.run(tracer.program, tracer.kind, given)
    if error:
        return f"[{error}]"
    ours, ours_packet = tracer.result(run)
    if ours != result and not tracer.may_return_address:
        return f"r0 {ours:#x} and {result:#x}"
    if tracer.kind not in _L2_KINDS:  # TEST_RUN gives back no Ethernet header then
        ours_packet, packet = ours_packet[ETHERNET:], packet[ETHERNET:]
    if ours_packet != packet:
        return f"packet {ours_packet.hex()} and {packet.hex()}"
    for name, entries in tracer.contents().items():
        if name not in side.loaded.maps:
            continue
        theirs = side.contents(name)
        is_array = side.loaded.maps[name].type_name in ARRAYS
        if entries != theirs:
            wrong = next(key for key in sorted({**entries, **theirs}) if entries.get(key) != theirs.get(key))
            if is_array and entries.get(wrong) is None:
                continue
            return f"map {name} at {wrong.hex()}: {entries.get(wrong)!r} and {theirs.get(wrong)!r}"
    return ""

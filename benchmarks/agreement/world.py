"""What surrounds a run: addresses of everything, maps, and the helpers that can be answered without a kernel.

One description for every engine: a `Memory` is all that a helper needs.  A helper or symbol without an answer raises
`UnmodelledError`, which ends a run and is counted; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.agreement.maps import MapModel, Memory
from llvm_bridge.native import Arena
from verifier_model.bpf.concrete import FaultError, Machine, UnmodelledError
from verifier_model.bpf.insn import Insn, Ref, RefKind
from verifier_model.bpf.unit import Unit
from verifier_model.contracts.helpers import BY_NAME as HELPER

CONTEXT: Final = 0x1000
STACK_TOP: Final = 0x9000
FRAMES: Final = 8
PACKET: Final = 0x20000  # where the packet starts before anybody moved it; HEADROOM bytes before it may be used
HEADROOM: Final = 256
PACKET_AREA: Final = 0x8000
DATA: Final = 0x30000
VALUES: Final = 0x80000
VALUES_END: Final = 0x400000
ARENA_BYTES: Final = 0x420000  # behind the values: helpers' memory
TOKENS: Final = 0xE000_0000  # addresses of maps and functions: nobody may look there
_TOKEN_STRIDE: Final = 0x100
MASK32: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class ArenaMemory:
    """`Memory` over the native executor's arena."""

    arena: Arena

    def read(self, address: int, size: int) -> bytes:
        if not self.arena.may_read(address, size):
            raise FaultError(f"a helper reads {size} bytes at {address:#x}")
        return self.arena.read(address, size)

    def write(self, address: int, content: bytes) -> None:
        if not self.arena.may_write(address, len(content)):
            raise FaultError(f"a helper writes {len(content)} bytes at {address:#x}")
        self.arena.write(address, content)

    def map(self, address: int, content: bytes) -> None:
        self.arena.map(address, content)


@dataclass(slots=True)
class MachineMemory:
    """`Memory` over the concrete machine; `written` collects the addresses that helpers wrote."""

    machine: Machine
    written: list[int] = field(default_factory=list)

    def read(self, address: int, size: int) -> bytes:
        try:
            return bytes(self.machine.memory[address + at] for at in range(size))
        except KeyError:
            raise FaultError(f"a helper reads {size} bytes at {address:#x}") from None

    def write(self, address: int, content: bytes) -> None:
        self.read(address, len(content))
        self.map(address, content)

    def map(self, address: int, content: bytes) -> None:
        self.machine.map_bytes(address, content)
        self.written += range(address, address + len(content))


Helper = Callable[["World", Memory, Sequence[int]], int]


@dataclass
class World:
    """The maps of a unit and where everything lies.  `helpers` answers calls, by number."""

    unit: Unit
    helpers: Mapping[int, Helper]
    maps: dict[str, MapModel] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    sections: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        maps = [(name, map) for name, map in sorted(self.unit.maps.items()) if name not in self.unit.data]
        share = (VALUES_END - VALUES) // max(len(maps), 1) & ~0xFFF
        for at, (name, definition) in enumerate(maps):
            self.maps[name] = MapModel(definition, VALUES + at * share, VALUES + (at + 1) * share)
        place = DATA
        for name, section in sorted(self.unit.data.items()):
            self.sections[name] = place
            place += (section.size + 0xFFF) & ~0xFFF
        if place > VALUES:
            raise UnmodelledError("data sections that do not fit")

    def address(self, ref: Ref) -> int:
        """Where a symbol lies; raises UnmodelledError for one that only the kernel's loader knows."""
        if ref.kind is RefKind.DATA and ref.name in self.sections:
            return self.sections[ref.name]
        if ref.kind in (RefKind.MAP, RefKind.FUNCTION):
            return self.tokens.setdefault(ref.name, TOKENS + _TOKEN_STRIDE * len(self.tokens))
        raise UnmodelledError(f"no address is known for {ref.kind.value} {ref.name}")

    def map_at(self, token: int) -> MapModel:
        for name, known in self.tokens.items():
            if known == token and name in self.maps:
                model = self.maps[name]
                if model.is_modelled:
                    return model
                raise UnmodelledError(f"maps of type {model.kind}")
        raise UnmodelledError("a map that is chosen while running")

    def call(self, memory: Memory, insn: Insn, registers: Sequence[int]) -> int:
        """r0 of a call that is not one of the unit's own functions."""
        if insn.ref is not None or insn.row.name != "call_helper":
            raise UnmodelledError(f"{insn.row.name} {insn.ref.name if insn.ref is not None else insn.imm}")
        helper = self.helpers.get(insn.imm)
        if helper is None:
            raise UnmodelledError(f"helper {insn.imm}")
        return helper(self, memory, registers)


def _lookup(world: World, memory: Memory, regs: Sequence[int]) -> int:
    model = world.map_at(regs[1])
    return model.lookup(memory.read(regs[2], model.definition.key_size))


def _update(world: World, memory: Memory, regs: Sequence[int]) -> int:
    model = world.map_at(regs[1])
    key = memory.read(regs[2], model.definition.key_size)
    return model.update(memory, key, memory.read(regs[3], model.definition.value_size), regs[4])


def _delete(world: World, memory: Memory, regs: Sequence[int]) -> int:
    model = world.map_at(regs[1])
    return model.delete(memory.read(regs[2], model.definition.key_size))


MAP_HELPERS: Final[Mapping[int, Helper]] = {
    HELPER["map_lookup_elem"].id: _lookup,
    HELPER["map_update_elem"].id: _update,
    HELPER["map_delete_elem"].id: _delete,
}

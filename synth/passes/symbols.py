"""What a block's registers and private memory hold, byte by byte: value numbering for the passes.

A byte is an int: 0 to 255 is a known value, anything above names byte `k` of some value that is known only to be the
same wherever the same name appears.  A register's content is eight bytes, lowest first.  Addresses are a root (what
the pointer was made from) and a constant distance, so that equal places are recognised under different registers.

This is outside the trust wall: a wrong guess costs one refused proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from synth.passes.bytewise import WORD, Value, bytewise, constant_of, value_of
from synth.passes.names import Address, Epochs, Memory, Names, Root, Sum
from synth.passes.operands import base_register, writes
from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, ByteOrder, Insn, Ref, RefKind
from verifier_model.bpf.isa import STORE_KINDS, Kind, Operand
from verifier_model.contracts.effects import UNKNOWN_CALL, CallEffects, MemoryArgument
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import State

STACK_FAMILY: Final = frozenset({Region.STACK})
PACKET_FAMILY: Final = frozenset({Region.PACKET, Region.PACKET_META})
# Who may write where we track bytes: dynptr slices are MEMORY and can be packet; an unknown pointer can be anything.
_MAY_WRITE: Final = {
    Region.STACK: STACK_FAMILY,
    Region.PACKET: PACKET_FAMILY,
    Region.PACKET_META: PACKET_FAMILY,
    Region.MEMORY: PACKET_FAMILY,
    Region.UNKNOWN: STACK_FAMILY | PACKET_FAMILY,
    Region.SCALAR: STACK_FAMILY | PACKET_FAMILY,
    Region.UNINIT: STACK_FAMILY | PACKET_FAMILY,
}


def is_private(region: Region) -> bool:
    return region in STACK_FAMILY or region in PACKET_FAMILY


@dataclass(slots=True)
class Snapshot:
    """Contents just before an instruction."""

    regs: list[Value]
    memory: Memory = field(default_factory=dict)


class SymbolicBlock:
    """`before[i]` is what is known just before instruction `i`; `before[len]` at the end.

    `states` are the facts before each instruction and at the end, or at least at the start.  `effects` are those of the
    calls, in order.  With shared `names`, contents of two blocks that start in one state can be compared.
    """

    def __init__(
        self,
        insns: tuple[Insn, ...],
        states: list[State],
        effects: list[CallEffects],
        order: ByteOrder,
        names: Names | None = None,
    ) -> None:
        self.names = Names() if names is None else names
        self._insns, self._states, self._effects, self._order = insns, states, effects, order
        self._counts: Counter[str] = Counter()
        self._epochs = Epochs(self.names)
        self._calls: dict[int, CallEffects] = {}
        regs = [self._entry(reg) for reg in range(REGISTER_COUNT)]
        self.before = [Snapshot(regs)]
        self.before[0].memory.update(self._spilled())
        for index, insn in enumerate(insns):
            self.before.append(self._step(index, insn, self.before[-1]))
        for index in range(len(insns) - 1, -1, -1):
            self._carry_back(index)

    # --- addresses ---

    def address(self, index: int, reg: int, off: int = 0) -> Address:
        """Where `reg + off` points just before instruction `index`."""
        value = self.before[index].regs[reg]
        key = self.names.key_of(value)
        if isinstance(key, Sum):
            base, distance = key.base, key.off
        else:
            base, distance = (value if key is None else key), 0
        if isinstance(base, Root):
            return Address(base, distance + off)
        return Address(Root(self._region(index, reg, base), base), distance + off)

    def _region(self, index: int, reg: int, base: Hashable) -> Region:
        if index < len(self._states):
            return self._states[index].regs[reg].region
        return Region.DATA if isinstance(base, _Wide) and base.ref.kind is RefKind.DATA else Region.UNKNOWN

    def access(self, index: int) -> Address:
        """The address of the memory instruction at `index`."""
        insn = self._insns[index]
        return self.address(index, base_register(insn), insn.off)

    def pointer(self, address: Address) -> Value:
        """The register content that is this address."""
        return self._sum(address.root, address.off)

    def _sum(self, base: Hashable, off: int) -> Value:
        return self.names.value(Sum(base, off) if off else base)

    def _entry(self, reg: int) -> Value:
        return self._refined(self.names.value(("entry", reg)), self._states[0].regs[reg])

    def _spilled(self) -> Memory:
        """What the facts know of the stack's bytes at the start."""
        memory: Memory = {}
        root = Root(Region.STACK, _Frame(self._states[0].regs[FRAME_POINTER].frame))
        for off, slot in sorted(self._states[0].stack.items()):
            value = self.names.value(("spilled", off))
            if slot.spill is not None:
                value = self._refined(value, slot.spill)
            places = self._byte_places(Address(root, off), WORD)
            for place, byte in zip(places, value, strict=True):
                if slot.spill is not None:
                    memory[place] = byte
                elif slot.marks[place.off - off] == "0":
                    memory[place] = 0
        return memory

    def _refined(self, value: Value, fact: Register) -> Value:
        """The value with what the facts know of it: a pointer's place, a number's known bytes."""
        if fact.region is Region.SCALAR:
            known, unknown = fact.value.bits_value, fact.value.bits_mask
            return tuple(
                known >> 8 * k & 0xFF if unknown >> 8 * k & 0xFF == 0 else byte for k, byte in enumerate(value)
            )
        if not fact.is_pointer:
            return value
        root = _root_of(fact)
        if root is None:
            return value
        return self._sum(root, fact.off if fact.id else fact.constant_off or 0)

    # --- one instruction ---

    def _step(self, index: int, insn: Insn, old: Snapshot) -> Snapshot:
        regs, memory = list(old.regs), old.memory
        kind = insn.kind
        if insn.origin.core and kind is not Kind.CALL:
            # The loader may change its numbers, so neither its address nor its result is what it looks like.
            self._epochs.advance(STACK_FAMILY | PACKET_FAMILY, None, (kind, insn.origin.core))
            memory = {} if kind in STORE_KINDS or kind is Kind.ATOMIC else memory
        elif kind in (Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE):
            memory = self._stored(index, insn, old)
        elif kind is Kind.ATOMIC:
            family = _MAY_WRITE.get(self.access(index).root.region, frozenset())
            self._epochs.advance(family, None, (kind, self._counts[kind.value]))
            memory = _without_family(memory, family)
        elif kind in (Kind.CALL, Kind.LEGACY_LOAD):
            self._epochs.advance(STACK_FAMILY | PACKET_FAMILY, None, (kind, self._counts[kind.value]))
            self._calls[index] = self._effects[self._counts["call"]] if kind is Kind.CALL else UNKNOWN_CALL
            memory = self._called(index, memory)
        for reg in sorted(writes(insn)):
            regs[reg] = self.names.value((kind, self._counts[kind.value], reg))
        self._counts[kind.value] += 1
        if insn.origin.core:
            pass
        elif kind is Kind.LOAD:
            memory = self._loaded(index, insn, old, regs)
        elif kind in (Kind.ALU, Kind.ENDIAN, Kind.LOAD_WIDE):
            regs[insn.dst] = self._computed(insn, old.regs)
        if index + 1 < len(self._states):
            following = self._states[index + 1]
            for reg in sorted(writes(insn)):
                regs[reg] = self._refined(regs[reg], following.regs[reg])
        return Snapshot(regs, memory)

    def _carry_back(self, index: int) -> None:
        """What is known of memory behind an instruction that did not change it was so before, too."""
        insn, earlier, later = self._insns[index], self.before[index], self.before[index + 1]
        if later.memory is earlier.memory:
            return
        new = {place: byte for place, byte in later.memory.items() if place not in earlier.memory}
        if not new:
            return
        kind = insn.kind
        if insn.origin.core:
            unchanged: Memory = {}
        elif kind in (Kind.CALL, Kind.LEGACY_LOAD):
            unchanged = self._called(index, new)
        elif kind is Kind.ATOMIC:
            unchanged = _without_family(new, _MAY_WRITE.get(self.access(index).root.region, frozenset()))
        elif kind in (Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE):
            address = self.access(index)
            family = _MAY_WRITE.get(address.root.region, frozenset())
            unchanged = {
                place: byte
                for place, byte in new.items()
                if place.root.region not in family
                or (place.root == address.root and not 0 <= place.off - address.off < insn.row.size)
            }
        else:
            unchanged = new
        earlier.memory = {**earlier.memory, **unchanged}

    def _byte_places(self, address: Address, size: int) -> list[Address]:
        """The places of a `size`-byte number's bytes, lowest byte first."""
        places = [address.plus(k) for k in range(size)]
        return places if self._order == "little" else places[::-1]

    def _loaded(self, index: int, insn: Insn, old: Snapshot, regs: list[Value]) -> Memory:
        address, size = self.access(index), insn.row.size
        memory = old.memory
        if is_private(address.root.region):
            places = self._byte_places(address, size)
            memory = {**{place: self.untouched(place) for place in places}, **old.memory}
            low = tuple(memory[place] for place in places)
        elif address.root.region is Region.CTX:
            low = self.names.value((Region.CTX, address, size, self._counts[Kind.CALL.value]))[:size]
        else:
            self._counts["shared load"] += 1
            low = self.names.value(("shared load", self._counts["shared load"]))[:size]
        if insn.row.sign:
            regs[insn.dst] = self.names.value(("sign", low))
        else:
            regs[insn.dst] = low + (0,) * (WORD - size)
        return memory

    def untouched(self, place: Address) -> int:
        """The byte that memory holds where no store in the block is known to have written, as of the last step."""
        return self.names.value(("memory", place, self._epochs.of(place.root)))[0]

    def _stored(self, index: int, insn: Insn, old: Snapshot) -> Memory:
        address = self.access(index)
        family = _MAY_WRITE.get(address.root.region, frozenset())
        if not family:
            return old.memory
        value = value_of(insn.imm) if insn.kind is Kind.STORE_IMM else old.regs[insn.src]
        self._epochs.advance(family, address.root, (address, value[: insn.row.size]))
        kept = {
            place: byte
            for place, byte in old.memory.items()
            if place.root == address.root or place.root.region not in family
        }
        if is_private(address.root.region):
            kept.update(zip(self._byte_places(address, insn.row.size), value, strict=False))
        return kept

    def _called(self, index: int, memory: Memory) -> Memory:
        effects = self._calls[index]
        if effects.writes_all:
            return {}
        if effects.changes_packet:
            memory = _without_family(memory, PACKET_FAMILY)
        for argument in effects.writes:
            memory = self._overwritten(index, argument, memory)
        return memory

    def _overwritten(self, index: int, argument: MemoryArgument, memory: Memory) -> Memory:
        address = self.address(index, argument.reg)
        family = _MAY_WRITE.get(address.root.region, frozenset())
        size = argument.size
        if size is None or address.root.region is not Region.STACK or not isinstance(address.root.key, _Frame):
            return _without_family(memory, family)
        span = range(address.off, address.off + size)
        return {p: byte for p, byte in memory.items() if p.root != address.root or p.off not in span}

    # --- what an instruction computes ---

    def _computed(self, insn: Insn, regs: list[Value]) -> Value:
        row = insn.row
        if insn.kind is Kind.LOAD_WIDE:
            return value_of(insn.imm) if insn.ref is None else self.names.value(_Wide(insn.ref))
        dst = regs[insn.dst]
        if insn.kind is Kind.ENDIAN:
            return self._swapped(insn, dst)
        src = regs[insn.src] if row.operand is Operand.REG else value_of(insn.imm)
        size = row.size
        known = bytewise(row.op, size, dst[:size], src[:size])
        if known is None:
            if row.width == WORD * 8 and (moved := self._moved(row.op, dst, src)) is not None:
                return moved
            known = (None,) * size
        if None in known:
            named = self.names.value((row.name, dst[:size], src[:size]))
            known = tuple(named[k] if byte is None else byte for k, byte in enumerate(known))
        return tuple(byte for byte in known if byte is not None) + (0,) * (WORD - size)

    def _moved(self, op: str, dst: Value, src: Value) -> Value | None:
        """dst plus or minus a constant."""
        if op == "add" and constant_of(src) is None and constant_of(dst) is not None:
            dst, src = src, dst
        number = constant_of(src)
        if op not in ("add", "sub") or number is None or constant_of(dst) is not None:
            return None
        distance = (number ^ 1 << 63) - (1 << 63)
        distance = -distance if op == "sub" else distance
        key = self.names.key_of(dst)
        if isinstance(key, Sum):
            return self._sum(key.base, key.off + distance)
        return self._sum(dst if key is None else key, distance)

    def _swapped(self, insn: Insn, value: Value) -> Value:
        size = insn.row.size
        low = value[:size]
        keeps = insn.row.op == ("le" if self._order == "little" else "be")
        return (low if keeps else low[::-1]) + (0,) * (WORD - size)


class _Frame(NamedTuple):
    number: int


class _Wide(NamedTuple):
    ref: Ref


def _root_of(fact: Register) -> Root | None:
    """The root that all pointers with these facts share, or None when the facts do not say."""
    if fact.region is Region.STACK:
        return Root(Region.STACK, _Frame(fact.frame)) if fact.constant_off is not None else None
    if fact.exact is not None and fact.region not in (Region.DATA, Region.MAP_VALUE):
        return Root(fact.region, ("exact", fact.exact.name, fact.exact.addend))
    if fact.region is Region.DATA:
        return Root(Region.DATA, ("section", fact.symbol)) if fact.constant_off is not None else None
    if fact.id:
        return Root(fact.region, ("id", fact.id, fact.symbol))
    if fact.region in PACKET_FAMILY | {Region.CTX, Region.PACKET_END} and fact.constant_off is not None:
        return Root(fact.region, ("start", fact.base))
    return None


def _without_family(memory: Memory, family: frozenset[Region]) -> Memory:
    return {place: byte for place, byte in memory.items() if place.root.region not in family}

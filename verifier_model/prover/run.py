"""One program's run over terms: registers, private memory, and the list of events."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from verifier_model.bpf.insn import Insn
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import STACK_BYTES, State
from verifier_model.prover import events as ev
from verifier_model.prover.entry import WORD, Entry, Value, known_stack, type_of
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.memory import AliasBudget, Place, RegionMemory, cut, places
from verifier_model.prover.provenance import region_key
from verifier_model.prover.terms import Term, Terms
from verifier_model.verdict import Obligation

Side = Literal["before", "after"]


class Control(NamedTuple):
    """How a run leaves the window: `taken` (one bit) says whether to `target`, else it falls through."""

    kind: Literal["falls", "jumps", "exits", "may_goto"]
    target: str
    taken: Term


@dataclass
class Run:
    """One program's run.  `script` lists the events of `before` while `after` runs; then every event is compared.

    `known_bytes` are private bytes that the facts know at the start; `touched` lists the private bytes of all accesses;
    `context_words` the context loads: address, size in bytes, 64-bit result.  `known`: what the facts say just before
    the next instruction, where that is known; `types` what they said of values whose origin was lost, by the id of the
    value without its constant part.
    """

    obligation: Obligation
    entry: Entry
    side: Side
    budget: AliasBudget
    script: list[ev.Event] | None = None
    comparison: ev.Comparison = field(default_factory=ev.Comparison)
    registers: list[Value] = field(default_factory=list)
    events: list[ev.Event] = field(default_factory=list)
    memory: dict[ev.RegionKey, RegionMemory] = field(default_factory=dict)
    spills: dict[int, Register] = field(default_factory=dict)
    known_bytes: list[tuple[ev.RegionKey, Place, Term]] = field(default_factory=list)
    touched: list[tuple[ev.RegionKey, Place]] = field(default_factory=list)
    context_loads: set[tuple[int, int, int]] = field(default_factory=set)
    context_words: list[tuple[Term, int, Term]] = field(default_factory=list)
    context_epoch: int = 0
    packet_epoch: int = 0
    stack_epoch: int = 0
    known: State | None = None
    control: Control | None = None
    types: dict[int, Register] = field(default_factory=dict)
    history: list[tuple[Insn, Term | None]] = field(default_factory=list)

    @property
    def terms(self) -> Terms:
        return self.entry.terms

    def __post_init__(self) -> None:
        self.registers = list(self.entry.registers)
        self._start_stack()

    def _start_stack(self) -> None:
        order = self.obligation.unit.byte_order
        stack = RegionMemory(self.terms, ("initial", ev.stack_key(0), 0), self.budget)
        top = self.entry.frame_pointer
        for off, byte in known_stack(self.entry):
            self.known_bytes.append((ev.stack_key(0), Place(top, off & (1 << WORD) - 1), byte))
        for off, value in self.entry.slots.items():
            where = places(self.terms, self.terms.offset(top, off), 8)
            for place, byte in zip(where, cut(self.terms, value.term, order), strict=True):
                self.known_bytes.append((ev.stack_key(0), place, byte))
            self.spills[off] = value.fact
        for _, place, byte in self.known_bytes:
            stack.know(place, byte)
        self.memory[ev.stack_key(0)] = stack

    def fork(self) -> Run:
        """A run that has done the same so far and goes on by itself."""
        other = copy(self)
        other.comparison = ev.Comparison(list(self.comparison.checks))
        other.registers, other.events = list(self.registers), list(self.events)
        other.memory = {key: region.copy() for key, region in self.memory.items()}
        other.spills, other.known_bytes, other.touched = dict(self.spills), list(self.known_bytes), list(self.touched)
        other.context_loads, other.context_words = set(self.context_loads), list(self.context_words)
        other.history, other.types = list(self.history), dict(self.types)
        return other

    def finish(self) -> None:
        """The end of the run: `before` may not have shown more events."""
        if self.script is not None and len(self.events) < len(self.script):
            number = len(self.events)
            self.comparison.event(number, self.script[number], None, self.memories())

    def recall(self, known: State | None) -> None:
        """Take from the facts just before an instruction the types of registers whose origin was lost on the way."""
        self.known = known
        if known is None:
            return
        for number, value in enumerate(self.registers):
            fact = known.regs[number]
            is_lost = value.fact.region is Region.UNKNOWN
            if is_lost and not fact.assumed_safe and fact.region not in (Region.UNKNOWN, Region.UNINIT):
                self.registers[number] = Value(value.term, type_of(fact))
                self.types[self.terms.split(value.term)[0].id] = replace(type_of(fact), exact=None)

    def borrow(self, used: Iterable[int]) -> None:
        """Take the types of registers whose origin was lost from where the other program holds the same value."""
        for number in used:
            term = self.registers[number].term
            if self.types and self.registers[number].fact.region is Region.UNKNOWN:
                found = self.types.get(self.terms.split(term)[0].id)
                if found is not None:
                    self.registers[number] = Value(term, found)

    # ---- memory ----

    def memories(self) -> ev.Memories:
        return ev.Memories(self.memory, self._fresh_region)

    def _fresh_region(self, key: ev.RegionKey) -> RegionMemory:
        epoch = self.packet_epoch if key == ev.PACKET else self.stack_epoch
        return RegionMemory(self.terms, ("initial", key, epoch), self.budget)

    def region(self, key: ev.RegionKey) -> RegionMemory:
        if key not in self.memory:
            self.memory[key] = self._fresh_region(key)
        return self.memory[key]

    def address(self, register: int, off: int) -> Term:
        return self.terms.offset(self.registers[register].term, off)

    def private_places(self, fact: Register, address: Term, size: int) -> list[Place]:
        """The bytes of an access to private memory; raises TooHardError outside of the current frame."""
        result = places(self.terms, address, size)
        self.touched += [(region_key(fact), place) for place in result]
        if region_key(fact) == ev.stack_key(0):
            for place in result:
                if place.base is self.entry.frame_pointer and place.off < (1 << WORD) - STACK_BYTES:
                    raise TooHardError("a stack access outside of the frame")
        return result

    def forget_spills(self, written: list[Place] | None) -> None:
        """Types of spilled registers after a write to the current frame (None: anywhere in it)."""
        top = self.entry.frame_pointer
        if written is None or any(place.base is not top for place in written):
            self.spills.clear()
            return
        for place in written:
            self.spills.pop((place.off - (1 << WORD)) // 8 * 8, None)

    def havoc(self, packet: bool, stacks: bool, number: int) -> None:
        """Forget private memory at event `number`, where the two programs' contents have been compared."""
        if packet:
            self.packet_epoch = number + 1
            self.memory.pop(ev.PACKET, None)
        if stacks:
            self.stack_epoch = number + 1
            for key in [key for key in self.memory if key != ev.PACKET]:
                del self.memory[key]
            self.spills.clear()

    # ---- events ----

    def event(
        self,
        shape: tuple[Hashable, ...],
        text: str,
        operands: tuple[ev.Operand, ...],
        scopes: tuple[ev.Scope, ...] = (),
        is_kept: bool = False,
    ) -> int:
        """Record an event, compare it with the script, and return its number."""
        number = len(self.events)
        snapshot = {key: region.copy() for key, region in self.memory.items()} if scopes else {}
        event = ev.Event(shape, text, operands, scopes, snapshot, is_kept=is_kept)
        if self.script is not None:
            expected = self.script[number] if number < len(self.script) else None
            self.comparison.event(number, expected, event, self.memories())
        self.events.append(event)
        return number

    def may_reach_private(self, region: Region) -> bool:
        """Can shared memory of this region turn out to be the packet or a stack frame?

        Slices that kfuncs return may lie in the packet or in a buffer on the stack; memory arguments of a subprogram
        that is verified by itself may be anything of its caller's; a pointer of unknown origin may be anything at all.
        """
        if region is Region.UNKNOWN:
            return True
        if region not in (Region.MEMORY, Region.OBJECT):
            return False
        obligation = self.obligation
        if obligation.function.program_type is None or obligation.function.is_subprogram:
            return True
        return any(
            insn.row.name == "call_kfunc" for function in obligation.unit.functions for _, insn in function.insns()
        )

    def shared_scopes(self, region: Region) -> tuple[ev.Scope, ...]:
        return ev.EVERYTHING if self.may_reach_private(region) else ()

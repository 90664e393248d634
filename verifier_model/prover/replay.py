"""A refutation is confirmed by running both programs on the ground's concrete machine, from the state that was found.

The machine shares nothing with terms, memory model or events, so a fault in those cannot invent a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from verifier_model.bpf.concrete import Machine, Stop, run_insns
from verifier_model.bpf.demand import ALL_BITS
from verifier_model.bpf.insn import Insn, Ref
from verifier_model.bpf.isa import Kind
from verifier_model.prover import events as ev
from verifier_model.prover.counterexample import Assignment
from verifier_model.prover.entry import reference
from verifier_model.prover.run import Run
from verifier_model.prover.start import context_words, private_bytes, value_of
from verifier_model.prover.terms import mask
from verifier_model.verdict import Obligation

_NOT_REPLAYED = frozenset({Kind.ATOMIC, Kind.CALL, Kind.CAST, Kind.LEGACY_LOAD, Kind.MAY_GOTO})
SeenEvent = tuple[str, int, int, int]


@dataclass(slots=True)
class _Replay(Machine):
    """`memory` holds private bytes; every other access is an event that `shared` answers."""

    context: dict[tuple[int, int], int] = field(default_factory=dict)
    shared: Callable[[int, int], int] = lambda number, size: 0
    seen: list[SeenEvent] = field(default_factory=list)

    def load(self, address: int, size: int) -> int:
        if (address, size) in self.context:
            return self.context[address, size]
        if address in self.memory:
            return Machine.load(self, address, size)
        self.seen.append(("load", address, size, 0))
        return self.shared(len(self.seen) - 1, size)

    def store(self, address: int, size: int, value: int) -> None:
        if address in self.memory:
            Machine.store(self, address, size, value)
        else:
            self.seen.append(("store", address, size, value & mask(8 * size)))


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a run let others see, and what the demand asks of its end."""

    seen: tuple[SeenEvent, ...]
    registers: tuple[int, ...]
    memory: tuple[int, ...]
    stop: str


def confirms(before: Run, after: Run, state: Assignment) -> bool | None:
    """Do the two programs differ on the concrete machine in this state?  None: not all of it can be replayed."""
    obligation = before.obligation
    if any(insn.kind in _NOT_REPLAYED or insn.origin.core for insn in (*obligation.before, *obligation.after)):
        return None
    runs = (before, after)
    if any(run.packet_epoch or run.stack_epoch or any(event.scopes for event in run.events) for run in runs):
        return None
    private = private_bytes(runs, state)
    context = context_words(runs, state)
    if private is None or context is None:
        return None
    shown = [
        _replay(run, insns, state, private, context) for run, insns in zip(runs, _programs(obligation), strict=True)
    ]
    if None in shown:
        return None
    return shown[0] != shown[1]


def _programs(obligation: Obligation) -> tuple[tuple[Insn, ...], tuple[Insn, ...]]:
    return obligation.before, obligation.after


def _replay(
    run: Run,
    insns: tuple[Insn, ...],
    state: Assignment,
    private: dict[ev.RegionKey, dict[int, int]],
    context: dict[tuple[int, int], int],
) -> _Shown | None:
    terms, obligation = run.terms, run.obligation
    machine = _Replay(
        [value_of(value.term, state) for value in run.entry.registers],
        {address: byte for content in private.values() for address, byte in content.items()},
        obligation.unit.byte_order,
        context=context,
        shared=lambda number, size: state.variable(terms.var(("shared", number), 8 * size)),
    )

    def address(ref: Ref) -> int:
        return value_of(reference(terms, ref), state) - ref.addend & ALL_BITS

    machine.address = address
    outcome = run_insns(insns, machine)
    if outcome.stop in (Stop.FAULT, Stop.UNMODELLED, Stop.STEPS):
        return None
    return _shown(run, machine, private, state, outcome.stop, outcome.label)


def _shown(
    run: Run,
    machine: _Replay,
    private: dict[ev.RegionKey, dict[int, int]],
    state: Assignment,
    stop: Stop,
    label: str,
) -> _Shown:
    demand = list(run.obligation.demand.regs)
    if stop is Stop.EXIT and not run.obligation.function.returns_void:
        demand[0] = ALL_BITS
    top = value_of(run.entry.frame_pointer, state)
    memory: list[int] = []
    for key, content in private.items():
        for address in content:
            distance = address - top
            if key != ev.stack_key(0) or distance in run.obligation.demand.stack:
                memory.append(machine.memory[address])
    return _Shown(
        tuple(machine.seen),
        tuple(value & bits for value, bits in zip(machine.registers, demand, strict=True)),
        tuple(memory),
        f"{stop.value} {label}",
    )

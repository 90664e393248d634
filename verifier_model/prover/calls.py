"""Calls as events: what the callee is, what it can see, and what is left of private memory behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.contracts.calls import call_effects
from verifier_model.contracts.effects import CallEffects, MemoryArgument
from verifier_model.contracts.helpers import HELPERS, ResultKind
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State
from verifier_model.prover import events as ev
from verifier_model.prover.entry import SCALAR_FACT, UNKNOWN_FACT, WORD, Value
from verifier_model.prover.evaluate import evaluate
from verifier_model.prover.memory import Place, places
from verifier_model.prover.provenance import is_private, region_key
from verifier_model.prover.run import Run
from verifier_model.prover.simplify import maximum
from verifier_model.prover.terms import Term, reachable

Arguments = tuple[Value, ...]
_CALLER_SAVED: Final = range(1, 6)
_REACHES_NOTHING_PRIVATE: Final = frozenset(
    {Region.MAP_VALUE, Region.DATA, Region.MAP, Region.FUNCTION, Region.PACKET_END}
)


def call(run: Run, insn: Insn) -> None:
    """A call of any kind.  Its effects follow from what `before` passes; `after` must pass the same."""
    number = len(run.events)
    script = run.script[number] if run.script is not None and number < len(run.script) else None
    if script is None or script.effects is None:
        arguments = tuple(run.registers[: max(_CALLER_SAVED) + 1])
        effects = _effects(run, insn)
    else:
        arguments, effects = script.arguments, script.effects
    callee = None if insn.ref is None else (insn.ref.kind, insn.ref.name, insn.ref.addend)
    passed = sorted({*effects.arguments, *(argument.reg for argument in (*effects.reads, *effects.writes))})
    run.event(
        ("call", insn.row.name, insn.imm, insn.off, callee),
        f"the call of {_callee(insn)}",
        tuple(ev.Operand(f"r{reg}", run.registers[reg].term) for reg in passed),
        _scopes(run, effects, arguments),
    )
    run.events[number] = replace(run.events[number], effects=effects, arguments=arguments)
    _apply_writes(run, effects, arguments, number)
    run.registers[0] = Value(run.terms.var(("result", number), WORD), _result_fact(insn))
    for reg in _CALLER_SAVED:  # garbage, and other garbage in the other program, so that nothing can rely on it
        run.registers[reg] = Value(run.terms.var(("garbage", run.side, number, reg), WORD), UNKNOWN_FACT)
    if not effects.is_pure:
        run.context_epoch = number + 1


def _callee(insn: Insn) -> str:
    if insn.ref is not None:
        return insn.ref.name
    helper = HELPERS.get(insn.imm) if insn.row.name == "call_helper" else None
    return f"bpf_{helper.name.removeprefix('bpf_')}" if helper is not None else f"{insn.row.name} {insn.imm}"


def _effects(run: Run, insn: Insn) -> CallEffects:
    known = run.known.regs if run.known is not None else (None,) * len(run.registers)
    state = State(tuple(_known(run, value, fact) for value, fact in zip(run.registers, known, strict=True)))
    return call_effects(insn, state, run.obligation.unit, run.obligation.function)


def _known(run: Run, value: Value, known: Register | None) -> Register:
    """What the contract may know of an argument: its type, and a bound of its number (`known`: what the facts say)."""
    fact, term = value.fact, value.term
    if fact.region is Region.UNKNOWN and known is not None and _is_no_pointer(known):
        return known
    if not fact.is_scalar:
        return fact
    constant = _constant(run, term)
    if constant is not None:
        return replace(fact, value=Scalar.const(constant))
    if known is not None and known.is_scalar and not known.assumed_safe:
        return replace(fact, value=known.value)
    for start, at_start in zip(run.entry.registers, run.entry.state.regs, strict=True):
        if start.term is term and at_start.is_scalar and not at_start.assumed_safe:
            return replace(fact, value=at_start.value)
    return replace(fact, value=Scalar.between(0, maximum(term)))


def _is_no_pointer(known: Register) -> bool:
    # What was never set is nobody's pointer either: helpers with fewer arguments than registers get such.
    return known.region is Region.UNINIT or (known.is_scalar and not known.assumed_safe)


def _constant(run: Run, term: Term) -> int | None:
    """The number that a term always is, also where terms are built without simplification."""
    base, constant = run.terms.split(term)
    if base.constant == 0:
        return constant
    if any(node.op in ("var", "init") for node in reachable([term])):
        return None
    return evaluate([term], lambda _: 0, lambda *_: 0)[term.id]


# ---- what the callee sees ----


def _scopes(run: Run, effects: CallEffects, arguments: Arguments) -> tuple[ev.Scope, ...]:
    """Private memory that must be equal at the call: what may be read, and what may be written nobody knows where."""
    scopes: list[ev.Scope] = []
    for argument in effects.reads:
        scopes += _argument_scopes(run, argument, arguments)
    for argument in effects.writes:
        if _written_places(run, argument, arguments) is None:
            scopes += _lost(run, argument, arguments)
    if effects.observes_packet or _changes_packet(run, effects) or effects.reads_all:
        scopes.append(ev.Scope(ev.PACKET))
    if (effects.reads_all or effects.writes_all) and not effects.private_stack:
        scopes.append(ev.Scope(None))
    return tuple(dict.fromkeys(scopes))


def _argument_scopes(run: Run, argument: MemoryArgument, arguments: Arguments) -> tuple[ev.Scope, ...]:
    value = arguments[argument.reg]
    if is_private(value.fact):
        exact = tuple(_places(run, argument, arguments)) if argument.size is not None else None
        return (ev.Scope(region_key(value.fact), exact),)
    if value.fact.region in _REACHES_NOTHING_PRIVATE or (value.fact.is_scalar and value.term.constant is not None):
        return ()
    if value.fact.region is Region.CTX:
        return (ev.Scope(ev.PACKET),)
    if value.fact.region in (Region.MEMORY, Region.OBJECT):
        return run.shared_scopes(value.fact.region)
    return ev.EVERYTHING


def _lost(run: Run, argument: MemoryArgument, arguments: Arguments) -> tuple[ev.Scope, ...]:
    """Private memory that is anybody's guess after a write of unknown extent; it must be equal before."""
    scopes = _argument_scopes(run, argument, arguments)
    return tuple(scope if scope.region == ev.PACKET else ev.Scope(None) for scope in scopes)


def _places(run: Run, argument: MemoryArgument, arguments: Arguments) -> list[Place]:
    assert argument.size is not None
    return places(run.terms, arguments[argument.reg].term, argument.size)


# ---- what it leaves ----


def _written_places(run: Run, argument: MemoryArgument, arguments: Arguments) -> list[Place] | None:
    """The bytes that the callee may write through an argument; None: more than can be listed."""
    value = arguments[argument.reg]
    if is_private(value.fact):
        return _places(run, argument, arguments) if argument.size is not None else None
    return [] if not _argument_scopes(run, argument, arguments) else None


def _changes_packet(run: Run, effects: CallEffects) -> bool:
    return effects.changes_packet or effects.writes_all


def _apply_writes(run: Run, effects: CallEffects, arguments: Arguments, number: int) -> None:
    certain = {argument.reg for argument in effects.must_write}
    packet, stacks = _changes_packet(run, effects), effects.writes_all and not effects.private_stack
    for argument in effects.writes:
        where = _written_places(run, argument, arguments)
        if where is None:
            for scope in _lost(run, argument, arguments):
                packet = packet or scope.region == ev.PACKET
                stacks = stacks or scope.region != ev.PACKET
            continue
        _overwrite(run, arguments[argument.reg].fact, where, (number, argument.reg), argument.reg in certain)
    run.havoc(packet, stacks, number)


def _overwrite(run: Run, fact: Register, where: list[Place], name: tuple[int, int], is_certain: bool) -> None:
    """New bytes, the same in both programs; if the callee may also leave a byte alone, what was there may survive."""
    if not where:
        return
    terms, memory = run.terms, run.region(region_key(fact))
    fresh: list[Term] = []
    for index, place in enumerate(where):
        byte = terms.var(("written", *name, index), 8)
        if not is_certain:
            byte = terms.ite(terms.var(("writes", *name, index), 1), byte, memory.read(place))
        fresh.append(byte)
    for place, byte in zip(where, fresh, strict=True):
        memory.write(place, byte)
    if region_key(fact) == ev.stack_key(0):
        run.forget_spills(where)


_RESULTS: Final = {
    ResultKind.SCALAR: SCALAR_FACT,
    ResultKind.MAP_VALUE: Register(Region.MAP_VALUE),
    ResultKind.MEMORY: Register(Region.MEMORY),
}


def _result_fact(insn: Insn) -> Register:
    helper = HELPERS.get(insn.imm) if insn.row.name == "call_helper" and insn.ref is None else None
    if helper is None or helper.callback:
        return UNKNOWN_FACT
    return _RESULTS.get(helper.result, UNKNOWN_FACT)

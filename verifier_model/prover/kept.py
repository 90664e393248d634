"""Instructions that must stay: the prover orders them among the events and knows nothing of what they compute."""

from __future__ import annotations

from dataclasses import replace

from verifier_model.bpf.evaluate import atomic_destination
from verifier_model.bpf.insn import NO_ORIGIN, Insn
from verifier_model.bpf.isa import STORE_KINDS, Kind
from verifier_model.domains.registers import Region, Register
from verifier_model.prover import events as ev
from verifier_model.prover.entry import SCALAR_FACT, UNKNOWN_FACT, WORD, Value
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.provenance import is_private
from verifier_model.prover.run import Run

_PATCHABLE = frozenset({Kind.ALU, Kind.LOAD_WIDE, Kind.LOAD, Kind.STORE, Kind.STORE_IMM})


def must_keep(insn: Insn) -> bool:
    """CO-RE riders are rewritten by the loader; self-moves are what an asm barrier left; casts depend on the arena."""
    return insn.is_pinned or insn.kind is Kind.CAST


def keep(run: Run, insn: Insn) -> None:
    """The same instruction on the same values, at the same place among the events; its result is anybody's guess."""
    if insn.origin.core and insn.kind not in _PATCHABLE:
        raise TooHardError(f"a CO-RE record on {insn.row.name}")
    if insn.ref is not None:
        raise TooHardError(f"a CO-RE record on the relocated {insn.row.name}")
    reads_dst = insn.kind in STORE_KINDS or (insn.kind is Kind.ALU and insn.row.op != "mov")
    used = [insn.dst] if reads_dst else []
    if "src" in insn.row.uses:
        used.append(insn.src)
    operands = tuple(ev.Operand(f"r{number}", run.registers[number].term) for number in used)
    shape = ("kept", replace(insn, origin=replace(NO_ORIGIN, core=insn.origin.core)))
    scopes = _touched(run, insn)
    number = run.event(shape, f"the {insn.row.name} that must stay", operands, scopes, is_kept=True)
    if insn.kind in STORE_KINDS:
        if scopes:
            run.havoc(packet=True, stacks=True, number=number)
        run.context_epoch = number + 1
    elif insn.origin.core or insn.kind is Kind.CAST:
        run.registers[insn.dst] = Value(run.terms.var(("kept", number), WORD), UNKNOWN_FACT)


def _touched(run: Run, insn: Insn) -> tuple[ev.Scope, ...]:
    """Private memory that a kept load or store may touch; the loader may change its offset and even its width."""
    if not insn.row.is_memory_access:
        return ()
    fact = run.registers[insn.dst if insn.kind in STORE_KINDS else insn.src].fact
    if is_private(fact):
        return ev.EVERYTHING
    if fact.region is Region.CTX:
        return ()
    require_shared(fact)
    return run.shared_scopes(fact.region)


def require_shared(fact: Register) -> None:
    """Raises TooHardError unless the pointer leads to memory that others share and that no private memory overlaps."""
    if fact.region not in (Region.MAP_VALUE, Region.DATA, Region.OBJECT, Region.MEMORY):
        raise TooHardError(f"an access through a pointer of kind {fact.region.value}")


def atomic(run: Run, insn: Insn) -> None:
    """An atomic operation on shared memory: same address, same operand, and one result for both programs."""
    row, terms, fact = insn.row, run.terms, run.registers[insn.dst].fact
    if is_private(fact) or fact.region is Region.CTX:
        raise TooHardError("an atomic operation on private memory")
    require_shared(fact)
    operands = [
        ev.Operand("address", run.address(insn.dst, insn.off)),
        ev.Operand("operand", terms.trunc(row.width, run.registers[insn.src].term)),
    ]
    if row.op == "cmpxchg":
        operands.append(ev.Operand("expected value", terms.trunc(row.width, run.registers[0].term)))
    scopes = run.shared_scopes(fact.region)
    number = run.event((row.name,), f"{row.name} on shared memory", tuple(operands), scopes)
    if scopes:
        run.havoc(packet=True, stacks=True, number=number)
    destination = atomic_destination(row, insn.src)
    if destination is not None:
        old = terms.zext(WORD, terms.var(("shared", number), row.width))
        run.registers[destination] = Value(old, SCALAR_FACT if row.width < WORD else UNKNOWN_FACT)

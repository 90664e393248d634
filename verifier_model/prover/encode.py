"""Executes a window of instructions over terms, with the ground's semantics."""

from __future__ import annotations

from collections.abc import Callable

from verifier_model.bpf.evaluate import alu_result, branch_taken, endian_result, immediate, loaded, stored
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import STORE_KINDS, Kind, Operand
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.domains.registers import Region, Register
from verifier_model.prover import events as ev
from verifier_model.prover.calls import call
from verifier_model.prover.entry import CONTEXT_NAME, SCALAR_FACT, UNKNOWN_FACT, WORD, Value
from verifier_model.prover.kept import atomic, keep, legacy_load, must_keep, order_accesses, require_shared
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.memory import cut, glue
from verifier_model.prover.provenance import alu_fact, is_private, loaded_fact, region_key, wide_load
from verifier_model.prover.run import Control, Run
from verifier_model.prover.terms import Term


def execute(run: Run, insns: tuple[Insn, ...]) -> None:
    """Run the whole window; raises TooHardError and DifferentShapeError."""
    advance(run, insns)
    if run.control is None:
        run.control = Control("falls", "", run.terms.const(1, 0))
    run.finish()


def advance(run: Run, insns: tuple[Insn, ...]) -> None:
    """Run straight-line code; afterwards `run.control` is set if it ended in a branch or exit."""
    for insn in insns:
        if run.control is not None:
            raise TooHardError("control leaves the window before its end")
        if must_keep(insn):
            keep(run, insn)
        elif insn.ref is not None and insn.kind not in _WITH_REFERENCE:
            raise TooHardError(f"the loader patches an operand of {insn.row.name}")
        else:
            _STEPS[insn.kind](run, insn)
        run.history.append((insn, _outcome(run, insn)))


def _outcome(run: Run, insn: Insn) -> Term | None:
    """What a reader wants to see of the instruction: the register that it set, the value it stored, the way it went."""
    if insn.kind in _SET_NOTHING:
        return None if insn.kind is Kind.ATOMIC else run.terms.trunc(insn.row.width, _operand_of_store(run, insn))
    if run.control is not None:
        return run.control.taken if insn.kind is Kind.BRANCH else None
    return run.registers[0 if insn.kind in (Kind.CALL, Kind.LEGACY_LOAD) else insn.dst].term


def _operand(run: Run, insn: Insn) -> Term:
    if insn.row.operand is Operand.REG:
        return run.registers[insn.src].term
    term = immediate(run.terms, insn.imm)
    assert isinstance(term, Term)
    return term


def _alu(run: Run, insn: Insn) -> None:
    dst = run.registers[insn.dst]
    src = run.registers[insn.src].fact if insn.row.operand is Operand.REG else SCALAR_FACT
    term = alu_result(run.terms, insn.row, dst.term, _operand(run, insn))
    run.registers[insn.dst] = Value(term, alu_fact(insn.row, dst.fact, src))


def _endian(run: Run, insn: Insn) -> None:
    term = endian_result(run.terms, insn.row, run.registers[insn.dst].term, run.obligation.unit.byte_order)
    run.registers[insn.dst] = Value(term, SCALAR_FACT)


def _load_wide(run: Run, insn: Insn) -> None:
    run.registers[insn.dst] = wide_load(run.terms, insn)


def _load(run: Run, insn: Insn) -> None:
    row, fact = insn.row, run.registers[insn.src].fact
    address = run.address(insn.src, insn.off)
    if is_private(fact):
        if insn.kind is Kind.LOAD_ACQUIRE:
            _require_stack(insn, fact)
            order_accesses(run, insn.row.name)
        run.registers[insn.dst] = _private_load(run, insn, fact, address)
        return
    if fact.region is Region.CTX:
        run.registers[insn.dst] = _context_load(run, insn, address)
        run.context_words.append((address, row.size, run.registers[insn.dst].term))
        return
    require_shared(fact)
    # Whether the loaded number is sign-extended is not part of the access: nobody else can see it.
    kind = "load-acquire" if insn.kind is Kind.LOAD_ACQUIRE else "load"
    number = run.event(
        (kind, row.width),
        f"{row.width}-bit {kind} of shared memory",
        (ev.Operand("address", address),),
        run.shared_scopes(fact.region),
        is_kept=fact.region is Region.UNKNOWN,
    )
    value = run.terms.var(("shared", number), row.width)
    run.registers[insn.dst] = Value(loaded(run.terms, row, value), loaded_fact(row, fact))


def _require_stack(insn: Insn, fact: Register) -> None:
    if fact.region is not Region.STACK:
        raise TooHardError(f"{insn.row.name} through a pointer of kind {fact.region.value}")


def _private_load(run: Run, insn: Insn, fact: Register, address: Term) -> Value:
    row = insn.row
    where = run.private_places(fact, address, row.size)
    memory = run.region(region_key(fact))
    content = glue(run.terms, [memory.read(place) for place in where], run.obligation.unit.byte_order)
    is_slot = row.size == 8 and where[0].base is run.entry.frame_pointer and region_key(fact) == ev.stack_key(0)
    spilled = run.spills.get(where[0].off - (1 << WORD)) if is_slot else None
    return Value(loaded(run.terms, row, content), spilled or loaded_fact(row, fact))


def _context_load(run: Run, insn: Insn, address: Term) -> Value:
    """A context field: it stays as it is until an event may change it.  Pointer fields give 64 bits at any width."""
    row, terms = insn.row, run.terms
    base, off = terms.split(address)
    if insn.kind is Kind.LOAD_ACQUIRE:
        raise TooHardError(f"{row.name} of the context")
    if base is not terms.var(CONTEXT_NAME, WORD):
        # Equal addresses give equal words; nothing relates it to a word at another address, which may be the same.
        run.context_loads.add((run.context_epoch, -_ANYWHERE - address.id, 2 * _ANYWHERE + address.id))
        return Value(terms.var(("context word", run.context_epoch, address.id, row.name), WORD), UNKNOWN_FACT)
    described = PROGRAM_TYPES.get(run.obligation.function.program_type or "")
    field_row = described.field_at(off, row.size) if described is not None else None
    run.context_loads.add((run.context_epoch, off, row.size))
    if field_row is None or row.sign:
        return Value(terms.var(("context word", run.context_epoch, off, row.name), WORD), UNKNOWN_FACT)
    if field_row.region is not Region.SCALAR:
        name = ("context pointer", run.context_epoch, off, row.width, field_row.region)
        return Value(terms.var(name, WORD), Register(field_row.region, nullable=field_row.nullable))
    value = terms.var(("context", run.context_epoch, off, row.width), row.width)
    return Value(loaded(terms, row, value), SCALAR_FACT)


def _store(run: Run, insn: Insn) -> None:
    row, fact = insn.row, run.registers[insn.dst].fact
    address = run.address(insn.dst, insn.off)
    value = stored(run.terms, row, _operand_of_store(run, insn))
    if is_private(fact):
        if insn.kind is Kind.STORE_RELEASE:
            _require_stack(insn, fact)
            order_accesses(run, insn.row.name)
        _private_store(run, insn, fact, address, value)
        return
    kind = "store-release" if insn.kind is Kind.STORE_RELEASE else "store"
    if fact.region is Region.CTX:
        kind = f"context {kind}"
    else:
        require_shared(fact)
    scopes = run.shared_scopes(fact.region)
    operands = (ev.Operand("address", address), ev.Operand("value", value))
    number = run.event(
        (kind, row.width), f"{row.width}-bit {kind} to shared memory", operands, scopes, fact.region is Region.UNKNOWN
    )
    if fact.region is Region.CTX or fact.region is Region.UNKNOWN:
        run.context_epoch = number + 1
    if scopes:
        run.havoc(packet=True, stacks=True, number=number)


def _operand_of_store(run: Run, insn: Insn) -> Term:
    return immediate(run.terms, insn.imm) if insn.kind is Kind.STORE_IMM else run.registers[insn.src].term


def _private_store(run: Run, insn: Insn, fact: Register, address: Term, value: Term) -> None:
    where = run.private_places(fact, address, insn.row.size)
    memory = run.region(region_key(fact))
    for place, byte in zip(where, cut(run.terms, value, run.obligation.unit.byte_order), strict=True):
        memory.write(place, byte)
    if region_key(fact) != ev.stack_key(0):
        return
    run.forget_spills(where)
    off = where[0].off - (1 << WORD)
    if insn.row.size == 8 and where[0].base is run.entry.frame_pointer and off % 8 == 0:
        run.spills[off] = run.registers[insn.src].fact if insn.kind is Kind.STORE else SCALAR_FACT


def _jump(run: Run, insn: Insn) -> None:
    run.control = Control("jumps", _target(insn), run.terms.const(1, 1))


def _branch(run: Run, insn: Insn) -> None:
    taken = branch_taken(run.terms, insn.row, run.registers[insn.dst].term, _operand(run, insn))
    run.control = Control("jumps", _target(insn), taken)


def _target(insn: Insn) -> str:
    if insn.ref is None:
        raise TooHardError("a jump without a label")
    return insn.ref.name


def _may_goto(run: Run, insn: Insn) -> None:
    run.control = Control("may_goto", _target(insn), run.terms.const(1, 1))


def _exit(run: Run, insn: Insn) -> None:
    run.control = Control("exits", "", run.terms.const(1, 1))


_ANYWHERE = 1 << 32
_SET_NOTHING = STORE_KINDS | {Kind.ATOMIC}
_WITH_REFERENCE = frozenset({Kind.LOAD_WIDE, Kind.CALL, Kind.JUMP, Kind.BRANCH, Kind.MAY_GOTO})
_STEPS: dict[Kind, Callable[[Run, Insn], None]] = {
    Kind.ALU: _alu,
    Kind.ENDIAN: _endian,
    Kind.LOAD_WIDE: _load_wide,
    Kind.LOAD: _load,
    Kind.LOAD_ACQUIRE: _load,
    Kind.STORE: _store,
    Kind.STORE_IMM: _store,
    Kind.STORE_RELEASE: _store,
    Kind.ATOMIC: atomic,
    Kind.JUMP: _jump,
    Kind.BRANCH: _branch,
    Kind.MAY_GOTO: _may_goto,
    Kind.CALL: call,
    Kind.EXIT: _exit,
    Kind.LEGACY_LOAD: legacy_load,
    Kind.CAST: keep,
}

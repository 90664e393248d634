"""Instructions that must stay: the prover orders them among the events and knows nothing of what they compute."""

from __future__ import annotations

from dataclasses import replace

from verifier_model.bpf.evaluate import atomic_destination, atomic_memory
from verifier_model.bpf.insn import NO_ORIGIN, Insn
from verifier_model.bpf.isa import STORE_KINDS, Kind
from verifier_model.domains.registers import SHARED, Region, Register
from verifier_model.prover import events as ev
from verifier_model.prover.entry import SCALAR_FACT, UNKNOWN_FACT, WORD, Value, is_start
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.memory import cut, glue
from verifier_model.prover.provenance import is_private, region_key
from verifier_model.prover.run import Run
from verifier_model.prover.terms import Term

_SKB_REGISTER = 6
_PLAIN = frozenset({"add", "or", "and", "xor"})
# Hash, array, their per-CPU and LRU kinds: values start at a multiple of eight (kernel/bpf/hashtab.c, arraymap.c).
# Tries are not among them (lpm_trie.c: the value comes straight behind the key).
_ALIGNED_VALUES = frozenset({1, 2, 5, 6, 9, 10})
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
    """Raises TooHardError unless the pointer leads to memory that others may share.

    What `Run.may_reach_private` says of it decides whether the access also sees, or changes, private memory.
    """
    if fact.region not in SHARED:
        raise TooHardError(f"an access through a pointer of kind {fact.region.value}")


def atomic(run: Run, insn: Insn) -> None:
    """An atomic operation on shared memory: same address, same operand, and one result for both programs."""
    row, terms, fact = insn.row, run.terms, run.registers[insn.dst].fact
    if fact.region is Region.STACK:
        _private_atomic(run, insn, fact)
        return
    if is_private(fact) or fact.region is Region.CTX:
        raise TooHardError(f"an atomic operation through a pointer of kind {fact.region.value}")
    require_shared(fact)
    if _stands_for_plain(run, insn, fact):
        _as_plain(run, insn)
        return
    operands = [
        ev.Operand("address", run.address(insn.dst, insn.off)),
        ev.Operand("operand", terms.trunc(row.width, run.registers[insn.src].term)),
    ]
    if row.op == "cmpxchg":
        operands.append(ev.Operand("expected value", terms.trunc(row.width, run.registers[0].term)))
    scopes = run.shared_scopes(fact.region)
    is_kept = fact.region is Region.UNKNOWN
    number = run.event((row.name,), f"{row.name} on shared memory", tuple(operands), scopes, is_kept)
    if scopes:
        run.havoc(packet=True, stacks=True, number=number)
        run.context_epoch = number + 1
    _give_old(run, insn, terms.var(("shared", number), row.width))


def _stands_for_plain(run: Run, insn: Insn, fact: Register) -> bool:
    """May it do at once what `before` does by a load and the store that comes next: other accesses between the two
    are among what `before` allows, so their absence is, too (DESIGN.md, Shared memory)?

    An atomic access must be aligned on some machines, whatever the kernel's checker says of it.
    """
    number, script = len(run.events), run.script
    if script is None or number + 1 >= len(script) or insn.row.fetch or insn.row.op not in _PLAIN:
        return False
    found = run.obligation.unit.map(fact.symbol)
    if fact.region is not Region.MAP_VALUE or fact.assumed_safe or found is None or found.type not in _ALIGNED_VALUES:
        return False
    base, off = run.terms.split(run.address(insn.dst, insn.off))
    if not is_start(base, fact) or off % insn.row.size or run.shared_scopes(fact.region):
        return False
    width = insn.row.width
    return script[number].shape == ("load", width) and script[number + 1].shape == ("store", width)


def _as_plain(run: Run, insn: Insn) -> None:
    """The operation as the two events that it stands for."""
    terms, row, address = run.terms, insn.row, ev.Operand("address", run.address(insn.dst, insn.off))
    number = run.event(("load", row.width), f"the load of {row.name}", (address,))
    old = terms.var(("shared", number), row.width)
    new = atomic_memory(terms, row, old, run.registers[insn.src].term, run.registers[0].term)
    run.event(("store", row.width), f"the store of {row.name}", (address, ev.Operand("value", new)))


def _private_atomic(run: Run, insn: Insn, fact: Register) -> None:
    """On the stack nobody sees the access, so its effect is computed; but it orders others, so it keeps its place."""
    row, terms, order = insn.row, run.terms, run.obligation.unit.byte_order
    where = run.private_places(fact, run.address(insn.dst, insn.off), row.size)
    order_accesses(run, row.name)
    memory = run.region(region_key(fact))
    old = glue(terms, [memory.read(place) for place in where], order)
    new = atomic_memory(terms, row, old, run.registers[insn.src].term, run.registers[0].term)
    for place, byte in zip(where, cut(terms, new, order), strict=True):
        memory.write(place, byte)
    if region_key(fact) == ev.stack_key(0):
        run.forget_spills(where)
    _give_old(run, insn, old)


def order_accesses(run: Run, name: str) -> None:
    """The place among the events that an instruction keeps because it orders the accesses of others."""
    run.event(("order", name), f"{name} on the stack", (), is_kept=True)


def _give_old(run: Run, insn: Insn, old: Term) -> None:
    destination = atomic_destination(insn.row, insn.src)
    if destination is not None:
        fact = SCALAR_FACT if insn.row.width < WORD else UNKNOWN_FACT
        run.registers[destination] = Value(run.terms.zext(WORD, old), fact)


def legacy_load(run: Run, insn: Insn) -> None:
    """A packet load that ends the program where the packet ends: all that outlives the program must be equal there.

    It takes the skb from r6, gives r0, and leaves r1 to r5 as a call does (kernel/bpf/verifier.c, check_ld_abs).  The
    register of an indirect load and its number are added before anybody sees them (net/core/filter.c, bpf_gen_ld_abs).
    """
    operands = [ev.Operand(f"r{_SKB_REGISTER}", run.registers[_SKB_REGISTER].term)]
    is_indirect = "src" in insn.row.uses
    if is_indirect:
        operands.append(ev.Operand("offset", run.terms.offset(run.registers[insn.src].term, insn.imm)))
    scopes = ev.EVERYTHING if run.obligation.function.is_subprogram else (ev.Scope(ev.PACKET),)
    shape = ("legacy load", insn.row.name, None if is_indirect else insn.imm)
    number = run.event(shape, f"{insn.row.name} of the packet", tuple(operands), scopes)
    value = run.terms.zext(WORD, run.terms.var(("shared", number), insn.row.width))
    run.registers[0] = Value(value, SCALAR_FACT)
    for reg in range(1, _SKB_REGISTER):
        run.registers[reg] = Value(run.terms.var(("garbage", run.side, number, reg), WORD), UNKNOWN_FACT)

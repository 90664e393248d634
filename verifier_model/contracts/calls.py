"""The effects of one call, from the callee's contract and from what is known of the argument registers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Function, MapDef, Unit
from verifier_model.contracts.effects import UNKNOWN_CALL, CallEffects, MemoryArgument
from verifier_model.contracts.frame_address import may_leak_frame
from verifier_model.contracts.helpers import HELPERS, Argument, ArgumentKind, Helper
from verifier_model.contracts.subprograms import local_callee, summary
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import State

# May the register hold an address of the caller's frame?  (A function address is handed to callbacks only.)
_MAYBE_STACK: Final = frozenset({Region.STACK, Region.UNKNOWN})
# Memory of the program's own that a helper may reach through a register that it takes for a plain number.
_NO_MEMORY: Final = frozenset({Region.UNINIT, Region.SCALAR, Region.FUNCTION, Region.MAP, Region.PACKET_END})
_DYNPTR_BYTES: Final = 16
_LARGEST_SIZE: Final = (1 << 29) - 1  # BPF_MAX_VAR_SIZ: the kernel refuses larger sizes


def call_effects(insn: Insn, state: State, unit: Unit, function: Function) -> CallEffects:
    """Upper bounds on what the call `insn` does when it is reached in `state`.

    Raises ValueError when `insn` is not a call.  `function` is the caller.  Unknown helpers and all kfuncs come out as
    `effects.UNKNOWN_CALL`.
    """
    if insn.kind is not Kind.CALL:
        raise ValueError(f"{insn.row.name} is not a call")
    if insn.row.name == "call_helper":
        helper = HELPERS.get(insn.imm) if insn.ref is None else None
        return UNKNOWN_CALL if helper is None else helper_effects(helper, state, unit, function)
    callee = local_callee(insn, unit)
    return UNKNOWN_CALL if callee is None else _local_effects(callee, state, unit)


def _local_effects(callee: Function, state: State, unit: Unit) -> CallEffects:
    """A function of the same object: whatever its body and its callees may do, on any path."""
    facts = summary(callee, unit)
    return replace(
        UNKNOWN_CALL,
        arguments=facts.arguments,
        changes_packet=facts.changes_packet,
        writes_all=facts.writes_memory,
        private_stack=not any(state.regs[reg].region in _MAYBE_STACK for reg in facts.arguments),
    )


def helper_effects(helper: Helper, state: State, unit: Unit, function: Function) -> CallEffects:
    """Upper bounds on what a call of `helper` does in `state` (registers r1 to r5 as the arguments)."""
    registers = tuple(range(1, len(helper.arguments) + 1))
    if helper.callback:
        return replace(UNKNOWN_CALL, arguments=registers)
    reads: list[MemoryArgument] = []
    writes: list[MemoryArgument] = []
    must_write: list[MemoryArgument] = []
    observes = helper.observes_packet or helper.changes_packet
    for reg in registers:
        argument, known = helper.arguments[reg - 1], state.regs[reg]
        observes = observes or _may_be_context(argument, known)
        size = _memory_size(helper, reg, state, unit)
        if argument.nullable and known.is_scalar and known.value.constant == 0:
            continue
        memory = MemoryArgument(reg, size)
        if _is_read(argument, known) or _may_be_frame(argument, known, unit, function):
            reads.append(memory)
        if argument.is_written:
            writes.append(memory)
        if helper.fills and argument.kind is ArgumentKind.MEM_WRITE and _is_exact_size(helper, reg, state):
            must_write.append(memory)
    map_reg = helper.register_of(ArgumentKind.MAP)
    if helper.writes_map and map_reg is not None:
        writes.append(MemoryArgument(map_reg, None))
    return CallEffects(
        registers,
        tuple(reads),
        tuple(writes),
        tuple(must_write),
        observes_packet=observes,
        changes_packet=helper.changes_packet,
        reads_all=helper.reads_all,
        writes_all=helper.writes_all,
        is_pure=helper.is_pure,
    )


def _may_be_context(argument: Argument, known: Register) -> bool:
    # Several helpers take a context in some program types and an object in others (setsockopt, sk_storage_get).
    if argument.kind is ArgumentKind.CTX:
        return True
    return argument.kind in (ArgumentKind.SOCKET, ArgumentKind.OBJECT) and known.region in (Region.CTX, Region.UNKNOWN)


_READ_KINDS: Final = frozenset(
    {
        ArgumentKind.CTX,
        ArgumentKind.MAP_KEY,
        ArgumentKind.MAP_VALUE,
        ArgumentKind.MEM_READ,
        ArgumentKind.MEM_READ_WRITE,
        ArgumentKind.RECORD,
        ArgumentKind.STRING,
        ArgumentKind.SOCKET,
        ArgumentKind.OBJECT,
        ArgumentKind.FRAME,
        ArgumentKind.SPIN_LOCK,
        ArgumentKind.TIMER,
        ArgumentKind.KPTR,
        ArgumentKind.DYNPTR,
    }
)


def _is_read(argument: Argument, known: Register) -> bool:
    if argument.kind is ArgumentKind.PEEK:
        return known.region not in _NO_MEMORY
    return argument.kind in _READ_KINDS


def _may_be_frame(argument: Argument, known: Register, unit: Unit, function: Function) -> bool:
    # Constants are nobody's frame.
    is_number = argument.kind is ArgumentKind.PEEK and known.is_scalar and known.value.constant is None
    return is_number and may_leak_frame(function, unit)


def _memory_size(helper: Helper, reg: int, state: State, unit: Unit) -> int | None:
    """Most bytes that the helper touches behind `reg`, None without a known bound."""
    argument = helper.arguments[reg - 1]
    if argument.size:
        return argument.size
    if argument.kind in (ArgumentKind.MAP_KEY, ArgumentKind.MAP_VALUE, ArgumentKind.MAP_VALUE_OUT):
        return _map_size(helper, argument.kind, state, unit)
    if argument.kind is ArgumentKind.DYNPTR:
        return _DYNPTR_BYTES
    if argument.kind is ArgumentKind.RECORD:
        return state.regs[reg].size or None
    size_reg = helper.size_register(reg)
    if argument.kind is ArgumentKind.PEEK:
        # The probe_read family: the size of the destination, which comes first, bounds what is read.
        size_reg = next((at for at in range(1, reg) if helper.arguments[at - 1].kind is ArgumentKind.SIZE), None)
        if helper.arguments[0].kind is not ArgumentKind.MEM_WRITE:
            return None
    if size_reg is None:
        return None
    return _largest(state.regs[size_reg])


def _largest(size: Register) -> int | None:
    if not size.is_scalar:
        return None
    # Helpers take u32 sizes, but the verifier bounds the whole register.
    most = size.value.umax if size.value.constant is None else size.value.constant
    return most if most <= _LARGEST_SIZE else None


def _is_exact_size(helper: Helper, reg: int, state: State) -> bool:
    size_reg = helper.size_register(reg)
    if size_reg is None or not state.regs[size_reg].is_scalar:
        return False
    constant = state.regs[size_reg].value.constant
    return constant is not None and constant <= _LARGEST_SIZE


def _map_size(helper: Helper, kind: ArgumentKind, state: State, unit: Unit) -> int | None:
    map_reg = helper.register_of(ArgumentKind.MAP)
    if map_reg is None:
        return None
    definition = map_of(state.regs[map_reg], unit)
    if definition is None:
        return None
    return (definition.key_size if kind is ArgumentKind.MAP_KEY else definition.value_size) or None


def map_of(register: Register, unit: Unit) -> MapDef | None:
    """The definition of the map that the register points to, None for unknown ones.

    Of an inner map it tells type and sizes alone: which map that is, nobody knows.
    """
    if register.region is not Region.MAP or not register.symbol:
        return None
    return unit.map(register.symbol)

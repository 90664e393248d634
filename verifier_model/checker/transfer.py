"""One step of abstract execution for every kind of instruction.

Each rule follows from the instruction's meaning and from contracts alone, never from "the kernel would refuse
otherwise": a store that is not shown to stay in its object may change any stack byte, and a number used as an address
reads anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.checker.branches import operand
from verifier_model.checker.calls import call
from verifier_model.checker.core_accesses import core_loaded, is_offset
from verifier_model.checker.environment import UNINIT, UNKNOWN, ZERO, Environment, with_reg
from verifier_model.checker.externs import extern_value
from verifier_model.checker.memory import is_inside, load, mark, soften, soften_all, stack_span, write
from verifier_model.checker.numbers import kernel_alu
from verifier_model.checker.stored_pointers import shown
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar, alu, alu_row, endian
from verifier_model.domains.state import State

U32_MAX: Final = (1 << 32) - 1
_ANY: Final = Register.scalar(Scalar.top())
_ANY32: Final = Register.scalar(Scalar.of_width(32))
_OFF_LIMIT: Final = 1 << 31
_COUNTED: Final = frozenset({Region.MEMORY, Region.OBJECT})  # what references may be held to
# Pointers that numbers may be added to; the others turn into something that no fact speaks about.
_MOVABLE: Final = frozenset(
    {
        Region.CTX,
        Region.STACK,
        Region.PACKET,
        Region.PACKET_META,
        Region.MAP_VALUE,
        Region.DATA,
        Region.MEMORY,
        Region.OBJECT,
    }
)


def step(env: Environment, insn: Insn, state: State) -> State:
    """The state behind an instruction that does not end a block; calls are taken by their contracts."""
    return _STEPS[insn.row.kind](env, insn, state)


def _alu(env: Environment, insn: Insn, state: State) -> State:
    row = insn.row
    src = operand(insn, state)
    if env.modest and is_offset(insn) and row.operand is Operand.IMM:
        # By the object's own types, which the check takes for the kernel's; facts leave it open.
        src = Register.scalar(Scalar.const(insn.imm))
    dst = state.regs[insn.dst]
    if row.op == "mov":
        return _move(env, insn, state, src)
    if row.op.startswith("movsx"):
        dst = src
    if dst.is_scalar and src.is_scalar:
        return with_reg(state, insn.dst, Register.scalar(_number(env, insn, dst.value, src.value)))
    if row.width == 32:
        # For the kernel the difference of two pointers has 64 unknown bits at either width.
        return with_reg(state, insn.dst, _ANY if env.modest and row.op == "sub" else _ANY32)
    if row.op in ("add", "sub"):
        return with_reg(state, insn.dst, _pointer_sum(env, row.op, dst, src))
    return with_reg(state, insn.dst, _ANY)


def _number(env: Environment, insn: Insn, dst: Scalar, src: Scalar) -> Scalar:
    return kernel_alu(insn.row, dst, src) if env.modest else alu_row(insn.row, dst, src)


def _move(env: Environment, insn: Insn, state: State, src: Register) -> State:
    knows, is_narrow = env.knows, insn.row.width == 32
    if is_narrow and not (src.is_scalar and src.value.umax <= U32_MAX):
        value = alu("mov", 32, ZERO, src.value) if src.is_scalar else Scalar.of_width(32)
        return with_reg(state, insn.dst, Register.scalar(value))
    if is_narrow and knows is not None and not knows.linked_narrow_moves:
        return with_reg(state, insn.dst, Register.scalar(src.value))
    if src.is_scalar and src.id == 0 and src.value.bits_mask and insn.row.operand is Operand.REG:
        # From here on both hold one number: what a branch teaches about one holds for the other.
        src = Register(Region.SCALAR, src.value, id=env.fresh())
        state = with_reg(state, insn.src, src)
    return with_reg(state, insn.dst, src)


def _pointer_sum(env: Environment, op: str, dst: Register, src: Register) -> Register:
    if dst.is_pointer and src.is_pointer:
        return _ANY
    if src.is_pointer and op == "add":
        if env.modest and src.region in _COUNTED:
            # A pointer that a number was added to from the left has lost its reference (adjust_ptr_min_max_vals).
            return UNKNOWN
        dst, src = src, dst
    if not src.is_scalar:
        return UNKNOWN
    if dst.region is Region.MAP and op == "add" and src.value.constant == 0 and not dst.nullable:
        return replace(dst, exact=None)
    if not dst.is_pointer or dst.nullable or dst.region not in _MOVABLE:
        return _ANY if dst.is_scalar else UNKNOWN
    if src.value.constant is not None:
        off = dst.off + (src.value.smin if op == "add" else -src.value.smin)
        if abs(off) < _OFF_LIMIT:
            return replace(dst, off=off, exact=None)
    value = alu(op, 64, dst.value, src.value)
    return replace(dst, value=value, id=env.fresh(), packet_range=0, exact=None)


def _endian(env: Environment, insn: Insn, state: State) -> State:
    dst = state.regs[insn.dst]
    if env.modest or not dst.is_scalar:
        # The kernel forgets the number whole, whatever the width.
        return with_reg(state, insn.dst, _ANY if env.modest else Register.scalar(Scalar.of_width(insn.row.width)))
    return with_reg(state, insn.dst, Register.scalar(endian(insn.row, dst.value, env.unit.byte_order)))


def _wide(env: Environment, insn: Insn, state: State) -> State:
    return with_reg(state, insn.dst, _wide_value(env, insn))


def _wide_value(env: Environment, insn: Insn) -> Register:
    ref = insn.ref
    if insn.origin.core:
        if env.modest and ref is None and is_offset(insn):
            return Register.scalar(Scalar.const(insn.imm))
        return _ANY if ref is None else UNKNOWN
    if ref is None:
        return Register.scalar(Scalar.const(insn.imm)) if insn.row.name == "lddw_constant" else UNKNOWN
    if ref.kind is RefKind.MAP:
        return Register(Region.MAP, ZERO, base=env.symbol_id(ref.name), symbol=ref.name, exact=ref)
    if ref.kind is RefKind.DATA and ref.name in env.unit.data:
        # The object behind a data symbol is the whole section: the loader makes it one map value.
        base = env.symbol_id(ref.name)
        size = env.unit.data[ref.name].size
        return Register(Region.DATA, ZERO, ref.addend, base, base, symbol=ref.name, size=size, exact=ref)
    if ref.kind is RefKind.FUNCTION:
        return Register(Region.FUNCTION, ZERO, symbol=ref.name, exact=ref)
    return extern_value(env, ref) if ref.kind is RefKind.EXTERN and env.modest else UNKNOWN


def _load(env: Environment, insn: Insn, state: State) -> State:
    row = insn.row
    if insn.origin.core:
        return with_reg(state, insn.dst, core_loaded(env, insn, state))
    pointer = state.regs[insn.src]
    kept = shown(env, state, pointer, insn.off, row.size)
    loaded = kept or load(env, state, pointer, insn.off, row.size, row.sign)
    return with_reg(state, insn.dst, loaded)


def _store(env: Environment, insn: Insn, state: State) -> State:
    pointer = state.regs[insn.dst]
    if insn.origin.core and not env.modest:
        return soften_all(state)
    if pointer.region is Region.OBJECT and env.modest:
        return state
    if insn.row.kind is Kind.STORE_IMM:
        return write(state, pointer, insn.off, insn.row.size, _immediate(env, insn))
    value = state.regs[insn.src]
    if env.knows is not None and not env.knows.stack_parts and value.is_scalar:
        # Before 6.9 a spill is no copy, and one without bounds is not kept at all (register_is_bounded).
        if value.value == Scalar.top():
            value = _ANY
    elif value.is_scalar and value.id == 0 and value.value.bits_mask and insn.row.size == 8:
        value = Register(Region.SCALAR, value.value, id=env.fresh())
        state = with_reg(state, insn.src, value)
    return write(state, pointer, insn.off, insn.row.size, value)


def _immediate(env: Environment, insn: Insn) -> Register:
    if insn.ref is not None:
        return _ANY
    is_forgotten = env.knows is not None and not env.knows.store_immediate
    return _ANY if is_forgotten and insn.imm else Register.scalar(Scalar.const(insn.imm))


def _atomic(env: Environment, insn: Insn, state: State) -> State:
    row, pointer = insn.row, state.regs[insn.dst]
    old: Register = _ANY if row.size == 8 else _ANY32
    if pointer.region is Region.STACK:
        span = stack_span(pointer, insn.off, row.size)
        if span is None:
            state, old = soften_all(state), UNKNOWN
        elif span[1] - span[0] != row.size:
            state, old = soften(state, pointer.frame, *span), UNKNOWN
        else:
            before = load(env, state, pointer, insn.off, row.size, False)
            old = old if before.is_scalar else UNKNOWN
            state = mark(state, pointer.frame, *span, "m")
    elif not is_inside(pointer, insn.off, row.size):
        state, old = soften_all(state), UNKNOWN if row.size == 8 else _ANY32
    if insn.origin.core and not env.modest:
        state, old = soften_all(state), UNKNOWN
    if not row.fetch:
        return state
    return with_reg(state, 0 if row.op == "cmpxchg" else insn.src, old)


def _legacy(env: Environment, insn: Insn, state: State) -> State:
    # The kernel does not note the width.
    result = _ANY if env.modest else Register.scalar(Scalar.of_width(insn.row.width))
    return State((result, *[UNINIT] * 5, *state.regs[6:]), state.stack, state.callers, state.references)


def _cast(env: Environment, insn: Insn, state: State) -> State:
    return with_reg(state, insn.dst, UNKNOWN)


_STEPS: Final[Mapping[Kind, Callable[[Environment, Insn, State], State]]] = {
    Kind.ALU: _alu,
    Kind.ENDIAN: _endian,
    Kind.LOAD_WIDE: _wide,
    Kind.LOAD: _load,
    Kind.LOAD_ACQUIRE: _load,
    Kind.STORE: _store,
    Kind.STORE_IMM: _store,
    Kind.STORE_RELEASE: _store,
    Kind.ATOMIC: _atomic,
    Kind.LEGACY_LOAD: _legacy,
    Kind.CALL: call,
    Kind.CAST: _cast,
}

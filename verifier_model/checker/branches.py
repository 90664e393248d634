"""What a branch teaches: ranges of numbers, NULL or not, and how far the packet reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Operand
from verifier_model.checker.environment import MAX_PACKET_OFF, ZERO, each_register, with_reg
from verifier_model.checker.knowledge import Knowledge
from verifier_model.checker.numbers import new_lesson, old_decision, old_lesson
from verifier_model.checker.references import is_local
from verifier_model.contracts.contexts import VIEWS
from verifier_model.domains.registers import Region, Register, Trust
from verifier_model.domains.scalar import Scalar, refine
from verifier_model.domains.state import State

U64: Final = (1 << 64) - 1
# op -> (which side is then proved inside: when taken, when not; is the last byte inside too?), for `packet op end`.
# A packet pointer p with p <= end proves its off bytes; p < end proves one more (try_match_pkt_pointers).
_PACKET_FIRST: Final = {
    "jgt": (False, False),
    "jlt": (True, True),
    "jge": (False, True),
    "jle": (True, False),
}
# The same for `end op packet`.
_END_FIRST: Final = {
    "jgt": (True, True),
    "jlt": (False, False),
    "jge": (True, False),
    "jle": (False, True),
}
# `packet_range` of a packet pointer that is known to lie at the packet's end or behind it, or behind it (since 5.11).
AT_END: Final = -1
BEYOND_END: Final = -2
# Pointers that cannot be 0 as long as they are not marked nullable; those that every kernel knows (reg_not_null).
_NEVER_NULL: Final = frozenset({Region.MAP_VALUE, Region.MAP, Region.MEMORY, Region.OBJECT, Region.STACK, Region.CTX})
_KNOWN_NOT_NULL: Final = frozenset({Region.MAP_VALUE})
_TRUSTED_NOT_NULL: Final = (6, 6, 0)
_EQUAL_NOT_NULL: Final = (6, 2, 0)
_NO_STRUCTURES: Final = frozenset({"(buffer)", "(writable)", "bpf_dynptr"})
_KNOWN_SOCKETS: Final = frozenset({"bpf_sock", "bpf_sock_common", "bpf_tcp_sock"})


def operand(insn: Insn, state: State) -> Register:
    """The second operand of an ALU instruction or branch.  What gets patched after us is unknown."""
    if insn.row.operand is Operand.REG:
        return state.regs[insn.src]
    if insn.origin.core or (insn.ref is not None and "target" not in insn.row.uses):
        return Register.scalar(Scalar.top())
    return Register.scalar(Scalar.const(insn.imm))


def branch(insn: Insn, state: State, taken: bool, knows: Knowledge | None = None) -> State | None:
    """The state after the branch went that way; None when it cannot have.

    With `knows`, only what that kernel learns from it.
    """
    row = insn.row
    dst, src = state.regs[insn.dst], operand(insn, state)
    if dst.is_scalar and src.is_scalar:
        return _numbers(insn, state, dst, src, taken, knows)
    if row.width != 64:
        return state
    # A comparison with a register that holds 0 tells the kernel nothing of a pointer.
    is_known = knows is None or row.operand is Operand.IMM
    if is_known and dst.is_pointer and src.is_scalar and src.value.constant == 0 and row.op in ("jeq", "jne"):
        return _null_check(state, dst, (row.op == "jeq") == taken, knows)
    if knows is None and src.is_pointer and dst.is_scalar and dst.value.constant == 0 and row.op in ("jeq", "jne"):
        return _null_check(state, src, (row.op == "jeq") == taken, knows)
    if knows is not None and dst.is_pointer and src.is_pointer and (row.op == "jeq") is taken:
        state = _same_pointer(insn, state, knows)
    if knows is not None and knows.beyond_end and end_decides(insn, state) is (not taken):
        return None
    return _packet_check(insn, state, taken, knows)


def _same_pointer(insn: Insn, state: State, knows: Knowledge) -> State:
    """Where two pointers are equal and one is not NULL, neither is the other (no structures of the kernel's)."""
    if insn.row.op not in ("jeq", "jne") or (knows.release or (0, 0, 0)) < _EQUAL_NOT_NULL:
        return state
    for at, other in ((insn.dst, insn.src), (insn.src, insn.dst)):
        register = state.regs[at]
        if register.nullable and _may_be_learnt(register) and _is_never_null(state.regs[other]):
            return with_reg(state, at, replace(register, nullable=False))
    return state


def _may_be_learnt(register: Register) -> bool:
    is_socket = register.object is not None and register.object.name in _KNOWN_SOCKETS
    return register.region is Region.MAP_VALUE or (register.region is Region.OBJECT and is_socket)


def _is_never_null(register: Register) -> bool:
    is_known = register.region in (Region.MAP_VALUE, Region.DATA) or _may_be_learnt(register)
    return is_known and not register.nullable and _is_start(register)


def _numbers(
    insn: Insn, state: State, dst: Register, src: Register, taken: bool, knows: Knowledge | None
) -> State | None:
    row = insn.row
    pair: tuple[Scalar, Scalar] | None
    if knows is None:
        pair = refine(row, dst.value, src.value, taken)
    elif knows.ranges_decide:
        pair = new_lesson(row, dst.value, src.value, taken)
    else:
        decision = old_decision(row, dst.value, src.value)
        if decision is not None:
            return state if decision is taken else None
        pair = old_lesson(row, dst.value, src.value, taken)
    if pair is None:
        return None
    state = _learn(state, insn.dst, dst, pair[0])
    return _learn(state, insn.src, src, pair[1]) if row.operand is Operand.REG else state


def _learn(state: State, reg: int, old: Register, value: Scalar) -> State:
    if value == old.value:
        return state
    new = Register.scalar(value, old.id)
    if old.id == 0:
        return with_reg(state, reg, new)

    def change(register: Register) -> Register:
        return new if register.id == old.id and register.is_scalar else register

    return each_register(state, change)


def _null_check(state: State, pointer: Register, is_null: bool, knows: Knowledge | None) -> State | None:
    if not pointer.nullable:
        if _is_object(state, pointer, knows):
            return None if is_null else state
        is_socket = pointer.object is not None and pointer.object.name in _KNOWN_SOCKETS
        if knows is not None and pointer.region not in _KNOWN_NOT_NULL and not is_socket:
            return state
        if pointer.region is Region.OBJECT and (pointer.object is None or pointer.object.name not in VIEWS):
            # A pointer that was found in a kernel object may be NULL, whatever its type says.
            return state
        return None if is_null and pointer.region in _NEVER_NULL and _is_start(pointer) else state
    if not (_is_start(pointer) or is_local(pointer)) or pointer.id == 0:
        return state
    zero = Register.scalar(ZERO)

    def change(register: Register) -> Register:
        if register.id != pointer.id or register.region is not pointer.region or not register.nullable:
            return register
        return zero if is_null else replace(register, nullable=False)

    state = each_register(state, change)
    if is_null and pointer.id in state.references:
        left = tuple(held for held in state.references if held != pointer.id)
        state = State(state.regs, state.stack, state.callers, left)
    return state


def _is_object(state: State, pointer: Register, knows: Knowledge | None) -> bool:
    """Does the kernel know that it has an object here (reg_not_null, for what is trusted)?"""
    kind = pointer.object
    if pointer.region is not Region.OBJECT or kind is None or pointer.value.constant != 0:
        return False
    if knows is not None and (knows.release or (0, 0, 0)) < _TRUSTED_NOT_NULL:
        return False
    if kind.trust is Trust.LOCAL:
        return True
    is_kernels = kind.name and kind.name not in VIEWS and kind.name not in _NO_STRUCTURES
    is_trusted = kind.trust is Trust.TRUSTED or pointer.id in state.references
    return knows is not None and bool(is_kernels) and is_trusted and _is_start(pointer)


def _is_start(pointer: Register) -> bool:
    # base + something may wrap to 0 in theory, so a NULL check of a moved pointer says nothing about its base.
    return pointer.off == 0 and pointer.value.constant == 0


def _packet_check(insn: Insn, state: State, taken: bool, knows: Knowledge | None) -> State:
    dst, src = state.regs[insn.dst], operand(insn, state)
    if _is_limit(dst, src):
        table, packet, reg = _PACKET_FIRST, dst, insn.dst
    elif _is_limit(src, dst):
        table, packet, reg = _END_FIRST, src, insn.src
    else:
        return state
    row = table.get(insn.row.op)
    if row is None:
        return state
    if row[0] is not taken:
        if knows is None:
            return state
        # On the other side the kernel takes this very pointer to lie at the end, whatever was known (mark_pkt_end).
        is_marked = knows.beyond_end and packet.region is Region.PACKET
        return with_reg(state, reg, replace(packet, packet_range=end_mark(row[1]) if is_marked else 0))
    proved = packet.off + (1 if row[1] else 0)
    # Beyond this the sum could wrap (find_good_pkt_pointers has the same limits).
    if packet.off < 0 or packet.id == 0 or packet.value.smin < 0 or packet.value.umax + packet.off > MAX_PACKET_OFF:
        return state
    if knows is not None and packet.off == 0:
        # "start < end" proves a byte, and the kernel makes nothing of it.
        return state

    def change(register: Register) -> Register:
        if register.region is packet.region and register.id == packet.id and register.packet_range < proved:
            return replace(register, packet_range=proved)
        return register

    return each_register(state, change)


def packet_sides(insn: Insn, state: State) -> tuple[int, bool, bool] | None:
    """For a comparison of a packet pointer with its end: the pointer's register, whether the taken side proves it
    inside, and whether it does so one byte further than the pointer (p < end).  None for any other branch.
    """
    if insn.row.operand is not Operand.REG:
        return None
    dst, src = state.regs[insn.dst], state.regs[insn.src]
    for reg, table, packet, end in ((insn.dst, _PACKET_FIRST, dst, src), (insn.src, _END_FIRST, src, dst)):
        row = table.get(insn.row.op)
        if row is not None and _is_limit(packet, end):
            return reg, row[0], row[1]
    return None


def end_decides(insn: Insn, state: State) -> bool | None:
    """Is the branch taken, as a packet pointer is known to lie at or behind the end (is_pkt_ptr_branch_taken)?"""
    sides = packet_sides(insn, state)
    if sides is None:
        return None
    reg, is_taken_inside, is_open = sides
    reach = state.regs[reg].packet_range
    return not is_taken_inside if reach == BEYOND_END or (reach == AT_END and is_open) else None


def end_mark(is_open: bool) -> int:
    """The range of a pointer that was found outside; `is_open`: by p < end, else by p <= end."""
    return AT_END if is_open else BEYOND_END


def _is_limit(packet: Register, end: Register) -> bool:
    """Does a comparison of the two tell how far `packet` may go (metadata ends where the packet starts)?"""
    if packet.region is Region.PACKET:
        return end.region is Region.PACKET_END
    is_start = end.region is Region.PACKET and end.off == 0 and end.value.constant == 0
    return packet.region is Region.PACKET_META and is_start

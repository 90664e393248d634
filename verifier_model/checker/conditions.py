"""What must hold for the kernel to accept an instruction, as values that are decided in an abstract state.

Each condition says in the kernel's own style (kernel/bpf/verifier.c) why it does not hold.  Where kernels differ, or
where the model does not know a type, the stricter answer is given: the model may refuse too much, never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from verifier_model.bpf.insn import FRAME_POINTER, Insn, Ref, RefKind
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.checker.access import access_problem, type_name
from verifier_model.checker.branches import operand
from verifier_model.checker.core_accesses import PATCHED, core_problem
from verifier_model.checker.environment import MAX_VAR_OFF, Environment
from verifier_model.checker.externs import symbol_problem
from verifier_model.checker.kernel_objects import is_number
from verifier_model.checker.stored_pointers import shown
from verifier_model.contracts.contexts import VIEWS
from verifier_model.contracts.program_maps import map_problem
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar, alu
from verifier_model.domains.state import State

_S64_MIN: Final = -(1 << 63)
_PREDICTABLE: Final = frozenset({"add", "sub"})
# Arithmetic on these never gives anything usable (adjust_ptr_min_max_vals).
_FIXED: Final = frozenset({Region.MAP, Region.PACKET_END, Region.FUNCTION})


class Condition(Protocol):
    """Something that must hold just before an instruction."""

    def problem(self, env: Environment, state: State) -> str | None:
        """Why it does not hold, in the kernel's words; None when it does."""


@dataclass(frozen=True, slots=True)
class Readable:
    """The register has been written on every path."""

    reg: int

    def problem(self, env: Environment, state: State) -> str | None:
        return f"R{self.reg} !read_ok" if state.regs[self.reg].region is Region.UNINIT else None


@dataclass(frozen=True, slots=True)
class Writable:
    """Nothing but the kernel sets r10."""

    reg: int

    def problem(self, env: Environment, state: State) -> str | None:
        return "frame pointer is read only" if self.reg == FRAME_POINTER else None


@dataclass(frozen=True, slots=True)
class Number:
    """The register holds a number that the model may calculate with."""

    reg: int

    def problem(self, env: Environment, state: State) -> str | None:
        register = state.regs[self.reg]
        return None if is_number(register) else f"R{self.reg} type={type_name(register)} expected=scalar"


@dataclass(frozen=True, slots=True)
class Fixed:
    """Refused whatever the state."""

    reason: str

    def problem(self, env: Environment, state: State) -> str | None:
        return self.reason


@dataclass(frozen=True, slots=True)
class ValidArithmetic:
    """Both operands are numbers, or this is pointer arithmetic that the kernel allows."""

    insn: Insn

    def problem(self, env: Environment, state: State) -> str | None:
        row, at = self.insn.row, self.insn.dst
        dst = state.regs[at]
        src = dst if row.operand is Operand.NONE else operand(self.insn, state)
        if is_number(dst) and is_number(src):
            return None
        for register in (dst, src):
            if not (register.is_scalar or register.is_pointer):
                return f"R{at} arithmetic on a value of unknown type"
        if row.width == 32:
            # Of which the kernel knows nothing afterwards (adjust_ptr_min_max_vals).
            return None if row.op == "sub" else f"R{at} 32-bit pointer arithmetic prohibited"
        if row.op not in _PREDICTABLE or row.operand is Operand.NONE:
            return f"R{at} pointer arithmetic with {row.op} operator prohibited"
        if dst.is_pointer and src.is_pointer:
            return None if row.op == "sub" else f"R{at} pointer += pointer prohibited"
        if row.op == "sub" and src.is_pointer:
            return f"R{at} tried to subtract pointer from scalar"
        pointer, number = (dst, src) if dst.is_pointer else (src, dst)
        return _sum_problem(at, row.op, pointer, number)


def _sum_problem(at: int, op: str, pointer: Register, number: Register) -> str | None:
    name = type_name(pointer)
    if pointer.nullable:
        return f"R{at} pointer arithmetic on {name} prohibited, null-check it first"
    if pointer.region is Region.MAP and op == "add" and number.value.constant == 0:
        return None
    if pointer.region in _FIXED or (pointer.region is Region.OBJECT and not _is_structure(pointer, number)):
        return f"R{at} pointer arithmetic on {name} prohibited"
    if op == "sub" and pointer.region is Region.STACK:
        return f"R{at} subtraction from stack pointer prohibited"
    if number.value.smin == _S64_MIN:
        return f"math between {name} pointer and register with unbounded min value is not allowed"
    if abs(number.value.smin) >= MAX_VAR_OFF:
        return f"math between {name} pointer and {number.value.smin} is not allowed"
    for off, value in ((pointer.off, pointer.value), _moved(op, pointer, number.value)):
        # The kernel asks before and after (check_reg_sane_offset).
        if abs(off) >= MAX_VAR_OFF or abs(value.smin) >= MAX_VAR_OFF:
            return f"{name} pointer offset {off} is not allowed"
    return None


def _moved(op: str, pointer: Register, number: Scalar) -> tuple[int, Scalar]:
    """Constant and variable part of the sum."""
    if number.constant is not None:
        return pointer.off + (number.smin if op == "add" else -number.smin), pointer.value
    return pointer.off, alu(op, 64, pointer.value, number)


def _is_structure(pointer: Register, number: Register) -> bool:
    """Views of sockets stay as they are; into other objects a known number of bytes may be gone."""
    known = number.value.constant is not None and pointer.object is not None
    return known and pointer.object is not None and pointer.object.name not in VIEWS


@dataclass(frozen=True, slots=True)
class ValidAccess:
    """The access stays inside what its base register points into, and is allowed there."""

    reg: int
    off: int
    size: int
    is_store: bool
    is_atomic: bool = False

    def problem(self, env: Environment, state: State) -> str | None:
        is_plain_load = not self.is_store and not self.is_atomic
        if is_plain_load and shown(env, state, state.regs[self.reg], self.off, self.size) is not None:
            return None
        return access_problem(env, state, self.reg, self.off, self.size, self.is_store, self.is_atomic)


@dataclass(frozen=True, slots=True)
class CoreAccess:
    """The same for an instruction whose offset the loader patches."""

    insn: Insn
    access: ValidAccess

    def problem(self, env: Environment, state: State) -> str | None:
        pointer = state.regs[self.access.reg]
        if pointer.region not in PATCHED or self.access.is_atomic:
            return self.access.problem(env, state)
        return core_problem(env, self.access.reg, pointer, self.insn, self.access.is_store)


@dataclass(frozen=True, slots=True)
class WholePointer:
    """A sign-extending load takes no pointer out of a context."""

    insn: Insn

    def problem(self, env: Environment, state: State) -> str | None:
        pointer, size = state.regs[self.insn.src], self.insn.row.size
        if pointer.region is not Region.CTX or env.program is None:
            return None
        field = env.program.field_at(self.insn.off, size)
        is_number = field is not None and field.region is Region.SCALAR
        return None if is_number else f"invalid bpf_context access off={self.insn.off} size={size}"


@dataclass(frozen=True, slots=True)
class FoundSymbol:
    """The loader and the kernel find what the wide load names."""

    ref: Ref

    def problem(self, env: Environment, state: State) -> str | None:
        return symbol_problem(env, self.ref)


@dataclass(frozen=True, slots=True)
class StorableValue:
    """Pointers go whole into aligned stack slots; elsewhere they are bytes (of programs that may leak them)."""

    base: int
    reg: int
    size: int

    def problem(self, env: Environment, state: State) -> str | None:
        register = state.regs[self.reg]
        base = state.regs[self.base]
        if is_number(register) or base.region is not Region.STACK:
            return None
        if base.frame and register.region in (Region.STACK, Region.UNKNOWN):
            return "cannot spill pointers to stack into stack frame of the caller"
        if self.size != 8 or state.regs[self.base].constant_off is None:
            return "invalid size of register spill"
        return None


@dataclass(frozen=True, slots=True)
class NotContext:
    """Kernels before 6.3 take no store-immediate into the context."""

    reg: int

    def problem(self, env: Environment, state: State) -> str | None:
        release = None if env.knows is None else env.knows.release
        is_context = state.regs[self.reg].region is Region.CTX and (release is None or release < (6, 3, 0))
        return f"BPF_ST stores into R{self.reg} ctx is not allowed" if is_context else None


@dataclass(frozen=True, slots=True)
class UsableMap:
    """A map whose address is taken is one that programs of this type may use."""

    name: str

    def problem(self, env: Environment, state: State) -> str | None:
        definition = env.unit.maps.get(self.name)
        return f"map {self.name} is not known" if definition is None else map_problem(env.unit, env.root, definition)


def _divisor_and_shift(insn: Insn) -> tuple[Condition, ...]:
    row = insn.row
    if row.operand is not Operand.IMM:
        return ()
    # The loader patches some shifts (CO-RE bit fields); what it puts there is as legal as what clang wrote.
    if row.op in ("div", "mod", "sdiv", "smod") and insn.imm == 0:
        return (Fixed("div by zero"),)
    if row.op in ("lsh", "rsh", "arsh") and not 0 <= insn.imm < row.width:
        return (Fixed(f"invalid shift {insn.imm}"),)
    return ()


def _alu(insn: Insn) -> tuple[Condition, ...]:
    row = insn.row
    reads = (Readable(insn.src),) if row.operand is Operand.REG else ()
    if row.op == "mov":
        # Of a pointer's half nothing is known; programs that may leak addresses may have it.
        return (*reads, Writable(insn.dst))
    if row.op.startswith("movsx"):
        return (*reads, Writable(insn.dst))
    return (*reads, Readable(insn.dst), *_divisor_and_shift(insn), ValidArithmetic(insn), Writable(insn.dst))


def _endian(insn: Insn) -> tuple[Condition, ...]:
    return (Readable(insn.dst), Number(insn.dst), Writable(insn.dst))


def _wide(insn: Insn) -> tuple[Condition, ...]:
    if insn.ref is not None and insn.ref.kind is RefKind.EXTERN:
        return (Writable(insn.dst), FoundSymbol(insn.ref))
    is_map = insn.ref is not None and insn.ref.kind is RefKind.MAP
    return (Writable(insn.dst), *((UsableMap(insn.ref.name),) if is_map and insn.ref is not None else ()))


def _load(insn: Insn) -> tuple[Condition, ...]:
    is_atomic = insn.kind is Kind.LOAD_ACQUIRE
    access = ValidAccess(insn.src, insn.off, insn.row.size, is_store=False, is_atomic=is_atomic)
    whole = (WholePointer(insn),) if insn.row.sign else ()
    return (Readable(insn.src), Writable(insn.dst), access, *whole)


def _store(insn: Insn) -> tuple[Condition, ...]:
    is_atomic = insn.kind is Kind.STORE_RELEASE
    access = ValidAccess(insn.dst, insn.off, insn.row.size, is_store=True, is_atomic=is_atomic)
    if insn.kind is Kind.STORE_IMM:
        return (Readable(insn.dst), access, NotContext(insn.dst))
    value = StorableValue(insn.dst, insn.src, insn.row.size)
    return (Readable(insn.src), Readable(insn.dst), access, value)


def _atomic(insn: Insn) -> tuple[Condition, ...]:
    row = insn.row
    old = (Readable(0), Number(0)) if row.op == "cmpxchg" else ()
    loads = ValidAccess(insn.dst, insn.off, row.size, is_store=False, is_atomic=True)
    stores = ValidAccess(insn.dst, insn.off, row.size, is_store=True, is_atomic=True)
    into = (Writable(insn.src),) if row.fetch else ()
    return (Readable(insn.src), Readable(insn.dst), *old, Number(insn.src), *into, loads, stores)


def _branch(insn: Insn) -> tuple[Condition, ...]:
    reads = (Readable(insn.src),) if insn.row.operand is Operand.REG else ()
    return (*reads, Readable(insn.dst))


_NO_CAST: Final = (Fixed("addr_space_cast insn can only be used in a program that has an associated arena"),)
_RULES: Final[Mapping[Kind, Callable[[Insn], tuple[Condition, ...]]]] = {
    Kind.ALU: _alu,
    Kind.ENDIAN: _endian,
    Kind.LOAD_WIDE: _wide,
    Kind.LOAD: _load,
    Kind.LOAD_ACQUIRE: _load,
    Kind.STORE: _store,
    Kind.STORE_IMM: _store,
    Kind.STORE_RELEASE: _store,
    Kind.ATOMIC: _atomic,
    Kind.BRANCH: _branch,
    Kind.JUMP: lambda insn: (),
    Kind.MAY_GOTO: lambda insn: (),
    Kind.CAST: lambda insn: _NO_CAST,
}


def conditions_of(insn: Insn) -> tuple[Condition, ...]:
    """What must hold before the instruction; calls, exits and legacy loads are in `obligations`.

    Of an access that the loader patches (CO-RE) the offset is not known here: its record says which field it means.
    """
    rules = _RULES[insn.kind](insn)
    if insn.origin.core:
        return tuple(CoreAccess(insn, rule) if isinstance(rule, ValidAccess) else rule for rule in rules)
    return rules

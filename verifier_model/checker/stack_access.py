"""Which bytes of the current frame an instruction may read and certainly overwrites, by what is known before it."""

from __future__ import annotations

from typing import Final

from verifier_model.bpf.demand import ANY_STACK_ACCESS, StackAccess, stack_bytes
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS
from verifier_model.checker.memory import stack_span
from verifier_model.contracts.effects import CallEffects, MemoryArgument
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import State

# Through these an access may reach the stack although they are not known to point there.
_MAYBE_STACK: Final = frozenset({Region.UNKNOWN, Region.UNINIT, Region.SCALAR})
_NOTHING: Final[frozenset[int]] = frozenset()


def insn_stack_access(insn: Insn, state: State) -> StackAccess:
    """For a load, store or atomic."""
    is_load = insn.kind in LOAD_KINDS
    touched, is_exact = _touched(state.regs[insn.src if is_load else insn.dst], insn.off, insn.row.size)
    if insn.kind in STORE_KINDS:
        return StackAccess(writes=touched if touched is not None and is_exact else _NOTHING)
    return ANY_STACK_ACCESS if touched is None else StackAccess(reads=touched)


def call_stack_access(state: State, effects: CallEffects) -> StackAccess:
    """For a call with these effects."""
    reads: set[int] = set()
    writes: set[int] = set()
    reads_all = effects.reads_all and not effects.private_stack
    for memory in effects.reads:
        touched, _ = _behind(state, memory)
        reads_all = reads_all or touched is None
        reads |= touched or _NOTHING
    for memory in effects.must_write:
        touched, is_exact = _behind(state, memory)
        if touched is not None and is_exact:
            writes |= touched
    return StackAccess(frozenset(reads), frozenset(writes - reads), reads_all, effects.arguments)


def _behind(state: State, memory: MemoryArgument) -> tuple[frozenset[int] | None, bool]:
    pointer = state.regs[memory.reg]
    if memory.size is None:
        return (None if pointer.region in _MAYBE_STACK or _is_own(pointer) else _NOTHING), False
    return _touched(pointer, 0, memory.size)


def _is_own(pointer: Register) -> bool:
    return pointer.region is Region.STACK and pointer.frame == 0


def _touched(pointer: Register, off: int, size: int) -> tuple[frozenset[int] | None, bool]:
    """The bytes of the own frame that may be touched (None: any), and whether just these are for certain."""
    if pointer.region in _MAYBE_STACK:
        return None, False
    if not _is_own(pointer):
        return _NOTHING, False
    span = stack_span(pointer, off, size)
    if span is None:
        return None, False
    return stack_bytes(span[0], span[1] - span[0]), span[1] - span[0] == size

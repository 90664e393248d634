"""Steps of the kernel's walk (`checker.work`) that only change one path: numbers, memory, and where to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import LOAD_KINDS, Kind, Operand
from verifier_model.checker.branches import operand
from verifier_model.checker.control import Control, Node
from verifier_model.checker.environment import Environment, with_reg
from verifier_model.checker.equivalence import slot_number
from verifier_model.checker.knowledge import knowledge
from verifier_model.checker.linked import distance_of, moved_id
from verifier_model.checker.memory import stack_span
from verifier_model.checker.precision import Kept, Linked, Step, Wanted, trace
from verifier_model.checker.reads import StackReads
from verifier_model.checker.spills import load, store
from verifier_model.checker.transfer import step
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar, alu, endian
from verifier_model.domains.state import STACK_BYTES, State

KERNEL: Final = knowledge((6, 18, 0))
_ANY: Final = Register.scalar(Scalar.top())
_ZERO: Final = Scalar.const(0)


@dataclass(slots=True)
class Path:
    """One path under way; `entries` counts the entries of its jump history since `kept`.

    `turns`: how often each frame's helper called back so far, outermost frame first.
    """

    index: int
    state: State
    calls: tuple[int, ...] = ()
    kept: Kept | None = None
    history: Step | None = None
    entries: int = 0
    turns: tuple[int, ...] = (0,)


class Steps:
    """What a walk steps with; `waiting`: the paths that are still to be followed."""

    def __init__(self, env: Environment, program: Control) -> None:
        self.env = env
        self.program = program
        self.reads = StackReads(program)
        self.waiting: list[Path] = []

    def _fork(self, path: Path, to: int, state: State, history: Step | None) -> None:
        if to < 0:
            return
        if path.kept is not None:
            path.kept.branches += 1
        other = Path(to, state, path.calls, path.kept, history, path.entries, path.turns)
        self.waiting.append(other)

    def _step(
        self, path: Path, node: Node, to: int, access: tuple[int, int] | None = None, linked: Linked = ()
    ) -> None:
        path.history = Step(path.history, node, len(path.calls), access, linked)
        path.index = to

    def _want(self, path: Path, reg: int) -> None:
        wanted = Wanted()
        wanted.regs[len(path.calls)] = 1 << reg
        trace(wanted, path.history, path.kept)

    def _alu(self, path: Path, node: Node) -> None:
        insn = node.insn
        state, row = path.state, insn.row
        dst, src = state.regs[insn.dst], operand(insn, state)
        if row.operand is Operand.REG and row.op in ("add", "sub") and dst.is_scalar != src.is_scalar:
            self._want(path, insn.src if src.is_scalar else insn.dst)
        if row.op.startswith("mov") and row.operand is Operand.REG and distance_of(src.id) and src.is_scalar:
            state = with_reg(state, insn.src, Register.scalar(src.value))
        if row.op in ("and", "or") and dst.is_scalar and src.is_scalar and src.value.constant is not None:
            state = self._split_sign(path, node, state)
        if row.op == "neg" and dst.is_scalar:
            path.state = with_reg(state, insn.dst, Register.scalar(alu("sub", row.width, _ZERO, dst.value)))
            return
        # Products and sign extensions are followed as far as they can be (6.14 and 6.6).
        is_exact = row.op == "mul" or row.op.startswith("movsx")
        state = step(self.env, insn, state) if is_exact else self._as_kernel(insn, state)
        if row.op == "add" and row.width == 64 and dst.is_scalar and dst.id and src.value.constant is not None:
            linked = moved_id(dst.id, src.value.constant) if src.is_scalar else 0
            state = with_reg(state, insn.dst, Register.scalar(state.regs[insn.dst].value, linked))
        path.state = state

    def _as_kernel(self, insn: Insn, state: State) -> State:
        """What the kernel believes behind an instruction, which may be more or less than what follows from meanings."""
        self.env.knows = KERNEL
        try:
            return step(self.env, insn, state)
        finally:
            self.env.knows = None

    def _swap(self, path: Path, node: Node) -> None:
        """Later point releases of 6.18 keep what is known of a number's bits (scalar_byte_swap)."""
        insn, value = node.insn, path.state.regs[node.insn.dst]
        swapped = _ANY
        if value.is_scalar:
            number = endian(insn.row, value.value, self.env.unit.byte_order)
            swapped = value if number == value.value and insn.row.width == 64 else Register.scalar(number)
        path.state = with_reg(path.state, insn.dst, swapped)

    def _split_sign(self, path: Path, node: Node, state: State) -> State:
        """A number that is 0 or -1 is followed apart through a mask (maybe_fork_scalars): 0 waits, -1 goes on."""
        reg, value = node.insn.dst, state.regs[node.insn.dst].value
        if (value.smin, value.smax) == (-1, 0):
            none, ones = Scalar.const(0), Scalar.const(-1)
        elif (value.s32min, value.s32max) == (-1, 0):
            low = (1 << 32) - 1
            none = value & Scalar(0, ~low & (1 << 64) - 1, u32min=0, u32max=0, s32min=0, s32max=0)
            ones = value & Scalar(low, ~low & (1 << 64) - 1, u32min=low, u32max=low, s32min=-1, s32max=-1)
        else:
            return state
        self._fork(path, node.index, with_reg(state, reg, Register.scalar(none)), path.history)
        return with_reg(state, reg, Register.scalar(ones))

    def _memory(self, path: Path, node: Node) -> tuple[int, int] | None:
        """A load, store or atomic; (frame, slot) when it spills or fills."""
        insn, state = node.insn, path.state
        is_load = insn.kind in LOAD_KINDS
        pointer = state.regs[insn.src if is_load else insn.dst]
        at = pointer.constant_off if pointer.region is Region.STACK else None
        if at is None or insn.origin.core or insn.kind is Kind.ATOMIC:
            path.state = step(self.env, insn, state)
            if at is not None:
                self._note(path, node, pointer.frame, at + insn.off, insn.row.size, is_read=True)
            elif pointer.region is Region.STACK and is_load:
                span = stack_span(pointer, insn.off, insn.row.size) or (-STACK_BYTES, 0)
                self._note(path, node, pointer.frame, span[0], span[1] - span[0], is_read=True)
            return None
        off, size = at + insn.off, insn.row.size
        self._note(path, node, pointer.frame, off, size, is_read=is_load)
        if is_load:
            loaded, slot = load(state, pointer.frame, off, size, insn.row.sign)
            path.state = with_reg(state, insn.dst, loaded)
        else:
            source: int | Register = insn.src
            if insn.kind is Kind.STORE_IMM:
                source = _ANY if insn.ref is not None else Register.scalar(Scalar.const(insn.imm))
            access = store(self.env, state, pointer.frame, off, size, source)
            if access.wants_source:
                self._want(path, insn.src)
            path.state, slot = access.state, access.slot
        return None if slot is None else (len(path.calls) - pointer.frame, slot_number(slot))

    def _note(self, path: Path, node: Node, up: int, low: int, size: int, is_read: bool) -> None:
        mask = 0
        for off in range(low & -8, min(low + size, 0), 8):
            mask |= 1 << slot_number(off)
        written = mask if not is_read and size == 8 and low & 7 == 0 else 0
        self.reads.note(path.calls, node.index, len(path.calls) - up, mask if is_read else 0, written)

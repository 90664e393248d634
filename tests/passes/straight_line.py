"""Facts for one block, made by hand: what the tests of the passes need, without the analysis that the product uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from synth.passes.block_view import BlockView
from synth.passes.operands import explicit_reads, writes
from synth.passes.table import BlockPass
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.bpf.unit import Block, Function, Point, Unit
from verifier_model.contracts.effects import UNKNOWN_CALL, CallEffects
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State

CONSTANT = Scalar(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def scalar(number: int) -> Register:
    signed = (number & (1 << 64) - 1 ^ 1 << 63) - (1 << 63)
    unsigned = signed & (1 << 64) - 1
    low, low_signed = unsigned & 0xFFFFFFFF, ((unsigned & 0xFFFFFFFF) ^ 1 << 31) - (1 << 31)
    return Register.scalar(Scalar(unsigned, 0, unsigned, unsigned, signed, signed, low, low, low_signed, low_signed))


def pointer(region: Region, off: int = 0, *, base: int = 0, readable: int = 0) -> Register:
    return Register(region, CONSTANT, off=off, base=base, packet_range=readable)


def entry(**named: Register) -> tuple[Register, ...]:
    """Registers at the block's start: r10 is the frame pointer, the others unknown numbers unless named (`r1=...`)."""
    regs = [Register.scalar(Scalar.top()) for _ in range(11)]
    regs[10] = pointer(Region.STACK)
    for name, fact in named.items():
        regs[int(name[1:])] = fact
    return tuple(regs)


@dataclass
class HandFacts:
    """`at_end` is what may be looked at after the block; `effects` holds for every call of it."""

    insns: tuple[Insn, ...]
    start: tuple[Register, ...]
    at_end: Demand
    call: CallEffects = UNKNOWN_CALL
    states: list[State] = field(init=False)

    def __post_init__(self) -> None:
        self.states = [State(self.start)]
        for insn in self.insns:
            self.states.append(State(self._next(insn, self.states[-1].regs)))

    def _next(self, insn: Insn, regs: tuple[Register, ...]) -> tuple[Register, ...]:
        new = list(regs)
        for reg in writes(insn):
            new[reg] = Register.uninit() if insn.kind is Kind.CALL and reg else Register.scalar(Scalar.top())
        if insn.row.op == "mov":
            number = insn.imm if insn.row.width == 64 else insn.imm & 0xFFFFFFFF
            new[insn.dst] = regs[insn.src] if insn.row.operand is Operand.REG else scalar(number)
            if insn.row.width == 32 and insn.row.operand is Operand.REG:
                new[insn.dst] = Register.scalar(Scalar.top())
        if insn.row.name == "add64_imm" and regs[insn.dst].is_pointer:
            new[insn.dst] = replace(regs[insn.dst], off=regs[insn.dst].off + insn.imm)
        return tuple(new)

    def before(self, point: Point) -> State:
        return self.states[point.at]

    def is_reachable(self, point: Point) -> bool:
        return True

    def effects(self, point: Point) -> CallEffects:
        return self.call

    def demand_after(self, point: Point) -> Demand:
        if point.at == len(self.insns) - 1:
            return self.at_end
        regs = {r for r in range(11) if self.at_end.regs[r]}
        stack = set(self.at_end.stack)
        for at in range(len(self.insns) - 1, point.at, -1):
            insn, state = self.insns[at], self.states[at]
            regs -= writes(insn)
            regs |= {1, 2, 3, 4, 5} if insn.kind is Kind.CALL else explicit_reads(insn)
            if insn.kind in (Kind.STORE, Kind.STORE_IMM) and state.regs[insn.dst].region is Region.STACK:
                first = state.regs[insn.dst].off + insn.off
                stack -= set(range(first, first + insn.row.size))
            if insn.kind is Kind.LOAD and state.regs[insn.src].region is Region.STACK:
                first = state.regs[insn.src].off + insn.off
                stack |= set(range(first, first + insn.row.size))
            if insn.kind is Kind.CALL:
                stack = set(range(-512, 0))
        return Demand(tuple(ALL_BITS if r in regs else 0 for r in range(11)), frozenset(stack))


def demand(*regs: int, stack: tuple[tuple[int, int], ...] = ()) -> Demand:
    """Registers, and stack ranges [from, to), that are looked at after the block."""
    live = frozenset(byte for first, last in stack for byte in range(first, last))
    return Demand(tuple(ALL_BITS if r in regs else 0 for r in range(11)), live)


def propose(
    in_block: BlockPass, text: str, at_end: Demand, *, call: CallEffects = UNKNOWN_CALL, **regs: Register
) -> list[Rewrite]:
    """What a pass says about the block that `text` spells."""
    insns = parse_insns(text)
    block = Block("L0", insns)
    function = Function("f", "xdp", (block,), program_type="xdp")
    facts = HandFacts(insns, entry(**regs), at_end, call)
    view = BlockView(function, block, facts, Unit((function,), cpu_level=3))
    return list(in_block(view, Settings()))


def replacement(in_block: BlockPass, text: str, at_end: Demand, **regs: Register) -> str | None:
    """The whole block after the pass's first proposal, instructions joined by "; ", or None without a proposal."""
    rewrites = propose(in_block, text, at_end, call=UNKNOWN_CALL, **regs)
    if not rewrites:
        return None
    insns, window = parse_insns(text), rewrites[0].window
    assert rewrites[0].before == insns[window.start : window.stop]
    return "; ".join(print_insn(i) for i in (*insns[: window.start], *rewrites[0].after, *insns[window.stop :]))

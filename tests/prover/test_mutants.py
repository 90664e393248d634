"""Nothing that the concrete machine can tell apart is ever PROVED.

Random windows over registers, stack, packet and a map value are rewritten at random: some rewrites are meant to be
right, and every one of them gets mutants that differ in a single field.  Whatever the prover accepts must agree on many
concrete states; whatever it refutes must differ on the very state it names, where that state can be run.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from tests.prover.obligations import demand, obligation
from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.bpf.concrete import Machine, Stop, run_insns
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import ROWS, Kind
from verifier_model.prover import Limits, prove
from verifier_model.verdict import Obligation, Status

SEED = 7
WINDOWS = 150
STATES = 24
ENTRY = (
    "r0 scalar max=255; r2 packet base=1; r3 packet base=2; r4 scalar range=1..8; r6 map_value base=3;"
    "r7 scalar; r8 scalar; r9 scalar bits=0/0xff00; -8 zero; -16 spill r7"
)
DEMANDS = ("r0 r7 r8", "r0:ff r4 -16..-1", "r7:ffffffff -24..-9", "r0 r4 r7 r8 r9 -24..-1")
STACK_TOP, PACKET, VALUE = 0x10000, 0x20000, 0x30000
NUMBERS = (0, 4, 7, 8, 9)
ALU = [row for row in ROWS if row.kind is Kind.ALU and row.name != "mov64_reg"]


@dataclass(slots=True)
class Watched(Machine):
    """A machine that answers accesses to the map value from a script and remembers them."""

    script: int = 0
    seen: list[tuple[str, int, int, int]] = field(default_factory=list)

    def load(self, address: int, size: int) -> int:
        if VALUE <= address < VALUE + 0x1000:
            self.seen.append(("load", address, size, 0))
            return random.Random(f"{self.script} {len(self.seen)}").getrandbits(8 * size)
        return Machine.load(self, address, size)

    def store(self, address: int, size: int, value: int) -> None:
        if VALUE <= address < VALUE + 0x1000:
            self.seen.append(("store", address, size, value & (1 << 8 * size) - 1))
        else:
            Machine.store(self, address, size, value)


def observed(question: Obligation, insns: tuple[Insn, ...], number: int) -> object:
    """What concrete state `number` shows of a run: accesses, demanded registers and stack bytes, packet, way out."""
    rng = random.Random(f"state {number}")
    interesting = [0, 1, 0xFF, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1]
    any64 = [rng.choice(interesting) if rng.random() < 0.4 else rng.getrandbits(64) for _ in range(11)]
    registers = list(any64)
    registers[0], registers[4] = any64[0] & 0xFF, any64[4] % 8 + 1
    registers[2] = PACKET + 64
    registers[3] = registers[2] + rng.randint(-12, 12)
    registers[6], registers[9], registers[10] = VALUE + 64, any64[9] & 0xFF00, STACK_TOP
    machine = Watched(registers, order=question.unit.byte_order, script=number)
    machine.map_bytes(STACK_TOP - 512, rng.randbytes(512))
    machine.map_bytes(STACK_TOP - 8, bytes(8))
    machine.map_bytes(STACK_TOP - 16, registers[7].to_bytes(8, question.unit.byte_order))
    machine.map_bytes(PACKET, rng.randbytes(256))
    outcome = run_insns(insns, machine)
    assert outcome.stop in (Stop.END, Stop.JUMP), outcome
    wanted = question.demand
    return (
        machine.seen,
        [value & bits for value, bits in zip(machine.registers, wanted.regs, strict=True)],
        [machine.memory[STACK_TOP + off] for off in sorted(wanted.stack)],
        [machine.memory[PACKET + at] for at in range(256)],
        (outcome.stop, outcome.label),
    )


def random_insn(rng: random.Random) -> Insn:
    kind = rng.choice(["alu", "alu", "alu", "load", "store", "immediate", "shared"])
    width = rng.choice([8, 16, 32, 64])
    number, other = rng.choice(NUMBERS), rng.choice(NUMBERS)
    if kind == "alu":
        row = rng.choice(ALU)
        src, imm = (other if "src" in row.uses else 0), (_immediate(rng, row.op) if "imm" in row.uses else 0)
        return Insn(row, number, src, imm=imm)
    area = rng.choice(["r2", "r3", "r10"])
    off = -rng.choice([8, 16, 24]) + rng.randrange(0, 8, width // 8) if area == "r10" else rng.randint(0, 12)
    place = f"*(u{width} *)({area} {'+' if off >= 0 else '-'} {abs(off)})"
    if kind == "shared":
        place = f"*(u{width} *)(r6 + {rng.randrange(0, 16, width // 8)})"
        kind = rng.choice(["load", "store"])
    text = {
        "load": f"r{number} = {place}",
        "store": f"{place} = r{number}",
        "immediate": f"{place} = {rng.randint(-3, 300)}",
    }[kind]
    return parse_insns(text)[0]


def _immediate(rng: random.Random, op: str) -> int:
    if op in ("lsh", "rsh", "arsh"):
        return rng.choice([1, 4, 8, 16, 24, 31])
    return rng.choice([1, 2, 3, 8, -1, 255, 0xFFFF, 1 << 30, -(1 << 31)])


RIGHT = [
    # (before, after): right wherever they stand
    ("r7 += 1; r7 += 2", "r7 += 3"),
    ("r7 <<= 32; r7 >>= 32", "w7 = w7"),
    ("r8 *= 16", "r8 <<= 4"),
    ("r8 /= 32", "r8 >>= 5"),
    ("w8 %= 8", "w8 &= 7"),
    ("r0 &= 255; r0 += r4", "r0 += r4"),
    ("r0 = *(u8 *)(r2 + 1); r8 = *(u8 *)(r2 + 2); r8 <<= 8; r8 |= r0", "r8 = *(u16 *)(r2 + 1); r0 = *(u8 *)(r2 + 1)"),
    ("*(u8 *)(r10 - 8) = 1; *(u8 *)(r10 - 7) = 2", "*(u16 *)(r10 - 8) = 513"),
    ("*(u8 *)(r3 + 4) = r7; r7 >>= 8; *(u8 *)(r3 + 5) = r7; r7 = 0", "*(u16 *)(r3 + 4) = r7; r7 = 0"),
    ("r7 = *(u32 *)(r3 + 0); *(u32 *)(r3 + 0) = r7", "r7 = *(u32 *)(r3 + 0)"),
    ("r7 = *(u64 *)(r10 - 16); *(u64 *)(r10 - 16) = r7", "r7 = *(u64 *)(r10 - 16)"),
    ("r0 = 7; *(u32 *)(r6 + 4) = r0", "*(u32 *)(r6 + 4) = 7; r0 = 7"),
    ("r7 <<= 56; r7 s>>= 56", "r7 = (s8)r7"),
    ("r7 = -r7; r7 += r8", "r7 -= r8; r7 = -r7"),
    ("r8 = *(u32 *)(r10 - 8); r8 ^= r8", "r8 = 0"),
]


def random_pair(rng: random.Random) -> tuple[tuple[Insn, ...], tuple[Insn, ...]]:
    old, new = (parse_insns(text.replace(";", "\n")) for text in rng.choice(RIGHT))
    head = tuple(random_insn(rng) for _ in range(rng.randint(0, 3)))
    tail = tuple(random_insn(rng) for _ in range(rng.randint(0, 3)))
    after = [*head, *new, *tail]
    move = rng.randrange(3)
    if move == 0 and len(after) > 1:
        at = rng.randrange(len(after) - 1)
        after[at], after[at + 1] = after[at + 1], after[at]
    elif move == 1 and after:
        del after[rng.randrange(len(after))]
    return (*head, *old, *tail), tuple(after)


def mutant(rng: random.Random, insns: tuple[Insn, ...]) -> tuple[Insn, ...]:
    """One instruction with one field changed."""
    if not insns:
        return insns
    at = rng.randrange(len(insns))
    insn = insns[at]
    field_name = rng.choice(sorted(insn.row.uses | {"row"}))
    changed = insn
    if field_name == "row":
        alike = [row for row in ROWS if row.kind is insn.kind and row.uses == insn.row.uses and row is not insn.row]
        if (insn.row.is_memory_access and insn.src != 10 and insn.dst != 10) or insn.kind is Kind.ALU:
            changed = replace(insn, row=rng.choice(alike))
    elif field_name == "imm" and insn.row.op not in ("lsh", "rsh", "arsh"):
        changed = replace(insn, imm=insn.imm ^ 1 << rng.randrange(31))
    elif field_name == "off" and 10 not in (insn.src, insn.dst):
        changed = replace(insn, off=insn.off ^ 1 << rng.randrange(3))
    elif field_name == "dst" and insn.dst in NUMBERS:
        changed = replace(insn, dst=rng.choice(NUMBERS))
    elif field_name == "src" and insn.src in NUMBERS:
        changed = replace(insn, src=rng.choice(NUMBERS))
    return (*insns[:at], changed, *insns[at + 1 :])


def questions(order: str) -> list[Obligation]:
    rng = random.Random(f"{SEED} {order}")
    result = []
    for _ in range(WINDOWS):
        before, after = random_pair(rng)
        frame = obligation(ENTRY, "", "", "", order=order)
        wanted = demand(rng.choice(DEMANDS))
        candidates = [after, *[mutant(rng, after) for _ in range(4)]]
        result += [replace(frame, before=before, after=new, demand=wanted) for new in candidates]
    return result


def shown(question: Obligation) -> str:
    old, new = (" ; ".join(map(print_insn, insns)) for insns in (question.before, question.after))
    return f"seed {SEED}\nbefore: {old}\nafter:  {new}\ndemand: {question.demand}"


@pytest.mark.parametrize("order", ["little", "big"])
def test_nothing_distinguishable_is_proved(order: str) -> None:
    print(f"seed {SEED}")
    counts: Counter[str] = Counter()
    for question in questions(order):
        verdict = prove(question, Limits(solver_steps=300_000))
        counts[verdict.status.value] += 1
        if verdict.status is Status.UNKNOWN:
            assert verdict.reason.startswith(("the solver gave up", "event")), (verdict, shown(question))
            continue
        first = next(
            (
                n
                for n in range(STATES)
                if observed(question, question.before, n) != observed(question, question.after, n)
            ),
            None,
        )
        if verdict.is_proved:
            assert first is None, f"state {first}, {verdict.method}\n{shown(question)}"
        elif first is None:
            counts["refuted, not seen on these states"] += 1
    print(counts)
    assert counts["PROVED"] > WINDOWS * 5 // 6 and counts["REFUTED"] > WINDOWS
    assert counts["UNKNOWN"] < WINDOWS // 4

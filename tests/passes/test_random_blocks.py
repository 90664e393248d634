"""Random blocks: whatever a pass proposes computes the same on the concrete machine.

The prover would refuse a wrong proposal anyway; each one costs its time, so there should be none.
"""

import random

import pytest

from synth.passes import PASSES
from synth.passes.block_view import BlockView
from synth.rewrite import Rewrite
from synth.settings import Settings
from tests.passes.straight_line import HandFacts, demand, entry, pointer
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.concrete import Machine, Stop, run_insns
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import Insn, make
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.domains.registers import Region

STACK_TOP, PACKET = 0x10_0200, 0x20_0001
PACKET_BYTES, STACK_BYTES = 32, 32
DATA_REGISTERS = (0, 1, 2, 3)
LETTERS = {1: "b", 2: "h", 4: "w", 8: "dw"}


def random_block(rng: random.Random) -> tuple[Insn, ...]:
    insns = []
    for _ in range(rng.randint(4, 16)):
        dst, src = rng.choice(DATA_REGISTERS), rng.choice(DATA_REGISTERS)
        size = rng.choice((1, 1, 2, 2, 4, 8))
        on_stack = rng.random() < 0.4
        base = 10 if on_stack else rng.choice((6, 6, 7))
        off = -size * rng.randint(1, STACK_BYTES // size) if on_stack else rng.randint(0, 12)
        insns.append(
            rng.choice(
                (
                    make(f"ldx_{LETTERS[size]}", dst=dst, src=base, off=off),
                    make(f"ldx_{LETTERS[size]}", dst=dst, src=base, off=off),
                    make(f"stx_{LETTERS[size]}", dst=base, src=src, off=off),
                    make(f"stx_{LETTERS[size]}", dst=base, src=src, off=off),
                    make(f"st_{LETTERS[size]}", dst=base, off=off, imm=rng.choice((0, 1, -1, 0x1234))),
                    make("mov64_reg", dst=dst, src=rng.choice((*DATA_REGISTERS, 6, 10))),
                    make("mov32_reg", dst=dst, src=src),
                    make(rng.choice(("mov64_imm", "mov32_imm")), dst=dst, imm=rng.choice((0, 7, -1))),
                    make(rng.choice(("lsh64_imm", "rsh64_imm", "lsh32_imm", "rsh32_imm")), dst=dst, imm=8),
                    make("lsh64_imm", dst=dst, imm=rng.choice((16, 31, 32))),
                    make(rng.choice(("or64_reg", "or32_reg", "add64_reg", "and64_reg")), dst=dst, src=src),
                    make(rng.choice(("and64_imm", "and32_imm")), dst=dst, imm=rng.choice((255, 0xFFFF, 0x1FF))),
                    make(rng.choice(("be16", "be32", "be64", "le16")), dst=dst),
                    make("add64_imm", dst=dst, imm=4),
                )
            )
        )
    return tuple(insns)


def end_of(insns: tuple[Insn, ...], seed: int) -> tuple[list[int], dict[int, int]]:
    rng = random.Random(seed)
    machine = Machine([rng.getrandbits(64) for _ in range(11)])
    machine.registers[6], machine.registers[10] = PACKET, STACK_TOP
    machine.registers[7] = PACKET + rng.randint(0, 8)  # another pointer into the packet, at a distance nobody knows
    machine.map_bytes(STACK_TOP - 512, rng.randbytes(512))
    machine.map_bytes(PACKET, rng.randbytes(PACKET_BYTES))
    assert run_insns(insns, machine).stop is Stop.END
    return machine.registers, machine.memory


def same_end(before: tuple[Insn, ...], after: tuple[Insn, ...], at_end: Demand, seed: int) -> bool:
    (regs, memory), (new_regs, new_memory) = end_of(before, seed), end_of(after, seed)
    if any((a ^ b) & mask for a, b, mask in zip(regs, new_regs, at_end.regs, strict=True)):
        return False
    stack = all(memory[STACK_TOP + off] == new_memory[STACK_TOP + off] for off in at_end.stack)
    packet = range(PACKET, PACKET + PACKET_BYTES)
    return stack and all(memory[address] == new_memory[address] for address in packet)


def proposals(insns: tuple[Insn, ...], at_end: Demand) -> list[Rewrite]:
    function = Function("f", "xdp", (Block("L0", insns),), program_type="xdp")
    packet = pointer(Region.PACKET, base=1, readable=PACKET_BYTES)
    other = pointer(Region.PACKET, base=2, readable=PACKET_BYTES - 8)
    facts = HandFacts(insns, entry(r6=packet, r7=other), at_end)
    unit = Unit((function,), cpu_level=3)
    view = BlockView(function, function.blocks[0], facts, unit)
    return [rewrite for row in PASSES for rewrite in row.in_block(view, Settings())]


@pytest.mark.parametrize("seed", range(12))
def test_proposals_compute_the_same(seed: int) -> None:
    rng = random.Random(seed)
    found = 0
    for _ in range(60):
        insns = random_block(rng)
        live = demand(*rng.sample(DATA_REGISTERS, 2), 6, 7, 10, stack=((-rng.choice((8, 16, 32)), 0),))
        for rewrite in proposals(insns, live):
            found += 1
            start, stop = rewrite.window.start, rewrite.window.stop
            after = (*insns[:start], *rewrite.after, *insns[stop:])
            assert all(same_end(insns, after, live, 1000 * seed + run) for run in range(3)), (
                f"seed {seed}: {rewrite.proposer}\n"
                + "\n".join(print_insn(i) for i in insns)
                + f"\n--- [{start}, {stop}) becomes\n"
                + "\n".join(print_insn(i) for i in rewrite.after)
                + f"\n--- live {live.regs}, stack from {min(live.stack)}"
            )
    assert found > 50


def test_the_comparison_sees_a_wrong_byte() -> None:
    right = (make("st_h", dst=6, off=2, imm=5),)
    wrong = (make("st_b", dst=6, off=2, imm=5),)
    assert same_end(right, right, demand(), 1)
    assert not same_end(right, wrong, demand(), 1)

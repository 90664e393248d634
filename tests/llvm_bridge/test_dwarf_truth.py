"""Locations never lie: optimised random programs run beside their originals, register by register.

Wherever `agreements_of` says that a register still holds its old value, both programs must have the same value in it,
at every visit of a kept instruction.  The twin drops the taint and must be caught.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import synth.pipeline
from llvm_bridge.dwarf_agreement import Agreement, agreements_of
from llvm_bridge.dwarf_alignment import Stretch, aligned
from synth.pipeline import optimise
from synth.settings import Settings
from verifier_model.bpf.concrete import Machine, Stop, map_frame, run_insns
from verifier_model.bpf.demand import ALL_BITS
from verifier_model.bpf.insn import Insn, label, make
from verifier_model.bpf.isa import ROWS, Kind, Operand
from verifier_model.bpf.unit import Block, Function, Unit

PROGRAMS = 60
RUNS = 3
ALU = [row for row in ROWS if row.kind is Kind.ALU and row.level <= 3 and row.op not in ("div", "mod")]
BRANCHES = [row for row in ROWS if row.kind is Kind.BRANCH and row.level <= 3]
LETTERS = {1: "b", 2: "h", 4: "w", 8: "dw"}


def some_insn(rng: random.Random) -> Insn:
    pick = rng.random()
    if pick < 0.2:
        size = rng.choice((1, 2, 4, 8))
        off = -size * rng.randrange(1, 16 // size + 1)
        letter = LETTERS[size]
        is_store, register = rng.random() < 0.5, rng.randrange(10)
        return make(f"stx_{letter}", 10, register, off) if is_store else make(f"ldx_{letter}", register, 10, off)
    row = rng.choice(ALU)
    imm = 0
    if row.operand is Operand.IMM:
        imm = rng.randrange(row.width) if row.op in ("lsh", "rsh", "arsh") else rng.choice((0, 1, 2, 3, 7, 8, 255))
    return Insn(row, rng.randrange(10), rng.randrange(10) if row.operand is Operand.REG else 0, imm=imm)


def program(rng: random.Random) -> Function:
    """Random numbers in all registers, forward branches, a result made from two of them."""
    start = [insn for reg in (6, 7, 8, 9) for insn in (make("call_helper", imm=7), make("mov64_reg", reg, 0))]
    start += [make("mov64_reg", reg, rng.choice((6, 7, 8, 9))) for reg in (0, 1, 2, 3, 4, 5)]
    start += [make("stx_dw", 10, 6, -8), make("stx_dw", 10, 7, -16)]
    count = rng.randrange(2, 6)
    blocks = [Block("b0", tuple(start))]
    for at in range(1, count):
        insns = [some_insn(rng) for _ in range(rng.randrange(2, 9))]
        if rng.random() < 0.7:
            row = rng.choice(BRANCHES)
            imm = rng.choice((0, 1, 7, 64)) if row.operand is Operand.IMM else 0
            src = rng.randrange(10) if row.operand is Operand.REG else 0
            target = label(f"b{rng.randrange(at + 1, count + 1)}")
            insns.append(Insn(row, rng.randrange(10), src, imm=imm, ref=target))
        blocks.append(Block(f"b{at}", tuple(insns)))
    a, b = rng.sample(range(10), 2)
    end = (make("mov64_reg", 0, a), make("xor64_reg", 0, b), make("exit"))
    return Function("f", "xdp", (*blocks, Block(f"b{count}", end)), "xdp")


def visits(function: Function, seed: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(number of the instruction, registers in front of it) at every step until the exit."""
    rng = random.Random(seed)
    machine = Machine([rng.getrandbits(64) for _ in range(11)], call=lambda _machine, _insn: rng.getrandbits(32))
    map_frame(machine, 1 << 32)
    starts: dict[str, int] = {}
    flat: list[Insn] = []
    for block in function.blocks:
        starts[block.label] = len(flat)
        flat += block.insns
    at = 0
    while True:
        yield at, tuple(machine.registers)
        outcome = run_insns((flat[at],), machine)
        if outcome.stop is Stop.EXIT:
            return
        assert outcome.stop in (Stop.END, Stop.JUMP), outcome
        at = starts[outcome.label] if outcome.stop is Stop.JUMP else at + 1


def by_instruction(function: Function, seed: int) -> dict[int, list[tuple[int, ...]]]:
    found: dict[int, list[tuple[int, ...]]] = {}
    for at, registers in visits(function, seed):
        found.setdefault(at, []).append(registers)
    return found


def wrong(
    old: Function, new: Function, stretches: tuple[Stretch, ...], agreement: Agreement, believes: bool
) -> tuple[int, int, int]:
    """How many claimed registers differ, how many claims were compared, how many registers nobody spoke of.

    With `believes` false, every register of a kept instruction counts as claimed.
    """
    lies = claims = silent = 0
    for seed in range(RUNS):
        before, after = by_instruction(old, seed), by_instruction(new, seed)
        cell = at_old = at_new = 0
        for stretch in stretches:
            for i, _, k, _, is_kept in stretch.spans:
                masks = agreement.tainted[cell]
                cell += 1
                pairs = zip(before.get(at_old + i, []), after.get(at_new + k, []), strict=False) if is_kept else ()
                for ours, theirs in pairs:
                    for register in range(10):
                        mask = ALL_BITS & ~(masks[register] if believes and masks is not None else 0)
                        if believes and masks is None:
                            mask = 0
                        claims += bool(mask)
                        silent += mask != ALL_BITS
                        lies += bool((ours[register] ^ theirs[register]) & mask)
            at_old, at_new = at_old + len(stretch.old), at_new + len(stretch.new)
    return lies, claims, silent


def test_of_a_function_changed_as_a_whole_nothing_is_said() -> None:
    reshaped = 0
    for seed in range(PROGRAMS // 2):
        old = program(random.Random(seed))
        new = optimise(Unit((old,), cpu_level=3), Settings(effort=0))[0].functions[0]
        if new.is_reshaped:
            reshaped += 1
            stretches = aligned(old, new)
            agreement = agreements_of({"f": (old, new, stretches)})["f"]
            assert set(agreement.tainted) <= {None} and not agreement.memory.is_clean
            assert wrong(old, new, stretches, agreement, believes=True)[:2] == (0, 0)
    assert reshaped > 5


def test_registers_that_are_said_to_agree_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth.pipeline, "reshapers", lambda settings: ())
    lies = claims = silent = careless = changed = 0
    for seed in range(PROGRAMS):
        old = program(random.Random(seed))
        unit, _ = optimise(Unit((old,), cpu_level=3), Settings(effort=0))
        new = unit.functions[0]
        if new == old:
            continue
        changed += 1
        stretches = aligned(old, new)
        agreement = agreements_of({"f": (old, new, stretches)})["f"]
        found = wrong(old, new, stretches, agreement, believes=True)
        assert not found[0], f"seed {seed}: {found[0]} of {found[1]} registers differ"
        lies, claims, silent = lies + found[0], claims + found[1], silent + found[2]
        careless += wrong(old, new, stretches, agreement, believes=False)[0]
    print(f"{changed} of {PROGRAMS} programs changed, {claims} registers compared, {silent} not spoken of")
    assert changed > PROGRAMS // 2
    assert claims > 4 * silent // 3
    assert careless > 100  # without the taint, the same comparison finds lies

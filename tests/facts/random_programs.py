"""Random programs over numbers, the stack, the packet and map values: mostly sensible, often enough not."""

from __future__ import annotations

import random

from verifier_model.bpf.insn import Insn, Ref, RefKind, label, make
from verifier_model.bpf.isa import ROWS, Kind, Operand
from verifier_model.bpf.unit import Block, Function, MapDef, Unit

ALU = [row for row in ROWS if row.kind is Kind.ALU]
BRANCHES = [row for row in ROWS if row.kind is Kind.BRANCH]
SWAPS = [row for row in ROWS if row.kind is Kind.ENDIAN]
ATOMICS = [row for row in ROWS if row.kind is Kind.ATOMIC]
LETTERS = {1: "b", 2: "h", 4: "w", 8: "dw"}
MAPS = {"m": MapDef("m", 1, 4, 16, 8)}


def _alu(rng: random.Random) -> Insn:
    row = rng.choice(ALU)
    imm = 0
    if row.operand is Operand.IMM:
        imm = (
            rng.randrange(row.width)
            if row.op in ("lsh", "rsh", "arsh")
            else rng.choice((0, 1, 2, 7, -1, 255, -8, 1 << 20))
        )
    return Insn(row, rng.randrange(10), rng.randrange(10) if row.operand is Operand.REG else 0, imm=imm)


def _stack(rng: random.Random) -> list[Insn]:
    size = rng.choice((1, 2, 4, 8))
    off = -size * rng.randrange(1, 48 // size)
    letter, reg = LETTERS[size], rng.randrange(10)
    pick = rng.random()
    if pick < 0.4:
        return [make(f"ldx_{letter}", reg, 10, off)]
    if pick < 0.5:
        return [make(f"st_{letter}", 10, off=off, imm=rng.choice((0, 0, 1, -1)))]
    if pick < 0.6:
        return [
            make("mov64_reg", reg, 10),
            make("add64_imm", reg, imm=off),
            make(f"ldx_{letter}", rng.randrange(10), reg),
        ]
    if pick < 0.7:
        row = rng.choice(ATOMICS)
        return [Insn(row, 10, reg, off=-row.size * rng.randrange(1, 4))]
    return [make(f"stx_{letter}", 10, reg, off)]


def _moved_store(rng: random.Random) -> list[Insn]:
    """A store at a variable place of the stack."""
    index, base = rng.sample(range(10), 2)
    return [
        make("and64_imm", index, imm=rng.choice((8, 24, 7))),
        make("mov64_reg", base, 10),
        make("add64_imm", base, imm=-48),
        make("add64_reg", base, index),
        make(f"stx_{rng.choice('bhw')}", base, rng.randrange(10)),
    ]


def _packet(rng: random.Random) -> list[Insn]:
    reg, value = rng.randrange(10), rng.randrange(10)
    letter = LETTERS[rng.choice((1, 2, 4, 8))]
    off = rng.choice((0, 1, 6, 12, 14))
    return [make(f"ldx_{letter}", value, reg, off)] if rng.random() < 0.7 else [make(f"stx_{letter}", reg, value, off)]


def _start(rng: random.Random) -> list[Insn]:
    """Fetch the packet into two registers, with the context kept in r6."""
    data, end = rng.sample((2, 3, 4, 5, 7, 8), 2)
    return [make("ldx_w", data, 6, 0), make("ldx_w", end, 6, 4)]


def _variable_packet(rng: random.Random) -> list[Insn]:
    index, base = rng.sample(range(10), 2)
    return [make("and64_imm", index, imm=15), make("add64_reg", base, index)]


def _lookup(rng: random.Random) -> list[Insn]:
    return [
        make("st_w", 10, off=-4, imm=rng.randrange(3)),
        make("mov64_reg", 2, 10),
        make("add64_imm", 2, imm=-4),
        make("lddw_map_fd", 1, ref=Ref(RefKind.MAP, "m")),
        make("call_helper", imm=1),
    ]


def _block(rng: random.Random) -> list[Insn]:
    insns: list[Insn] = []
    for _ in range(rng.randrange(1, 6)):
        pick = rng.random()
        if pick < 0.35:
            insns.append(_alu(rng))
        elif pick < 0.45:
            insns.append(make("mov64_reg", rng.randrange(10), rng.randrange(11)))
        elif pick < 0.65:
            insns += _stack(rng)
        elif pick < 0.7:
            insns += _moved_store(rng)
        elif pick < 0.8:
            insns += _packet(rng)
        elif pick < 0.85:
            insns += _start(rng)
        elif pick < 0.9:
            insns += _variable_packet(rng)
        elif pick < 0.95:
            insns.append(Insn(rng.choice(SWAPS), rng.randrange(10)))
        else:
            insns += _lookup(rng)
    return insns


def _packet_check(rng: random.Random, target: str) -> list[Insn]:
    start, moved, end = rng.sample((2, 3, 4, 5, 7, 8), 3)
    row = rng.choice(("jgt", "jge", "jlt", "jle"))
    first, second = rng.choice(((moved, end), (end, moved)))
    return [
        make("ldx_w", start, 6, 0),
        make("ldx_w", end, 6, 4),
        make("mov64_reg", moved, start),
        make("add64_imm", moved, imm=rng.choice((1, 14, 20, 34))),
        make(f"{row}64_reg", first, second, ref=label(target)),
    ]


def _call(rng: random.Random) -> list[Insn]:
    """Call the subprogram, often with a stack pointer."""
    insns = []
    for reg in range(1, 6):
        if rng.random() < 0.8:
            off = -8 * rng.randrange(1, 6)
            insns += [make("mov64_reg", reg, 10), make("add64_imm", reg, imm=off), make("st_dw", 10, off=off, imm=reg)]
    if rng.random() < 0.3:
        insns.append(make("mov64_reg", rng.randrange(1, 6), 6))
    return [*insns, make("call_local", ref=Ref(RefKind.FUNCTION, "s"))]


def _through_argument(rng: random.Random) -> list[Insn]:
    """Loads and stores through argument registers, which may point into the caller's frame."""
    letter, base, value = rng.choice("bhw") if rng.random() < 0.5 else "dw", rng.randrange(1, 6), rng.randrange(10)
    if rng.random() < 0.5:
        return [make(f"stx_{letter}", base, value)]
    return [make(f"ldx_{letter}", value, base)]


def with_subprogram(rng: random.Random) -> tuple[Function, Function]:
    """A program that calls the static subprogram `s` at random places, and `s`."""
    main, sub = program(rng), program(rng)
    for at in range(1, len(main.blocks) - 1):
        if rng.random() < 0.5:
            block = main.blocks[at]
            cut = rng.randrange(len(block.insns)) if block.insns else 0
            main = main.with_block(Block(block.label, (*block.insns[:cut], *_call(rng), *block.insns[cut:])))
    blocks = []
    for block in sub.blocks:
        insns = tuple(insn for insn in block.insns if insn.kind is not Kind.CALL and 6 not in (insn.dst, insn.src))
        blocks.append(Block(block.label, (*_through_argument(rng), *insns) if rng.random() < 0.5 else insns))
    last = Block(sub.blocks[-1].label, (make("mov64_reg", 0, rng.randrange(11)), make("exit")))
    body = (Block("b0", ()), *blocks[1:-1], last)
    return main, Function("s", ".text", body, is_subprogram=True, is_global=False)


def program(rng: random.Random) -> Function:
    """Blocks b0, b1, ... mostly with forward branches; the last one exits."""
    count = rng.randrange(3, 9)
    blocks = [
        Block("b0", (make("mov64_reg", 6, 1), *(make("mov64_imm", reg, imm=reg) for reg in (0, 2, 3, 4, 5, 7, 8, 9))))
    ]
    for at in range(1, count):
        insns = _block(rng)
        forward = rng.random() < 0.85
        target = f"b{rng.randrange(at + 1, count + 1)}" if forward else f"b{rng.randrange(1, at + 1)}"
        pick = rng.random()
        if pick < 0.2:
            insns += _packet_check(rng, target)
        elif pick < 0.85:
            row = rng.choice(BRANCHES)
            imm = rng.choice((0, 0, 1, 7, 64, -1)) if row.operand is Operand.IMM else 0
            src = rng.randrange(10) if row.operand is Operand.REG else 0
            insns.append(Insn(row, rng.randrange(10), src, imm=imm, ref=label(target)))
        blocks.append(Block(f"b{at}", tuple(insns)))
    blocks.append(Block(f"b{count}", (make("mov64_imm", 0, imm=0), make("exit"))))
    return Function("f", "xdp", tuple(blocks), "xdp")


def unit_of(*functions: Function) -> Unit:
    return Unit(functions, maps=MAPS, cpu_level=4)

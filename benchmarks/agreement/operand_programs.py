"""Programs that compute many rows on two operands from the packet and write each result back into it.

r6 points to the packet; r2 and r3 hold the operands, the slot at r10 - 8 holds the first, r4 takes the result.  A
program's instances, one result each, are straight pieces of code, so that any engine can run them alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.insn import Insn, label, make
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.bpf.unit import Block, Function

FIRST_RESULT: Final = 16
_OPERANDS: Final = 16  # bytes of both
_MOST: Final = 240  # instances of one program: below the longest branch distance and the longest packet
EDGES: Final = (
    *(0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(1 << 32, (1 << 32) + 1, 0x7FFFFFFF_FFFFFFFF, 1 << 63, (1 << 63) + 1, 0xFFFFFFFF_00000000, 0xFFFFFFFF_80000000),
    *((1 << 64) - 1, (1 << 64) - 2, 0x0123456789ABCDEF),
)
IMMEDIATES: Final = (0, 1, 2, -1, -2, 7, 8, 31, 63, 255, -256, 0x7FFF, -0x8000, 0xFFFF, 0x7FFFFFFF, -0x80000000)


@dataclass(frozen=True, slots=True)
class Instance:
    """One row with its fields filled in, and the code around it: from r2, r3 and the slot to r4."""

    row: Row
    insns: tuple[Insn, ...]
    at: int = 0  # where the row's own instruction stands among them

    @property
    def insn(self) -> Insn:
        return self.insns[self.at]


@dataclass(frozen=True, slots=True)
class OperandProgram:
    """`program_type` is the one it can be loaded as; the result of instance i lies at FIRST_RESULT + 8 i."""

    family: str
    function: Function
    instances: tuple[Instance, ...]

    @property
    def packet_size(self) -> int:
        return FIRST_RESULT + 8 * len(self.instances)


def _operands(row: Row, rng: random.Random) -> tuple[int, int]:
    """(src, imm) of an ALU row or branch."""
    if row.operand is not Operand.IMM:
        return (3 if row.operand is Operand.REG else 0), 0
    if row.op in ("lsh", "rsh", "arsh"):
        return 0, rng.randrange(row.width)
    imm = rng.choice((rng.choice(IMMEDIATES), rng.randrange(-(1 << 31), 1 << 31)))
    if row.op in ("div", "mod", "sdiv", "smod") and imm == 0:
        imm = 3  # the kernel's verifier refuses a constant zero
    return 0, imm


def _compute(row: Row, rng: random.Random, end: str) -> Instance:
    src, imm = _operands(row, rng)
    if row.operand is Operand.REG and rng.randrange(16) == 0:
        src = 2  # a register with itself
    return Instance(row, (Insn(row, 2, src, imm=imm), make("mov64_reg", 4, 2)))


def _branch(row: Row, rng: random.Random, end: str) -> Instance:
    src, imm = _operands(row, rng)
    jump = Insn(row, 2, src, imm=imm, ref=label(end))
    return Instance(row, (make("mov64_imm", 4, imm=1), jump, make("mov64_imm", 4, imm=0)), 1)


def _jump(row: Row, rng: random.Random, end: str) -> Instance:
    """Past `r4 = 0` for even operands; a branch around the jump, or the code behind it would be dead."""
    around = make("jset64_imm", 2, imm=1, ref=label(end.replace("next", "part2_")))
    return Instance(row, (make("mov64_imm", 4, imm=1), around, Insn(row, ref=label(end)), make("mov64_imm", 4)), 2)


def _load(row: Row, rng: random.Random, end: str) -> Instance:
    inside = rng.randrange(8 // row.size) * row.size
    return Instance(row, (Insn(row, 4, 10, off=inside - 8),))


def _change_memory(row: Row, rng: random.Random, end: str) -> Instance:
    """The memory afterwards, and the registers that a fetch writes folded in, so that one result shows all."""
    imm = _operands(row, rng)[1] if row.kind is Kind.STORE_IMM else 0
    inside = rng.randrange(8 // row.size) * row.size
    change = Insn(row, 10, 3 if row.operand is Operand.REG else 0, off=inside - 8, imm=imm)
    folded = parse_insns("r4 = *(u64 *)(r10 -8)\nr3 *= 3\nr0 *= 5\nr4 += r3\nr4 += r0")
    start = make("mov64_reg", 0, 2)
    if row.width == 32 and rng.randrange(2):
        start = make("mov32_reg", 0, 2)  # a comparison of 32 bits that may well be equal
    return Instance(row, (start, change, *folded), 1)


def _wide(row: Row, rng: random.Random, end: str) -> Instance:
    return Instance(row, (Insn(row, 4, imm=rng.choice((rng.choice(EDGES), rng.getrandbits(64)))),))


def _legacy(row: Row, rng: random.Random, end: str) -> Instance:
    """From the operands' own bytes.  Clobbers r1 to r5 and needs the context in r6."""
    most = _OPERANDS - row.size
    if row.op == "abs":
        access: tuple[Insn, ...] = (Insn(row, imm=rng.randrange(most + 1)),)
    else:
        low = rng.randrange(most - 6)
        access = (make("and64_imm", 2, imm=7), Insn(row, src=2, imm=low))
    return Instance(row, (*access, make("mov64_reg", 4, 0)), len(access) - 1)


Fragment = Callable[[Row, random.Random, str], Instance]
FAMILIES: Final[dict[str, tuple[Fragment, tuple[Kind, ...]]]] = {
    "compute": (_compute, (Kind.ALU, Kind.ENDIAN)),
    "branch": (_branch, (Kind.BRANCH,)),
    "jump": (_jump, (Kind.JUMP,)),
    "load": (_load, (Kind.LOAD, Kind.LOAD_ACQUIRE)),
    "memory": (_change_memory, (Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE, Kind.ATOMIC)),
    "wide": (_wide, (Kind.LOAD_WIDE,)),
    "legacy": (_legacy, (Kind.LEGACY_LOAD,)),
}


def rows_of(family: str) -> list[Row]:
    kinds = FAMILIES[family][1]
    return [row for row in ROWS if row.kind in kinds and (row.kind is not Kind.LOAD_WIDE or row.fixed_src == 0)]


def covered_rows() -> frozenset[str]:
    """Names of the rows that some family computes; every program also has exits."""
    return frozenset({"exit", *(row.name for family in FAMILIES for row in rows_of(family))})


def operand_programs(rng: random.Random, families: Iterable[str] = tuple(FAMILIES)) -> list[OperandProgram]:
    """Programs that hold every row at least once, rows with immediates with several of them."""
    programs = []
    for family in families:
        fragment = FAMILIES[family][0]
        rows = [row for row in rows_of(family) for _ in range(4 if row.operand is Operand.IMM else 2)]
        for start in range(0, len(rows), _MOST):
            part = rows[start : start + _MOST]
            instances = tuple(fragment(row, rng, f"next{at}") for at, row in enumerate(part))
            programs.append(OperandProgram(family, _function(family, instances), instances))
    return programs


def _function(family: str, instances: tuple[Instance, ...]) -> Function:
    size = FIRST_RESULT + 8 * len(instances)
    is_legacy = family == "legacy"
    fields = (76, 80) if is_legacy else (0, 4)
    blocks = [
        Block(
            "start",
            (
                *parse_insns(f"r7 = *(u32 *)(r1 +{fields[0]})\nr8 = *(u32 *)(r1 +{fields[1]})\nr6 = r7\nr9 = r1"),
                *parse_insns(f"r7 += {size}\nr0 = 1"),
                make("jgt64_reg", 7, 8, ref=label("out")),
            ),
        )
    ]
    if is_legacy:
        blocks.append(Block("context", parse_insns("r7 = r6\nr6 = r9")))  # the packet moves to r7
    packet = 7 if is_legacy else 6
    for at, instance in enumerate(instances):
        end = make("stx_dw", packet, 4, off=FIRST_RESULT + 8 * at)
        start = parse_insns(f"r2 = *(u64 *)(r{packet} +0)\nr3 = *(u64 *)(r{packet} +8)\n*(u64 *)(r10 -8) = r2")
        code = (*start, *instance.insns)
        cuts = [0, *[index + 1 for index, insn in enumerate(code) if insn.row.is_block_end], len(code)]
        blocks += [Block(f"part{part}_{at}", code[a:b]) for part, (a, b) in enumerate(pairwise(cuts))]
        blocks.append(Block(f"next{at}", (end,)))
    blocks.append(Block("done", parse_insns("r0 = 2")))
    blocks.append(Block("out", parse_insns("exit")))
    kind = "sched_cls" if is_legacy else "xdp"
    return Function("f", kind, tuple(blocks), program_type=kind)


def operand(rng: random.Random) -> int:
    """A 64-bit operand, a third of the time at or near a boundary."""
    edge = rng.choice(EDGES)
    kind = rng.randrange(6)
    if kind == 0:
        return edge
    if kind == 1:
        return (edge + rng.randrange(-2, 3)) & ((1 << 64) - 1)
    if kind == 2:
        return edge ^ rng.choice((0xAAAAAAAA_00000000, 0xFFFFFFFF_00000000, 1 << 63))
    return rng.getrandbits(rng.choice((64, 64, 32, 8)))


def operand_pair(rng: random.Random) -> tuple[int, int]:
    """Two operands, now and then equal in all, the low or the high bits."""
    a, b = operand(rng), operand(rng)
    kind = rng.randrange(12)
    if kind == 0:
        return a, a
    if kind == 1:
        return a, (b & ~0xFFFFFFFF | a & 0xFFFFFFFF) & ((1 << 64) - 1)
    return a, b

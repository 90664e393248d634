"""The running kernel as a witness of the semantics: every row that computes is run there and on our machine.

One XDP program per family of rows reads two operands from the packet and writes each row's result back into it.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable

import pytest

from verifier_model.bpf.asm import parse_function, print_insn
from verifier_model.bpf.concrete import Machine, Outcome, Stop, map_frame, run_function
from verifier_model.bpf.insn import ByteOrder, Insn, SlotOffset, encode, label
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.bpf.unit import Function
from verifier_model.kernel.programs import LoadedProgram, load_insns

pytestmark = pytest.mark.needs("bpf")

SEED = 2506
XDP = 6
ORDER: ByteOrder = "little" if sys.byteorder == "little" else "big"
CONTEXT, PACKET, STACK = 0x1000, 0x2000, 0x9000
FIRST_RESULT = 16
IMMEDIATES = (1, -1, 7, 255, -256, 0x7FFFFFFF, -0x80000000)

# r2 and r3 hold the operands, r4 takes the result, the slot at r10-8 holds r2 as well.
PROLOGUE = """\
  r6 = *(u32 *)(r1 +0)
  r7 = *(u32 *)(r1 +4)
  r8 = r6
  r8 += {size}
  r0 = 1
  if r8 > r7 goto out
"""


def encoded(function: Function) -> bytes:
    starts, at = {}, 0
    for block in function.blocks:
        starts[block.label] = at
        at += block.slots
    code, at = b"", 0
    for _, insn in function.insns():
        at += insn.slots
        distance = SlotOffset(starts[insn.ref.name] - at) if insn.ref is not None else None
        code += encode(insn, ORDER, distance)
    return code


def _immediate(row: Row, index: int) -> int:
    return (1, 7, row.width - 1)[index % 3] if row.op in ("lsh", "rsh", "arsh") else IMMEDIATES[index % len(IMMEDIATES)]


def _compute(row: Row, index: int) -> list[str]:
    imm = _immediate(row, index) if row.operand is Operand.IMM else 0
    return [print_insn(Insn(row, 2, 3 if row.operand is Operand.REG else 0, imm=imm)), "r4 = r2"]


def _branch(row: Row, index: int) -> list[str]:
    imm = _immediate(row, index) if row.operand is Operand.IMM else 0
    jump = Insn(row, 2, 3 if row.operand is Operand.REG else 0, imm=imm, ref=label(f"taken{index}"))
    return ["r4 = 1", print_insn(jump), "r4 = 0", f"taken{index}:"]


def _load(row: Row, index: int) -> list[str]:
    return [print_insn(Insn(row, 4, 10, off=-8))]


def _change_memory(row: Row, index: int) -> list[str]:
    imm = _immediate(row, index) if row.operand is Operand.IMM else 0
    change = Insn(row, 10, 3 if row.operand is Operand.REG else 0, off=-8, imm=imm)
    # The register that a fetch writes is folded in, so that one result shows both.
    return ["r0 = r2", print_insn(change), "r4 = *(u64 *)(r10 -8)", "r3 *= 3", "r0 *= 5", "r4 += r3", "r4 += r0"]


def _wide(row: Row, index: int) -> list[str]:
    return ["r4 = 0x8123456789abcdef ll"]


FAMILIES: dict[str, tuple[Callable[[Row, int], list[str]], tuple[Kind, ...]]] = {
    "compute": (_compute, (Kind.ALU, Kind.ENDIAN)),
    "branch": (_branch, (Kind.BRANCH,)),
    "load": (_load, (Kind.LOAD, Kind.LOAD_ACQUIRE)),
    "memory": (_change_memory, (Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE, Kind.ATOMIC)),
    "wide": (_wide, (Kind.LOAD_WIDE,)),
}


def program(family: str) -> tuple[Function, list[Row]]:
    fragment, kinds = FAMILIES[family]
    rows = [row for row in ROWS if row.kind in kinds and (row.kind is not Kind.LOAD_WIDE or row.fixed_src == 0)]
    # Immediate operands deserve more than one value.
    rows = [row for row in rows for _ in range(len(IMMEDIATES) if row.operand is Operand.IMM else 1)]
    lines = [PROLOGUE.format(size=FIRST_RESULT + 8 * len(rows))]
    for index, row in enumerate(rows):
        lines += ["r2 = *(u64 *)(r6 +0)", "r3 = *(u64 *)(r6 +8)", "*(u64 *)(r10 -8) = r2"]
        lines += [*fragment(row, index), f"*(u64 *)(r6 +{FIRST_RESULT + 8 * index}) = r4"]
    lines += ["r0 = 2", "out:", "exit"]
    return parse_function("\n".join(lines)), rows


def on_our_machine(function: Function, packet: bytes) -> tuple[Outcome, int, bytes]:
    machine = Machine([0] * 11, order=ORDER)
    map_frame(machine, STACK)
    machine.map_bytes(CONTEXT, struct.pack("=II", PACKET, PACKET + len(packet)))
    machine.map_bytes(PACKET, packet)
    machine.registers[1] = CONTEXT
    outcome = run_function(function, machine)
    return outcome, machine.registers[0], bytes(machine.memory[PACKET + at] for at in range(len(packet)))


def _operand(rng: random.Random) -> int:
    edge = rng.choice((0, 1, 7, 31, 32, 63, 64, 0x80, 0x7FFF, 0x7FFFFFFF, 1 << 31, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1))
    return rng.choice((edge, rng.getrandbits(64), rng.getrandbits(32), edge ^ 0xAAAAAAAA_00000000))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_computes_what_the_rows_say(family: str) -> None:
    function, rows = program(family)
    loaded = load_insns(encoded(function), XDP)
    assert isinstance(loaded, LoadedProgram), loaded
    rng = random.Random(f"{SEED} {family}")
    try:
        for _ in range(60):
            a, b = _operand(rng), _operand(rng)
            b = a if rng.randrange(6) == 0 else b
            packet = struct.pack("=QQ", a, b) + bytes(8 * len(rows))
            run = loaded.test_run(packet)
            assert run.error == 0
            outcome, result, ours = on_our_machine(function, packet)
            assert (outcome.stop, result, run.result) == (Stop.EXIT, 2, 2)
            theirs = run.packet
            for index, row in enumerate(rows):
                at = slice(FIRST_RESULT + 8 * index, FIRST_RESULT + 8 * index + 8)
                assert ours[at] == theirs[at], f"seed {SEED}: {row.name} #{index} on {a:#x}, {b:#x}"
    finally:
        loaded.close()


def test_the_comparison_sees_a_wrong_row() -> None:
    """The twin: a program that differs in one operator gives another packet."""
    function, rows = program("compute")
    packet = struct.pack("=QQ", 5, 3) + bytes(8 * len(rows))
    text = [print_insn(insn) for _, insn in function.insns()]
    assert "r2 += r3" in text
    text[text.index("r2 += r3")] = "r2 -= r3"
    text[text.index("exit")] = "out:\nexit"
    swapped = parse_function("\n".join(text))
    loaded = load_insns(encoded(swapped), XDP)
    assert isinstance(loaded, LoadedProgram), loaded
    try:
        theirs = loaded.test_run(packet).packet
    finally:
        loaded.close()
    _, _, ours = on_our_machine(function, packet)
    different = [index for index in range(len(rows)) if ours[16 + 8 * index :][:8] != theirs[16 + 8 * index :][:8]]
    assert [rows[index].name for index in different] == ["add64_reg"]

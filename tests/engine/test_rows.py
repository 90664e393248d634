"""The engine against the table: every row it knows, on every instruction set of this machine, in both byte orders."""

from __future__ import annotations

import pytest

from synth import _engine
from synth.engine_link import ENGINE_ROWS, LANES, SHAPES, EngineInsn, Symbols, from_engine, shape_insn, to_engine
from synth.sampling import Numbers
from synth.search import WindowSearch
from tests.engine.windows import NUMBER, PACKET_64, disagreements, window
from verifier_model.bpf.concrete import alu, swapped
from verifier_model.bpf.insn import ByteOrder, Insn
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.domains.state import StackSlot

SEED = 20260
TESTS = 4 * LANES
COMPUTING = (Kind.ALU, Kind.ENDIAN)
INITIALISED = {off: StackSlot("mmmmmmmm") for off in range(-512, 0, 8)}


def operands(numbers: Numbers) -> list[int]:
    return [numbers.corner() if numbers.below(2) else numbers.next() >> numbers.below(64) for _ in range(TESTS)]


def results_of(insn: Insn, dst: list[int], src: list[int], lanes: str, order: ByteOrder) -> list[int]:
    form = to_engine(insn, Symbols(()))
    assert form is not None
    numbers = [(-2, False, 0)] * 11
    session = _engine.Session([form], [], numbers, [], bytes(64), [], [], [2**64 - 1] * 11, bytes(512), order == "big")
    columns = [list(src)] * 11
    columns[insn.dst] = list(dst)
    assert session.load(columns, [], lanes) == ""
    registers, _ = session.results()
    return registers[insn.dst]


def expected(insn: Insn, dst: int, src: int, order: ByteOrder) -> int:
    if insn.kind is Kind.ENDIAN:
        return swapped(insn.row, dst, order)
    return alu(insn.row, dst, src if insn.row.operand is Operand.REG else insn.imm)


def instances(row: Row, numbers: Numbers) -> list[Insn]:
    if row.operand is not Operand.IMM:
        src = 2 if row.operand is Operand.REG else 0
        return [Insn(row, 1, src)]
    if row.op in ("lsh", "rsh", "arsh"):
        return [Insn(row, 1, imm=count) for count in range(row.width)]
    imms = [-(2**31), 2**31 - 1, -1, 1, 0x7FFF, -0x8000, *(numbers.below(2**32) - 2**31 for _ in range(6))]
    return [Insn(row, 1, imm=imm) for imm in imms]


@pytest.mark.parametrize("lanes", _engine.variants())
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_computing_row_agrees_with_its_meaning(lanes: str, order: ByteOrder) -> None:
    numbers = Numbers(SEED)
    wrong = []
    for row in (row for row in ENGINE_ROWS if row.kind in COMPUTING):
        dst, src = operands(numbers), operands(numbers)
        for insn in instances(row, numbers):
            for a, b, got in zip(dst, src, results_of(insn, dst, src, lanes, order), strict=True):
                if got != expected(insn, a, b, order):
                    wrong.append(f"{row.name} imm {insn.imm} on {a:#x}, {b:#x}: {got:#x}, seed {SEED}")
    assert wrong == []


@pytest.mark.parametrize("row", [row for row in ENGINE_ROWS if row.kind is Kind.ALU and row.operand is Operand.REG])
def test_a_register_with_itself(row: Row) -> None:
    numbers = Numbers(SEED)
    values = operands(numbers)
    got = results_of(Insn(row, 1, 1), values, values, "", "little")
    assert got == [alu(row, value, value) for value in values]


def test_neighbouring_rows_are_told_apart() -> None:
    """The comparison above can fail: no two computing rows of one shape of operands behave alike on these operands."""
    numbers = Numbers(SEED)
    dst, src = operands(numbers), operands(numbers)
    seen: dict[tuple[int, ...], str] = {}
    same = []
    for row in ENGINE_ROWS:
        if row.kind is Kind.ALU and row.operand is Operand.REG:
            result = tuple(results_of(Insn(row, 1, 2), dst, src, "", "little"))
            if result in seen:
                same.append((row.name, seen[result]))
            seen[result] = row.name
    assert same == []


def test_what_the_engine_knows_of_the_table() -> None:
    known = {Kind.ALU, Kind.ENDIAN, Kind.LOAD, Kind.STORE, Kind.STORE_IMM, Kind.LOAD_WIDE}
    assert {row.name for row in ROWS if row.kind in known} == set(SHAPES)
    assert all(row.kind in known for row in ENGINE_ROWS)


@pytest.mark.parametrize(
    "row", [row for row in ENGINE_ROWS if row.kind is not Kind.LOAD_WIDE], ids=lambda row: row.name
)
def test_rows_survive_the_way_there_and_back(row: Row) -> None:
    insn = Insn(
        row,
        3 if "dst" in row.uses else 0,
        4 if "src" in row.uses else 0,
        -8 if "off" in row.uses else 0,
        5 if "imm" in row.uses else 0,
    )
    form = to_engine(insn, Symbols(()))
    assert form is not None
    assert from_engine(form, Symbols(())) == insn


def test_rows_without_a_form_stay_outside() -> None:
    outside = [row for row in ROWS if row.kind in (Kind.CALL, Kind.BRANCH, Kind.EXIT, Kind.ATOMIC, Kind.CAST)]
    assert outside
    assert all(to_engine(Insn(row), Symbols(())) is None for row in outside)


def accesses(kind_of_base: int, numbers: Numbers) -> list[Insn]:
    """Every load and store, through r10 or a packet pointer in r6, at an aligned offset."""
    found = []
    for row in ENGINE_ROWS:
        if row.kind not in (Kind.LOAD, Kind.STORE, Kind.STORE_IMM):
            continue
        step = row.size
        off = -step * (1 + numbers.below(64 // step)) if kind_of_base == 10 else numbers.below(64 - step + 1)
        if row.kind is Kind.LOAD:
            found.append(Insn(row, numbers.below(6), kind_of_base, off))
        else:
            imm = numbers.below(2**32) - 2**31 if row.kind is Kind.STORE_IMM else 0
            src = numbers.below(6) if row.kind is Kind.STORE else 0
            found.append(Insn(row, kind_of_base, src, off, imm))
    return found


@pytest.mark.parametrize("lanes", _engine.variants())
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("seed", range(12))
def test_programs_with_memory_agree_with_the_machine(lanes: str, order: ByteOrder, seed: int) -> None:
    numbers = Numbers(seed)
    computing: list[EngineInsn] = [shape_insn(row) for row in ENGINE_ROWS if row.kind in COMPUTING]
    insns: list[Insn] = [*accesses(10, numbers), *accesses(6, numbers)]
    for op, width, from_reg, *_ in (computing[numbers.below(len(computing))] for _ in range(20)):
        form = (op, width, from_reg, numbers.below(6), numbers.below(6), 0, 1 + numbers.below(15))
        insns.append(from_engine(form, Symbols(())))
    order_of = sorted(range(len(insns)), key=lambda _: numbers.next())
    picked = tuple(insns[at] for at in order_of[:40])
    regs = {**dict.fromkeys(range(6), NUMBER), 6: PACKET_64}
    search = WindowSearch(window(picked, regs, (0,), stack=INITIALISED, order=order), seed, lanes)
    assert disagreements(search) == [], f"seed {seed}"


def test_a_disagreement_is_seen() -> None:
    """The twin of the test above: with one bit of one input flipped, the comparison reports it."""
    search = WindowSearch(window("r1 += r2\n*(u64 *)(r10 -8) = r1", {1: NUMBER, 2: NUMBER}, (1,)), 1)
    assert disagreements(search) == []
    search.cases[5].registers[2] ^= 1
    assert len(disagreements(search)) == 3  # r2 itself, r1, and the stack

"""Between rows and the engine's own instructions, and between test cases and its lanes.

The engine knows operations by the `op` names of the rows, so this is translation by name: there is no second table of
opcodes.  What it cannot express (calls, branches, atomics, casts, legacy loads) has no engine form: `to_engine` gives
None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from synth import _engine
from synth.cost import CostTable
from synth.cost import table as cost_table
from verifier_model.bpf.insn import Insn, Ref
from verifier_model.bpf.isa import BY_NAME, ROWS, Kind, Operand, Row, WideSource

LANES: Final = int(_engine.LANES)
EngineInsn = tuple[int, int, bool, int, int, int, int]  # op, width, from register?, dst, src, off, imm
Shape = tuple[int, int, bool]

_OPERATIONS: Final[dict[str, int]] = {name: index for index, name in enumerate(_engine.OPERATIONS)}
_LDDW: Final = _OPERATIONS["lddw"]
_SYMBOL: Final = _OPERATIONS["symbol"]
_PLAIN: Final = frozenset({Kind.ALU, Kind.ENDIAN, Kind.LOAD, Kind.STORE})


def _operation(row: Row) -> str | None:
    """The engine's name for what the row does, None when it has none."""
    if row.kind is Kind.STORE_IMM:
        return "store_imm"
    if row.kind is Kind.LOAD_WIDE:
        return "lddw" if row.fixed_src == WideSource.CONSTANT else "symbol"
    return row.op if row.kind in _PLAIN else None


def _shapes() -> dict[str, Shape]:
    found = {}
    for row in ROWS:
        name = _operation(row)
        if name is not None:
            found[row.name] = (_OPERATIONS[name], row.width, row.operand is Operand.REG)
    return found


SHAPES: Final[dict[str, Shape]] = _shapes()
ENGINE_ROWS: Final[tuple[Row, ...]] = tuple(row for row in ROWS if row.name in SHAPES)
BRANCH_ROWS: Final[tuple[Row, ...]] = tuple(
    row for row in ROWS if row.kind is Kind.BRANCH and row.op in _OPERATIONS and row.width in (32, 64)
)
_BRANCH_SHAPES: Final[dict[str, Shape]] = {
    row.name: (_OPERATIONS[row.op], row.width, row.operand is Operand.REG) for row in BRANCH_ROWS
}
_JUMP: Final = _OPERATIONS["ja"]
_BRANCH_OF: Final[dict[Shape, Row]] = {shape: BY_NAME[name] for name, shape in _BRANCH_SHAPES.items()}
_ROW_OF: Final[dict[Shape, Row]] = {shape: BY_NAME[name] for name, shape in SHAPES.items() if shape[0] != _SYMBOL}


def shape_insn(row: Row) -> EngineInsn:
    """An engine instruction of that row with all operands zero."""
    op, width, from_reg = SHAPES[row.name] if row.name in SHAPES else _BRANCH_SHAPES[row.name]
    return op, width, from_reg, 0, 0, 0, 0


def branch_to_engine(insn: Insn, target: int) -> EngineInsn | None:
    """A branch or jump that leads to `target` (as in `SearchWindow.targets`); None when the engine has none such."""
    if insn.row.name == "ja":
        return _JUMP, 64, False, 0, 0, target, 0
    shape = _BRANCH_SHAPES.get(insn.row.name)
    if shape is None:
        return None
    op, width, from_reg = shape
    return op, width, from_reg, insn.dst, insn.src, target, insn.imm


def branch_from_engine(insn: EngineInsn) -> Insn | None:
    """The branch, without its label, that an engine instruction stands for; None for any other instruction."""
    op, width, from_reg, dst, src, _, imm = insn
    if op == _JUMP:
        return Insn(BY_NAME["ja"])
    row = _BRANCH_OF.get((op, width, from_reg))
    return None if row is None else Insn(row, dst, src if from_reg else 0, 0, 0 if from_reg else imm)


@dataclass(frozen=True)
class Symbols:
    """The wide loads of a window whose value the loader fills in, each one a column of the engine's tests."""

    loads: tuple[Insn, ...]

    @staticmethod
    def of(insns: Sequence[Insn]) -> Symbols:
        loads: list[Insn] = []
        for insn in insns:
            if is_symbol(insn) and not any(_same_value(insn, known) for known in loads):
                loads.append(insn)
        return Symbols(tuple(loads))

    def index(self, insn: Insn) -> int:
        return next(at for at, known in enumerate(self.loads) if _same_value(insn, known))


def is_symbol(insn: Insn) -> bool:
    """Is this a wide load of something that is no number yet?"""
    return insn.kind is Kind.LOAD_WIDE and (insn.ref is not None or insn.row.fixed_src != WideSource.CONSTANT)


def _same_value(a: Insn, b: Insn) -> bool:
    return (a.row, a.imm, _place(a.ref)) == (b.row, b.imm, _place(b.ref))


def _place(ref: Ref | None) -> tuple[object, ...]:
    return () if ref is None else (ref.kind, ref.name, ref.addend)


def to_engine(insn: Insn, symbols: Symbols) -> EngineInsn | None:
    """The instruction as the engine has it; None when it has no such instruction."""
    if insn.kind is Kind.LOAD_WIDE and is_symbol(insn):
        return _SYMBOL, 64, False, insn.dst, 0, 0, symbols.index(insn)
    shape = SHAPES.get(insn.row.name)
    if shape is None or insn.ref is not None:
        return None
    op, width, from_reg = shape
    if insn.kind is Kind.LOAD_WIDE:
        imm = insn.imm - (1 << 64) if insn.imm >> 63 else insn.imm
        return op, 64, False, insn.dst, 0, 0, imm
    return op, width, from_reg, insn.dst, insn.src, insn.off, insn.imm


def from_engine(insn: EngineInsn, symbols: Symbols) -> Insn:
    """The instruction that an engine instruction stands for."""
    op, width, from_reg, dst, src, off, imm = insn
    if op == _SYMBOL:
        load = symbols.loads[imm]
        return Insn(load.row, dst, load.src, load.off, load.imm, load.ref)
    row = _ROW_OF[op, width, from_reg]
    if row.kind is Kind.LOAD_WIDE:
        return Insn(row, dst, imm=imm & ((1 << 64) - 1))
    return Insn(
        row,
        dst if "dst" in row.uses else 0,
        src if "src" in row.uses else 0,
        off if "off" in row.uses else 0,
        imm if "imm" in row.uses else 0,
    )


def prices(costs: CostTable | None = None) -> list[tuple[EngineInsn, int]]:
    """Picoseconds of every shape the engine knows."""
    costs = costs or cost_table()
    jump = (_JUMP, 64, False, 0, 0, 0, 0)
    return [
        *((shape_insn(row), costs.of(row)) for row in (*ENGINE_ROWS, *BRANCH_ROWS)),
        (jump, costs.of(BY_NAME["ja"])),
    ]


def rows_by_op(names: Sequence[str], level: int) -> list[Row]:
    """The ALU and byte-swap rows of these operations that `level` has, in the order of the table."""
    wanted: Mapping[str, None] = dict.fromkeys(names)
    return [
        row for row in ENGINE_ROWS if row.kind in (Kind.ALU, Kind.ENDIAN) and row.op in wanted and row.level <= level
    ]

"""The one table of BPF instructions: every other module reads these rows and has no opcode switch of its own.

Layout of a slot (RFC 9669 section 3), eight bytes, fields in the object's byte order:

    +--------+----+----+----------------+--------------------------------+
    | opcode |src |dst |     offset     |           immediate            |   (src and dst swap nibbles in bpfeb)
    +--------+----+----+----------------+--------------------------------+
      8 bits   4    4    16 bits signed              32 bits signed

ALU and jump opcodes: | operation 4 bits | source 1 bit | class 3 bits |
Memory opcodes:       | mode 3 bits | size 2 bits | class 3 bits |

`level` is the CPU level as clang's -mcpu counts it (llvm/lib/Target/BPF/BPF.td); instructions that no -mcpu
level emits by itself (`may_goto`, acquire and release, address-space casts) carry the level whose kernels know them.
A row may pin a field that is "really" part of the opcode: `fixed_off` (sdiv, movsx), `fixed_imm` (atomics, byte swaps,
casts) or `fixed_src` (kinds of call and of wide load).  A field that a row neither pins nor uses must be zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from verifier_model.bpf import semantics
from verifier_model.bpf.semantics import AluMeaning, Condition


class Kind(Enum):
    """What sort of instruction a row is: the outermost case distinction of every engine."""

    ALU = "alu"
    ENDIAN = "endian"
    LOAD_WIDE = "load_wide"
    LOAD = "load"
    STORE = "store"
    STORE_IMM = "store_imm"
    ATOMIC = "atomic"
    LOAD_ACQUIRE = "load_acquire"
    STORE_RELEASE = "store_release"
    JUMP = "jump"
    BRANCH = "branch"
    MAY_GOTO = "may_goto"
    CALL = "call"
    EXIT = "exit"
    LEGACY_LOAD = "legacy_load"
    CAST = "cast"


class Operand(Enum):
    """Where the second operand of an ALU instruction or branch comes from."""

    NONE = "none"
    IMM = "imm"
    REG = "reg"


class WideSource(IntEnum):
    """The src field of a wide load (include/uapi/linux/bpf.h, BPF_PSEUDO_*)."""

    CONSTANT = 0
    MAP_FD = 1
    MAP_VALUE = 2
    BTF_ID = 3
    FUNC = 4
    MAP_IDX = 5
    MAP_IDX_VALUE = 6


class CallTarget(IntEnum):
    """The src field of a call: a helper by number, a function of this program, a kernel function by BTF id."""

    HELPER = 0
    LOCAL = 1
    KFUNC = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction of the set.

    `width` is in bits: of the operands for ALU, branches and atomics, of the access for loads and stores, of the
    swapped part for byte swaps.  `uses` names the operand fields that are free: a subset of "dst src off imm target".
    `slots` counts 8-byte slots.  `sign` marks sign-extending loads.  `fetch` marks atomics that return the old value.
    `is_block_end`: control leaves the straight line here (a call returns and is not an end).
    """

    name: str
    code: int
    kind: Kind
    op: str
    width: int
    operand: Operand
    level: int
    uses: frozenset[str]
    slots: int = 1
    meaning: AluMeaning | None = None
    condition: Condition | None = None
    fixed_src: int | None = None
    fixed_off: int | None = None
    fixed_imm: int | None = None
    sign: bool = False
    fetch: bool = False
    is_block_end: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_block_end", self.kind in BLOCK_ENDS)

    @property
    def size(self) -> int:
        """Bytes touched in memory by a load, store or atomic."""
        return self.width // 8

    @property
    def is_memory_access(self) -> bool:
        return self.kind in MEMORY_KINDS


BLOCK_ENDS: Final = frozenset({Kind.JUMP, Kind.BRANCH, Kind.MAY_GOTO, Kind.EXIT})
LOAD_KINDS: Final = frozenset({Kind.LOAD, Kind.LOAD_ACQUIRE})
STORE_KINDS: Final = frozenset({Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE})
MEMORY_KINDS: Final = LOAD_KINDS | STORE_KINDS | {Kind.ATOMIC}

_CLASS_LD, _CLASS_LDX, _CLASS_ST, _CLASS_STX = 0x00, 0x01, 0x02, 0x03
_CLASS_ALU32, _CLASS_JMP64, _CLASS_JMP32, _CLASS_ALU64 = 0x04, 0x05, 0x06, 0x07
_FROM_REG = 0x08
_SIZE_BITS: Final = {32: 0x00, 16: 0x08, 8: 0x10, 64: 0x18}
_SIZE_LETTER: Final = {8: "b", 16: "h", 32: "w", 64: "dw"}
_MODE_ABS, _MODE_IND, _MODE_MEM, _MODE_MEMSX, _MODE_ATOMIC = 0x20, 0x40, 0x60, 0x80, 0xC0

# name, operation nibble, meaning, level, pinned offset
_BINARY: Final[tuple[tuple[str, int, AluMeaning, int, int], ...]] = (
    ("add", 0x00, semantics.add, 1, 0),
    ("sub", 0x10, semantics.sub, 1, 0),
    ("mul", 0x20, semantics.mul, 1, 0),
    ("div", 0x30, semantics.udiv, 1, 0),
    ("sdiv", 0x30, semantics.sdiv, 4, 1),
    ("or", 0x40, semantics.or_, 1, 0),
    ("and", 0x50, semantics.and_, 1, 0),
    ("lsh", 0x60, semantics.lsh, 1, 0),
    ("rsh", 0x70, semantics.rsh, 1, 0),
    ("mod", 0x90, semantics.umod, 1, 0),
    ("smod", 0x90, semantics.smod, 4, 1),
    ("xor", 0xA0, semantics.xor, 1, 0),
    ("mov", 0xB0, semantics.mov, 1, 0),
    ("arsh", 0xC0, semantics.arsh, 1, 0),
)
# op name, bits, meaning, widths it exists for
_SIGN_MOVES: Final[tuple[tuple[int, AluMeaning, tuple[int, ...]], ...]] = (
    (8, semantics.movsx8, (32, 64)),
    (16, semantics.movsx16, (32, 64)),
    (32, semantics.movsx32, (64,)),
)
_BRANCHES: Final[tuple[tuple[str, int, Condition, int], ...]] = (
    ("jeq", 0x10, semantics.jeq, 1),
    ("jgt", 0x20, semantics.jgt, 1),
    ("jge", 0x30, semantics.jge, 1),
    ("jset", 0x40, semantics.jset, 1),
    ("jne", 0x50, semantics.jne, 1),
    ("jsgt", 0x60, semantics.jsgt, 1),
    ("jsge", 0x70, semantics.jsge, 1),
    ("jlt", 0xA0, semantics.jlt, 2),
    ("jle", 0xB0, semantics.jle, 2),
    ("jslt", 0xC0, semantics.jslt, 2),
    ("jsle", 0xD0, semantics.jsle, 2),
)
# op, immediate, fetches, level
_ATOMICS: Final[tuple[tuple[str, int, bool, int], ...]] = (
    ("add", 0x00, False, 1),
    ("or", 0x40, False, 3),
    ("and", 0x50, False, 3),
    ("xor", 0xA0, False, 3),
    ("add", 0x01, True, 3),
    ("or", 0x41, True, 3),
    ("and", 0x51, True, 3),
    ("xor", 0xA1, True, 3),
    ("xchg", 0xE1, True, 3),
    ("cmpxchg", 0xF1, True, 3),
)


def _uses(*fields: str) -> frozenset[str]:
    return frozenset(fields)


def _operand_field(operand: Operand) -> str:
    return "src" if operand is Operand.REG else "imm"


def _alu_rows() -> list[Row]:
    rows = []
    for width, cls in ((64, _CLASS_ALU64), (32, _CLASS_ALU32)):
        for op, nibble, meaning, level, off in _BINARY:
            for operand, bit in ((Operand.IMM, 0), (Operand.REG, _FROM_REG)):
                uses = _uses("dst", _operand_field(operand))
                name = f"{op}{width}_{operand.value}"
                # 32-bit ALU is as old as BPF for the kernel, but clang emits it only from -mcpu=v3 (feature alu32).
                at = max(level, 3) if width == 32 else level
                code = nibble | bit | cls
                rows.append(Row(name, code, Kind.ALU, op, width, operand, at, uses, meaning=meaning, fixed_off=off))
        at = 3 if width == 32 else 1
        rows.append(
            Row(
                f"neg{width}", 0x80 | cls, Kind.ALU, "neg", width, Operand.NONE, at, _uses("dst"), meaning=semantics.neg
            )
        )
        for bits, meaning, widths in _SIGN_MOVES:
            if width in widths:
                rows.append(
                    Row(
                        f"movsx{bits}_{width}",
                        0xB0 | _FROM_REG | cls,
                        Kind.ALU,
                        f"movsx{bits}",
                        width,
                        Operand.REG,
                        4,
                        _uses("dst", "src"),
                        meaning=meaning,
                        fixed_off=bits,
                    )
                )
    return rows


def _endian_rows() -> list[Row]:
    return [
        Row(f"{op}{bits}", code, Kind.ENDIAN, op, bits, Operand.NONE, level, _uses("dst"), fixed_imm=bits)
        for op, code, level in (("le", 0xD4, 1), ("be", 0xDC, 1), ("bswap", 0xD7, 4))
        for bits in (16, 32, 64)
    ]


def _cast_rows() -> list[Row]:
    # `r1 = addr_space_cast(r2, 0, 1)`: imm holds (destination space << 16) | source space; the kernel knows these two.
    return [
        Row(name, 0xBF, Kind.CAST, "cast", 64, Operand.REG, 4, _uses("dst", "src"), fixed_off=1, fixed_imm=imm)
        for name, imm in (("cast_kernel", 0x00001), ("cast_user", 0x10000))
    ]


def _memory_rows() -> list[Row]:
    rows = []
    for width, bits in _SIZE_BITS.items():
        letter = _SIZE_LETTER[width]
        load, store = _uses("dst", "src", "off"), _uses("dst", "src", "off")
        none = Operand.NONE
        rows.append(Row(f"ldx_{letter}", _MODE_MEM | bits | _CLASS_LDX, Kind.LOAD, "load", width, none, 1, load))
        if width < 64:
            code = _MODE_MEMSX | bits | _CLASS_LDX
            rows.append(Row(f"ldsx_{letter}", code, Kind.LOAD, "load_signed", width, none, 4, load, sign=True))
        code = _MODE_MEM | bits | _CLASS_STX
        rows.append(Row(f"stx_{letter}", code, Kind.STORE, "store", width, Operand.REG, 1, store))
        # Store-immediate is as old as BPF for the kernel; clang emits it only at v4, we may use it at every level.
        code = _MODE_MEM | bits | _CLASS_ST
        rows.append(
            Row(f"st_{letter}", code, Kind.STORE_IMM, "store", width, Operand.IMM, 1, _uses("dst", "off", "imm"))
        )
    return rows


def _atomic_rows() -> list[Row]:
    rows = []
    for width in (32, 64):
        letter = _SIZE_LETTER[width]
        code = _MODE_ATOMIC | _SIZE_BITS[width] | _CLASS_STX
        for op, imm, fetch, level in _ATOMICS:
            name = f"atomic_{op}{'_fetch' if fetch and op not in ('xchg', 'cmpxchg') else ''}_{letter}"
            rows.append(
                Row(
                    name,
                    code,
                    Kind.ATOMIC,
                    op,
                    width,
                    Operand.REG,
                    level,
                    _uses("dst", "src", "off"),
                    fixed_imm=imm,
                    fetch=fetch,
                )
            )
    for width in (8, 16, 32, 64):
        letter = _SIZE_LETTER[width]
        code = _MODE_ATOMIC | _SIZE_BITS[width] | _CLASS_STX
        uses = _uses("dst", "src", "off")
        for kind, op, imm in ((Kind.LOAD_ACQUIRE, "load_acquire", 0x100), (Kind.STORE_RELEASE, "store_release", 0x110)):
            operand = Operand.REG if kind is Kind.STORE_RELEASE else Operand.NONE
            rows.append(Row(f"{op}_{letter}", code, kind, op, width, operand, 4, uses, fixed_imm=imm))
    return rows


def _wide_rows() -> list[Row]:
    return [
        Row(
            f"lddw_{source.name.lower()}",
            0x18,
            Kind.LOAD_WIDE,
            "lddw",
            64,
            Operand.IMM,
            1,
            _uses("dst", "imm"),
            slots=2,
            fixed_src=int(source),
        )
        for source in WideSource
    ]


def _legacy_rows() -> list[Row]:
    rows = []
    for width in (8, 16, 32):
        letter, bits = _SIZE_LETTER[width], _SIZE_BITS[width]
        kind = Kind.LEGACY_LOAD
        rows.append(
            Row(f"ld_abs_{letter}", _MODE_ABS | bits | _CLASS_LD, kind, "abs", width, Operand.IMM, 1, _uses("imm"))
        )
        uses = _uses("src", "imm")
        rows.append(Row(f"ld_ind_{letter}", _MODE_IND | bits | _CLASS_LD, kind, "ind", width, Operand.REG, 1, uses))
    return rows


def _jump_rows() -> list[Row]:
    none, target = Operand.NONE, _uses("target")
    rows = [
        Row("ja", 0x05, Kind.JUMP, "ja", 16, none, 1, target),
        Row("gotol", 0x06, Kind.JUMP, "ja", 32, none, 4, target),
        Row("may_goto", 0xE5, Kind.MAY_GOTO, "may_goto", 16, none, 4, target),
        Row("exit", 0x95, Kind.EXIT, "exit", 64, none, 1, _uses()),
    ]
    for callee in CallTarget:
        name = f"call_{callee.name.lower()}"
        rows.append(Row(name, 0x85, Kind.CALL, "call", 64, none, 1, _uses("imm"), fixed_src=int(callee)))
    for width, cls in ((64, _CLASS_JMP64), (32, _CLASS_JMP32)):
        for op, nibble, condition, level in _BRANCHES:
            for operand, bit in ((Operand.IMM, 0), (Operand.REG, _FROM_REG)):
                uses = _uses("dst", _operand_field(operand), "target")
                at = 3 if width == 32 else level
                name = f"{op}{width}_{operand.value}"
                row = Row(name, nibble | bit | cls, Kind.BRANCH, op, width, operand, at, uses, condition=condition)
                rows.append(row)
    return rows


ROWS: Final[tuple[Row, ...]] = tuple(
    _alu_rows()
    + _endian_rows()
    + _cast_rows()
    + _memory_rows()
    + _atomic_rows()
    + _wide_rows()
    + _legacy_rows()
    + _jump_rows()
)
BY_NAME: Final[dict[str, Row]] = {row.name: row for row in ROWS}


def _rows_by_code() -> dict[int, tuple[Row, ...]]:
    grouped: dict[int, list[Row]] = {}
    for row in ROWS:
        grouped.setdefault(row.code, []).append(row)
    return {code: tuple(rows) for code, rows in grouped.items()}


BY_CODE: Final[dict[int, tuple[Row, ...]]] = _rows_by_code()

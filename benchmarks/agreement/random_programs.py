"""Random XDP programs that the kernel's verifier accepts by construction.

r6 holds the context, r7 the packet, r8 its end, r9 a map value; r0 to r4 hold numbers at every place, r5 is scratch.
Every program computes on registers, stack, packet and map values (atomics, acquire and release, variable offsets),
branches, loops, calls helpers and often a static function, and leaves its registers and stack in the packet.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.agreement.operand_programs import EDGES, IMMEDIATES
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.exchange_halves import is_narrow_exchange
from verifier_model.bpf.flow import split_blocks
from verifier_model.bpf.insn import Insn, Ref, RefKind, label, make
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.bpf.unit import Function, MapDef, Unit

ARRAY, HASH = "values", "flows"
VALUE_BYTES: Final = 64
KEYS: Final = 4
FLOW_BYTES: Final = 16
MAPS: Final = {
    ARRAY: MapDef(ARRAY, 2, 4, VALUE_BYTES, KEYS),
    HASH: MapDef(HASH, 1, 4, FLOW_BYTES, 4),
}
PLAYGROUND: Final = 128  # bytes of the packet that programs play with
STACK_BYTES: Final = 64
PACKET_BYTES: Final = PLAYGROUND + 5 * 8 + STACK_BYTES
_KEY_SLOT: Final = -72
_VALUE_SLOT: Final = -96
_SCRATCH: Final = 5
NUMBERS: Final = (0, 1, 2, 3, 4)
_ALU: Final = [row for row in ROWS if row.kind is Kind.ALU]
_SWAPS: Final = [row for row in ROWS if row.kind is Kind.ENDIAN]
_BRANCHES: Final = [row for row in ROWS if row.kind is Kind.BRANCH]
_LOADS: Final = [row for row in ROWS if row.kind is Kind.LOAD]
_STORES: Final = [row for row in ROWS if row.kind in (Kind.STORE, Kind.STORE_IMM)]
_ORDERED: Final = [row for row in ROWS if row.kind in (Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE)]
_ATOMICS: Final = [row for row in ROWS if row.kind is Kind.ATOMIC]
_FLAGS: Final = (0, 0, 0, 1, 2)


@dataclass
class _Writer:
    """Instructions with labels, under construction."""

    rng: random.Random
    insns: list[Insn] = field(default_factory=list)
    labels: dict[int, list[str]] = field(default_factory=dict)
    used: int = 0

    def add(self, *insns: Insn) -> None:
        for insn in insns:
            self.insns.append(insn)
            if is_narrow_exchange(insn):
                # What is above its 32 bits is not the same on all kernels (verifier_model/bpf/exchange_halves.py).
                self.insns.append(make("mov32_reg", 0, 0))

    def text(self, text: str) -> None:
        self.add(*parse_insns(text))

    def fresh(self) -> str:
        self.used += 1
        return f"L{self.used}"

    def place(self, name: str) -> None:
        self.labels.setdefault(len(self.insns), []).append(name)

    def number(self) -> int:
        return self.rng.choice(NUMBERS)

    def function(self, name: str, **fields: object) -> Function:
        blocks = split_blocks(self.insns, self.labels)
        return Function(name, "xdp" if name == "f" else ".text", blocks, **fields)  # type: ignore[arg-type]


def _filled(row: Row, rng: random.Random, dst: int, src: int) -> Insn:
    if row.operand is not Operand.IMM:
        return Insn(row, dst, src if row.operand is Operand.REG else 0)
    if row.op in ("lsh", "rsh", "arsh"):
        return Insn(row, dst, imm=rng.randrange(row.width))
    imm = rng.choice((rng.choice(IMMEDIATES), rng.randrange(-(1 << 31), 1 << 31)))
    return Insn(row, dst, imm=3 if imm == 0 and row.op in ("div", "mod", "sdiv", "smod") else imm)


def _alu(w: _Writer) -> None:
    w.add(_filled(w.rng.choice(_ALU), w.rng, w.number(), w.number()))


def _swap(w: _Writer) -> None:
    w.add(Insn(w.rng.choice(_SWAPS), w.number()))


def _wide(w: _Writer) -> None:
    w.add(make("lddw_constant", w.number(), imm=w.rng.choice((w.rng.choice(EDGES), w.rng.getrandbits(64)))))


def _access(w: _Writer, row: Row, base: int, off: int, but: int = -1) -> Insn:
    """An access with one of the numbers, which is not `but`."""
    number = w.rng.choice([number for number in NUMBERS if number != but])
    if row.kind in (Kind.LOAD, Kind.LOAD_ACQUIRE):
        return Insn(row, number, base, off)
    if row.kind is Kind.STORE_IMM:
        return Insn(row, base, 0, off, w.rng.choice(IMMEDIATES))
    return Insn(row, base, number, off)


def _aligned(w: _Writer, size: int, room: int) -> int:
    return w.rng.randrange(room // size) * size


def _stack(w: _Writer) -> None:
    row = w.rng.choice((*_LOADS, *_STORES, *_ORDERED, *_ATOMICS))
    off = _aligned(w, row.size, STACK_BYTES) - STACK_BYTES
    kind = w.rng.randrange(4)
    if kind == 0 and row.kind in (Kind.LOAD, Kind.STORE, Kind.STORE_IMM):
        mask = STACK_BYTES - row.size
        w.add(make("mov64_reg", _SCRATCH, w.number()), make("and64_imm", _SCRATCH, imm=mask))
        w.add(make("add64_reg", _SCRATCH, 10), _access(w, row, _SCRATCH, -STACK_BYTES))
    elif kind == 1:
        w.add(make("mov64_reg", _SCRATCH, 10), make("add64_imm", _SCRATCH, imm=off), _access(w, row, _SCRATCH, 0))
    else:
        w.add(_access(w, row, 10, off))


def _packet(w: _Writer) -> None:
    row = w.rng.choice((*_LOADS, *_STORES))
    if w.rng.random() < 0.7:
        w.add(_access(w, row, 7, w.rng.randrange(PLAYGROUND - row.size + 1)))
        return
    mask, behind = w.rng.choice((7, 15, 31, 63, 60)), w.fresh()
    off = w.rng.randrange(32)
    limit = 2 if w.rng.random() < 0.5 else 3
    w.add(make("mov64_reg", _SCRATCH, w.number()), make("and64_imm", _SCRATCH, imm=mask))
    w.add(make("add64_reg", _SCRATCH, 7), make("mov64_reg", limit, _SCRATCH))
    w.add(make("add64_imm", limit, imm=off + row.size))
    # The pointer is a number again on both ways.
    w.add(make("jgt64_reg", limit, 8, ref=label(behind)), _access(w, row, _SCRATCH, off, limit))
    w.place(behind)
    w.add(make("mov64_imm", limit, imm=w.rng.choice(IMMEDIATES)))


def _map_value(w: _Writer) -> None:
    row = w.rng.choice((*_LOADS, *_STORES, *_ORDERED, *_ATOMICS, *_ATOMICS))
    if w.rng.random() < 0.3:
        mask = _aligned(w, row.size, VALUE_BYTES) & (VALUE_BYTES - row.size)
        w.add(make("mov64_reg", _SCRATCH, w.number()), make("and64_imm", _SCRATCH, imm=mask))
        w.add(make("add64_reg", _SCRATCH, 9), _access(w, row, _SCRATCH, 0))
    else:
        w.add(_access(w, row, 9, _aligned(w, row.size, VALUE_BYTES)))


def _numbers_again(w: _Writer, first: int = 1) -> None:
    """Numbers for the registers that a call took."""
    for register in range(first, 5):
        if w.rng.random() < 0.5:
            w.add(make("ldx_dw", register, 7, w.rng.randrange(PLAYGROUND - 8)))
        else:
            w.add(make("mov64_imm", register, imm=w.rng.choice(IMMEDIATES)))


def _key(w: _Writer) -> None:
    w.add(make("mov64_reg", _SCRATCH, w.number()), make("and64_imm", _SCRATCH, imm=w.rng.choice((1, 3, 7))))
    w.add(make("stx_w", 10, _SCRATCH, _KEY_SLOT))


def _lookup(w: _Writer) -> None:
    """A number from a value of either map, when it is there."""
    name, behind = w.rng.choice((ARRAY, HASH)), w.fresh()
    _key(w)
    w.text(f"r2 = r10\nr2 += {_KEY_SLOT}\nr1 = map[{name}] ll\ncall 1")
    row = w.rng.choice((*_LOADS, *_STORES, *_ATOMICS))
    off = _aligned(w, row.size, FLOW_BYTES)
    w.text("r5 = r0\nr0 = 1")
    _numbers_again(w)
    w.add(make("jeq64_imm", _SCRATCH, imm=0, ref=label(behind)), _access(w, row, _SCRATCH, off))
    w.place(behind)
    w.add(make("mov64_imm", _SCRATCH, imm=0))


def _update(w: _Writer) -> None:
    _key(w)
    name = w.rng.choice((ARRAY, HASH))
    value = _VALUE_SLOT if name == HASH else -STACK_BYTES
    if name == HASH:
        w.add(make("stx_dw", 10, w.number(), _VALUE_SLOT), make("stx_dw", 10, w.number(), _VALUE_SLOT + 8))
    w.text(f"r2 = r10\nr2 += {_KEY_SLOT}\nr3 = r10\nr3 += {value}\nr4 = {w.rng.choice(_FLAGS)}")
    w.text(f"r1 = map[{name}] ll\ncall 2")
    _numbers_again(w)


def _delete(w: _Writer) -> None:
    _key(w)
    w.text(f"r2 = r10\nr2 += {_KEY_SLOT}\nr1 = map[{w.rng.choice((ARRAY, HASH))}] ll\ncall 3")
    _numbers_again(w)


def _subprogram(w: _Writer) -> None:
    w.text("r1 = r9")
    w.add(make("call_local", ref=Ref(RefKind.FUNCTION, "s")))
    _numbers_again(w)


def _loop(w: _Writer) -> None:
    again = w.fresh()
    w.add(make("mov64_imm", _SCRATCH, imm=w.rng.randrange(1, 6)))
    w.place(again)
    for _ in range(w.rng.randrange(1, 4)):
        w.rng.choice((_alu, _alu, _swap))(w)
    w.add(_access(w, w.rng.choice(_STORES), 10, -8 * w.rng.randrange(1, 8)))
    w.add(make("add64_imm", _SCRATCH, imm=-1), make("jne64_imm", _SCRATCH, imm=0, ref=label(again)))


def _branch(w: _Writer) -> None:
    """Around a few items; the other way sometimes has items of its own."""
    other, join = w.fresh(), w.fresh()
    jump = _filled(w.rng.choice(_BRANCHES), w.rng, w.number(), w.number())
    w.add(Insn(jump.row, jump.dst, jump.src, imm=jump.imm, ref=label(other)))
    _items(w, w.rng.randrange(1, 4), is_inner=True)
    if w.rng.random() < 0.5:
        w.add(make(w.rng.choice(("ja", "gotol")), ref=label(join)))
        w.place(other)
        _items(w, w.rng.randrange(1, 4), is_inner=True)
    else:
        w.place(other)
    w.place(join)


Item = Callable[[_Writer], None]
_PLAIN: Final[tuple[tuple[Item, int], ...]] = (
    (_alu, 10),
    (_swap, 1),
    (_wide, 1),
    (_stack, 5),
    (_packet, 4),
    (_map_value, 5),
)
_LARGE: Final[tuple[tuple[Item, int], ...]] = ((_branch, 4), (_loop, 1), (_lookup, 2), (_update, 1), (_delete, 1))


def _items(w: _Writer, count: int, is_inner: bool = False) -> None:
    rows = _PLAIN if is_inner else (*_PLAIN, *_LARGE)
    for _ in range(count):
        w.rng.choices([row for row, _ in rows], [weight for _, weight in rows])[0](w)


def _main(rng: random.Random, calls: bool) -> Function:
    w = _Writer(rng)
    w.text("r6 = r1\nr7 = *(u32 *)(r1 +0)\nr8 = *(u32 *)(r1 +4)\nr0 = 1")
    w.text(f"r2 = r7\nr2 += {PACKET_BYTES}")
    w.add(make("jgt64_reg", 2, 8, ref=label("out")))
    w.text(
        f"*(u32 *)(r10 {_KEY_SLOT}) = {rng.randrange(KEYS)}\nr2 = r10\nr2 += {_KEY_SLOT}\nr1 = map[{ARRAY}] ll\ncall 1"
    )
    w.text("r9 = r0\nr0 = 1")
    w.add(make("jeq64_imm", 9, imm=0, ref=label("out")))
    for slot in range(8, STACK_BYTES + 8, 8):
        w.add(make("ldx_dw", 1, 7, slot), make("stx_dw", 10, 1, -slot))
    for register in NUMBERS:
        w.add(make("ldx_dw", register, 7, 8 * register))
    _items(w, rng.randrange(4, 14))
    if calls:
        _subprogram(w)
        _items(w, rng.randrange(1, 5))
    for register in NUMBERS:
        w.add(make("stx_dw", 7, register, PLAYGROUND + 8 * register))
    for slot in range(8, STACK_BYTES + 8, 8):
        w.add(make("ldx_dw", 1, 10, -slot), make("stx_dw", 7, 1, PACKET_BYTES - slot))
    w.place("out")
    w.text("exit")
    return w.function("f", program_type="xdp")


def _callee(rng: random.Random) -> Function:
    """`s(map value, number, number, number)` with a frame and registers of its own; it has no packet."""
    w = _Writer(rng)
    w.text("r9 = r1\nr0 = r2\nr1 = r3")
    for slot in range(8, STACK_BYTES + 8, 8):
        w.add(make("stx_dw", 10, rng.choice((2, 3, 4)), -slot))
    for _ in range(rng.randrange(2, 7)):
        rng.choice((_alu, _alu, _stack, _map_value))(w)
    w.text("exit")
    return w.function("s", is_subprogram=True, is_global=False)


def random_unit(rng: random.Random) -> Unit:
    """A unit whose program is `f`."""
    calls = rng.random() < 0.3
    functions = (_main(rng, calls), *([_callee(rng)] if calls else []))
    return Unit(functions, MAPS, cpu_level=4, license="GPL")

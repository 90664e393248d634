"""Demanded bits and stack bytes: exact sets on tiny programs, each with a twin that differs in one detail, and the
property itself: what is not demanded may be changed at random without anybody noticing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.concrete import Machine, Stop, alu, map_frame, run_insns, taken
from verifier_model.bpf.demand import ALL_BITS, ANY_STACK_ACCESS, NO_STACK_ACCESS, Demand, StackAccess
from verifier_model.bpf.demanded_bits import alu_demand, branch_demand, reads_dst
from verifier_model.bpf.insn import Insn, Origin
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.bpf.liveness import Liveness, demand_before, liveness, syntactic_access
from verifier_model.bpf.unit import Function, Point

SEED = 2505
LOW32 = (1 << 32) - 1
SIGN = 1 << 63


def analyse(function: Function) -> Liveness:
    insns = dict(function.insns())
    return liveness(function, lambda point: syntactic_access(insns[point]))


def at_entry(text: str, **fields: Any) -> Demand:
    function = parse_function(text, **fields)
    return analyse(function).before(Point(function.blocks[0].label, 0))


def masks(demand: Demand) -> dict[str, int]:
    return {f"r{index}": mask for index, mask in enumerate(demand.regs) if mask}


# One instruction whose result goes to `r0`'s stated consumer -> demanded bits before it.
SINGLE: tuple[tuple[str, dict[str, int]], ...] = (
    ("r0 = r2\nexit", {"r2": ALL_BITS}),
    ("w0 = w2\nexit", {"r2": LOW32}),
    ("r0 = 7\nexit", {}),
    ("r0 = 7 ll\nexit", {}),
    ("r0 = r2\nr0 &= 255\nexit", {"r2": 255}),
    ("r0 = r2\nr0 &= -256\nexit", {"r2": ALL_BITS - 255}),
    ("r0 = r2\nw0 &= -256\nexit", {"r2": LOW32 - 255}),
    ("r0 = r2\nr0 |= 255\nexit", {"r2": ALL_BITS - 255}),
    ("r0 = r2\nr0 ^= 255\nexit", {"r2": ALL_BITS}),
    ("r0 = r2\nr0 <<= 56\nexit", {"r2": 255}),
    ("r0 = r2\nr0 >>= 56\nexit", {"r2": 255 << 56}),
    ("r0 = r2\nr0 s>>= 56\nexit", {"r2": 255 << 56}),
    ("r0 = r2\nw0 <<= 24\nexit", {"r2": 255}),
    ("r0 = r2\nw0 >>= 24\nexit", {"r2": 255 << 24}),
    ("r0 = r2\nr0 <<= 32\nr0 >>= 32\nexit", {"r2": LOW32}),
    ("r0 = r2\nr0 <<= 32\nr0 s>>= 32\nexit", {"r2": LOW32}),
    ("r0 = r2\nr0 s>>= 60\nr0 &= 16\nexit", {"r2": SIGN}),
    ("r0 = r2\nr0 s>>= 60\nr0 &= 1\nexit", {"r2": 1 << 60}),
    ("r0 = r2\nr0 += r3\nr0 &= 16\nexit", {"r2": 31, "r3": 31}),
    ("r0 = r2\nr0 *= r3\nr0 &= 8\nexit", {"r2": 15, "r3": 15}),
    ("r0 = r2\nr0 = -r0\nr0 &= 8\nexit", {"r2": 15}),
    ("r0 = r2\nr0 /= 8\nr0 &= 1\nexit", {"r2": ALL_BITS}),
    ("r0 = r2\nw0 %= w3\nr0 &= 1\nexit", {"r2": LOW32, "r3": LOW32}),
    ("r0 = r2\nr0 <<= r3\nr0 &= 8\nexit", {"r2": 15, "r3": 63}),
    ("r0 = r2\nw0 >>= w3\nr0 &= 8\nexit", {"r2": LOW32 - 7, "r3": 31}),
    ("r0 = r2\nr0 s>>= r3\nr0 &= 8\nexit", {"r2": ALL_BITS - 7, "r3": 63}),
    ("r0 = (s8)r2\nexit", {"r2": 255}),
    ("r0 = (s8)r2\nr0 &= 7\nexit", {"r2": 7}),
    ("r0 = (s8)r2\nr0 &= 256\nexit", {"r2": 128}),
    ("w0 = (s16)w2\nr0 >>= 32\nexit", {"r2": 1}),
    ("r0 = r2\nr0 = be16 r0\nexit", {"r2": 0xFFFF}),
    # Which of le and be swaps is the machine's affair: both orders are demanded.
    ("r0 = r2\nr0 = le16 r0\nr0 &= 1\nexit", {"r2": 0xFF01}),
    ("r0 = r2\nr0 = be32 r0\nr0 &= 256\nexit", {"r2": 0x00FF0100}),
    ("r0 = r2\nr0 = bswap32 r0\nr0 &= 1\nexit", {"r2": 0xFF000000}),
    ("r0 = r2\nr0 = bswap32 r0\nr0 &= 256\nexit", {"r2": 0x00FF0000}),
    ("r0 = *(u8 *)(r2 +0)\nexit", {"r2": ALL_BITS}),
    ("*(u8 *)(r2 +0) = r3\nr0 = 0\nexit", {"r2": ALL_BITS, "r3": 255}),
    ("*(u16 *)(r2 +0) = r3\nr0 = 0\nexit", {"r2": ALL_BITS, "r3": 0xFFFF}),
    ("*(u16 *)(r2 +0) = 5\nr0 = 0\nexit", {"r2": ALL_BITS}),
    ("lock *(u32 *)(r2 +0) += r3\nr0 = 0\nexit", {"r2": ALL_BITS, "r3": LOW32}),
    ("r3 = atomic_xchg((u32 *)(r2 +0), r3)\nr0 = r3\nexit", {"r2": ALL_BITS, "r3": LOW32}),
    ("r0 = atomic_cmpxchg((u32 *)(r2 +0), r0, r3)\nexit", {"r0": LOW32, "r2": ALL_BITS, "r3": LOW32}),
    ("r0 = atomic64_cmpxchg((u64 *)(r2 +0), r0, r3)\nexit", {"r0": ALL_BITS, "r2": ALL_BITS, "r3": ALL_BITS}),
    ("r0 = addr_space_cast(r2, 0, 1)\nexit", {"r2": ALL_BITS}),
    ("r0 = *(u8 *)skb[4]\nexit", {"r6": ALL_BITS}),
    ("r0 = *(u8 *)skb[r7 + 4]\nexit", {"r6": ALL_BITS, "r7": ALL_BITS}),
    ("r0 = r0\nexit", {"r0": ALL_BITS}),
    ("r0 ^= r0\nexit", {"r0": ALL_BITS}),
    # Read, though no bit of it matters: bit 0 stands for "initialised".
    ("r0 = r2\nr0 &= 0\nexit", {"r2": 1}),
    ("r5 = r2\nr0 = 0\nexit", {"r2": 1}),
    ("r2 += r3\nr0 = 0\nexit", {"r2": 1, "r3": 1}),
)


@pytest.mark.parametrize(("text", "expected"), SINGLE)
def test_register_bits(text: str, expected: dict[str, int]) -> None:
    assert masks(at_entry(text)) == expected


BRANCHES = (
    ("if r1 == 0x8 goto x", ALL_BITS),
    ("if w1 == 0x8 goto x", LOW32),
    ("if r1 & 0x8 goto x", 8),
    ("if r1 & 0x80000000 goto x", ALL_BITS - (1 << 31) + 1),
    ("if w1 & 0x80000000 goto x", 1 << 31),
    ("if r1 < 0x8 goto x", ALL_BITS - 7),
    ("if r1 <= 0x8 goto x", ALL_BITS),
    ("if r1 <= 0x7 goto x", ALL_BITS - 7),
    ("if r1 > 0x7 goto x", ALL_BITS - 7),
    ("if r1 >= 0x9 goto x", ALL_BITS),
    ("if r1 s< 0 goto x", SIGN),
    ("if r1 s> -1 goto x", SIGN),
    ("if w1 s< 0 goto x", 1 << 31),
    ("if r1 s< 1 goto x", ALL_BITS),
)


@pytest.mark.parametrize(("branch", "mask"), BRANCHES)
def test_branches_demand_what_decides_them(branch: str, mask: int) -> None:
    assert masks(at_entry(f"{branch}\nx:\nr0 = 0\nexit")) == {"r1": mask}


def test_core_records_hide_the_immediate() -> None:
    """The loader rewrites the immediate of an instruction with a CO-RE record, so its value decides nothing."""
    shift = parse_insns("r0 <<= 56")[0]
    riding = replace(shift, origin=Origin(core=((1, 2, 3),)))
    assert alu_demand(shift, ALL_BITS) == (255, 0)
    assert alu_demand(riding, ALL_BITS) == (ALL_BITS, 0)
    branch = parse_insns("if r1 & 0x8 goto x")[0]
    assert branch_demand(branch) == (8, 0)
    assert branch_demand(replace(branch, origin=riding.origin)) == (ALL_BITS, 0)
    load = parse_insns("r0 = *(u8 *)(r10 -8)")[0]
    assert syntactic_access(load).reads == {-8}
    assert syntactic_access(replace(load, origin=riding.origin)) == ANY_STACK_ACCESS


# Text -> stack bytes demanded at the entry.
STACK: tuple[tuple[str, set[int]], ...] = (
    ("r0 = *(u32 *)(r10 -8)\nexit", {-8, -7, -6, -5}),
    ("r0 = *(u32 *)(r10 -4)\nexit", {-4, -3, -2, -1}),
    ("*(u32 *)(r10 -8) = 1\nr0 = *(u32 *)(r10 -8)\nexit", set()),
    ("*(u16 *)(r10 -8) = 1\nr0 = *(u32 *)(r10 -8)\nexit", {-6, -5}),
    ("*(u64 *)(r1 -8) = 1\nr0 = *(u32 *)(r10 -8)\nexit", {-8, -7, -6, -5}),
    ("r0 = 0\nexit", set()),
    ("*(u64 *)(r10 -8) = r1\nr0 = 0\nexit", set()),
    ("lock *(u32 *)(r10 -8) += r1\nr0 = 0\nexit", {-8, -7, -6, -5}),
    ("r0 = load_acquire((u8 *)(r10 -1))\nexit", {-1}),
    ("store_release((u8 *)(r10 -1), r1)\nr0 = *(u16 *)(r10 -2)\nexit", {-2}),
    ("r0 = *(u8 *)(r1 +0)\nexit", set(range(-512, 0))),
    ("call 1\nexit", set(range(-512, 0))),
    ("*(u64 *)(r10 -8) = 0\ncall 1\nexit", set(range(-512, -8))),
    ("r0 = *(u64 *)(r10 -512)\nexit", set(range(-512, -504))),
    ("if r1 == 0x0 goto x\n*(u8 *)(r10 -1) = 0\nx:\nr0 = *(u16 *)(r10 -2)\nexit", {-2, -1}),
    ("*(u8 *)(r10 -1) = 0\nif r1 == 0x0 goto x\nx:\nr0 = *(u16 *)(r10 -2)\nexit", {-2}),
)


@pytest.mark.parametrize(("text", "expected"), STACK)
def test_stack_bytes(text: str, expected: set[int]) -> None:
    assert at_entry(text).stack == expected


def test_points_are_just_before_and_just_after() -> None:
    function = parse_function("a:\n*(u8 *)(r10 -1) = r2\nr0 = *(u8 *)(r10 -1)\nexit")
    live = analyse(function)
    assert live.before(Point("a", 0)).stack == set()
    assert live.after(Point("a", 0)).stack == {-1}
    assert live.before(Point("a", 1)) == live.after(Point("a", 0))
    assert live.after(Point("a", 1)).stack == set()
    assert masks(live.after(Point("a", 1))) == {"r0": ALL_BITS}
    assert masks(live.after(Point("a", 2))) == {}
    assert masks(live.before(Point("a", 0))) == {"r2": 255, "r10": ALL_BITS}


def test_a_call_reads_its_arguments_and_clobbers_five_registers() -> None:
    function = parse_function("call 1\nr0 += r3\nr0 += r5\nr0 += r6\nexit")
    effects = StackAccess(reads=frozenset({-4, -3, -2, -1}), writes=frozenset({-8, -4}), arguments=(1, 2))
    live = liveness(function, lambda point: effects)
    demand = live.before(Point("B0", 0))
    assert masks(demand) == {"r1": ALL_BITS, "r2": ALL_BITS, "r6": ALL_BITS}
    assert demand.stack == {-4, -3, -2, -1}
    assert masks(live.after(Point("B0", 0))) == dict.fromkeys(("r0", "r3", "r5", "r6"), ALL_BITS)
    three = liveness(function, lambda point: replace(effects, arguments=(1, 2, 3)))
    assert three.before(Point("B0", 0)).regs[3] == ALL_BITS


def test_access_is_asked_only_where_memory_is_touched() -> None:
    asked: list[Point] = []

    def access(point: Point) -> StackAccess:
        asked.append(point)
        return ANY_STACK_ACCESS

    liveness(parse_function("a:\nr0 = 0\ncall 1\nr1 = *(u8 *)(r2 +0)\nif r1 == 0x0 goto a\nb:\nexit"), access)
    assert asked == [Point("a", 1), Point("a", 2)]


def test_exit_demands() -> None:
    text = "r6 = 1\nexit"
    assert masks(at_entry(text, program_type="xdp")) == {"r0": ALL_BITS}
    assert masks(at_entry(text, returns_void=True)) == {"r0": ALL_BITS}
    assert masks(at_entry(text, returns_void=True, is_subprogram=True)) == {"r0": ALL_BITS}
    assert masks(at_entry(text, returns_void=True, is_subprogram=True, is_global=False)) == {}
    assert masks(at_entry(text, is_subprogram=True, is_global=False)) == {"r0": ALL_BITS}


LOOP = """
top:
  r0 = 0
head:
  r0 += r6
  r1 += -1
  if r1 != 0x0 goto head
out:
  *(u8 *)(r10 -1) = r7
  r0 += r8
  exit
"""


def test_loops_reach_a_fixpoint() -> None:
    live = analyse(parse_function(LOOP))
    assert masks(live.before(Point("head", 0))) == {
        "r0": ALL_BITS,
        "r1": ALL_BITS,
        "r6": ALL_BITS,
        "r7": 255,
        "r8": ALL_BITS,
        "r10": ALL_BITS,
    }
    assert "r0" not in masks(live.before(Point("top", 0)))
    assert masks(live.before(Point("out", 0))) == {"r0": ALL_BITS, "r7": 255, "r8": ALL_BITS, "r10": ALL_BITS}


def test_a_value_carried_round_a_loop_stays_demanded() -> None:
    text = "head:\nr0 = r7\nr7 = r6\nif r1 != 0x0 goto head\nexit"
    assert masks(at_entry(text))["r6"] == ALL_BITS
    once = "head:\nr0 = r7\nr7 = r6\nif r1 != 0x0 goto out\nout:\nexit"
    assert masks(at_entry(once))["r6"] == 1


# --- the property -------------------------------------------------------------------------------------------------

ALU_ROWS = [row for row in ROWS if row.kind is Kind.ALU]
BRANCH_ROWS = [row for row in ROWS if row.kind is Kind.BRANCH]


def _imm(rng: random.Random, row: Row) -> int:
    if row.op in ("lsh", "rsh", "arsh"):
        return rng.randrange(row.width)
    return rng.choice((0, 1, -1, 8, 255, 256, -256, -(1 << 31), (1 << 31) - 1, rng.randrange(-(1 << 31), 1 << 31)))


def _wanted(rng: random.Random) -> int:
    return rng.choice((ALL_BITS, LOW32, 255, 1 << rng.randrange(64), rng.getrandbits(64), 0xFF << rng.randrange(56)))


def _value(rng: random.Random) -> int:
    return rng.choice((0, ALL_BITS, rng.getrandbits(64), rng.getrandbits(8), 1 << rng.randrange(64)))


@pytest.mark.parametrize("row", ALU_ROWS, ids=[row.name for row in ALU_ROWS])
def test_undemanded_bits_never_reach_a_wanted_bit(row: Row) -> None:
    rng = random.Random(f"{SEED} {row.name}")
    for _ in range(400):
        insn = Insn(row, 1, 2, imm=_imm(rng, row) if row.operand is Operand.IMM else 0)
        wanted = _wanted(rng)
        dst_mask, src_mask = alu_demand(insn, wanted)
        dst, src = _value(rng), _value(rng) if row.operand is Operand.REG else insn.imm
        other_dst = dst ^ (rng.getrandbits(64) & ~dst_mask) if reads_dst(row) else _value(rng)
        other_src = src ^ (rng.getrandbits(64) & ~src_mask) if row.operand is Operand.REG else src
        change = alu(row, dst, src) ^ alu(row, other_dst, other_src)
        assert change & wanted == 0, f"seed {SEED}: {insn} wanted {wanted:#x} dst {dst:#x} src {src:#x}"


@pytest.mark.parametrize("row", BRANCH_ROWS, ids=[row.name for row in BRANCH_ROWS])
def test_undemanded_bits_never_decide_a_branch(row: Row) -> None:
    rng = random.Random(f"{SEED} {row.name}")
    for _ in range(400):
        insn = Insn(row, 1, 2, imm=_imm(rng, row) if row.operand is Operand.IMM else 0)
        dst_mask, src_mask = branch_demand(insn)
        src = _value(rng) if row.operand is Operand.REG else insn.imm
        dst = rng.choice((_value(rng), src & ALL_BITS, src + 1 & ALL_BITS, src - 1 & ALL_BITS))
        other_dst = dst ^ (rng.getrandbits(64) & ~dst_mask)
        other_src = src ^ (rng.getrandbits(64) & ~src_mask) if row.operand is Operand.REG else src
        assert taken(row, dst, src) == taken(row, other_dst, other_src), f"seed {SEED}: {insn} {dst:#x} {src:#x}"


PACKET, TOP = 0x9000, 0x2000


def _random_line(rng: random.Random) -> str:
    size = rng.choice((8, 16, 32, 64))
    place = f"(r10 -{rng.randrange(size // 8, 25)})"
    out = f"(r9 +{rng.randrange(0, 8)})"
    a, b = rng.randrange(6), rng.randrange(6)
    op = rng.choice(("+=", "-=", "*=", "&=", "|=", "^=", "="))
    shift = rng.choice(("<<=", ">>=", "s>>="))
    return rng.choice(
        (
            f"r{a} {op} r{b}",
            f"w{a} {op} w{b}",
            f"r{a} &= {rng.choice((1, 255, -256, 0xFFFF))}",
            f"r{a} {shift} {rng.randrange(64)}",
            f"w{a} {shift} {rng.randrange(32)}",
            f"r{a} = bswap{rng.choice((16, 32, 64))} r{a}",
            f"r{a} = (s{rng.choice((8, 16, 32))})r{b}",
            f"*(u{size} *){place} = r{a}",
            f"*(u{size} *){place} = {rng.randrange(256)}",
            f"r{a} = *(u{size} *){place}",
            f"*(u{size} *){out} = r{a}",
            f"r{a} = atomic64_fetch_add((u64 *){place.replace('(r10 -', '(r10 -2')}, r{a})",
        )
    )


def _observe(insns: tuple[Insn, ...], registers: list[int], stack: bytes) -> tuple[int, bytes]:
    machine = Machine([*registers[:9], PACKET, 0])
    map_frame(machine, TOP, stack)
    machine.map_bytes(PACKET, bytes(16))
    outcome = run_insns(insns, machine)
    assert outcome.stop is Stop.EXIT, outcome
    return machine.registers[0], bytes(machine.memory[PACKET + at] for at in range(16))


def test_whole_programs_do_not_notice_undemanded_state() -> None:
    """At a random point, scramble all register bits and stack bytes that are not demanded: r0 at exit and the memory
    that others see stay as they are.  And demand is not everything: most programs leave a lot undemanded."""
    rng = random.Random(SEED)
    freed = 0
    for _ in range(300):
        text = "\n".join([*(_random_line(rng) for _ in range(rng.randrange(1, 14))), "exit"])
        function = parse_function(text)
        insns = function.blocks[0].insns
        demand = analyse(function).before(Point("B0", at := rng.randrange(len(insns))))
        registers = [_value(rng) for _ in range(11)]
        stack = rng.randbytes(512)
        other = [value ^ (rng.getrandbits(64) & ~mask) for value, mask in zip(registers, demand.regs, strict=True)]
        scrambled = bytes(
            byte if index - 512 in demand.stack else rng.randrange(256) for index, byte in enumerate(stack)
        )
        freed += sum(mask.bit_count() for mask in (~mask & ALL_BITS for mask in demand.regs[:6]))
        rest = insns[at:]
        assert _observe(rest, registers, stack) == _observe(rest, other, scrambled), f"seed {SEED}:\n{text}\nat {at}"
    assert freed > 300 * 64


def test_demand_of_a_straight_run_is_the_demand_of_the_function() -> None:
    rng = random.Random(SEED + 1)
    for _ in range(50):
        lines = [_random_line(rng) for _ in range(rng.randrange(1, 10))]
        function = parse_function("\n".join([*lines, "exit"]))
        live = analyse(function)
        insns = function.blocks[0].insns
        start = rng.randrange(len(insns) + 1)
        stop = rng.randrange(start, len(insns) + 1)
        accesses = [syntactic_access(insn) for insn in insns[start:stop]]
        end = live.before(Point("B0", stop))
        assert demand_before(insns[start:stop], accesses, end) == live.before(Point("B0", start)), f"seed {SEED + 1}"


def test_a_liveness_that_forgets_one_byte_is_caught() -> None:
    """The twin of the property: with one demanded byte scrambled, the same observation differs."""
    insns = parse_insns("r0 = *(u16 *)(r10 -2)\nexit")
    stack = bytes(512)
    assert at_entry("r0 = *(u16 *)(r10 -2)\nexit").stack == {-2, -1}
    for at in (-2, -1):
        changed = bytes(1 if index - 512 == at else byte for index, byte in enumerate(stack))
        assert _observe(insns, [0] * 11, stack) != _observe(insns, [0] * 11, changed)


def test_a_byte_swap_in_a_loop_reaches_a_fixed_point() -> None:
    function = parse_function("a:\n  r6 = bswap64 r6\n  if r8 > r5 goto a\nb:\n  r6 = 0\n  exit\n")
    live = liveness(function, lambda point: NO_STACK_ACCESS)
    assert live.before(Point("a", 0)).is_live(6)
    assert not live.before(Point("b", 0)).is_live(6)

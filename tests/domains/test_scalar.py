"""Every transfer of the scalar domain against brute force: exhaustively over small widths, at random over 64 bits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from verifier_model.bpf import semantics
from verifier_model.bpf.isa import BY_NAME, ROWS, Kind
from verifier_model.domains import ranges, scalar
from verifier_model.domains.ranges import Word
from verifier_model.domains.scalar import Scalar

SEED = 20261123
ALU_OPS = {row.op: row.meaning for row in ROWS if row.kind is Kind.ALU and row.meaning is not None}
BRANCH_OPS = {row.op: row.condition for row in ROWS if row.kind is Kind.BRANCH and row.condition is not None}
SMALL_OPS = [op for op in ALU_OPS if not op.startswith("movsx")]


class Ints:
    """The algebra on Python integers, as (width, value)."""

    def const(self, width: int, value: int) -> tuple[int, int]:
        return width, value & (1 << width) - 1

    def _signed(self, a: tuple[int, int]) -> int:
        return ranges.signed(*a)

    def add(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] + b[1])

    def sub(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] - b[1])

    def mul(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] * b[1])

    def udiv(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] // b[1])

    def urem(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] % b[1])

    def sdiv(self, a: Any, b: Any) -> Any:
        x, y = self._signed(a), self._signed(b)
        return self.const(a[0], abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1))

    def srem(self, a: Any, b: Any) -> Any:
        x, y = self._signed(a), self._signed(b)
        return self.const(a[0], abs(x) % abs(y) * (-1 if x < 0 else 1))

    def and_(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] & b[1])

    def or_(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] | b[1])

    def xor(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] ^ b[1])

    def shl(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] << b[1])

    def lshr(self, a: Any, b: Any) -> Any:
        return self.const(a[0], a[1] >> b[1])

    def ashr(self, a: Any, b: Any) -> Any:
        return self.const(a[0], self._signed(a) >> b[1])

    def zext(self, width: int, a: Any) -> Any:
        return self.const(width, a[1])

    def sext(self, width: int, a: Any) -> Any:
        return self.const(width, self._signed(a))

    def trunc(self, width: int, a: Any) -> Any:
        return self.const(width, a[1])

    def eq(self, a: Any, b: Any) -> bool:
        return bool(a[1] == b[1])

    def ult(self, a: Any, b: Any) -> bool:
        return bool(a[1] < b[1])

    def slt(self, a: Any, b: Any) -> bool:
        return self._signed(a) < self._signed(b)

    def not_(self, a: bool) -> bool:
        return not a

    def ite(self, condition: bool, a: Any, b: Any) -> Any:
        return a if condition else b


ALG = Ints()


def concrete(op: str, width: int, a: int, b: int) -> int:
    meaning = ALU_OPS[op]
    return int(meaning(ALG, width, ALG.const(width, a), ALG.const(width, b))[1])


def holds(op: str, width: int, a: int, b: int) -> bool:
    return bool(BRANCH_OPS[op](ALG, width, ALG.const(width, a), ALG.const(width, b)))


def members(width: int, word: Word) -> int:
    """The values of a word as a bit set."""
    found = 0
    for value in range(1 << width):
        fits = (value ^ word[0]) & ~word[1] == 0 and word[2] <= value <= word[3]
        if fits and word[4] <= ranges.signed(width, value) <= word[5]:
            found |= 1 << value
    return found


def words(width: int) -> list[Word]:
    """All tnums, all ranges of both signs and some mixtures, each once."""
    size, half = 1 << width, 1 << width - 1
    full = ranges.top(width)
    raw = [(v, m, *full[2:]) for m in range(size) for v in range(size) if not v & m]
    raw += [(0, size - 1, low, high, *full[4:]) for low in range(size) for high in range(low, size)]
    raw += [(*full[:4], low, high) for low in range(-half, half) for high in range(low, half)]
    rng = random.Random(SEED)
    for _ in range(40):
        a, b = rng.choice(raw), rng.choice(raw)
        both = ranges.meet(width, a, b)
        if both is not None:
            raw.append(both)
    found = {synced for word in raw if (synced := ranges.sync(width, word)) is not None}
    return sorted(found)


def each(bits: int) -> Iterator[int]:
    value = 0
    while bits >> value:
        if bits >> value & 1:
            yield value
        value += 1


@pytest.mark.parametrize("width", [3, 4])
def test_sync_keeps_every_member(width: int) -> None:
    size = 1 << width
    rng = random.Random(SEED)
    for _ in range(4000):
        mask = rng.randrange(size)
        umin, umax = sorted((rng.randrange(size), rng.randrange(size)))
        smin, smax = sorted((rng.randrange(size) - size // 2, rng.randrange(size) - size // 2))
        word = (rng.randrange(size) & ~mask, mask, umin, umax, smin, smax)
        synced = ranges.sync(width, word)
        assert (0 if synced is None else members(width, synced)) == members(width, word), word


@pytest.mark.parametrize("op", SMALL_OPS)
def test_every_alu_word_is_sound_at_three_and_sampled_at_four_bits(op: str) -> None:
    rng = random.Random(SEED)
    for width, sample in ((3, None), (4, 70)):
        shift_width = op in ("lsh", "rsh", "arsh") and width == 3
        if shift_width:
            width, sample = 2, None  # shift counts are masked, so the width has to be a power of two
        pool = words(width)
        pool = pool if sample is None else rng.sample(pool, sample)
        sets = [members(width, word) for word in pool]
        table = [[1 << concrete(op, width, a, b) for b in range(1 << width)] for a in range(1 << width)]
        for b, b_set in zip(pool, sets, strict=True):
            row = [0] * (1 << width)
            for a_value in range(1 << width):
                for b_value in each(b_set):
                    row[a_value] |= table[a_value][b_value]
            for a, a_set in zip(pool, sets, strict=True):
                outcome = 0
                for a_value in each(a_set):
                    outcome |= row[a_value]
                result = ranges.TRANSFER[op](width, a, b)
                missed = outcome & ~(0 if result is None else members(width, result))
                assert not missed, f"{op} width {width} {a} {b} -> {result} misses {list(each(missed))}"


@pytest.mark.parametrize("op", sorted(BRANCH_OPS))
def test_every_refinement_is_sound_at_three_bits(op: str) -> None:
    width = 3
    pool = words(width)
    sets = [members(width, word) for word in pool]
    for a, a_set in zip(pool, sets, strict=True):
        for b, b_set in zip(pool, sets, strict=True):
            kept_a, kept_b = [0, 0], [0, 0]
            for x in each(a_set):
                for y in each(b_set):
                    way = 0 if holds(op, width, x, y) else 1
                    kept_a[way] |= 1 << x
                    kept_b[way] |= 1 << y
            for way in (0, 1):
                pair = ranges.REFINE[op][way](width, a, b)
                got = (0, 0) if pair is None else (members(width, pair[0]), members(width, pair[1]))
                assert not kept_a[way] & ~got[0] and not kept_b[way] & ~got[1], (op, way, a, b, pair)


def scalars(rng: random.Random, full: int, half: int, count: int) -> list[Scalar]:
    """Scalars with something known of both halves, from random words."""
    pool = [scalar.combine(full, half, ranges.top(full), ranges.top(half))]
    whole, low = words(full), words(half)
    while len(pool) < count:
        made = scalar.combine(full, half, rng.choice(whole), rng.choice(low))
        if not made.is_bottom:
            pool.append(made)
    return pool


@pytest.mark.parametrize("is_half", [False, True])
def test_alu_and_branches_are_sound_with_both_halves_at_four_bits(is_half: bool) -> None:
    full, half = 4, 2
    width = half if is_half else full
    rng = random.Random(SEED + is_half)
    pool = scalars(rng, full, half, 40)
    values = [[v for v in range(16) if scalar.contains(full, half, s, v)] for s in pool]
    for op in SMALL_OPS:
        for i, a in enumerate(pool):
            for j in rng.sample(range(len(pool)), 12):
                result = scalar.transfer(full, half, op, is_half, a, pool[j])
                for x in values[i]:
                    for y in values[j]:
                        got = concrete(op, width, x, y)
                        assert scalar.contains(full, half, result, got), (op, a, pool[j], x, y, got)
    for op in sorted(BRANCH_OPS):
        for i, a in enumerate(pool):
            for j in rng.sample(range(len(pool)), 12):
                for x in values[i]:
                    for y in values[j]:
                        taken = holds(op, width, x, y)
                        pair = scalar.refine_at(full, half, op, is_half, a, pool[j], taken)
                        assert pair is not None, (op, a, pool[j], x, y)
                        assert scalar.contains(full, half, pair[0], x), (op, taken, a, pool[j], x, y)
                        assert scalar.contains(full, half, pair[1], y), (op, taken, a, pool[j], x, y)


CORNERS = [0, 1, 2, 7, 0x7F, 0x80, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63]
CORNERS += [(1 << 64) - value for value in (1, 2, 0x80000000, 0x80000001)]


def random_value(rng: random.Random) -> int:
    pick = rng.random()
    return rng.choice(CORNERS) if pick < 0.4 else rng.getrandbits(rng.randrange(1, 65))


def around(rng: random.Random, value: int) -> Scalar:
    """A random set that holds `value`."""
    made = Scalar.top()
    if rng.random() < 0.2:
        return Scalar.const(value)
    if rng.random() < 0.5:
        low, high = sorted((value, random_value(rng)))
        made = made & Scalar.between(low, high)
    if rng.random() < 0.5:
        mask = rng.getrandbits(64)
        bits = ranges.sync(64, (value & ~mask, mask, *ranges.top(64)[2:]))
        made = made & scalar.combine(64, 32, bits, ranges.top(32))
    if rng.random() < 0.3:
        made = made | Scalar.const(random_value(rng))
    assert made.contains(value)
    return made


@pytest.mark.parametrize("row", [r for r in ROWS if r.kind is Kind.ALU], ids=lambda r: str(r.name))
def test_every_alu_row_is_sound_on_random_64_bit_values(row: Any) -> None:
    rng = random.Random(f"{SEED}{row.name}")
    for _ in range(300):
        x, y = random_value(rng), random_value(rng)
        a, b = around(rng, x), around(rng, y)
        got = concrete(row.op, row.width, x, y)
        assert scalar.alu_row(row, a, b).contains(got), (row.name, x, y, a, b)


@pytest.mark.parametrize("row", [r for r in ROWS if r.kind is Kind.BRANCH], ids=lambda r: str(r.name))
def test_every_branch_row_is_sound_on_random_64_bit_values(row: Any) -> None:
    rng = random.Random(f"{SEED}{row.name}")
    for _ in range(300):
        x = random_value(rng)
        y = x if rng.random() < 0.3 else random_value(rng)
        a, b = around(rng, x), around(rng, y)
        pair = scalar.refine(row, a, b, holds(row.op, row.width, x, y))
        assert pair is not None and pair[0].contains(x) and pair[1].contains(y), (row.name, x, y, a, b)


def test_join_meet_and_order_agree_with_membership() -> None:
    rng = random.Random(SEED)
    for _ in range(2000):
        x, y = random_value(rng), random_value(rng)
        a, b = around(rng, x), around(rng, y)
        assert (a | b).contains(x) and (a | b).contains(y)
        assert a <= (a | b) and b <= (a | b)
        both = a & b
        if a.contains(y):
            assert both.contains(y), (a, b, y)
        if a <= b:
            assert b.contains(x)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_byte_swaps_and_extensions_on_random_values(bits: int) -> None:
    rng = random.Random(SEED)
    row = BY_NAME[f"be{bits}"] if bits > 8 else None
    for _ in range(500):
        x = random_value(rng)
        a = around(rng, x)
        low = x & (1 << bits) - 1
        assert scalar.keep_low(bits, a).contains(low)
        assert scalar.sign_extend(bits, a).contains(ranges.signed(bits, low))
        if row is not None:
            swapped = int.from_bytes(low.to_bytes(bits // 8, "little"), "big")
            assert scalar.endian(row, a, "little").contains(swapped)
            assert scalar.endian(row, a, "big").contains(low)
            assert swapped == semantics.byte_swap(ALG, bits, (64, x))[1]


EXACT = [
    ("and64_imm", Scalar.top(), 0xFF, (0, 0xFF)),
    ("rsh64_imm", Scalar.top(), 56, (0, 0xFF)),
    ("lsh64_imm", Scalar.of_width(8), 2, (0, 1020)),
    ("add64_imm", Scalar.between(1, 4), 14, (15, 18)),
    ("mod32_imm", Scalar.top(), 10, (0, 9)),
    ("add32_imm", Scalar.between(1, 4), -1, (0, 3)),
]


@pytest.mark.parametrize("name, start, operand, bounds", EXACT)
def test_bounds_are_as_tight_as_the_kernels(name: str, start: Scalar, operand: int, bounds: tuple[int, int]) -> None:
    result = scalar.alu_row(BY_NAME[name], start, Scalar.const(operand))
    assert (result.umin, result.umax) == bounds


def test_a_branch_bounds_both_sides() -> None:
    row = BY_NAME["jgt64_imm"]
    above = scalar.refine(row, Scalar.of_width(32), Scalar.const(7), True)
    below = scalar.refine(row, Scalar.of_width(32), Scalar.const(7), False)
    assert above is not None and (above[0].umin, above[0].umax) == (8, 0xFFFFFFFF)
    assert below is not None and (below[0].umin, below[0].umax) == (0, 7)
    assert scalar.refine(row, Scalar.const(7), Scalar.const(7), True) is None

"""Every known-bits operation at four bits and every range operation at three, against brute force: sound, and how
precise.  Precision is the share of operand pairs whose result is the smallest element that holds every outcome; the
shares stand in the tables, so that a change in either direction is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from verifier_model.domains import ranges, tnum
from verifier_model.domains.lattice import includes, join
from verifier_model.domains.ranges import Word
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State
from verifier_model.domains.tnum import Tnum

BITS = 4
ONES = (1 << BITS) - 1
TNUMS: list[Tnum] = [(value, mask) for mask in range(1 << BITS) for value in range(1 << BITS) if not value & mask]


def held(bits: Tnum) -> frozenset[int]:
    return frozenset(value for value in range(1 << BITS) if (value ^ bits[0]) & ~bits[1] & ONES == 0)


HELD = {bits: held(bits) for bits in TNUMS}


def smallest(values: frozenset[int]) -> Tnum:
    first = next(iter(values))
    mask = 0
    for value in values:
        mask |= value ^ first
    return first & ~mask, mask


def as_signed(width: int, value: int) -> int:
    return value - (1 << width) if value >> width - 1 & 1 else value


BINARY: dict[str, tuple[Callable[[int, Tnum, Tnum], Tnum], Callable[[int, int], int], float]] = {
    "add": (tnum.add, lambda a, b: a + b, 1.0),
    "sub": (tnum.sub, lambda a, b: a - b, 1.0),
    "and": (tnum.and_, lambda a, b: a & b, 1.0),
    "or": (tnum.or_, lambda a, b: a | b, 1.0),
    "xor": (tnum.xor, lambda a, b: a ^ b, 1.0),
    "mul": (tnum.mul, lambda a, b: a * b, 0.95),
}


@pytest.mark.parametrize("name", BINARY)
def test_known_bits_of_every_pair(name: str) -> None:
    run, concrete, share = BINARY[name]
    best = 0
    for a, b in product(TNUMS, TNUMS):
        outcomes = frozenset(concrete(x, y) & ONES for x in HELD[a] for y in HELD[b])
        result = run(BITS, a, b)
        assert result[0] & result[1] == 0 and outcomes <= HELD[result], (a, b)
        best += result == smallest(outcomes)
    precise = best / len(TNUMS) ** 2
    assert precise == 1.0 if share == 1.0 else precise >= share, precise


@pytest.mark.parametrize("count", range(BITS))
def test_known_bits_of_every_shift_are_exact(count: int) -> None:
    for a in TNUMS:
        for run, concrete in (
            (tnum.shl, lambda x: x << count & ONES),
            (tnum.lshr, lambda x: x >> count),
            (tnum.ashr, lambda x: as_signed(BITS, x) >> count & ONES),
        ):
            assert run(BITS, a, count) == smallest(frozenset(map(concrete, HELD[a]))), (a, count)


@pytest.mark.parametrize("bits", (1, 2, 3))
def test_known_bits_of_every_sign_extension_are_exact(bits: int) -> None:
    for a in TNUMS:
        extended = frozenset(as_signed(bits, x & (1 << bits) - 1) & ONES for x in HELD[a])
        assert tnum.sext(BITS, bits, a) == smallest(extended)


def test_order_join_and_meet_of_known_bits_are_those_of_sets() -> None:
    for a, b in product(TNUMS, TNUMS):
        assert tnum.is_subset(a, b) == (HELD[a] <= HELD[b])
        assert tnum.join(a, b) == smallest(HELD[a] | HELD[b])
        both, common = tnum.meet(a, b), HELD[a] & HELD[b]
        assert (both is None) == (not common) and (both is None or HELD[both] == common)


def test_known_bits_of_every_range_are_exact() -> None:
    for low in range(1 << BITS):
        for high in range(low, 1 << BITS):
            assert tnum.from_range(BITS, low, high) == smallest(frozenset(range(low, high + 1)))


WIDTH = 3


def word_members(word: Word) -> frozenset[int]:
    value, mask, umin, umax, smin, smax = word
    return frozenset(
        x
        for x in range(1 << WIDTH)
        if (x ^ value) & ~mask & (1 << WIDTH) - 1 == 0 and umin <= x <= umax and smin <= as_signed(WIDTH, x) <= smax
    )


def hull(values: frozenset[int]) -> Word:
    signs = [as_signed(WIDTH, x) for x in values]
    bits = smallest(values)
    return (*bits, min(values), max(values), min(signs), max(signs))


def all_words() -> Iterator[Word]:
    """Every element that is the smallest for the numbers that it holds."""
    seen = set()
    for pick in range(1, 1 << (1 << WIDTH)):
        word = hull(frozenset(x for x in range(1 << WIDTH) if pick >> x & 1))
        if word not in seen:
            seen.add(word)
            yield word


WORDS = list(all_words())
MEMBERS = {word: word_members(word) for word in WORDS}


def toward_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def outcome(op: str, a: int, b: int) -> int:
    ones, half = (1 << WIDTH) - 1, 1 << WIDTH - 1
    x, y = as_signed(WIDTH, a), as_signed(WIDTH, b)
    results: dict[str, Callable[[], int]] = {
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "and": lambda: a & b,
        "or": lambda: a | b,
        "xor": lambda: a ^ b,
        "div": lambda: a // b if b else 0,
        "mod": lambda: a % b if b else a,
        "sdiv": lambda: 0 if not y else -half if (x, y) == (-half, -1) else toward_zero(x, y),
        "smod": lambda: x if not y else x - y * toward_zero(x, y),
        "neg": lambda: -a,
        "mov": lambda: b,
    }
    return results[op]() & ones


# The share of operand pairs whose result is the smallest, as brute force counts it today.
PRECISE = {
    "add": 0.75,
    "sub": 0.75,
    "mul": 0.5,
    "and": 0.55,
    "or": 0.55,
    "xor": 0.7,
    "div": 0.49,
    "mod": 0.26,
    "sdiv": 0.44,
    "smod": 0.48,
    "neg": 0.47,
    "mov": 1.0,
}


@pytest.mark.parametrize("op", PRECISE)
def test_ranges_of_every_pair(op: str) -> None:
    run, best = ranges.TRANSFER[op], 0
    for a, b in product(WORDS, WORDS):
        outcomes = frozenset(outcome(op, x, y) for x in MEMBERS[a] for y in MEMBERS[b])
        result = run(WIDTH, a, b)
        assert result is not None and outcomes <= word_members(result), (a, b)
        best += result == hull(outcomes)
    assert best / len(WORDS) ** 2 >= PRECISE[op], best / len(WORDS) ** 2


@pytest.mark.parametrize("op", sorted(ranges.REFINE))
def test_branches_of_every_pair(op: str) -> None:
    tests: dict[str, Callable[[int, int], bool]] = {
        "jeq": lambda a, b: a == b,
        "jgt": lambda a, b: a > b,
        "jge": lambda a, b: a >= b,
        "jsgt": lambda a, b: as_signed(WIDTH, a) > as_signed(WIDTH, b),
        "jsge": lambda a, b: as_signed(WIDTH, a) >= as_signed(WIDTH, b),
        "jset": lambda a, b: a & b != 0,
    }
    opposite = {"jne": "jeq", "jle": "jgt", "jlt": "jge", "jsle": "jsgt", "jslt": "jsge"}
    holds = tests[opposite.get(op, op)]
    for a, b in product(WORDS, WORDS):
        for side in (0, 1):
            wanted = (side == 0) != (op in opposite)
            pairs = [(x, y) for x in MEMBERS[a] for y in MEMBERS[b] if holds(x, y) == wanted]
            result = ranges.REFINE[op][side](WIDTH, a, b)
            if result is None:
                assert not pairs, (a, b, side)
                continue
            left, right = map(word_members, result)
            assert {x for x, _ in pairs} <= left <= MEMBERS[a] and {y for _, y in pairs} <= right <= MEMBERS[b]


def test_meet_of_every_pair_is_the_common_part() -> None:
    for a, b in product(WORDS, WORDS):
        both, common = ranges.meet(WIDTH, a, b), MEMBERS[a] & MEMBERS[b]
        assert (word_members(both) if both is not None else frozenset()) == common


POINTER = Register(Region.MAP_VALUE, Scalar.const(0), id=20, base=21, symbol="m", size=16)
REGISTERS = [
    Register.uninit(),
    Register.unknown(),
    Register.scalar(Scalar.top()),
    Register.scalar(Scalar.const(0)),
    Register.scalar(Scalar.const(1)),
    Register.scalar(Scalar.between(0, 7)),
    Register.scalar(Scalar.between(-2, 3), id=30),
    Register(Region.STACK, Scalar.const(0)),
    Register(Region.STACK, Scalar.const(0), off=-8),
    Register(Region.CTX, Scalar.const(0), id=4, base=4),
    POINTER,
    Register(Region.MAP_VALUE, Scalar.const(0), id=20, base=21, symbol="m", size=16, nullable=True),
    Register(Region.MAP_VALUE, Scalar.between(0, 7), off=4, id=22, base=21, symbol="m", size=16),
    Register(Region.PACKET, Scalar.const(0), id=1, base=1, packet_range=14),
    Register(Region.PACKET, Scalar.const(0), off=2, id=1, base=1, packet_range=14),
    Register(Region.PACKET_END, Scalar.const(0), id=3, base=3),
]
SLOTS = [
    StackSlot(),
    StackSlot("mmmmmmmm"),
    StackSlot("00000000"),
    StackSlot("m0??m0??"),
    *(StackSlot("ssssssss", register) for register in REGISTERS if register.region is not Region.UNINIT),
]


def state_of(register: Register, slot: StackSlot) -> State:
    frame = Register(Region.STACK, Scalar.const(0))
    stack = {} if slot == StackSlot() else {-8: slot}
    return State((register, *[Register.uninit()] * 9, frame), stack)


@pytest.mark.parametrize("widen", (False, True))
def test_a_join_includes_both_sides(widen: bool) -> None:
    fresh = iter(range(1000, 1 << 20))
    states = [state_of(register, StackSlot()) for register in REGISTERS]
    states += [state_of(Register.uninit(), slot) for slot in SLOTS]
    for a, b in product(states, states):
        both = join(a, b, lambda: next(fresh), widen)
        assert includes(both, a) and includes(both, b), (a, b, both)
        # For the twin: what includes both need not be included in either.
        if includes(a, both) and includes(b, both):
            assert includes(a, b) and includes(b, a)


def test_order_is_reflexive_and_transitive_on_the_catalogue() -> None:
    states = [state_of(register, slot) for register in REGISTERS for slot in SLOTS[:6]]
    above = {at: {up for up, large in enumerate(states) if includes(large, small)} for at, small in enumerate(states)}
    for at, larger in above.items():
        assert at in larger
        for up in larger:
            assert above[up] <= larger, (states[at], states[up])

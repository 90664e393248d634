"""Where a register still holds its old value after a rewrite; each claim has a twin where it must not be made."""

from __future__ import annotations

import random

import pytest

from llvm_bridge.dwarf_agreement import Agreement, agreements_of
from llvm_bridge.dwarf_alignment import aligned
from llvm_bridge.dwarf_forms import Need, decode_expression
from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.insn import Insn, make
from verifier_model.bpf.unit import Block, Function

LOW = (1 << 32) - 1
ALL = (1 << 64) - 1
NOTHING_NEEDED = Need()
FRAME = Need(stack=True)
MEMORY = Need(memory=True)


def register(number: int) -> Need:
    return Need(frozenset({number}), is_plain=True)


def meets(agreement: Agreement, cell: int, need: Need, bits: int) -> bool:
    return any(start <= cell < stop for start, stop in agreement.runs(need, bits))


def holds(old: str, new: str, instruction: int, need: Need, bits: int = ALL, is_subprogram: bool = False) -> bool:
    """Is the need met at the old function's instruction of that number (which must have been kept)?"""
    before = parse_function(old, is_subprogram=is_subprogram)
    after = parse_function(new, is_subprogram=is_subprogram)
    stretches = aligned(before, after)
    found = agreements_of({"f": (before, after, stretches)})["f"]
    cell = at = 0
    for stretch in stretches:
        for i, _, _, _, is_kept in stretch.spans:
            if is_kept and at + i == instruction:
                return meets(found, cell, need, bits)
            cell += 1
        at += len(stretch.old)
    pytest.fail("that instruction was not kept")


# Old code, new code, instruction, need, mask of bits, does it hold?
DEFINED = "r1 = 5\nr2 = 7\nr3 = r2\nr0 = 0\nexit"
CASES = {
    "untouched register": (DEFINED, DEFINED.replace("r2 = 7", "r2 = 8"), 3, register(1), ALL, True),
    "its definition was rewritten": (DEFINED, DEFINED.replace("r1 = 5", "r1 = 6"), 3, register(1), ALL, False),
    "its definition is gone": (DEFINED, DEFINED.replace("r1 = 5\n", ""), 3, register(1), ALL, False),
    "made from something rewritten": (DEFINED, DEFINED.replace("r2 = 7", "r2 = 8"), 3, register(3), ALL, False),
    "made from something kept": (DEFINED, DEFINED.replace("r1 = 5", "r1 = 6"), 3, register(3), ALL, True),
    "before the rewrite": (DEFINED, DEFINED.replace("r2 = 7", "r2 = 8"), 0, register(2), ALL, True),
    "defined anew by kept code": (
        "r1 = 5\nr1 = 6\nr2 = r1\nr0 = 0\nexit", "r1 = 6\nr2 = r1\nr0 = 0\nexit", 3, register(1), ALL, True),
    "demanded by the result": (
        "r0 = 1\nr0 += 1\nr1 = 0\nexit", "r0 = 2\nr1 = 0\nexit", 2, register(0), ALL, True),
    "not demanded after all": (
        "r2 = 1\nr2 += 1\nr0 = 0\nexit", "r2 = 2\nr0 = 0\nexit", 2, register(2), ALL, False),
    "low bits demanded, variable small": (
        "r1 = 1\nr1 += 1\nw0 = w1\nexit", "w1 = 2\nw0 = w1\nexit", 2, register(1), LOW, True),
    "low bits demanded, variable large": (
        "r1 = 1\nr1 += 1\nw0 = w1\nexit", "w1 = 2\nw0 = w1\nexit", 2, register(1), ALL, False),
    "demanded by rewritten code only": (
        "r1 = 1\nr2 = 3\nr3 = r1\nr0 = 0\nexit", "r1 = 2\nr2 = 3\nr3 = 1\nr0 = 0\nexit", 1, register(1), ALL, False),
    "a constant": (DEFINED, DEFINED.replace("r2 = 7", "r2 = 8"), 3, NOTHING_NEEDED, ALL, True),
    "the frame, written by a rewrite": (
        "*(u64 *)(r10 - 8) = 1\nr1 = 2\nr0 = 0\nexit", "r1 = 2\nr0 = 0\nexit", 1, FRAME, ALL, False),
    "the frame, not written": (DEFINED, DEFINED.replace("r2 = 7", "r2 = 8"), 3, FRAME, ALL, True),
    "the frame, through a pointer": (
        "r6 = r10\n*(u64 *)(r6 - 8) = 1\nr1 = 2\nr0 = 0\nexit", "r6 = r10\nr1 = 2\nr0 = 0\nexit", 2, FRAME, ALL, False),
    "the frame, other memory written": (
        "*(u64 *)(r6 - 8) = 1\nr1 = 2\nr0 = 0\nexit", "r1 = 2\nr0 = 0\nexit", 1, FRAME, ALL, True),
    "other memory": ("*(u64 *)(r6 - 8) = 1\nr1 = 2\nr0 = 0\nexit", "r1 = 2\nr0 = 0\nexit", 1, MEMORY, ALL, False),
    "loaded from a written slot": (
        "*(u64 *)(r10 - 8) = 1\nr1 = *(u64 *)(r10 - 8)\nr0 = 0\nexit",
        "*(u64 *)(r10 - 8) = 2\nr1 = *(u64 *)(r10 - 8)\nr0 = 0\nexit", 2, register(1), ALL, False),
    "loaded from another slot": (
        "*(u64 *)(r10 - 8) = 1\nr1 = *(u64 *)(r10 - 16)\nr0 = 0\nexit",
        "*(u64 *)(r10 - 8) = 2\nr1 = *(u64 *)(r10 - 16)\nr0 = 0\nexit", 2, register(1), ALL, True),
    "result of a kept call": (
        "r1 = 3\ncall 7\nr2 = 0\nexit", "r1 = 4\ncall 7\nr2 = 0\nexit", 2, register(0), ALL, True),
    "tainted on one path": (
        "if r1 > 5 goto L1\nL0:\nr2 = 1\nL1:\nr3 = 0\nr0 = 0\nexit",
        "if r1 > 5 goto L1\nL0:\nL1:\nr3 = 0\nr0 = 0\nexit",
        2, register(2), ALL, False),
    "tainted on no path": (
        "if r1 > 5 goto L1\nL0:\nr2 = 1\nL1:\nr3 = 0\nr0 = 0\nexit",
        "if r1 > 5 goto L1\nL0:\nL1:\nr3 = 0\nr0 = 0\nexit",
        2, register(4), ALL, True),
    "behind a branch that was rewritten": (
        "if r1 > 5 goto L1\nr2 = 1\nL1:\nr3 = 0\nr0 = 0\nexit", "if r1 > 6 goto L1\nr2 = 1\nL1:\nr3 = 0\nr0 = 0\nexit",
        2, register(4), ALL, False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_agrees(case: str) -> None:
    old, new, instruction, need, bits, expected = CASES[case]
    assert holds(old, new, instruction, need, bits) is expected


def test_a_subprogram_may_write_its_callers_frame() -> None:
    caller = parse_function("r1 = r10\ncall 7\nr2 = 1\nr0 = 0\nexit", name="caller")
    smaller = parse_function("r1 = r10\ncall 7\nr0 = 0\nexit", name="caller")
    for text, expected in (
        ("*(u64 *)(r1 - 8) = 1\nr0 = 0\nexit", False),
        ("*(u64 *)(r10 - 8) = 1\nr0 = 0\nexit", True),
    ):
        old = parse_function(text, name="callee", is_subprogram=True)
        new = parse_function("r0 = 0\nexit", name="callee", is_subprogram=True)
        changed = {f.name: (f, g, aligned(f, g)) for f, g in ((caller, smaller), (old, new))}
        assert meets(agreements_of(changed)["caller"], 0, FRAME, ALL) is expected


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("51", Need(frozenset({1}), is_plain=True)),  # reg1
        ("7108", Need(frozenset({1}), memory=True)),  # breg1 8: a place in memory
        ("71089f", Need(frozenset({1}))),  # breg1 8, stack_value
        ("9110", Need(stack=True)),  # fbreg 16
        ("7a109f", Need()),  # breg10 16, stack_value: the address of a slot
        ("7a1006", Need(stack=True)),  # breg10 16, deref
        ("309f", Need()),  # lit0, stack_value
        ("5193045293047a109304", Need(frozenset({1, 2}), stack=True)),  # pieces in r1, r2 and the frame
        ("030000000000000000", Need()),  # addr: a global variable
        ("ff", None),
        ("71", None),
    ],
)
def test_what_an_expression_needs(text: str, need: Need | None) -> None:
    assert decode_expression(bytes.fromhex(text), "little").need == need


def run_of(rng: random.Random, length: int) -> tuple[Insn, ...]:
    return tuple(make("mov64_imm", dst=rng.randrange(3), imm=rng.randrange(2)) for _ in range(length))


def test_the_alignment_pairs_equal_instructions_in_order() -> None:
    print("seed 5")
    rng = random.Random(5)
    longest = 0
    for _ in range(300):
        old, new = run_of(rng, rng.randrange(1, 12)), run_of(rng, rng.randrange(12))
        (stretch,) = aligned(Function("f", "xdp", (Block("L0", old),)), Function("f", "xdp", (Block("L0", new),)))
        assert all(old[i] == new[j] for i, j in stretch.kept)
        assert len(stretch.kept) == longest_common(old, new)
        spans = list(stretch.spans)
        assert [i for a, b, *_ in spans for i in range(a, b)] == list(range(len(old)))
        assert [i for _, _, a, b, _ in spans for i in range(a, b)] == list(range(len(new)))
        longest = max(longest, len(stretch.kept))
    assert longest > 3


def longest_common(a: tuple[Insn, ...], b: tuple[Insn, ...]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        last = row[:]
        for j, y in enumerate(b):
            row[j + 1] = last[j] + 1 if x == y else max(last[j + 1], row[j])
    return row[-1]

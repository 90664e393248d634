"""Rewrites in place: the window must still hold what was replaced, and line records never get lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synth.rewrite import Rewrite, Window, apply
from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.insn import Insn, LineRecord, Origin
from verifier_model.bpf.unit import Block, Function


def _line(number: int) -> LineRecord:
    return (1, number, number << 10)


def _function(text: str, lines: dict[int, int]) -> Function:
    """One block whose instruction i has the line record lines[i]."""
    function = parse_function(text)
    block = function.blocks[0]
    insns = [
        replace(insn, origin=Origin(line=_line(lines[at]))) if at in lines else insn
        for at, insn in enumerate(block.insns)
    ]
    return replace(function, blocks=(Block(block.label, tuple(insns)), *function.blocks[1:]))


def _lines(function: Function) -> list[int | None]:
    return [insn.origin.line[1] if insn.origin.line else None for _, insn in function.insns()]


def _rewrite(function: Function, start: int, stop: int, after: str) -> Rewrite:
    block = function.blocks[0]
    return Rewrite(Window(block.label, start, stop), block.insns[start:stop], tuple(parse_insns(after)), "test", "")


CODE = "r1 = 1\nr2 = 2\nr3 = 3\nr0 = 0\nexit"

CASES = [
    # lines in, window, replacement, lines out
    ({0: 10, 1: 11, 2: 12, 3: 13}, (1, 2), "", [10, 12, 13, None]),
    ({0: 10, 1: 11}, (1, 2), "", [10, 11, None, None]),
    ({0: 10}, (0, 1), "", [10, None, None, None]),
    ({0: 10, 1: 11, 2: 12}, (0, 3), "", [12, None]),
    ({0: 10, 1: 11, 2: 12}, (0, 3), "r4 = 4", [10, 12, None]),
    ({0: 10, 1: 11, 2: 12}, (0, 3), "r1 = 1\nr3 = 3", [10, 12, None, None]),
    ({0: 10, 2: 12}, (0, 3), "r1 = 1\nr5 = 5\nr3 = 3", [10, None, 12, None, None]),
    ({0: 10, 1: 11}, (1, 2), "r4 = 4\nr5 = 5", [10, 11, None, None, None, None]),
]


@pytest.mark.parametrize(("lines", "window", "after", "expected"), CASES)
def test_line_records_move_to_the_next_survivor(
    lines: dict[int, int], window: tuple[int, int], after: str, expected: list[int | None]
) -> None:
    function = _function(CODE, lines)
    assert _lines(apply(function, _rewrite(function, *window, after))) == expected


def test_a_record_crosses_into_the_next_block() -> None:
    function = _function("r1 = 1\ngoto L1\nL1:\nr0 = 0\nexit", {0: 10, 1: 11})
    changed = apply(function, _rewrite(function, 1, 2, ""))
    assert _lines(changed) == [10, 11, None]


def test_a_window_that_moved_is_refused() -> None:
    function = _function(CODE, {})
    rewrite = _rewrite(function, 1, 2, "r2 = 5")
    once = apply(function, rewrite)
    with pytest.raises(ValueError, match="no longer holds"):
        apply(once, rewrite)


def test_core_riders_are_never_made() -> None:
    function = _function(CODE, {})
    rider = replace(function.blocks[0].insns[1], origin=Origin(core=((7, 8, 0),)))
    block = Block(function.blocks[0].label, (function.blocks[0].insns[0], rider, *function.blocks[0].insns[2:]))
    marked = replace(function, blocks=(block,))
    changed = apply(marked, Rewrite(Window(block.label, 1, 2), (rider,), (Insn(rider.row, 2, imm=9),), "test", ""))
    assert all(not insn.origin.core for _, insn in changed.insns())

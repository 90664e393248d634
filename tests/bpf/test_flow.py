"""Blocks, edges, orders and dominators on graphs small enough to check by eye; dominators also by definition."""

from __future__ import annotations

import random

import pytest

from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.flow import (
    dominators,
    immediate_dominators,
    predecessors,
    reachable,
    reverse_post_order,
    split_blocks,
    successors,
)
from verifier_model.bpf.insn import make
from verifier_model.bpf.unit import Block, Function

SEED = 2504

DIAMOND = """
top:
  if r1 == 0x0 goto right
left:
  r0 = 1
  goto join
right:
  r0 = 2
join:
  exit
"""

LOOP = """
top:
  r0 = 0
head:
  if r1 > 0x7 goto out
body:
  may_goto out
again:
  r1 += 1
  gotol head
out:
  exit
lost:
  goto out
"""


def test_diamond() -> None:
    function = parse_function(DIAMOND)
    edges = successors(function)
    assert edges == {"top": ("left", "right"), "left": ("join",), "right": ("join",), "join": ()}
    assert predecessors(edges) == {"top": (), "left": ("top",), "right": ("top",), "join": ("left", "right")}
    assert reverse_post_order(function) == ("top", "left", "right", "join")
    assert immediate_dominators(function) == {"top": None, "left": "top", "right": "top", "join": "top"}
    assert dominators(function)["join"] == {"top", "join"}


def test_without_the_jump_left_falls_into_right() -> None:
    function = parse_function(DIAMOND.replace("  goto join\n", ""))
    assert successors(function)["left"] == ("right",)
    assert dominators(function)["join"] == {"top", "right", "join"}


def test_loop_and_unreachable_block() -> None:
    function = parse_function(LOOP)
    edges = successors(function)
    assert edges["head"] == ("body", "out")
    assert edges["body"] == ("again", "out")
    assert edges["again"] == ("head",)
    assert edges["lost"] == ("out",)
    assert predecessors(edges)["out"] == ("head", "body", "lost")
    assert reachable(function) == {"top", "head", "body", "again", "out"}
    assert reverse_post_order(function) == ("top", "head", "body", "again", "out")
    assert immediate_dominators(function) == {
        "top": None,
        "head": "top",
        "body": "head",
        "again": "body",
        "out": "head",
    }


def test_a_branch_to_the_next_block_is_one_edge() -> None:
    function = parse_function("a:\nif r1 == 0x0 goto b\nb:\nexit")
    assert successors(function) == {"a": ("b",), "b": ()}


def test_empty_functions_and_blocks() -> None:
    assert reverse_post_order(parse_function("")) == ()
    assert dominators(parse_function("")) == {}
    assert successors(parse_function("a:\nb:\nexit")) == {"a": ("b",), "b": ()}


def test_broken_functions_are_refused() -> None:
    missing = Function("f", ".text", (Block("a", parse_insns("goto b")),))
    with pytest.raises(ValueError, match="f: block a jumps to b, which does not exist"):
        successors(missing)
    with pytest.raises(ValueError, match="f: the branch at the end of block a has no label"):
        successors(Function("f", ".text", (Block("a", (make("ja"),)),)))
    with pytest.raises(ValueError, match="f: block a goes on behind its end"):
        successors(Function("f", ".text", (Block("a", parse_insns("exit\nr0 = 0")),)))
    assert successors(Function("f", ".text", (Block("a", parse_insns("r0 = 0\nexit")),))) == {"a": ()}


def test_split_blocks_keeps_every_instruction_in_order() -> None:
    insns = parse_insns("r0 = 0\nif r1 == 0x0 goto x\nr0 = 1\nr0 = 2\ncall 1\nexit\nr0 = 3")
    blocks = split_blocks(insns, {3: ("x", "y")})
    assert [(block.label, len(block.insns)) for block in blocks] == [
        ("B0", 2),
        ("B2", 1),
        ("x", 0),
        ("y", 3),
        ("B6", 1),
    ]
    assert tuple(insn for block in blocks for insn in block.insns) == insns


def _reaches_without(edges: dict[str, tuple[str, ...]], entry: str, removed: str) -> set[str]:
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        label = waiting.pop()
        if label != removed and label not in seen:
            seen.add(label)
            waiting.extend(edges[label])
    return seen


def test_dominators_against_the_definition() -> None:
    """a dominates b exactly when removing a makes b unreachable."""
    rng = random.Random(SEED)
    for _ in range(60):
        count = rng.randrange(2, 12)
        lines = []
        for index in range(count):
            lines.append(f"L{index}:")
            end = rng.choice(("", "goto", "if r1 > 0x7 goto", "if r1 == 0x0 goto", "exit"))
            lines.append(end if end in ("", "exit") else f"{end} L{rng.randrange(count)}")
        function = parse_function("\n".join([*lines, "last:", "exit"]))
        edges = successors(function)
        alive = reachable(function)
        expected = {
            label: {other for other in alive if label not in _reaches_without(edges, "L0", other)} for label in alive
        }
        assert dominators(function) == expected, f"seed {SEED}: {lines}"
        order = reverse_post_order(function)
        assert set(order) == alive and order[0] == "L0"

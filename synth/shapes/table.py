"""The changes of control flow, by name, each with its equation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from synth.shapes import moves
from synth.shapes.graph import Graph


@dataclass(frozen=True, slots=True)
class Move:
    """`name` is part of the proposer's name in reports, `equation` one line `before == after` as documentation."""

    name: str
    equation: str
    propose: Callable[[Graph], Iterator[Graph]]


SETTLED: Final = {
    "branch-inversion": "if r1 == 0 goto A; goto B; A:  ==  if r1 != 0 goto B; A:",
    "fall-through": "A: x; goto C; B: exit; C: y  ==  A: x; C: y; B: exit",
    "jump-to-exit": "goto E with E: exit  ==  exit",
    "known-branch": "w1 = 0; if w1 == 0 goto A  ==  w1 = 0; goto A",
    "test-of-source": "r1 = r0; if r1 == 0 goto A; <r1 dead>  ==  if r0 == 0 goto A",
    "same-nodes": "A: x; goto C; B: x; goto C  ==  A: x; goto C; <B is A>",
    "cross-jumping": "A: x; z; exit; B: y; z; exit  ==  A: x; goto T; B: y; T: z; exit",
}
"""What every graph goes through before its slots are counted."""

MOVES: Final = (
    Move("apart", "w1 = 1; goto J; B: w1 = 0; J: if w1 == 0 goto L; x  ==  x; B: goto L", moves.apart),
    Move("edges", "w0 = 1; if c goto E; y; w0 = 1; E: exit  ==  if c goto E; y; E: w0 = 1; exit", moves.on_edges),
    Move("sink", "r1 = x; if c goto A; <r1 dead>; A: y  ==  if c goto A; A: r1 = x; y", moves.sunk),
    Move("hoist", "if c goto A; x; y; exit; A: x; z  ==  x; if c goto A; y; exit; A: z", moves.hoisted),
)
AHEAD: Final = Move("ahead", "if c goto A; y; A: w1 = 1; goto C  ==  w1 = 1; if c goto C; y", moves.ahead)

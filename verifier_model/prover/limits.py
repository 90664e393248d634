"""How much work one proof may cost.  All limits count steps, never seconds (DESIGN.md, promise 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """`solver_steps` is z3's resource limit for one query.  `alias_tests` bounds the pairs of addresses in one region
    that may or may not be equal and so need a case distinction.  `samples` counts the random initial states that are
    tried before the solver is asked; `seed` feeds them.  `cone`: the solver first gets only the assumptions that have
    to do with its question.  `ways` bounds the ways through one segment of a region or
    function (those of both programs, over all pairs), `way_insns` the instructions and blocks on them, `turns` how
    often one of them passes one block.  `shrink_tests` bounds the states that are tried to make a counterexample
    small; 0 leaves it as it was found.  `guess_segments` and `guess_attempts` bound a guess of cut points.
    """

    solver_steps: int = 2_000_000
    alias_tests: int = 4096
    samples: int = 6
    cone: bool = True
    seed: int = 1
    ways: int = 1024
    way_insns: int = 40_000
    turns: int = 32
    shrink_tests: int = 256
    guess_segments: int = 1000
    guess_attempts: int = 64


DEFAULT: Final = Limits()


class TooHardError(Exception):
    """A limit was reached or a construct is not modelled; the text is the verdict's reason."""

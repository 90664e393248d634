"""The stochastic tier: Metropolis-Hastings chains over longer windows, each chain with its own weights and seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from synth import _engine
from synth.cost import slots
from synth.rewrite import Window
from synth.search import WindowSearch
from synth.session import Program, SearchSession
from synth.window import SearchWindow, runs

LONGEST_WINDOW: Final = 12
_SHORTEST_WINDOW: Final = 3
_STRIDE: Final = 4
_STEPS_BY_EFFORT: Final = (0, 24_000, 400_000, 4_000_000)
_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a chain: per bit of error (averaged over the tests), per slot, per nanosecond, in 1/256 of a halving.

    `restart`: after so many proposals the chain goes back to the best program that passes the tests.
    """

    error: int
    slot: int
    nanosecond: int
    restart: int

    def settings(self, seed: int, steps: int, kept: int, never_slower: bool) -> _engine.ChainSettings:
        """The engine's settings of one chain with these weights."""
        made = _engine.ChainSettings()
        made.seed, made.steps, made.restart = seed, steps, self.restart
        made.error_weight, made.slot_weight, made.nanosecond_weight = self.error, self.slot, self.nanosecond
        made.keep, made.never_slower = kept, never_slower
        return made


# An error has to weigh more than what leaving everything out would save, or the walk ends at the empty program.
# Measured on regions of the samples: without going back, 100,000 proposals find something in 4 of 10 regions; going
# back after 1,000 in 7 of them, and more slots.  The lighter chain finds what lies behind a worse program.
CHAINS: Final = (Weights(4096, 256, 32, 1000), Weights(16384, 256, 32, 300), Weights(1024, 256, 32, 2000))


class StochasticSession(SearchSession):
    tier: ClassVar[str] = "stochastic"
    most_questions: ClassVar[int] = 2  # long windows are hard to prove
    most_windows: ClassVar[tuple[int, ...]] = (0, 24, 200, 10_000)

    @property
    def proposer(self) -> str:
        return f"{self.tier}:seed={self.settings.seed}"

    @property
    def steps(self) -> int:
        """Proposals per window, all chains together."""
        return self.settings.budget or _STEPS_BY_EFFORT[self.settings.effort]

    def windows(self) -> Iterator[Window]:
        """Whole runs where they are short enough, else overlapping pieces of them."""
        for label, start, stop in runs(self.function):
            if stop - start < _SHORTEST_WINDOW:
                continue
            last = max(start, stop - LONGEST_WINDOW)
            starts = [*range(start, last, _STRIDE), last]
            for at in starts:
                yield Window(label, at, min(at + LONGEST_WINDOW, stop))

    def is_worth_it(self, window: SearchWindow) -> bool:
        return self.steps > 0

    def candidates(self, search: WindowSearch) -> list[Program]:
        found: list[Program] = []
        for number, weights in enumerate(CHAINS):
            seed, steps = self.settings.seed * len(CHAINS) + number, self.steps // len(CHAINS)
            settings = weights.settings(seed, steps, _KEPT, self.settings.goal != "size")
            found += [program for program in search.chain(settings) if program not in found]
        return sorted(found, key=slots)

    def why(self, window: SearchWindow, after: Program) -> str:
        return f"a random walk found {len(after)} instructions for {len(window.insns)}"

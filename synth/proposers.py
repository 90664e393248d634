"""The tiers of proposal behind one face: a session that yields rewrites and learns from refutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from synth.reshape import Reshaper
from synth.rewrite import Rewrite
from synth.settings import Settings
from verifier_model.bpf.unit import Function, Unit
from verifier_model.facts import Facts
from verifier_model.verdict import Counterexample


class Session(Protocol):
    """Proposals for one function under one set of facts, most promising first; bounded by steps, never by clocks."""

    def __iter__(self) -> Iterator[Rewrite]: ...

    def feed(self, rewrite: Rewrite, counterexample: Counterexample) -> None:
        """The prover refuted `rewrite` on this state: it becomes a test input of the window."""


Proposer = Callable[[Function, Facts, Unit, Settings], Session]


class PassSession:
    """The pass tier: every row of the table in turn.  Passes do not search, so a refutation teaches them nothing."""

    def __init__(self, function: Function, facts: Facts, unit: Unit, settings: Settings) -> None:
        self._arguments = (function, facts, unit, settings)

    def __iter__(self) -> Iterator[Rewrite]:
        from synth.passes import PASSES

        for row in PASSES:
            yield from row.propose(*self._arguments)

    def feed(self, rewrite: Rewrite, counterexample: Counterexample) -> None:
        return None


def proposers(settings: Settings) -> tuple[Proposer, ...]:
    """The active tiers, cheapest first."""
    from synth.enumerate import EnumerateSession
    from synth.stochastic import StochasticSession

    tiers: dict[str, Proposer] = {
        "passes": PassSession,
        "enumerate": EnumerateSession,
        "stochastic": StochasticSession,
    }
    return tuple(tiers[name] for name in settings.active_tiers)


def reshapers(settings: Settings) -> tuple[Reshaper, ...]:
    """What proposes other blocks for a whole function, in the order in which it is asked: passes, then the search."""
    from synth.regions import reshape_regions
    from synth.shapes import SHAPES
    from synth.webs import WEBS

    shapes = (*SHAPES, *WEBS) if "passes" in settings.active_tiers else ()
    return (*shapes, reshape_regions) if "stochastic" in settings.active_tiers else shapes

"""Sessions of the searching tiers: windows of one function in turn, candidates that pass the tests, refutations learnt.

A search is a pure function of the window, the seed, the budget and the counterexamples, so its results are kept for the
process: the same window met in the next round, or in another function, costs nothing and gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from synth.cost import latency, slots
from synth.rewrite import Rewrite, Window
from synth.search import NoSearch, WindowSearch
from synth.settings import Settings
from synth.slices import Slice, slice_window
from synth.window import SearchWindow, least_instructions, search_window
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.verdict import Counterexample

if TYPE_CHECKING:
    from verifier_model.facts import Facts

_MOST_ROUNDS: Final = 6  # searches of one window, each with the counterexamples of those before
_MOST_REMEMBERED: Final = 20_000

Program = tuple[Insn, ...]
Place = Window | Slice

OPTIMAL: Final = "optimal"
NONE_SO_SHORT: Final = "nothing of up to three instructions"
EXHAUSTED: Final = "budget exhausted"
UNDECIDED: Final = "undecided"
UNSEARCHABLE: Final = "not for the engine"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the search of a window ended, where nothing better came of it.

    "optimal": over the stated opcodes, registers and constants nothing takes fewer slots; everything that seemed to was
    refuted.  "nothing of up to three instructions": the same, where the window is longer than four slots.  "undecided":
    something passed the tests that was neither proved nor refuted.  A window of which something came has no last word
    here: the function has changed, and it is searched again.
    """

    place: Window
    slots: int
    result: str


class SearchSession:
    """What enumeration and stochastic search have in common; see synth.proposers.Session."""

    tier: ClassVar[str]
    most_questions: ClassVar[int] = 4  # candidates of one round that are proposed
    most_windows: ClassVar[tuple[int, ...]]  # of a function that are searched, by effort: the most promising ones
    _remembered: ClassVar[dict[tuple[object, ...], tuple[Program, ...]]] = {}
    _ended: ClassVar[dict[tuple[object, ...], str]] = {}  # as in Outcome

    def __init__(self, function: Function, facts: Facts, unit: Unit, settings: Settings) -> None:
        self.function = function
        self.facts = facts
        self.unit = unit
        self.settings = settings
        self.outcomes: list[Outcome] = []
        self.ended = EXHAUSTED
        self._refuted: list[Counterexample] = []
        self._proposed: set[tuple[object, ...]] = set()

    def windows(self) -> Iterator[Window]:
        """Where to look, in the order to look there."""
        raise NotImplementedError

    def is_worth_it(self, window: SearchWindow) -> bool:
        """May a search of this window find anything?"""
        raise NotImplementedError

    def may_be_worth_it(self, insns: Program) -> bool:
        """The same by its instructions alone, where that is enough to say no."""
        return True

    def candidates(self, search: WindowSearch) -> list[Program]:
        """Replacements that pass the tests, cheapest first."""
        raise NotImplementedError

    def why(self, window: SearchWindow, after: Program) -> str:
        """One plain sentence for the report."""
        raise NotImplementedError

    @property
    def proposer(self) -> str:
        return self.tier

    def __iter__(self) -> Iterator[Rewrite]:
        for place, window in self._ranked():
            yield from self._search(place, window)

    def slices(self) -> Iterator[Slice]:
        """Where else to look: instructions that others stand between."""
        return iter(())

    def _ranked(self) -> list[tuple[Place, SearchWindow]]:
        """The windows that may gain most come first, of those with equal hopes the shorter ones."""
        found: list[tuple[Place, SearchWindow]] = []
        for place in self.windows():
            if not self.may_be_worth_it(self.function.block(place.label).insns[place.start : place.stop]):
                continue
            window = search_window(self.function, self.facts, self.unit, place)
            if window is not None and self.is_worth_it(window):
                found.append((place, window))
        for piece in self.slices():
            window = slice_window(self.function, self.facts, self.unit, piece)
            if window is not None and self.is_worth_it(window):
                found.append((piece, window))
        found.sort(key=lambda entry: (least_instructions(entry[1]) - entry[1].slots, len(entry[1].insns)))
        return found[: self.most_windows[self.settings.effort]]

    def feed(self, rewrite: Rewrite, counterexample: Counterexample) -> None:
        """The prover refuted the rewrite proposed last: the state becomes a test and the window is searched again."""
        self._refuted.append(counterexample)

    def _search(self, where: Place, window: SearchWindow) -> Iterator[Rewrite]:
        place = where.run if isinstance(where, Slice) else where
        insns = self.function.block(place.label).insns
        before = insns[place.start : place.stop]
        learnt: list[Counterexample] = []
        tried: set[Program] = set()
        decided = True
        for _ in range(_MOST_ROUNDS):
            known = len(learnt)
            fresh = [after for after in self._found(window, tuple(learnt)) if after not in tried]
            for program in fresh[: self.most_questions]:
                tried.add(program)
                after = where.rewritten(insns, program) if isinstance(where, Slice) else program
                if not self._is_news(place, before, after):
                    continue
                self._refuted.clear()
                yield Rewrite(place, before, after, self.proposer, self.why(window, program))
                learnt += self._refuted
                if len(learnt) > known:
                    break
                decided = False
            if len(learnt) == known:
                break
        self.outcomes.append(Outcome(place, window.slots, self._result(window, tuple(learnt), decided)))

    def _result(self, window: SearchWindow, learnt: tuple[Counterexample, ...], decided: bool) -> str:
        if not decided:
            return UNDECIDED
        return self._ended.get(self._key(window, learnt), EXHAUSTED)

    def _is_news(self, place: Window, before: Program, after: Program) -> bool:
        """Was this change, apart from what it leaves in place on both sides, not proposed before?"""
        old = [insn.without_origin() for insn in before]
        head = tail = 0
        shorter = min(len(old), len(after))
        while head < shorter and old[head] == after[head]:
            head += 1
        while tail < shorter - head and old[-1 - tail] == after[-1 - tail]:
            tail += 1
        core = (place.label, place.start + head, place.stop - tail, after[head : len(after) - tail])
        if core in self._proposed:
            return False
        self._proposed.add(core)
        return True

    def _found(self, window: SearchWindow, learnt: tuple[Counterexample, ...]) -> tuple[Program, ...]:
        key = self._key(window, learnt)
        found = self._remembered.get(key)
        if found is None:
            found = tuple(self._fresh(window, learnt))
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
                self._ended.clear()
            self._remembered[key] = found
            self._ended[key] = self.ended
        return found

    def _key(self, window: SearchWindow, learnt: tuple[Counterexample, ...]) -> tuple[object, ...]:
        settings = (self.settings.goal, self.settings.effort, self.settings.budget, self.settings.seed)
        return self.tier, window.key, learnt, settings

    def _fresh(self, window: SearchWindow, learnt: tuple[Counterexample, ...]) -> list[Program]:
        self.ended = EXHAUSTED
        try:
            search = WindowSearch(window, self.settings.seed)
        except NoSearch:
            self.ended = UNSEARCHABLE
            return []
        for counterexample in learnt:
            search.learn(counterexample)
        return [program for program in self.candidates(search) if _is_worth_a_proof(window, program)]


def _is_worth_a_proof(window: SearchWindow, program: Program) -> bool:
    """Does it save a slot, or an eighth of the time?

    A search shuffles whole windows for less, and the kernel's verifier may take a longer way through what was only
    shuffled (seen with an `and` whose operands had been swapped).
    """
    before, after = latency(window.insns), latency(program)
    return slots(program) < window.slots or 8 * (before - after) >= before

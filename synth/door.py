"""The one door through which a proposal enters: cost, level, local safety, proof (DESIGN.md, The trust wall).

Everything that proposes is outside the wall; whatever comes out of `Door.ask` accepted has been `PROVED` under the
facts of the very function it is applied to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from synth import cost
from synth.frequency import expected
from synth.reshape import Change, Reshape
from synth.rewrite import Rewrite
from synth.settings import Settings
from synth.whole import Whole, context_of
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.checker.local import local_safety
from verifier_model.domains.registers import Register
from verifier_model.domains.state import State
from verifier_model.facts import Facts
from verifier_model.prover import Limits, guess_cuts, prove, prove_function
from verifier_model.prover.paths import Way
from verifier_model.verdict import FunctionObligation, Obligation, Status, Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """`verdict` is None when the proposal was turned down, for `refusal`, before the prover was asked."""

    verdict: Verdict | None = None
    refusal: str = ""

    @property
    def is_accepted(self) -> bool:
        return self.verdict is not None and self.verdict.is_proved


class PathPrices:
    """What two functions cost from one cut point to the next; `rise`: the most that any path gets slower, in ps."""

    def __init__(self, question: FunctionObligation, prices: cost.CostTable) -> None:
        self._prices = [
            {block.label: cost.latency(block.insns, prices) for block in function.blocks}
            for function in (question.before, question.after)
        ]
        self.rise = 0

    def compare(self, before: Way, after: Way) -> None:
        old, new = (
            sum(prices[label] for label in way.trail) for prices, way in zip(self._prices, (before, after), strict=True)
        )
        self.rise = max(self.rise, new - old)


Key = tuple[object, ...]
FOR_SEARCH: Final = Limits(shrink_tests=0)  # the search learns more from a state that is as it was found
MOST_VAIN_GUESSES: Final = 2  # in one function; each may cost seconds
WHOLE: Final = Limits(shrink_tests=0, ways=256, way_insns=20_000)
GUESS: Final = Limits(
    shrink_tests=0, ways=32, way_insns=2_500, turns=8, solver_steps=100_000, guess_segments=32, guess_attempts=2
)


class Door:
    """Asks in the order of price and remembers what the prover said; one door per function and run."""

    def __init__(
        self,
        unit: Unit,
        settings: Settings,
        prices: cost.CostTable | None = None,
        profile: Mapping[str, int] | None = None,
    ) -> None:
        self.unit = unit
        self.profile = profile or {}
        self.settings = settings
        self.prices = prices or cost.table()
        self.verdicts: Counter[str] = Counter()
        self.unknowns: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._asked: dict[Key, Answer] = {}
        self._vain_guesses = 0

    def ask(self, function: Function, facts: Facts, rewrite: Rewrite) -> Answer:
        refusal = self._price_refusal(rewrite) or self._level_refusal(rewrite)
        if refusal:
            return self._refuse(refusal)
        obligation = canonical(obligation_of(function, facts, rewrite, self.unit))
        key = _key(obligation)
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = self._decide(obligation)
        return answer

    def ask_whole(self, function: Function, proposal: Reshape) -> tuple[Answer, Reshape]:
        """The answer about other blocks for `function`, and the proposal with the relation that was proved."""
        refusal = self._price_refusal(proposal) or self._level_refusal(proposal)
        if refusal:
            return self._refuse(refusal), proposal
        unit = self.unit.with_function(function)
        whole = Whole(function.name, 0, context_of(unit, function), proposal.blocks, proposal.cuts or (), "")
        question = whole.obligation(unit, replace(function, blocks=proposal.old))
        if proposal.cuts is None:
            if self._vain_guesses >= MOST_VAIN_GUESSES:
                return self._refuse("unknown: no relation was found for earlier proposals either"), proposal
            question = replace(question, cuts=guess_cuts(question.before, question.after, question.unit, GUESS))
        paths = PathPrices(question, self.prices)
        # What was guessed within its bounds is proved within them; without a relation the ways would be too many.
        verdict = prove_function(question, GUESS if proposal.cuts is None else WHOLE, paths.compare)
        self._vain_guesses += proposal.cuts is None and not verdict.is_proved
        if verdict.is_proved and self.settings.goal == "balanced" and paths.rise > 0:
            return self._refuse("goal: some path is slower"), proposal
        if verdict.is_proved and self.settings.goal == "latency" and self._is_expected_slower(question):
            return self._refuse("goal: slower as often as its blocks run"), proposal
        return self._counted(verdict), replace(proposal, cuts=question.cuts)

    def _is_expected_slower(self, question: FunctionObligation) -> bool:
        return expected(question.after, self.profile) > expected(question.before, self.profile)

    def _decide(self, obligation: Obligation) -> Answer:
        danger = local_safety(obligation)
        if danger is not None:
            return self._refuse(f"unsafe: {danger}")
        return self._counted(prove(obligation, FOR_SEARCH))

    def _counted(self, verdict: Verdict) -> Answer:
        self.verdicts[verdict.status.value] += 1
        if verdict.status is Status.UNKNOWN:
            self.unknowns[verdict.reason] += 1
        return Answer(verdict)

    def _refuse(self, refusal: str) -> Answer:
        self.refusals[refusal] += 1
        return Answer(refusal=refusal)

    def _price_refusal(self, rewrite: Change) -> str:
        """Why the goal forbids the rewrite, "" when it may come in (DESIGN.md, promise 4)."""
        # What a change of control flow does to each path is seen with the proof.
        is_window = isinstance(rewrite, Rewrite)
        slower = is_window and cost.latency(rewrite.after, self.prices) > cost.latency(rewrite.before, self.prices)
        longer = rewrite.slots_saved < 0
        if longer and self.settings.goal != "latency":
            return "goal: more slots"
        if slower and self.settings.goal != "size":
            return "goal: slower"
        return ""

    def _level_refusal(self, rewrite: Change) -> str:
        allowed = max([self.unit.cpu_level, *(insn.row.level for insn in rewrite.before)])
        too_new = any(insn.row.level > allowed for insn in rewrite.after)
        return "level: instruction above the object's -mcpu" if too_new else ""


def obligation_of(function: Function, facts: Facts, rewrite: Rewrite, unit: Unit) -> Obligation:
    """The question that decides the rewrite, under the facts of `function`."""
    window = rewrite.window
    entry = facts.before(Point(window.label, window.start))
    demand = facts.demand_after(Point(window.label, window.stop - 1))
    return Obligation(rewrite.before, rewrite.after, entry, demand, unit, function)


def canonical(obligation: Obligation) -> Obligation:
    """The same question with everything left out that no instruction of it mentions, and identities renumbered.

    Weakening the entry (a register that neither side names becomes unknown) keeps a proof valid; renumbering keeps the
    pattern of equal and different identities.  Equal questions of different rounds then have equal keys.
    """
    insns = (*obligation.before, *obligation.after)
    named = {FRAME_POINTER}
    for insn in insns:
        named |= mentioned(insn)
    renumber = _Renumbering()
    regs = tuple(
        renumber.register(register) if index in named else Register.unknown()
        for index, register in enumerate(obligation.entry.regs)
    )
    stack = {
        off: slot if slot.spill is None else replace(slot, spill=renumber.register(slot.spill))
        for off, slot in sorted(obligation.entry.stack.items())
    }
    return replace(
        obligation,
        before=tuple(insn if insn.origin.core else insn.without_origin() for insn in obligation.before),
        after=tuple(insn if insn.origin.core else insn.without_origin() for insn in obligation.after),
        entry=State(regs, stack),
        demand=Demand(obligation.demand.regs, obligation.demand.stack),
    )


def _key(obligation: Obligation) -> Key:
    """Equal for equal questions about one object; the function counts only by its name and program type."""
    entry, function = obligation.entry, obligation.function
    stack = tuple(entry.stack.items())
    return (obligation.before, obligation.after, entry.regs, stack, obligation.demand, function.name)


def mentioned(insn: Insn) -> set[int]:
    """Registers that the instruction may read or write; calls name r0 to r5."""
    if insn.row.kind.value == "call":
        return {0, 1, 2, 3, 4, 5}
    regs = {field for name, field in (("dst", insn.dst), ("src", insn.src)) if name in insn.row.uses}
    if insn.row.kind.value in ("exit", "atomic", "legacy_load"):
        regs |= {0, 1, 2, 3, 4, 5, 6}
    return regs


class _Renumbering:
    """Maps identities to 1, 2, ... in the order of first use, apart for variable parts and for bases."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, int], int] = {}

    def register(self, register: Register) -> Register:
        return replace(register, id=self._of("id", register.id), base=self._of("base", register.base))

    def _of(self, name: str, number: int) -> int:
        if number == 0:
            return 0
        return self._ids.setdefault((name, number), len(self._ids) + 1)

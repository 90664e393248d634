"""From proposals to a better unit: rounds of proposals, the door, the whole-function check, the gate.

Soundness of a batch. Each rewrite of a batch is proved under the facts of the function as it was before the batch.
Two of them compose when neither replacement reads a register bit or stack byte that the original program no longer
needed there (`composition.reads_no_more`): then every value it reads is one that the other rewrites were proved to
preserve, and what it demands of the code before it is no more than what that code was proved to deliver. A
replacement that reads more than that goes alone, and the facts are derived anew after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from synth import cost
from synth.cache.functions import Past, decoded, encoded, function_key, groups, text_digest
from synth.cache.store import Store
from synth.composition import reads_no_more
from synth.door import Door
from synth.frequency import counts_by_label
from synth.progress import tell
from synth.proposers import Proposer, proposers, reshapers
from synth.record import FunctionRecord, Record, RewriteRecord
from synth.reshape import Change, Reshape, reshape
from synth.rewrite import Rewrite, apply
from synth.settings import Settings
from synth.workers import run_all
from verifier_model.bpf.asm import print_function, print_insn
from verifier_model.bpf.exchange_halves import UNDEFINED_HALF, used_upper_half
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.checker import Report
from verifier_model.checker.per_kernel import Guard, guards
from verifier_model.contracts.kernels import Profile, kernels, knowing
from verifier_model.facts import Facts, analyse

Gate = Callable[[Unit], str | None]
"""Asks about a whole unit; None means accepted, else why not."""

MOST_ROUNDS = 60
MOST_BANS = 12


@dataclass(frozen=True, slots=True)
class Step:
    """One change in the order of application, the function after it, and how it was proved.

    `basis` counts the steps of the function before its batch: the facts that it was proved under held there.
    """

    rewrite: Change
    method: str
    function: Function
    basis: int


Journal = dict[str, tuple[Step, ...]]
"""The steps of each function that was changed, by its name."""


@dataclass(slots=True)
class Run:
    """The optimisation of one function: its current form and how it came about."""

    unit: Unit
    settings: Settings
    original: Function
    door: Door
    gate: Gate | None
    numbered: int  # accepted rewrites of the functions before this one, K2_FIRST and K2_LAST count on
    passed_over: int = 0  # rewrites left out because their number is outside K2_FIRST..K2_LAST
    current: Function = field(init=False)
    steps: list[Step] = field(default_factory=list)
    banned: set[tuple[str, tuple[Insn, ...], tuple[Insn, ...]]] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    kept_reason: str = ""
    reshaped: set[str] = field(default_factory=set)
    guards: tuple[Guard, ...] = ()

    def __post_init__(self) -> None:
        self.current = self.original

    def optimise(self) -> None:
        reason = self._closed_reason()
        if reason:
            self.kept_reason = reason
            return
        self.seen.add(print_function(self.original))
        tiers = proposers(self.settings)
        rounds, tier = 0, 0
        while tier < len(tiers) and rounds < MOST_ROUNDS:
            rounds += 1
            tier = 0 if self._round(tiers[tier]) or (tier == 0 and self._reshape()) else tier + 1
        if not self.steps and not self.kept_reason:
            self.kept_reason = "nothing better was found and proved"

    def settle(self, memory: Store | None) -> None:
        """Do again what the memory has of this function, else optimise it and let the memory have that."""
        key = function_key(self.unit, self.original, self.settings, self.numbered) if memory is not None else b""
        data = memory.get(key) if memory is not None else None
        if data is not None and self.repeat(data):
            return
        self.optimise()
        if memory is not None:
            memory.put(key, self.past())

    def past(self) -> bytes:
        """How this run came out, for `repeat` to do again."""
        steps = tuple((step.rewrite, step.method, step.basis) for step in self.steps)
        counts = (self.door.verdicts, self.door.refusals, self.door.unknowns)
        past = Past(steps, self.kept_reason, self.passed_over, *counts, text_digest(self.current))
        return encoded(past, self.unit.byte_order)

    def repeat(self, data: bytes) -> bool:
        """Do what another run of the same function did; False, and nothing done, when the bytes do not say what."""
        try:
            past, functions = decoded(data, self.original, self.unit.byte_order)
        except ValueError:
            return False
        for (change, method, basis), function in zip(past.steps, functions, strict=True):
            self.steps.append(Step(change, method, function, basis))
            self.current = function
        self.unit = self.unit.with_function(self.current)
        self.kept_reason, self.passed_over = past.kept_reason, past.passed_over
        for counter, counts in (
            (self.door.verdicts, past.verdicts),
            (self.door.refusals, past.refusals),
            (self.door.unknowns, past.unknowns),
        ):
            counter.update(counts)
        return True

    def _closed_reason(self) -> str:
        if self.original.untouchable:
            return self.original.untouchable
        if self.settings.skips_function(self.original.name, self.original.section):
            return "skipped by the user"
        if not self.settings.active_tiers:
            return "every tier is switched off"
        if used_upper_half(self.original) is not None:
            return UNDEFINED_HALF
        found = guards(self.unit, self.original, self._kernels())
        if isinstance(found, Report):
            return f"the model does not accept clang's own code: {found.rejection}"
        self.guards = found
        return ""

    def _kernels(self) -> tuple[Profile, ...]:
        named = " ".join(self.settings.kernels)
        return kernels(named) if named else knowing(self.unit.cpu_level)

    def _round(self, proposer: Proposer) -> bool:
        """One batch of one tier; was anything changed?"""
        facts = analyse(self.unit, self.current)
        batch = self._gather(proposer, facts)
        while batch:
            steps = self._applied(batch)
            after = steps[-1].function
            culprit = self._culprit(steps)
            if culprit is None:
                text = print_function(after)
                if text in self.seen:
                    return False
                self.seen.add(text)
                self.steps.extend(steps)
                self.current = after
                self.unit = self.unit.with_function(after)
                return True
            self._ban(steps[culprit].rewrite)
            batch = [entry for entry in batch if entry[0] != steps[culprit].rewrite]
        return False

    def _reshape(self) -> bool:
        """Other blocks for the whole function, the first of each reshaper's that comes through; was one found?"""
        text = print_function(self.current)
        if text in self.reshaped:
            return False
        self.reshaped.add(text)
        for propose in reshapers(self.settings):
            facts = analyse(self.unit, self.current)
            for proposal in propose(self.current, facts, self.unit, self.settings):
                if self._reshape_with(proposal):
                    return True
        return False

    def _reshape_with(self, proposal: Reshape) -> bool:
        after = reshape(self.current, proposal)
        if print_function(after) in self.seen or not self.settings.allows_rewrite(self._next_number(0)):
            return False
        if not self._is_acceptable(after):
            self.door.refusals["check: refused as part of the whole function"] += 1
            return False
        self._tell(0)
        answer, proved = self.door.ask_whole(self.current, proposal)
        if not answer.is_accepted or answer.verdict is None:
            return False
        self.seen.add(print_function(after))
        self.steps.append(Step(proved, answer.verdict.method, after, len(self.steps)))
        self.current = after
        self.unit = self.unit.with_function(after)
        return True

    def _gather(self, proposer: Proposer, facts: Facts) -> list[tuple[Rewrite, str]]:
        batch: list[tuple[Rewrite, str]] = []
        taken: set[Point] = set()
        session = proposer(self.current, facts, self.unit, self.settings)
        for rewrite in session:
            points = {Point(rewrite.window.label, at) for at in range(rewrite.window.start, rewrite.window.stop)}
            if points & taken or self._key(rewrite) in self.banned:
                continue
            self._tell(sum(one.slots_saved for one, _ in batch))
            answer = self.door.ask(self.current, facts, rewrite)
            if not answer.is_accepted or answer.verdict is None:
                if answer.verdict is not None and answer.verdict.counterexample is not None:
                    session.feed(rewrite, answer.verdict.counterexample)
                continue
            if not self.settings.allows_rewrite(self._next_number(len(batch))):
                self.passed_over += 1
                self.banned.add(self._key(rewrite))
                continue
            method = answer.verdict.method
            if reads_no_more(rewrite, facts):
                batch.append((rewrite, method))
                taken |= points
            elif not batch:
                return [(rewrite, method)]
        return batch

    def _tell(self, pending: int) -> None:
        proofs = sum(self.door.verdicts.values())
        tell(self.original.name, self.original.slots, self.current.slots - pending, proofs)

    def _next_number(self, pending: int) -> int:
        return self.numbered + self.passed_over + len(self.steps) + pending + 1

    def _applied(self, batch: list[tuple[Rewrite, str]]) -> list[Step]:
        """The batch applied from each block's end to its start, so that no window moves before its turn."""
        order = {block.label: index for index, block in enumerate(self.current.blocks)}
        function, steps = self.current, []
        for rewrite, method in sorted(batch, key=lambda e: (order[e[0].window.label], -e[0].window.start)):
            function = apply(function, rewrite)
            steps.append(Step(rewrite, method, function, len(self.steps)))
        return steps

    def _culprit(self, steps: list[Step]) -> int | None:
        """Index of the first step whose function the check refuses where the one before passed; None when all is well.

        Found by bisection: one check when the batch is fine, log2 of it more when it is not.
        """
        if self._is_acceptable(steps[-1].function):
            return None
        low, high = 0, len(steps) - 1  # the answer is in low..high
        while low < high:
            middle = (low + high) // 2
            if self._is_acceptable(steps[middle].function):
                low = middle + 1
            else:
                high = middle
        return low

    def _is_acceptable(self, function: Function) -> bool:
        if used_upper_half(function) is not None:
            return False
        unit = self.unit.with_function(function)
        for guard in self.guards:
            if not guard.allows(guard.report(unit, function)):
                return False
        return self.gate is None or self.gate(unit) is None

    def _ban(self, rewrite: Change) -> None:
        assert isinstance(rewrite, Rewrite)
        self.door.refusals["check: refused as part of the whole function"] += 1
        self.banned.add(self._key(rewrite))

    @staticmethod
    def _key(rewrite: Rewrite) -> tuple[str, tuple[Insn, ...], tuple[Insn, ...]]:
        plain = tuple(insn.without_origin() for insn in rewrite.before)
        return rewrite.window.label, plain, tuple(insn.without_origin() for insn in rewrite.after)

    def record(self, first_number: int) -> FunctionRecord:
        rewrites = tuple(
            RewriteRecord(
                number,
                step.rewrite.proposer,
                step.rewrite.why,
                "\n".join(print_insn(insn) for insn in step.rewrite.before),
                "\n".join(print_insn(insn) for insn in step.rewrite.after),
                step.rewrite.slots_saved,
                cost.latency(step.rewrite.before) - cost.latency(step.rewrite.after),
                step.method,
            )
            for number, step in enumerate(self.steps, first_number)
        )
        return FunctionRecord(
            self.original.name,
            self.original.section,
            self.original.slots,
            self.current.slots,
            _latency(self.original),
            _latency(self.current),
            rewrites,
            self.kept_reason,
            dict(sorted(self.door.verdicts.items())),
            dict(sorted(self.door.refusals.items())),
            print_function(self.original),
            print_function(self.current),
            dict(sorted(self.door.unknowns.items())),
        )


def _latency(function: Function) -> int:
    return cost.latency(insn for _, insn in function.insns())


def _ahead(unit: Unit, settings: Settings, memory: Store | None) -> dict[str, bytes]:
    """How the functions come out, by name, found in `settings.jobs` processes; those that failed are left out.

    Functions that refer to each other stay together, in the unit's order, so none sees anything else than it would in
    one process.
    """
    sizes = {function.name: function.slots for function in unit.functions}
    teams = sorted(groups(unit), key=lambda team: (-sum(sizes[name] for name in team), team))

    def work(team: tuple[str, ...]) -> list[bytes]:
        own, found = unit, []
        for name in team:
            run = _run(own, settings, own.function(name), None, 0)
            run.settle(memory)
            own = own.with_function(run.current)
            found.append(run.past())
        return found

    results = run_all([partial(work, team) for team in teams], settings.jobs)
    return {
        name: data
        for team, found in zip(teams, results, strict=True)
        for name, data in zip(team, found or (), strict=False)
    }


def _run(unit: Unit, settings: Settings, function: Function, gate: Gate | None, numbered: int) -> Run:
    own = settings.for_function(function.name)
    door = Door(unit, own, profile=counts_by_label(own.profile, function))
    return Run(unit, own, function, door, gate, numbered)


def optimise(
    unit: Unit,
    settings: Settings,
    gate: Gate | None = None,
    journal: Journal | None = None,
    memory: Store | None = None,
) -> tuple[Unit, Record]:
    """The unit with every function rewritten as far as proof, check and gate allow, and the record of it.

    `gate` is asked about the unit as it came and after each batch; a batch that it refuses is bisected.  A function
    that nobody may touch, or for which nothing was found, comes back as the very same value.  `journal` is filled in.
    `memory` has what earlier runs found, and gets what this one finds; a gate's word is not for keeping.
    """
    cost.choose(settings.costs)
    refusal = gate(unit) if gate is not None else None
    runs: list[Run] = []
    numbered = 0
    if gate is not None:
        memory = None
    counts = (settings.first, settings.last) != (1, 0)
    is_split = settings.jobs > 1 and len(unit.functions) > 1 and gate is None and not counts
    ahead = _ahead(unit, settings, memory) if is_split else {}
    for function in unit.functions:
        run = _run(unit, settings, function, gate, numbered)
        if refusal is None:
            if function.name not in ahead or not run.repeat(ahead[function.name]):
                run.settle(memory)
        else:
            run.kept_reason = f"the gate refuses clang's own object: {refusal}"
        numbered += len(run.steps) + run.passed_over
        runs.append(run)
        unit = unit.with_function(run.current)
        if journal is not None and run.steps:
            journal[function.name] = tuple(run.steps)
    records, number = [], 1
    for run in runs:
        records.append(run.record(number))
        number += len(run.steps)
    kept = Counter(run.kept_reason for run in runs if run.kept_reason)
    word = "" if gate is None else f"refused: {refusal}" if refusal is not None else "accepted"
    return unit, Record(tuple(records), settings.digest, word, dict(sorted(kept.items())))

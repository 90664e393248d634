"""Search across forward branches: Metropolis-Hastings over a few blocks at once, several exits and all.

What a chain finds is first held to `prove_region`, which is quick and gives the tests that are missing; what passes is
proposed as other blocks for the whole function, and goes through the door like every other proposal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from synth import _engine
from synth.cost import slots
from synth.region import Region, Span, obligation_of, rebuilt, region_of, spans, spliced
from synth.reshape import Reshape, plain_blocks
from synth.search import Found, NoSearch, WindowSearch
from synth.settings import Settings
from synth.stochastic import CHAINS, Weights
from synth.window import SearchWindow
from verifier_model.bpf.demand import STACK_LIMIT, stack_bytes
from verifier_model.bpf.flow import successors
from verifier_model.bpf.insn import FRAME_POINTER, Insn
from verifier_model.bpf.isa import STORE_KINDS
from verifier_model.bpf.unit import Block, Function, Point, Unit
from verifier_model.facts import Facts
from verifier_model.prover import Limits, prove_region
from verifier_model.verdict import Counterexample, CutPoint, Equality, InRegister, Status

_LONGEST: Final = (0, 9, 12, 16)  # instructions of a region, by effort
_LEADS: Final = ((), (4,), (2, 6), (1, 4, 8))  # of these, in the block that it starts in
_STEPS: Final = (0, 30_000, 300_000, 3_000_000)  # proposals for each region, all chains together
_ROUNDS: Final = 3  # searches of one region, each with the counterexamples of those before
_QUESTIONS: Final = 2  # programs of one round that the prover is asked about
_KEPT: Final = 4
_LIMITS: Final = Limits(shrink_tests=0, ways=32, way_insns=200)


@dataclass(frozen=True, slots=True)
class Gain:
    """A region and the blocks that were proved to do what it does."""

    region: Region
    blocks: tuple[Block, ...]
    saved: int


def reshape_regions(function: Function, facts: Facts, unit: Unit, settings: Settings) -> Iterator[Reshape]:
    """All regions that got smaller at once; then, should that be refused, halves of them, and above effort 1 each."""
    if settings.effort == 0 or facts.incomplete is not None:
        return
    gains = _disjoint(list(_gains(function, facts, unit, settings)))
    half = len(gains) // 2
    alone = [[gain] for gain in gains] if settings.effort > 1 else []  # every question is one about the whole function
    groups = [gains, gains[:half], gains[half:], *alone]
    for at, group in enumerate(groups):
        if group and group not in groups[:at]:
            yield _proposal(function, facts, group, settings)


def _cuts(function: Function, facts: Facts, gains: Sequence[Gain]) -> tuple[CutPoint, ...]:
    """At each block outside of the regions both programs hold the same, as far as anybody looks at it."""
    inside = {at for gain in gains for at in range(gain.region.span.first + 1, gain.region.span.last + 1)}
    changed = [*(insn for gain in gains for insn in gain.region.window.insns)]
    changed += [insn for gain in gains for block in gain.blocks for insn in block.insns]
    written = _stored_bytes(changed)
    behind = _behind(function, inside | {gain.region.span.first for gain in gains})
    cuts = []
    for at, block in enumerate(function.blocks):
        point = Point(block.label, 0)
        if at == 0 or at in inside or not facts.is_reachable(point):
            continue
        demand = facts.demand_before(point)
        equal = tuple(
            Equality(InRegister(reg, mask), InRegister(reg)) for reg, mask in enumerate(demand.regs[:10]) if mask
        )
        cuts.append(
            CutPoint(block.label, block.label, equal, written - demand.stack if block.label in behind else frozenset())
        )
    return tuple(cuts)


def _behind(function: Function, places: set[int]) -> set[str]:
    """Labels of the blocks that control may get to from those at the places."""
    edges = successors(function)
    found: set[str] = set()
    work = [function.blocks[at].label for at in sorted(places)]
    while work:
        for label in edges[work.pop()]:
            if label not in found:
                found.add(label)
                work.append(label)
    return found


def _stored_bytes(insns: Iterable[Insn]) -> frozenset[int]:
    """Bytes of the frame that the instructions may write: all of them where an address is not r10 itself."""
    found: set[int] = set()
    for insn in insns:
        if insn.kind in STORE_KINDS:
            found.update(stack_bytes(insn.off, insn.row.size) if insn.dst == FRAME_POINTER else range(-STACK_LIMIT, 0))
    return frozenset(found)


def _proposal(function: Function, facts: Facts, gains: Sequence[Gain], settings: Settings) -> Reshape:
    changed = function
    for gain in sorted(gains, key=lambda gain: -gain.region.span.first):
        changed = replace(changed, blocks=spliced(changed, gain.region, gain.blocks))
    saved = sum(gain.saved for gain in gains)
    why = f"random walks across branches found {saved} slots in {len(gains)} places"
    old, new = plain_blocks(function.blocks), plain_blocks(changed.blocks)
    return Reshape(old, new, f"stochastic:regions:seed={settings.seed}", why, _cuts(function, facts, gains))


def _disjoint(gains: list[Gain]) -> list[Gain]:
    """The best first, none that shares a block with a better one."""
    taken: set[int] = set()
    kept = []
    for gain in sorted(gains, key=lambda gain: -gain.saved):
        span = gain.region.span
        blocks = set(range(span.first, span.last + 1))
        if not blocks & taken:
            kept.append(gain)
            taken |= blocks
    return kept


def _gains(function: Function, facts: Facts, unit: Unit, settings: Settings) -> Iterator[Gain]:
    seen: set[Span] = set()
    for lead in _LEADS[settings.effort]:
        for span in spans(function, _LONGEST[settings.effort], lead):
            if span in seen:
                continue
            seen.add(span)
            region = region_of(function, facts, unit, span)
            if region is None or len(region.window.insns) < 3:
                continue
            gain = _search(function, facts, unit, settings, region)
            if gain is not None:
                yield gain


def _search(function: Function, facts: Facts, unit: Unit, settings: Settings, region: Region) -> Gain | None:
    learnt: tuple[Counterexample, ...] = ()
    asked: set[Found] = set()
    for _ in range(_ROUNDS):
        known = learnt
        for program, targets in _found(region.window, learnt, settings):
            saved = region.window.slots - slots(program)
            if saved <= 0 or (program, targets) in asked or len(asked) >= _ROUNDS * _QUESTIONS:
                continue
            asked.add((program, targets))
            blocks = rebuilt(function, region, program, targets)
            verdict = prove_region(obligation_of(function, facts, unit, region, blocks), _LIMITS)
            if verdict.status is Status.PROVED:
                return Gain(region, blocks, saved)
            if verdict.counterexample is not None:
                learnt = (*learnt, verdict.counterexample)
                break
        if learnt == known:
            return None
    return None


_remembered: dict[tuple[object, ...], list[Found]] = {}
_MOST_REMEMBERED: Final = 20_000


def _found(window: SearchWindow, learnt: tuple[Counterexample, ...], settings: Settings) -> list[Found]:
    key = (window.key, learnt, settings.goal, settings.effort, settings.budget, settings.seed)
    if key not in _remembered:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[key] = _fresh(window, learnt, settings)
    return _remembered[key]


def _fresh(window: SearchWindow, learnt: tuple[Counterexample, ...], settings: Settings) -> list[Found]:
    try:
        search = WindowSearch(window, settings.seed)
    except NoSearch:
        return []
    for counterexample in learnt:
        search.learn(counterexample)
    return search.ways([_settings(number, weights, settings) for number, weights in enumerate(CHAINS)], 1)


def _settings(number: int, weights: Weights, settings: Settings) -> _engine.ChainSettings:
    steps = (settings.budget or _STEPS[settings.effort]) // len(CHAINS)
    return weights.settings(settings.seed * len(CHAINS) + number, steps, _KEPT, settings.goal != "size")

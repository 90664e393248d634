"""Sessions over whole functions: which windows are looked at, what is proposed, how a refutation is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from synth.cost import latency
from synth.enumerate import EnumerateSession
from synth.rewrite import Rewrite
from synth.session import EXHAUSTED, NONE_SO_SHORT, OPTIMAL, UNDECIDED, SearchSession
from synth.settings import Settings
from synth.stochastic import StochasticSession
from synth.window import least_instructions, runs
from verifier_model.bpf.asm import parse_function, print_insn
from verifier_model.bpf.insn import Insn, Origin
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.facts import analyse
from verifier_model.verdict import Counterexample

GATHER = """
    r2 = *(u32 *)(r1 + 4)
    r1 = *(u32 *)(r1 + 0)
    r3 = r1
    r3 += 34
    if r3 > r2 goto out
    r4 = *(u8 *)(r1 + 12)
    r5 = *(u8 *)(r1 + 13)
    r5 <<= 8
    r5 |= r4
    r0 = r5
    exit
out:
    r0 = 2
    exit
"""
TIERS: list[type[SearchSession]] = [EnumerateSession, StochasticSession]


def function_of(text: str) -> Function:
    return parse_function(text, section="xdp", program_type="xdp")


def unit_of(function: Function, level: int = 3) -> Unit:
    return Unit((function,), cpu_level=level)


def session(tier: type[SearchSession], function: Function, level: int = 3, **settings: int | str) -> SearchSession:
    unit = unit_of(function, level)
    return tier(function, analyse(unit, function), unit, Settings(**settings))  # type: ignore[arg-type]


def texts(rewrites: Iterator[Rewrite]) -> list[str]:
    return ["; ".join(print_insn(insn) for insn in rewrite.after) for rewrite in rewrites]


@pytest.mark.parametrize("tier", TIERS)
def test_the_gather_is_found_in_a_whole_function(tier: type[SearchSession]) -> None:
    found = texts(iter(session(tier, function_of(GATHER))))
    assert any("*(u16 *)(r1 +12)" in text and "<<=" not in text for text in found), found


@pytest.mark.parametrize("tier", TIERS)
def test_bytes_that_do_not_touch_are_left(tier: type[SearchSession]) -> None:
    found = texts(iter(session(tier, function_of(GATHER.replace("+ 13", "+ 15")))))
    assert not any("u16" in text for text in found), found


@pytest.mark.parametrize("tier", TIERS)
def test_every_proposal_stands_where_it_says_and_is_better(tier: type[SearchSession]) -> None:
    function = function_of(GATHER)
    rewrites = list(session(tier, function))
    assert rewrites
    for rewrite in rewrites:
        window = rewrite.window
        assert function.block(window.label).insns[window.start : window.stop] == rewrite.before
        assert rewrite.slots_saved >= 0
        assert rewrite.proposer.startswith(tier.tier)
        assert rewrite.why
        assert all(insn.row.level <= 3 for insn in rewrite.after)


@pytest.mark.parametrize("tier", TIERS)
def test_two_sessions_propose_the_same(tier: type[SearchSession]) -> None:
    function = function_of(GATHER)
    first = list(session(tier, function))
    SearchSession._remembered.clear()
    assert list(session(tier, function)) == first


def test_remembered_results_are_those_of_a_fresh_search() -> None:
    function = function_of(GATHER)
    SearchSession._remembered.clear()
    cold = list(session(EnumerateSession, function))
    assert list(session(EnumerateSession, function)) == cold
    assert SearchSession._remembered


def test_a_refutation_brings_another_search_with_one_more_test() -> None:
    """Fed with a state on which all were wrong, the session goes on without repeating itself and ends."""
    function = function_of(GATHER)
    asked = session(EnumerateSession, function)
    seen = []
    for rewrite in asked:
        assert (rewrite.window, rewrite.after) not in seen
        seen.append((rewrite.window, rewrite.after))
        asked.feed(rewrite, Counterexample((0x5000,) * 11, (), (), "made up"))
        assert len(seen) < 1000
    assert seen


def test_runs_stop_at_calls_branches_and_markers() -> None:
    function = function_of("r6 = r1\nr7 = 1\ncall 7\nr6 = r6\nr0 = 1\nr7 += 1\nif r0 > 3 goto L\nr0 = 2\nL:\nexit")
    blocks = {label: function.block(label).insns[start:stop] for label, start, stop in runs(function)}
    spans = [function.block(label).insns[start:stop] for label, start, stop in runs(function)]
    assert blocks
    for span in spans:
        assert all(insn.kind not in (Kind.CALL, Kind.BRANCH, Kind.EXIT) for insn in span)
        assert all(not insn.is_pinned for insn in span)
    assert [len(span) for span in spans] == [2, 2, 1]


def test_instructions_with_core_records_are_not_touched() -> None:
    function = function_of(GATHER)
    block = function.blocks[1]
    marked = replace(block.insns[1], origin=Origin(core=((1, 2, 3),)))
    pinned = function.with_block(Block(block.label, (block.insns[0], marked, *block.insns[2:])))
    for tier in TIERS:
        assert all(marked not in rewrite.before for rewrite in session(tier, pinned))
        assert any(block.insns[1] in rewrite.before for rewrite in session(tier, function))


def test_unreachable_code_is_not_searched() -> None:
    function = function_of("r0 = 0\nexit\ndead:\nr0 <<= 32\nr0 >>= 32\nexit")
    assert list(session(EnumerateSession, function)) == []
    alive = function_of("r0 = *(u32 *)(r1 + 16)\nr0 <<= 32\nr0 >>= 32\nexit")
    assert list(session(EnumerateSession, alive))


def test_a_single_wide_constant_becomes_narrow_but_a_single_narrow_one_stays() -> None:
    assert "w0 = 2" in texts(iter(session(EnumerateSession, function_of("r0 = 0x2 ll\nexit"))))
    assert texts(iter(session(EnumerateSession, function_of("w0 = 2\nexit")))) == []


def test_steps_of_the_walk_follow_budget_and_effort() -> None:
    function = function_of(GATHER)
    made = [session(StochasticSession, function, effort=effort) for effort in range(4)]
    steps = [one.steps for one in made if isinstance(one, StochasticSession)]
    assert steps[0] == 0
    assert sorted(set(steps)) == steps
    assert list(made[0]) == []
    own = session(StochasticSession, function, budget=77)
    assert isinstance(own, StochasticSession)
    assert own.steps == 77


def test_goal_size_may_trade_time_for_slots() -> None:
    quick: list[tuple[Insn, ...]] = [r.after for r in session(EnumerateSession, function_of(GATHER))]
    small: list[tuple[Insn, ...]] = [r.after for r in session(EnumerateSession, function_of(GATHER), goal="size")]
    assert min(map(len, small)) <= min(map(len, quick))


def test_a_shuffle_for_little_time_is_not_proposed() -> None:
    """The walk reports equal slots at less time; only a good part of the time is worth a proof."""
    code = "r0 = *(u32 *)(r1 + 16)\nr0 *= 8\nr0 += 9\nr0 ^= 77\nexit"
    found = list(session(StochasticSession, function_of(code), budget=400_000))
    assert all(rewrite.slots_saved > 0 or 8 * saved(rewrite) >= latency(rewrite.before) for rewrite in found)
    assert any("<<= 3" in text for text in texts(iter(found)))
    assert texts(iter(session(StochasticSession, function_of(code.replace("*= 8", "<<= 3")), budget=400_000))) == []


def saved(rewrite: Rewrite) -> int:
    return latency(rewrite.before) - latency(rewrite.after)


def outcomes(text: str, effort: int) -> list[tuple[int, str]]:
    """Slots and last word of each window, when everything that was proposed has been refuted by a state made up."""
    asked = session(EnumerateSession, function_of(text), effort=effort)
    for rewrite in asked:
        asked.feed(rewrite, Counterexample((0x5000,) * 11, (), (), "made up"))
    return [(outcome.slots, outcome.result) for outcome in asked.outcomes]


def test_windows_have_a_last_word() -> None:
    found = outcomes(GATHER, 2)
    assert (2, OPTIMAL) in found
    assert {result for _, result in found} <= {OPTIMAL, NONE_SO_SHORT, EXHAUSTED, UNDECIDED}
    assert all(slots <= 4 for slots, result in found if result == OPTIMAL)


def test_what_passed_the_tests_and_was_not_decided_is_said() -> None:
    asked = session(EnumerateSession, function_of(GATHER), effort=2)
    proposed = {rewrite.window for rewrite in asked}
    assert proposed
    assert {outcome.place for outcome in asked.outcomes if outcome.result == UNDECIDED} == proposed


def test_windows_that_may_gain_most_come_first_and_effort_bounds_their_number() -> None:
    ranked = session(EnumerateSession, function_of(GATHER), effort=2)._ranked()
    hopes = [window.slots - least_instructions(window) for _, window in ranked]
    assert hopes == sorted(hopes, reverse=True)
    few = session(EnumerateSession, function_of(GATHER), effort=1)._ranked()
    assert 0 < len(few) <= EnumerateSession.most_windows[1]

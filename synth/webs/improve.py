"""Which changes of webs pay: each is tried, given registers, and kept when the function gets shorter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from synth.reshape import Reshape, plain_blocks
from synth.settings import Settings
from synth.webs import addresses, exits, operands, sink, slots
from synth.webs.allocate import allocated, without_dead
from synth.webs.copies import propagated
from synth.webs.form import Form
from synth.webs.lift import lift, lower
from synth.webs.setting import Family, Setting
from verifier_model.bpf.flow import reachable
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.facts import Facts

MOST_TRIALS: Final = 200
MOST_WORK: Final = 12_000  # trials times slots
LONGEST: Final = 3000  # slots


class WebPass(NamedTuple):
    """A change of webs; `equation` as in `synth.passes.table.Pass`."""

    name: str
    equation: str
    family: Family


WEB_PASSES: Final = (
    WebPass("near-address", "r3 = r1; r3 += 14; r4 = r1; r4 += 34  ==  r3 = r1; r3 += 14; r3 += 20", addresses.near),
    WebPass("rebase", "r3 = r1; r3 += 14; r2 = u8[r1+12]  ==  r1 += 14; r2 = u8[r1-2]", addresses.rebase),
    WebPass("hold-address", "r1 = map ll; call; r1 = map ll  ==  r6 = map ll; r1 = r6; call; r1 = r6", addresses.hold),
    WebPass("commute-webs", "r3 = r6; r3 += r2; <r2 dead>  ==  r2 += r6; <r2 is r3>", operands.commute),
    WebPass("unswap", "r3 = be16 r3; if w3 == 0x800  ==  if w3 == 0x8", operands.compare_unswapped),
    WebPass("unspill", "u64[r10-16] = r1; call; r3 = u64[r10-16]  ==  r6 = r1; call; r3 = r6", slots.unspill),
    WebPass("reload", "u32[r10-4] = r1; call; r2 = u32[r10-4]  ==  u32[r10-4] = r6; call; r2 = r6", slots.reload),
    WebPass(
        "own-exits", "w1 = 2; if c goto OUT; r1 = r0; OUT: w0 = w1; exit  ==  if c goto TWO; exit", exits.own_exits
    ),
    WebPass("sink-number", "w0 = 2; if r1 == 0 goto OUT  ==  if r1 == 0 goto TWO; ...; TWO: w0 = 2", sink.sink_number),
)


_REASONS: Final = {
    "near-address": "addresses go on from others that nobody needs any more",
    "rebase": "a moved address serves for all accesses",
    "hold-address": "an address is held across calls",
    "commute-webs": "the free operand's register takes the result",
    "unswap": "numbers are compared in the order of their bytes in the packet",
    "unspill": "a register keeps what the frame kept",
    "reload": "what was stored is not read again",
    "own-exits": "known results have exits of their own",
    "sink-number": "numbers are set where ways meet",
}


class Result(NamedTuple):
    form: Form
    blocks: tuple[Block, ...]
    slots: int


def _result(form: Form, most_orders: int = 4, *, propagates: bool = True) -> Result | None:
    form = propagated(form) if propagates else form
    form = form.copy()
    without_dead(form)
    colors = allocated(form, most_orders)
    if colors is None:
        return None
    blocks = lower(form, colors)
    return Result(form, blocks, sum(block.slots for block in blocks))


def _best_of(form: Form) -> Result | None:
    """With all orders of merging, with readers of copies reading the source and without."""
    found = [_result(form, 4), _result(form, 4, propagates=False)]
    return min((result for result in found if result is not None), key=lambda result: result.slots, default=None)


def improved(start: Result, setting: Setting, passes: Sequence[WebPass]) -> tuple[Result, tuple[str, ...]]:
    """The best that was found from `start`, and the passes that it took."""
    best, names, trials = start, list[str](), 0
    most = max(10, min(MOST_TRIALS, MOST_WORK // max(start.slots, 1)))
    setting = setting.of(best.form)
    again = True
    while again:
        again = False
        for row in passes:
            found = True
            while found and trials < most:
                found = False
                for candidate in row.family(best.form, setting):
                    trials += 1
                    result = _result(candidate, 2)
                    if result is not None and result.slots < best.slots:
                        best, found, again = result, True, True
                        setting = setting.of(best.form)
                        names.append(row.name)
                        break
                    if trials >= most:
                        break
    last = _best_of(best.form)
    return last if last is not None and last.slots < best.slots else best, tuple(dict.fromkeys(names))


def registers(function: Function, facts: Facts, unit: Unit, settings: Settings) -> Iterator[Reshape]:
    """The whole function in other registers: first with everything that pays, then with one thing at a time."""
    if function.untouchable or facts.incomplete is not None or function.slots > LONGEST:
        return
    if len(reachable(function)) != len(function.blocks):
        return
    form = lift(function, facts)
    if form is None:
        return
    plain = _best_of(form)
    if plain is None:
        return
    setting = Setting(function, facts, unit, {})
    old = plain_blocks(function.blocks)
    full, names = improved(plain, setting, WEB_PASSES)
    if full.slots < function.slots:
        yield Reshape(old, plain_blocks(full.blocks), _proposer(names), _why(names))
    for row in WEB_PASSES if len(names) > 1 else ():
        if row.name in names:
            result, used = improved(plain, setting, (row,))
            if result.slots < function.slots:
                yield Reshape(old, plain_blocks(result.blocks), _proposer(used), _why(used))
    if names and plain.slots < function.slots:
        yield Reshape(old, plain_blocks(plain.blocks), _proposer(()), _why(()))


def _proposer(names: tuple[str, ...]) -> str:
    return "pass:" + "+".join(names or ("coalesce-registers",))


def _why(names: tuple[str, ...]) -> str:
    return "values live in fewer registers and need fewer copies" + "".join(f", {_REASONS[name]}" for name in names)


__all__ = ["WEB_PASSES", "registers"]

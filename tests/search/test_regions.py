"""Searches across branches: which regions there are, what stands in their place, and that both are the prover's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synth.pipeline import optimise
from synth.region import END, Region, obligation_of, rebuilt, region_of, spans, spliced
from synth.regions import reshape_regions
from synth.settings import Settings
from verifier_model.bpf.asm import parse_function, print_function
from verifier_model.bpf.flow import successors
from verifier_model.bpf.unit import Function, Unit
from verifier_model.facts import analyse
from verifier_model.prover import prove_region
from verifier_model.verdict import Status

SELECT = """
    r2 = *(u32 *)(r1 + 16)
    w0 = 1
    if w2 > 9 goto big
    w0 = 0
big:
    w0 <<= 4
    w0 |= w2
    exit
"""
CALLS = """
    r6 = *(u32 *)(r1 + 16)
    if w6 == 7 goto out
    call 7
    w0 += w6
out:
    w0 = 1
    exit
"""


def unit_of(text: str, level: int = 3) -> tuple[Unit, Function]:
    function = parse_function(text, section="xdp", program_type="xdp")
    return Unit((function,), cpu_level=level), function


def regions(text: str, longest: int = 12, lead: int = 4) -> list[Region]:
    unit, function = unit_of(text)
    facts = analyse(unit, function)
    found = [region_of(function, facts, unit, span) for span in spans(function, longest, lead)]
    return [region for region in found if region is not None]


def test_a_region_starts_before_a_branch_and_goes_on_behind_its_join() -> None:
    (region,) = regions(SELECT)
    assert [insn.row.op for insn in region.window.insns] == ["load", "mov", "jgt", "mov", "lsh", "or"]
    assert region.window.targets == (0, 0, 4, 0, 0, 0)
    assert region.exits == ()


def test_a_region_ends_where_others_lead_to_and_at_calls() -> None:
    (region,) = regions(CALLS)
    assert [insn.row.op for insn in region.window.insns] == ["load", "jeq"]
    assert region.exits == ("out",)
    # What comes behind the join belongs to the region only while nobody else jumps there.
    jumped = SELECT.replace("r2 = *(u32 *)(r1 + 16)", "r2 = *(u32 *)(r1 + 16)\nw0 = 0\nif w2 == 99 goto big")
    assert all(region.span.first != 1 or region.span.last < 3 for region in regions(jumped))


def test_a_branch_back_into_the_region_is_none_of_ours() -> None:
    loop = "r2 = *(u32 *)(r1 + 16)\nagain:\nw2 >>= 1\nif w2 != 0 goto again\nw0 = 0\nexit"
    assert regions(loop) == []


@pytest.mark.parametrize("text", [SELECT, CALLS])
def test_a_region_put_back_unchanged_is_the_function(text: str) -> None:
    unit, function = unit_of(text)
    facts = analyse(unit, function)
    for region in regions(text):
        window = region.window
        blocks = rebuilt(function, region, window.insns, window.targets)
        assert prove_region(obligation_of(function, facts, unit, region, blocks)).status is Status.PROVED
        again = replace(function, blocks=spliced(function, region, blocks))
        successors(again)
        assert again.slots == function.slots
        assert [insn.row for _, insn in again.insns()] == [insn.row for _, insn in function.insns()]


def test_a_region_with_one_bit_changed_is_refuted() -> None:
    unit, function = unit_of(SELECT)
    facts = analyse(unit, function)
    (region,) = regions(SELECT)
    insns = list(region.window.insns)
    insns[2] = replace(insns[2], imm=insns[2].imm ^ 1)
    blocks = rebuilt(function, region, insns, region.window.targets)
    assert prove_region(obligation_of(function, facts, unit, region, blocks)).status is Status.REFUTED


def test_the_scale_goes_into_the_constants() -> None:
    unit, function = unit_of(SELECT)
    (proposal, *_) = reshape_regions(function, analyse(unit, function), unit, Settings(effort=1))
    assert proposal.slots_saved == 1
    text = print_function(replace(function, blocks=proposal.blocks))
    assert "= 16" in text
    assert "<<=" not in text


def test_a_scale_that_is_not_a_constant_stays() -> None:
    unit, function = unit_of(SELECT.replace("w0 <<= 4", "w0 <<= w2"))
    assert list(reshape_regions(function, analyse(unit, function), unit, Settings(effort=1))) == []


def test_the_whole_way_through_the_door() -> None:
    unit, function = unit_of(SELECT)
    made, record = optimise(unit, Settings(tiers=("stochastic",), effort=1))
    assert made.functions[0].slots < function.slots
    assert any(rewrite.proposer.startswith("stochastic:regions") for rewrite in record.functions[0].rewrites)
    again, _ = optimise(unit, Settings(tiers=("stochastic",), effort=1))
    assert again == made


def test_nothing_is_searched_without_effort() -> None:
    unit, function = unit_of(SELECT)
    assert list(reshape_regions(function, analyse(unit, function), unit, Settings(effort=0))) == []


def test_the_end_inside_a_block_has_a_name_of_its_own() -> None:
    (region,) = regions(SELECT, longest=5)
    _, function = unit_of(SELECT)
    assert region.span.next_label(function) == END
    blocks = rebuilt(function, region, region.window.insns, region.window.targets)
    assert END not in print_function(replace(function, blocks=spliced(function, region, blocks)))

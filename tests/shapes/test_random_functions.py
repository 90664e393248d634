"""The search on random functions: what it proposes is mostly proved, and no run can tell it from the original."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from synth.door import Door
from synth.settings import Settings
from synth.shapes.search import reshape_control_flow
from tests.prover.function_campaign import Pair, distinguishing_state
from tests.prover.functions import unit_of
from tests.prover.random_functions import random_function
from verifier_model.facts import analyse

SEED = 5
FUNCTIONS = 8


@pytest.mark.parametrize("part", range(2))
def test_proposals_are_right(part: int) -> None:
    """Runs of the concrete machine are asked about every proposal, whatever the prover says of it."""
    found = proved = 0
    for number in range(FUNCTIONS):
        rng = random.Random(f"{SEED} {part} {number}")
        before = random_function(rng)
        unit, settings = unit_of(before), Settings(goal="size")
        door = Door(unit, settings)
        for proposal in reshape_control_flow(before, analyse(unit, before), unit, settings):
            after = replace(before, blocks=proposal.blocks)
            pair = Pair(SEED, number, "right", proposal.proposer, "little", replace(before, blocks=proposal.old), after)
            assert proposal.slots_saved > 0
            assert distinguishing_state(pair) is None, str(pair)
            found += 1
            proved += door.ask_whole(before, proposal)[0].is_accepted
            break
    assert found >= 3, f"seed {SEED}, part {part}"
    assert proved >= 0.7 * found, f"seed {SEED}, part {part}: {proved} of {found} proved"

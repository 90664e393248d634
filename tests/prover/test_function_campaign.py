"""A short run of the campaign over whole functions; `make prover-campaign` runs a long one."""

from __future__ import annotations

import pytest

from tests.prover.function_campaign import campaign

SEED = 20


@pytest.mark.parametrize("part", range(3))
def test_nothing_distinguishable_is_proved(part: int) -> None:
    print(f"seed {SEED + part}")
    counts = campaign(4, SEED + part, mutants=1)
    print(dict(counts))
    assert counts["right: PROVED"] == 4, counts
    assert counts["mutant: PROVED"] + counts["mutant: REFUTED"] + counts["mutant: UNKNOWN"] > 1, counts

"""Random pairs of functions, right and wrong, put to the prover and to the concrete machine.

`python -m tests.prover.function_campaign COUNT [SEED]` prints the counts as JSON; a pair that is PROVED although some
concrete run tells it apart ends the campaign with its seed and text, unless that run leaves memory and the model of the
verifier refuses the function for it.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.prover.functions import unit_of
from tests.prover.random_functions import mutated, random_function, shown, transformed
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.unit import Function
from verifier_model.checker import check
from verifier_model.prover import Limits, prove_functions
from verifier_model.verdict import Verdict

STATES = 30
LIMITS = Limits(solver_steps=300_000)


class Pair(NamedTuple):
    """`what` is "right" or "mutant"; `how` names the transformations; `seed` and `number` make it again."""

    seed: int
    number: int
    what: str
    how: str
    order: str
    before: Function
    after: Function

    def __str__(self) -> str:
        head = f"seed {self.seed}, number {self.number}: {self.what} of {self.how}, {self.order}-endian"
        return f"{head}\n{print_function(self.before)}\n----\n{print_function(self.after)}"


def pairs(count: int, seed: int, mutants: int) -> Iterator[Pair]:
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        order = rng.choice(["little", "big"])
        before = random_function(rng)
        after, how = transformed(rng, before)
        yield Pair(seed, number, "right", how, order, before, after)
        for _ in range(mutants):
            wrong = mutated(rng, after)
            if wrong != after:
                yield Pair(seed, number, "mutant", how, order, before, wrong)


def distinguishing_state(pair: Pair) -> int | None:
    """The number of a concrete state in which the two show different things."""
    for number in range(STATES):
        before = shown(pair.before, number, pair.order)
        if before is not None and before != "runs on" and before != shown(pair.after, number, pair.order):
            return number
    return None


def judged(pair: Pair) -> tuple[Verdict, int | None]:
    """The prover's verdict and the distinguishing state; raises AssertionError when they contradict each other."""
    verdict = prove_functions(pair.before, pair.after, unit_of(pair.before, order=pair.order), limits=LIMITS)
    state = distinguishing_state(pair)
    assert pair.what == "mutant" or state is None, f"the transformation is wrong, state {state}\n{pair}"
    if state is not None and verdict.is_proved:
        # That every access is within bounds is the check's word, not the prover's.
        ends = shown(pair.after, state, pair.order) is not None
        assert not ends and not is_accepted(pair), f"state {state}, {verdict.method}\n{pair}"
    return verdict, state


def is_accepted(pair: Pair) -> bool:
    """Does the model of the verifier accept the second function?"""
    unit = unit_of(pair.before, order=pair.order).with_function(pair.after)
    return check(unit, pair.after).accepted


def campaign(count: int, seed: int, mutants: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for pair in pairs(count, seed, mutants):
        verdict, state = judged(pair)
        counts[f"{pair.what}: {verdict.status.value}"] += 1
        if state is not None:
            counts["mutants told apart by concrete runs"] += 1
    return counts


if __name__ == "__main__":
    wanted, start = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    found = campaign(wanted, start, mutants=2)
    print(json.dumps({"seed": start, "functions": wanted, **dict(sorted(found.items()))}, indent=2))

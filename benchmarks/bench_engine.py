"""Candidate evaluations per CPU second of the search engine, without the solver.

"full": proposals of a real Metropolis-Hastings chain on a window of packet and stack code, recorded first and then run,
every one on every lane to its end, its results compared and its traces undone.  "early stop": the chain itself, which
leaves a proposal as soon as it cannot be accepted; all proposals that it decides count, also those that the static walk
refuses.

    python benchmarks/bench_engine.py [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass

from synth import _engine
from synth.engine_link import LANES
from synth.search import WindowSearch
from synth.window import SearchWindow
from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State

SEED = 7
PROPOSALS = 4096
ROUNDS = 60
CHAIN_STEPS = 1_000_000
# Ten instructions none of which can go: loads, a fold into two sums, and a copy to the stack.
PIECE = """
r3 = *(u8 *)(r6 + {a})
r4 = *(u32 *)(r6 + {b})
r4 ^= r3
r2 += r4
r5 = r4
r5 >>= 3
r5 &= 4095
*(u32 *)(r10 - {c}) = r5
r1 ^= r2
r1 -= r3
"""


@dataclass(frozen=True)
class Figure:
    """Evaluations per CPU second at a window length; `mean` instructions were no no-ops; `lanes` names the variant."""

    instructions: int
    mean: float
    lanes: str
    mode: str
    evaluations: int
    per_second: int


def window(length: int) -> SearchWindow:
    pieces = (PIECE.format(a=7 * i, b=8 * i + 1, c=8 + 8 * i) for i in range(length // 10))
    insns = parse_insns("".join(pieces))
    regs = [Register.uninit() for _ in range(10)] + [Register(Region.STACK, Scalar.const(0))]
    regs[1] = regs[2] = Register.scalar(Scalar.top())
    regs[6] = Register(Region.PACKET, Scalar.const(0), packet_range=64)
    demand = Demand(tuple(ALL_BITS if reg in (1, 2, 6) else 0 for reg in range(11)), frozenset(range(-64, 0)))
    return SearchWindow(insns, State(tuple(regs)), (None,) * len(insns), demand, (3, 4, 5), 3)


def measure(length: int, lanes: str, early_stop: bool) -> Figure:
    search = WindowSearch(window(length), SEED, lanes)
    if early_stop:
        settings = _engine.ChainSettings()
        settings.seed, settings.steps = SEED, CHAIN_STEPS
        start = time.thread_time()
        _, evaluations, _ = search.session.chain(search.domain, settings)
        mean = float(length)
    else:
        slots = search.session.record_proposals(search.domain, SEED, PROPOSALS)
        mean = slots / PROPOSALS
        search.session.evaluate_recorded(1)
        start = time.thread_time()
        evaluations = search.session.evaluate_recorded(ROUNDS)
    seconds = time.thread_time() - start
    mode = "early stop" if early_stop else "full"
    return Figure(length, round(mean, 1), lanes, mode, evaluations, round(evaluations / seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description="Candidate evaluations per second of the search engine.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    wants_json = parser.parse_args().json
    figures = [
        measure(length, lanes, early_stop)
        for length in (20, 40)
        for lanes in _engine.variants()
        for early_stop in (False, True)
    ]
    if wants_json:
        print(json.dumps({"machine": platform.machine(), "tests": LANES, "figures": [asdict(f) for f in figures]}))
        return
    print(f"{LANES} tests per candidate, one chain on one core, seed {SEED}")
    print(f"{'instructions':>12}  {'mean':>5}  {'lanes':8}  {'mode':10}  {'evaluations/s':>13}")
    for figure in figures:
        print(
            f"{figure.instructions:>12}  {figure.mean:>5}  {figure.lanes:8}  {figure.mode:10}  {figure.per_second:>13,}"
        )


if __name__ == "__main__":
    main()

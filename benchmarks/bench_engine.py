"""Candidate evaluations per second of the search engine, without the solver.

The candidates are the proposals of a real Metropolis-Hastings chain on windows of packet and stack code.  "full" runs
every candidate on every lane to its end; "early stop" leaves a candidate as soon as the chain cannot accept it.  Only
candidates that reach the lanes are counted: what the static walk turns down takes time but does not count.

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
STEPS = 300_000
# A 16-bit gather, a mask, a fold and a copy to the stack: what parsers and key builders are made of.  Ten instructions.
PIECE = """
r3 = *(u8 *)(r6 + {a})
r4 = *(u8 *)(r6 + {b})
r4 <<= 8
r4 |= r3
r5 = *(u32 *)(r6 + {c})
r5 ^= r4
r5 &= 65535
r2 += r5
*(u32 *)(r10 - {d}) = r5
r1 = r2
"""


@dataclass(frozen=True)
class Figure:
    """Evaluations per second at a window length; `lanes` names the compiled variant."""

    instructions: int
    lanes: str
    mode: str
    evaluations: int
    per_second: int


def window(length: int) -> SearchWindow:
    pieces = (PIECE.format(a=4 * i, b=4 * i + 1, c=4 * i, d=8 + 8 * i) for i in range(length // 10))
    insns = parse_insns("".join(pieces))
    regs = [Register.uninit() for _ in range(10)] + [Register(Region.STACK, Scalar.const(0))]
    regs[2] = Register.scalar(Scalar.top())
    regs[6] = Register(Region.PACKET, Scalar.const(0), packet_range=64)
    demand = Demand(tuple(ALL_BITS if reg in (1, 2, 6) else 0 for reg in range(11)), frozenset(range(-64, 0)))
    return SearchWindow(insns, State(tuple(regs)), (None,) * len(insns), demand, (3, 4, 5), 3)


def measure(length: int, lanes: str, early_stop: bool) -> Figure:
    search = WindowSearch(window(length), SEED, lanes)
    search.session.run_for_benchmark(search.domain, SEED, STEPS // 10, early_stop)
    start = time.perf_counter()
    evaluations = search.session.run_for_benchmark(search.domain, SEED, STEPS, early_stop)
    seconds = time.perf_counter() - start
    mode = "early stop" if early_stop else "full"
    return Figure(length, lanes, mode, evaluations, round(evaluations / seconds))


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
    print(f"{'instructions':>12}  {'lanes':8}  {'mode':10}  {'evaluations/s':>13}")
    for figure in figures:
        print(f"{figure.instructions:>12}  {figure.lanes:8}  {figure.mode:10}  {figure.per_second:>13,}")


if __name__ == "__main__":
    main()

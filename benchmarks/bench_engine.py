"""Candidate evaluations per CPU second of the search engine, without the solver, on one core.

    python -m benchmarks.bench_engine [--json]

The windows are those of `benchmarks/engine_windows.json`, cut from real compiled programs.  "full": proposals of a real
Metropolis-Hastings chain, recorded first and then run, every one on every test to its end, its results compared, its
cost summed and the kernel's rules watched over by the static walk.  "early stop": the chain itself, which leaves a
proposal as soon as it cannot be accepted; all proposals that it decides count, also those that the static walk refuses.

Rows go to `benchmarks/results/engine.json`.  The exit code is 1 when a window is slower than its length's claim.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.engine_windows import stored_windows
from benchmarks.provenance import provenance
from synth import _engine
from synth.engine_link import LANES
from synth.search import WindowSearch
from synth.window import SearchWindow

RESULTS: Final = Path(__file__).parent / "results" / "engine.json"
SEED: Final = 7
PROPOSALS: Final = 4096
ROUNDS: Final = 16
CHAIN_STEPS: Final = 200_000
CLAIMS: Final = ((40, 300_000), (20, 1_000_000))  # from how many instructions on, full evaluations per second


@dataclass(frozen=True)
class Figure:
    """One window in one mode.

    `mean`: instructions of a proposal that are no no-ops, where proposals were recorded; `tests`: inputs that each
    full evaluation runs on; `lanes` names the variant of the inner loops.
    """

    window: str
    instructions: int
    mean: float | None
    tests: int
    lanes: str
    mode: str
    evaluations: int
    per_second: int


def measure_full(name: str, window: SearchWindow, lanes: str) -> Figure:
    search = WindowSearch(window, SEED, lanes)
    slots = search.session.record_proposals(search.domain, SEED, PROPOSALS)
    recorded = search.session.evaluate_recorded(1)
    start = time.thread_time()
    evaluations = search.session.evaluate_recorded(ROUNDS)
    seconds = time.thread_time() - start
    length = len(window.insns)
    mean = round(slots / recorded, 1)
    return Figure(name, length, mean, len(search.cases), lanes, "full", evaluations, round(evaluations / seconds))


def measure_chain(name: str, window: SearchWindow, lanes: str) -> Figure:
    search = WindowSearch(window, SEED, lanes)
    settings = _engine.ChainSettings()
    settings.seed, settings.steps = SEED, CHAIN_STEPS
    start = time.thread_time()
    _, evaluations, _ = search.session.chain(search.domain, settings)
    seconds = time.thread_time() - start
    length, tests = len(window.insns), len(search.cases)
    return Figure(name, length, None, tests, lanes, "early stop", evaluations, round(evaluations / seconds))


def claim(instructions: int) -> int:
    """Full evaluations per second that a window of that length has to reach with the best lanes."""
    return next(least for length, least in CLAIMS if instructions >= length)


def shortfalls(figures: Iterable[Figure], best: str) -> list[str]:
    """The windows that are slower than claimed, with the best lanes and in full."""
    return [
        f"{row.window}: {row.per_second:,} evaluations per second are fewer than {claim(row.instructions):,}"
        for row in figures
        if row.lanes == best and row.mode == "full" and row.per_second < claim(row.instructions)
    ]


@click.command(help="Candidate evaluations per second of the search engine.")
@click.option("--date", default="", help="the day of the measurement, for the stored results")
@click.option("--json", "wants_json", is_flag=True, help="print the rows as JSON instead of a table")
@click.option("--keep/--no-keep", default=True, help="store the rows in benchmarks/results/engine.json")
def main(date: str, wants_json: bool, keep: bool) -> None:
    variants = _engine.variants()
    figures = []
    for name, window in stored_windows().items():
        for lanes in variants:
            figures += [measure_full(name, window, lanes), measure_chain(name, window, lanes)]
    rows = [asdict(figure) for figure in figures]
    result = {"provenance": {**provenance(date, []), "engine compiler": _engine.COMPILER}, "seed": SEED, "rows": rows}
    if keep:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    if wants_json:
        print(json.dumps(result))
    else:
        print(f"{LANES} tests per candidate, one chain on one core, seed {SEED}, engine by {_engine.COMPILER}")
        print(f"{'window':22} {'insns':>5}  {'mean':>5}  {'lanes':8}  {'mode':10}  {'evaluations/s':>13}")
        for row in figures:
            mean = "" if row.mean is None else row.mean
            print(
                f"{row.window:22} {row.instructions:>5}  {mean:>5}  {row.lanes:8}  {row.mode:10}  {row.per_second:>13,}"
            )
    short = shortfalls(figures, variants[-1])
    print(*short, sep="\n", file=sys.stderr, end="\n" if short else "")
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    main()

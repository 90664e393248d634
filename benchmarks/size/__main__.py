"""`make bench-size`: code size, ours beside clang-19's best, function by function.

    python -m benchmarks.size [--goal size --goal balanced] [--effort 2] [--cpu v2] [--files xdp_fwd] [--date D] ...

With a date, rows go to benchmarks/results/size.json and tables to docs/results.md.  What was measured before with the
same code is taken from the ledger.  The exit status is 1 when an absolute claim fails: growth, a refusal, more work.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import click

from benchmarks.corpus.jobs import material
from benchmarks.kernel_word import ROOT
from benchmarks.provenance import provenance, replace_section
from benchmarks.size.kernels import KERNELS, ask, open_kernels
from benchmarks.size.measure import WORKERS, Plan, Result, differs, results, sections_of
from benchmarks.size.objects import COMPILER, CPUS, NoObject, Subject, smallest
from benchmarks.size.packages import PACKAGES, package_objects
from benchmarks.size.programs import samples
from benchmarks.size.table import (
    Row,
    absolute_shortfalls,
    details,
    gain_shortfalls,
    rows_of,
    speed_shortfalls,
    summary,
    times,
)

GOALS: Final = ("size", "balanced", "latency")
RESULTS: Final = ROOT / "benchmarks" / "results" / "size.json"
DOCUMENT: Final = ROOT / "docs" / "results.md"
SAMPLES: Final = "samples"
# What is measured by default: goal, effort and -mcpu levels, for the samples and for the packages' objects.
USUAL: Final = (("size", 2, ("v2", "v3")), ("size", 1, ("v1", "v4")), ("balanced", 1, CPUS))
USUAL_OF_PACKAGES: Final = (("balanced", 1),)
NAMES: Final = {SAMPLES: "samples/bpf of linux-source-6.1", **{name: f"objects of {name}" for name in PACKAGES}}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asked to be measured."""

    suites: tuple[str, ...]
    cpus: tuple[str, ...]
    files: tuple[str, ...]
    sample: int
    seed: int


def subjects(choice: Choice) -> tuple[dict[str, list[Subject]], dict[str, str]]:
    """The objects of each suite, and why a file has none."""
    found: dict[str, list[Subject]] = {}
    failed: dict[str, str] = {}
    for suite in choice.suites:
        if suite != SAMPLES:
            found[suite] = [one for one in package_objects(suite) if _is_wanted(one.source, choice.files)]
            continue
        one, found[suite] = material("6.1"), []
        for name, cpu in product([name for name in samples() if _is_wanted(name, choice.files)], choice.cpus):
            try:
                found[suite].append(smallest(one, name, cpu))
            except NoObject as reason:
                failed[name] = str(reason)
    if choice.sample:
        draw = random.Random(choice.seed)
        found = {suite: draw.sample(all_, min(choice.sample, len(all_))) for suite, all_ in found.items()}
    return found, failed


def requested(suite: str, goals: Sequence[str], efforts: Sequence[int]) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """Goal, effort and levels to measure with: the usual ones unless the user says goals or efforts."""
    if goals or efforts:
        return tuple((goal, effort, CPUS) for goal, effort in product(goals or GOALS[:2], efforts or (1,)))
    return USUAL if suite == SAMPLES else tuple((goal, effort, CPUS) for goal, effort in USUAL_OF_PACKAGES)


def _is_wanted(name: str, beginnings: Sequence[str]) -> bool:
    return not beginnings or name.startswith(tuple(beginnings))


def measure(
    plans: Sequence[Plan], kernels: Sequence[str], again: bool, workers: int, repeated: int
) -> tuple[list[Row], list[str]]:
    """The rows of all plans, and those objects of a draw that come out otherwise in four processes without a cache.

    A line on stderr for each object as it comes.
    """
    done: list[tuple[Plan, Result]] = []
    for plan, result in results(plans, again, workers):
        done.append((plan, result))
        click.echo(f"{len(done)}/{len(plans)} {plan.name}: {result.seconds:.1f} s {result.failure}", err=True)
    sound = sorted((pair for pair in done if not pair[1].failure), key=lambda pair: pair[1].key)
    draw = random.Random(0).sample(sound, min(repeated, len(sound)))
    others = [f"{plan.name}: other bytes in four processes" for plan, one in draw if differs(plan, one, jobs=4)]
    words = ask(open_kernels(kernels), done)
    rows = [row for plan, result in done for row in rows_of(plan, result, words, sections_of(plan.subject.data))]
    return rows, others


def page(tables: dict[str, list[Row]], failed: dict[str, str]) -> str:
    """What docs/results.md keeps: means and, for the sake of K2's figures, the functions of goal size in full."""
    lines = []
    for suite, rows in tables.items():
        lines += ["", f"### {NAMES[suite]}", "", *summary(rows), "", *times(rows)]
    for suite, rows in tables.items():
        efforts = [row.effort for row in rows]
        for goal in dict.fromkeys(row.goal for row in rows):
            chosen = [
                row for row in rows if row.goal == goal and row.effort == max(efforts) and row.cpu in ("v2", "v3")
            ]
            if chosen:
                lines += [
                    "",
                    f"### {NAMES[suite]}: functions, goal {goal}, effort {max(efforts)}",
                    "",
                    *details(chosen),
                ]
    if failed:
        lines += ["", "Samples that do not compile here:", ""]
        lines += [f"* {name}: {reason}" for name, reason in sorted(failed.items())]
    return "\n".join(lines)


@click.command()
@click.option("--suite", "suites", multiple=True, type=click.Choice(list(NAMES)), default=tuple(NAMES))
@click.option("--cpu", "cpus", multiple=True, type=click.Choice(CPUS), default=CPUS, help="-mcpu level (all)")
@click.option("--goal", "goals", multiple=True, type=click.Choice(GOALS), help="every effort with this goal")
@click.option("--effort", "efforts", multiple=True, type=int, help="every goal with this effort")
@click.option("--files", multiple=True, help="only files whose names begin so")
@click.option("--sample", default=0, help="so many objects of each suite, drawn by the seed (0: all)")
@click.option("--seed", default=1, help="start of the draw")
@click.option("--kernel", "kernels", multiple=True, default=KERNELS, help="kernels to ask (all)")
@click.option("--no-kernels", is_flag=True, help="ask none")
@click.option("--workers", default=WORKERS, help="objects at a time")
@click.option("--again", is_flag=True, help="measure anew what the ledger has")
@click.option("--repeated", default=8, help="so many objects once more, in four processes without a cache")
@click.option("--date", default="", help="the day of the measurement; keeps rows and tables")
def main(
    suites: tuple[str, ...],
    cpus: tuple[str, ...],
    goals: tuple[str, ...],
    efforts: tuple[int, ...],
    files: tuple[str, ...],
    sample: int,
    seed: int,
    kernels: tuple[str, ...],
    no_kernels: bool,
    workers: int,
    again: bool,
    repeated: int,
    date: str,
) -> None:
    """Measure, print, keep the numbers; exit 1 when an absolute claim fails."""
    found, failed = subjects(Choice(suites, cpus, files, sample, seed))
    tables, unlike = {}, list[str]()
    for suite, chosen in found.items():
        plans = [
            Plan(one, goal, effort, tuple(samples().get(one.source, {}).items()))
            for goal, effort, levels in requested(suite, goals, efforts)
            for one in chosen
            if suite != SAMPLES or one.cpu in levels
        ]
        tables[suite], others = measure(plans, () if no_kernels else kernels, again, workers, repeated)
        unlike += others
    text = page(tables, failed)
    click.echo(text)
    rows = [row for table in tables.values() for row in table]
    wrong = [*unlike, *absolute_shortfalls(rows)]
    for line in (*wrong, *gain_shortfalls(tables.get(SAMPLES, [])), *speed_shortfalls(rows)):
        click.echo(line, err=True)
    if date:
        source = provenance(date, [COMPILER])
        values = {suite: [row.to_value() for row in table] for suite, table in tables.items()}
        RESULTS.write_text(json.dumps({**source, "failed": failed, "tables": values}, indent=1) + "\n")
        where = f"Measured {date}, z3 {source['z3']}, kernel {source['kernel']}, commit {source['commit']}."
        replace_section(DOCUMENT, "size", where + "\n" + text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

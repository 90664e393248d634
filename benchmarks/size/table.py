"""Rows of the measurement, the means over them, the claims that they are held to, and the tables for the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any, Final

from benchmarks.size.kernels import Words
from benchmarks.size.measure import Plan, Result
from benchmarks.size.objects import function_slots
from benchmarks.size.programs import NETWORK, OTHER, TRACING, group_of, priors, type_of

# Mean cut over the functions of XDP, tc and socket filters, in percent: goal size at effort 2, goal balanced.
WANTED: Final[Mapping[tuple[str, str], float]] = {
    ("size", "v2"): 18.0,
    ("size", "v3"): 14.0,
    ("balanced", "v2"): 15.0,
    ("balanced", "v3"): 11.0,
}
COLD_SECONDS: Final = {200: 3.0, 2500: 60.0}  # slots of a program: seconds that effort 1 may add
WARM_SECONDS: Final = {200: 0.3, 2500: 2.0}


@dataclass(frozen=True, slots=True)
class Row:
    """One function.  `before` by clang at `flag`, `after` by us, in slots; seconds are those of the whole object.

    `kept`: why it is as it was; `failure`: why there is no output at all (then `after` is `before`).  `work_*`:
    instructions that each kernel's verifier processed, for those that accept; `refused`: by which ours is refused.
    """

    program: str
    source: str
    group: str
    cpu: str
    goal: str
    effort: int
    flag: str
    before: int
    after: int
    object_slots: int
    seconds_cold: float
    seconds_warm: float | None = None
    cpu_seconds: float = 0.0
    cpu_seconds_warm: float = 0.0
    kept: str = ""
    failure: str = ""
    k2: str = ""
    work_before: Mapping[str, int | None] = field(default_factory=dict)
    work_after: Mapping[str, int | None] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def cut(self) -> float:
        """How much smaller, in percent of before."""
        return 100 * (self.before - self.after) / self.before if self.before else 0.0

    def to_value(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in ("", None, {})}


def rows_of(
    plan: Plan, result: Result, words: Mapping[tuple[str, str], Words], sections: Mapping[str, str]
) -> list[Row]:
    """A row for every function of the object; `sections` says which ELF section each lies in."""
    slots = function_slots(plan.subject.data)
    kinds = {name: group_of(type_of(section, dict(plan.types))) for name, section in sections.items()}
    home = next((kind for kind in kinds.values() if kind != OTHER), OTHER)
    rows = []
    for name in plan.subject.functions:
        said = words.get((result.key, name), Words())
        prior = priors().get((plan.subject.source, name))
        rows.append(
            Row(
                program=name,
                source=plan.subject.source,
                group=kinds.get(name, home) if sections.get(name, ".text") != ".text" else home,
                cpu=plan.subject.cpu,
                goal=plan.goal,
                effort=plan.effort,
                flag=plan.subject.flag,
                before=slots[name],
                after=result.slots.get(name, slots[name]),
                object_slots=sum(slots[f] for f in plan.subject.functions),
                seconds_cold=result.seconds,
                seconds_warm=result.seconds_warm,
                cpu_seconds=result.cpu_seconds,
                cpu_seconds_warm=result.cpu_seconds_warm,
                kept=result.kept.get(name, ""),
                failure=result.failure,
                k2="" if prior is None else f"{prior.name}{'' if prior.same else '*'} {_prior(prior.paper)}",
                work_before=said.before,
                work_after=said.after,
                refused={k: why for k, why in said.refusals.items() if k in said.before},
            )
        )
    return rows


def _prior(pair: tuple[int, int]) -> str:
    return f"{pair[0]} → {pair[1]} ({100 * (pair[0] - pair[1]) / pair[0]:.1f} %)"


def mean_cut(rows: Iterable[Row]) -> float:
    """The mean over functions of each one's cut, in percent; 0 without any."""
    cuts = [row.cut for row in rows]
    return fmean(cuts) if cuts else 0.0


def absolute_shortfalls(rows: Iterable[Row]) -> list[str]:
    """What may not be: growth, a refusal of what was accepted, more work for a verifier, no output."""
    found = []
    for row in rows:
        where = f"{row.source} {row.cpu} {row.goal} effort {row.effort} {row.program}"
        if row.after > row.before and row.goal != "latency":
            found.append(f"{where}: grows from {row.before} to {row.after} slots")
        if row.failure:
            found.append(f"{where}: {row.failure}")
        for kernel, work in row.work_before.items():
            if kernel not in row.work_after:
                found.append(f"{where}: {kernel} refuses ours: {row.refused.get(kernel, 'no reason given')}")
            elif work is not None and (row.work_after[kernel] or 0) > work:
                found.append(f"{where}: {kernel}'s work grows from {work} to {row.work_after[kernel]}")
    return found


def gain_shortfalls(rows: Sequence[Row]) -> list[str]:
    """Gains that fall short of what is wanted: the means, and K2's best figure."""
    found = []
    for (goal, cpu), wanted in WANTED.items():
        same = [row for row in rows if row.goal == goal and row.cpu == cpu and row.group == NETWORK]
        chosen = [row for row in same if row.effort == max(one.effort for one in same)]
        if chosen and mean_cut(chosen) < wanted:
            found.append(f"{goal} {cpu}: a mean cut of {mean_cut(chosen):.1f} % where {wanted:.0f} % is wanted")
    for row in rows:
        prior = priors().get((row.source, row.program))
        if prior is not None and row.goal == "size" and row.cut < prior.best_cut:
            found.append(f"{row.source} {row.cpu} {row.program}: {row.cut:.1f} % where K2 has {prior.best_cut:.1f} %")
    return found


def speed_shortfalls(rows: Sequence[Row]) -> list[str]:
    """Objects that take effort 1 longer than it may."""
    found = {}
    for row in rows:
        size = next((most for most in sorted(COLD_SECONDS) if row.object_slots <= most), None)
        if row.effort != 1 or size is None:
            continue
        for what, seconds, most in (
            ("cold", row.seconds_cold, COLD_SECONDS[size]),
            ("warm", row.seconds_warm, WARM_SECONDS[size]),
        ):
            if seconds is not None and seconds > most:
                found[row.source, row.cpu, row.goal, what] = (
                    f"{row.source} {row.cpu} {row.goal}: {seconds:.1f} s {what} for {row.object_slots} slots"
                )
    return list(found.values())


def times(rows: Sequence[Row]) -> list[str]:
    """Seconds per object by size and effort, as Markdown: the median and the most, on the clock and of CPU time."""
    lines = [
        "| effort | slots | objects | cold | most | its CPU | most | warm | most | its CPU | most |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    objects = {(row.source, row.cpu, row.goal, row.effort): row for row in rows if not row.failure}
    for effort in sorted({row.effort for row in rows}):
        least = 0
        for most in sorted(COLD_SECONDS):
            chosen = [row for key, row in objects.items() if key[3] == effort and least < row.object_slots <= most]
            if chosen:
                cells = [
                    f"{value(numbers):.2f}"
                    for numbers in (
                        [row.seconds_cold for row in chosen],
                        [row.cpu_seconds for row in chosen],
                        [row.seconds_warm or 0.0 for row in chosen],
                        [row.cpu_seconds_warm for row in chosen],
                    )
                    for value in (median, max)
                ]
                lines.append(f"| {effort} | {least + 1} to {most} | {len(chosen)} | {' | '.join(cells)} |")
            least = most
    return lines


def summary(rows: Sequence[Row]) -> list[str]:
    """Mean cuts by what was asked for and group of program types, as Markdown."""
    lines = [
        "| goal | effort | -mcpu | programs | functions | mean cut | of all slots | refused by the model |",
        "|---|--:|---|---|--:|--:|--:|--:|",
    ]
    keys = sorted({(row.goal, row.effort, row.cpu, row.group) for row in rows})
    for goal, effort, cpu, group in keys:
        chosen = [r for r in rows if (r.goal, r.effort, r.cpu, r.group) == (goal, effort, cpu, group)]
        before, after = sum(r.before for r in chosen), sum(r.after for r in chosen)
        closed = sum(r.kept.startswith("the model does not accept") for r in chosen)
        lines.append(
            f"| {goal} | {effort} | {cpu} | {group} | {len(chosen)} | **{mean_cut(chosen):.1f} %** "
            f"| {100 * (before - after) / max(before, 1):.1f} % | {closed} |"
        )
    return lines


def details(rows: Sequence[Row]) -> list[str]:
    """Every function, as Markdown."""
    lines = [
        "| source | function | -mcpu | clang | ours | cut | K2 | verifier | accepted by | cold | warm |",
        "|---|---|---|--:|--:|--:|---|---|---|--:|--:|",
    ]
    for row in sorted(rows, key=lambda r: (r.group != NETWORK, r.group != TRACING, r.source, r.program, r.cpu)):
        works = sorted(set(row.work_before) & set(row.work_after), key=str)
        last = works[-1] if works else ""
        work = f"{row.work_before[last]} → {row.work_after[last]}" if last else ""
        warm = "" if row.seconds_warm is None else f"{row.seconds_warm:.2f} s"
        lines.append(
            f"| {row.source} | {row.program} | {row.cpu} | {row.before} ({row.flag}) | {row.after} | {row.cut:.1f} % "
            f"| {row.k2} | {work} | {' '.join(works)} | {row.seconds_cold:.1f} s | {warm} |"
        )
    return lines

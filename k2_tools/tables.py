"""Records as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from k2_tools.comparison import Comparison
from k2_tools.subject import Subject
from synth.record import FunctionRecord, Record

PICOSECONDS_PER_NANOSECOND = 1000


def console() -> Console:
    """Standard output; as wide as the table wants where it is no terminal, so that nothing is cut off in a log."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=160)


def change(before: int, after: int) -> str:
    """ "56 → 51 (-8.9 %)", or the number alone where nothing changed."""
    if before == after:
        return str(before)
    if before == 0:
        return f"{before} → {after}"
    return f"{before} → {after} ({100 * (after - before) / before:+.1f} %)"


def nanoseconds(picoseconds: int) -> str:
    return f"{picoseconds / PICOSECONDS_PER_NANOSECOND:.1f}"


def proofs(function: FunctionRecord) -> str:
    """ "7 (5 bit vectors, 2 syntactic)": the rewrites, and how they were proved."""
    if not function.rewrites:
        return "0"
    counted = Counter(rewrite.method for rewrite in function.rewrites)
    return f"{len(function.rewrites)} ({', '.join(f'{count} {method}' for method, count in counted.items())})"


def summary(subjects: Iterable[Subject]) -> Table:
    """A line for each function; the kernel's word and the time stand once for each object."""
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("object", "left"),
        ("function", "left"),
        ("slots", "right"),
        ("latency (ns, estimated)", "right"),
        ("verifier's work", "right"),
        ("rewrites (proved by)", "left"),
        ("kernel", "left"),
        ("time", "right"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    total_before = total_after = 0
    for subject in subjects:
        record = subject.record
        for index, function in enumerate(record.functions):
            first = index == 0
            table.add_row(
                subject.name if first else "",
                function.name,
                change(function.slots_before, function.slots_after),
                latency_change(function),
                work_change(function),
                proofs(function) if function.rewrites else Text(function.kept_reason, style="dim"),
                kernel_word(record) if first else "",
                f"{subject.seconds:.1f} s{'*' if subject.is_remembered else ''}" if first else "",
            )
        total_before += record.slots_before
        total_after += record.slots_after
    table.add_section()
    table.add_row("all", "", change(total_before, total_after), "", "", "", "", "")
    return table


def latency_change(function: FunctionRecord) -> str:
    before, after = nanoseconds(function.latency_before), nanoseconds(function.latency_after)
    return before if function.latency_before == function.latency_after else f"{before} → {after}"


def work_change(function: FunctionRecord) -> str:
    if not function.work_before or function.work_before == function.work_after:
        return str(function.work_before or "")
    return f"{function.work_before} → {function.work_after}"


def comparison_table(comparison: Comparison) -> RenderableType:
    """A line for each function whose figures differ between two reports, and the sums over all that are in both."""
    table = Table(box=None, pad_edge=False)
    for heading in ("object", "function", "slots", "latency (ns, estimated)", "verifier's work"):
        table.add_column(heading, justify="left" if heading in ("object", "function") else "right")
    for entry in comparison.changes:
        if entry.differs:
            times = "{} → {}".format(*(nanoseconds(figure) for figure in entry.figures("latency")))
            table.add_row(
                entry.output, entry.new.name, change(*entry.figures("size")), times, change(*entry.figures("work"))
            )
    table.add_section()
    sums = {
        metric: tuple(sum(entry.figures(metric)[side] for entry in comparison.changes) for side in (0, 1))
        for metric in ("size", "latency", "work")
    }
    times = "{} → {}".format(*(nanoseconds(figure) for figure in sums["latency"]))
    table.add_row("all", f"{len(comparison.changes)} functions", change(*sums["size"]), times, change(*sums["work"]))
    lines = [f"only in the old report: {name}" for name in comparison.gone]
    lines += [f"only in the new report: {name}" for name in comparison.added]
    return Group(table, *(Text(line, style="dim") for line in lines))


def kernel_word(record: Record) -> str:
    return record.gate or "not asked"


def rewrites(function: FunctionRecord) -> RenderableType:
    """Every rewrite of the function with its windows beside each other."""
    table = Table(title=f"{function.name} ({function.section})", title_justify="left", box=None, pad_edge=False)
    for heading in ("#", "before", "after", "slots", "proposed by", "why", "proved by"):
        table.add_column(heading)
    for rewrite in function.rewrites:
        table.add_row(
            str(rewrite.number),
            Text(rewrite.before),
            Text(rewrite.after or "(nothing)"),
            f"{-rewrite.slots_saved:+d}",
            rewrite.proposer,
            rewrite.why,
            rewrite.method,
        )
    return table


def reasons(record: Record) -> RenderableType:
    """What was left alone, and what the prover said of the proposals that came to nothing."""
    lines = [f"{count} times: {reason}" for reason, count in record.counters.items()]
    for function in record.functions:
        told = {**function.verdicts, **function.refusals}
        if told:
            lines.append(f"{function.name}: " + ", ".join(f"{count} {what}" for what, count in told.items()))
        lines += [f"{function.name}: {count} times unknown: {why}" for why, count in function.unknowns.items()]
    return Group(*(Text(line, style="dim") for line in lines))

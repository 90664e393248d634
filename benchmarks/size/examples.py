"""Code size of the five examples: slots of clang-19's objects and of ours, function by function.

    python -m benchmarks.size.examples --date 2026-01-31

Two tables at -mcpu=v3 with default settings (goal balanced): against the smallest of -O1, -O2, -O3, -Os and against
-O2.  Where the running kernel may be asked, every output is loaded into it, and everything is made a second time with
K2_GATE=kernel.  The exit code is 1 when a claim of `shortfalls` does not hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.kernel_word import ROOT, kernel_words
from benchmarks.provenance import provenance, replace_section
from benchmarks.size.objects import COMPILER, function_slots
from benchmarks.size.objects import FLAGS as LEVELS
from object_stage import optimise_in_child
from synth.settings import Settings
from verifier_model.kernel.libbpf import is_available

RESULTS: Final = ROOT / "benchmarks" / "results" / "size-examples.json"
DOCUMENT: Final = ROOT / "docs" / "results.md"
EXAMPLE_OPTIONS: Final = ("-I", str(ROOT / "examples" / "include"))
LEAST_PERCENT: Final = 8.0


@dataclass(frozen=True, slots=True)
class Word:
    """The kernel's word on a program: "accepted" or the refusal; instructions the verifier processed, if accepted."""

    verdict: str
    verified: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One function: slots of clang's, of ours by default, and of ours with K2_GATE=kernel (None: not made).

    The words are None where nothing was asked, and for subprograms, which are verified with their callers.
    """

    source: str
    level: str
    function: str
    before: int
    after: int
    gated: int | None = None
    clang_word: Word | None = None
    default_word: Word | None = None
    gated_word: Word | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under one heading; `baseline` says which of clang's levels they stand against."""

    title: str
    baseline: str
    rows: tuple[Row, ...]

    @property
    def before(self) -> int:
        return sum(row.before for row in self.rows)

    @property
    def after(self) -> int:
        return sum(row.after for row in self.rows)


def percent(before: int, after: int) -> float:
    """How much smaller, in percent of before."""
    return 100 * (before - after) / before if before else 0.0


def shortfalls(table: Table, least: float = 0.0) -> list[str]:
    """Every claim that the table does not bear out: growth, more work for the verifier, a refusal, too small a gain."""
    found = []
    for row in table.rows:
        where = f"{row.source} {row.level} {row.function}"
        for setting, slots, word in (("", row.after, row.default_word), (" gated", row.gated, row.gated_word)):
            if slots is not None and slots > row.before:
                found.append(f"{where}{setting}: grows from {row.before} to {slots} slots")
            if word is not None:
                found += [f"{where}{setting}: {line}" for line in _worse(row.clang_word, word)]
    if percent(table.before, table.after) < least:
        found.append(f"{table.title}: {percent(table.before, table.after):.1f} % is less than {least} %")
    return found


def _worse(theirs: Word | None, ours: Word) -> Iterator[str]:
    if theirs is None or theirs.verified is None:
        return
    if ours.verified is None:
        yield ours.verdict
    elif ours.verified > theirs.verified:
        yield f"the verifier's work grows from {theirs.verified} to {ours.verified}"


def compile_source(source: Path, level: str, options: Sequence[str]) -> bytes:
    """clang-19's object at v3; raises CalledProcessError when the source does not compile."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "x.o"
        command = [COMPILER, "-target", "bpf", level, "-g", "-mcpu=v3", *options, "-c", str(source), "-o", str(output)]
        subprocess.run(command, check=True, timeout=120)
        return output.read_bytes()


def measure(source: Path, options: Sequence[str], levels: Sequence[str], ask: bool) -> tuple[Row, ...]:
    """The rows of one source, against the smallest object of those levels (the first of equals)."""
    objects = [(level, compile_source(source, level, options)) for level in levels]
    level, before = min(objects, key=lambda item: sum(function_slots(item[1]).values()))
    old, after = function_slots(before), optimise_in_child(before, Settings()).data
    new = function_slots(after)
    if not ask:
        return tuple(Row(source.name, level, name, slots, new[name]) for name, slots in old.items())
    gated = optimise_in_child(before, Settings(gate="kernel")).data
    newest = function_slots(gated)
    words = [_words(data) for data in (before, after, gated)]
    return tuple(
        Row(source.name, level, name, slots, new[name], newest[name], *(word.get(name) for word in words))
        for name, slots in old.items()
    )


def _words(data: bytes) -> dict[str, Word]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.o"
        path.write_bytes(data)
        return {
            name: Word("accepted", word.verified_insns) if word.accepted else Word(f"refused: {word.reason}")
            for name, word in kernel_words(path).items()
        }


def example_table(levels: Sequence[str], ask: bool) -> Table:
    """The five examples."""
    rows = [measure(source, EXAMPLE_OPTIONS, levels, ask) for source in sorted((ROOT / "examples").glob("*.bpf.c"))]
    return Table("Examples", " ".join(levels), tuple(row for group in rows for row in group))


def markdown(tables: Sequence[Table], source: dict[str, object]) -> str:
    """The tables as they stand in docs/results.md."""
    compilers = source["compilers"]
    assert isinstance(compilers, dict)
    lines = [
        f"Measured {source['date']} with {compilers[COMPILER]}, z3 {source['z3']}, kernel {source['kernel']} on "
        f"{source['machine']} (commit {source['commit']}). Slots are 8-byte instructions. *Gated* is ours with "
        "`K2_GATE=kernel`; *verifier* counts the instructions that the running kernel's verifier processed for clang's "
        "object → ours → ours gated (a subprogram counts within its callers)."
    ]
    for table in tables:
        best = "the smallest of " if " " in table.baseline else ""
        lines += ["", f"### {table.title}, against {best}{table.baseline}", ""]
        lines.append("| source | level | function | clang | ours | smaller | gated | verifier |")
        lines.append("|---|---|---|--:|--:|--:|--:|---|")
        for row in table.rows:
            lines.append(
                f"| {row.source} | {row.level} | {row.function} | {row.before} | {row.after} "
                f"| {percent(row.before, row.after):.1f} % | {'' if row.gated is None else row.gated} "
                f"| {_verifier(row)} |"
            )
        gated = [row.gated for row in table.rows if row.gated is not None]
        lines.append(
            f"| **total** | | | **{table.before}** | **{table.after}** "
            f"| **{percent(table.before, table.after):.1f} %** | {f'**{sum(gated)}**' if gated else ''} | |"
        )
    return "\n".join(lines)


def _verifier(row: Row) -> str:
    words = [word for word in (row.clang_word, row.default_word, row.gated_word) if word is not None]
    return " → ".join(word.verdict if word.verified is None else str(word.verified) for word in words)


@click.command()
@click.option("--date", required=True, help="the day of the measurement, recorded beside the numbers")
def main(date: str) -> None:
    """Measure, print, keep the numbers; exit 1 when a claim fails."""
    ask = is_available()
    tables = [example_table(LEVELS, ask), example_table(("-O2",), ask)]
    source = provenance(date, [COMPILER])
    text = markdown(tables, source)
    click.echo(text)
    failed = [
        line for number, table in enumerate(tables) for line in shortfalls(table, 0.0 if number else LEAST_PERCENT)
    ]
    for line in failed:
        click.echo(line, err=True)
    RESULTS.write_text(json.dumps({**source, "tables": [asdict(table) for table in tables]}, indent=1) + "\n")
    replace_section(DOCUMENT, "size-examples", text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

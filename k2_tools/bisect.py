"""`k2 bisect -- COMMAND`: which rewrite makes COMMAND fail?

COMMAND builds with k2-clang and then tries what it built; it is run again and again, with more or less of our work
switched off by the very variables a user would set (K2_TIERS, K2_SKIP_FILES, K2_LAST).  Everything else stays as it is,
so the first rewrites of an object are the same however many may follow.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from synth.record import Record, RewriteRecord, from_value

HANDS_OFF: Final = ("K2_FIRST", "K2_LAST", "K2_TIERS", "K2_DISABLE")  # the search sets these, or they would defeat it


class BisectError(Exception):
    """There is nothing to find; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """The first failing rewrite: its object, its function and the rewrites that came with it, one where all is well."""

    output: str
    function: str
    number: int
    rewrites: tuple[RewriteRecord, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the command: did it succeed, and what was done to the objects it had compiled, by their names?"""

    is_good: bool
    records: Mapping[str, Record]


Runner = Callable[[Mapping[str, str]], Trial]
"""Runs the command with these variables over its own."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def bisect(command: tuple[str, ...]) -> None:
    """Find the rewrite that makes COMMAND fail; COMMAND must build anew each time, with k2-clang."""
    try:
        found = search(lambda variables: run(command, variables), lambda line: click.echo(line, err=True))
    except BisectError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{found.output}: {found.function}: rewrite {found.number} is the first that makes the command fail")
    for rewrite in found.rewrites:
        click.echo(f"  proposed by {rewrite.proposer}: {rewrite.why}; proved by {rewrite.method}")
        click.echo("".join(f"  - {line}\n" for line in rewrite.before.splitlines()), nl=False)
        click.echo("".join(f"  + {line}\n" for line in rewrite.after.splitlines()), nl=False)
    click.echo(f"to go without it: K2_SKIP_FUNCS={found.function}")


def run(command: Sequence[str], variables: Mapping[str, str]) -> Trial:
    """Run the command once, its output on our standard error, and read what our compilers reported."""
    with tempfile.TemporaryDirectory(prefix="k2-bisect-") as folder:
        report = Path(folder) / "report"
        plain = {name: value for name, value in os.environ.items() if name not in HANDS_OFF}
        try:
            done = subprocess.run(
                command, env={**plain, **variables, "K2_REPORT": str(report)}, stdout=sys.stderr, check=False
            )
        except OSError as error:
            raise BisectError(f"{command[0]}: {error.strerror}") from None
        lines = report.read_text().splitlines() if report.exists() else []
    entries = [json.loads(line) for line in lines]
    return Trial(done.returncode == 0, {entry["object"]: from_value(entry["record"]) for entry in entries})


def search(trial: Runner, say: Callable[[str], object]) -> Found:
    """The first rewrite with which the command fails; raises BisectError where that is not to be found."""
    say("without any rewrite")
    if not trial({"K2_TIERS": "none"}).is_good:
        raise BisectError("the command fails without any rewrite too")
    say("with all of them")
    whole = trial({})
    if whole.is_good:
        raise BisectError("the command does not fail")
    numbers = {name: _last(record) for name, record in whole.records.items() if _last(record)}
    if not numbers:
        raise BisectError("the command had k2-clang rewrite nothing: it must compile anew each time, without a cache")
    names = list(numbers)
    output = names[_first_bad(len(names), lambda count: _is_good_with(trial, names, names[:count], say)) - 1]
    if len(names) > 1 and _is_good_with(trial, names, [output], say):
        raise BisectError(f"{output} is the object with which it begins to fail, but alone it does not fail")
    skipped = _skipping(name for name in names if name != output)
    records: dict[int, Record] = {0: Record(())}

    def is_good(count: int) -> bool:
        say(f"{output}: the first {count} of {numbers[output]} rewrites")
        told = trial({**skipped, "K2_LAST": str(count)})
        records[count] = told.records.get(output, Record(()))
        return told.is_good

    number = _first_bad(numbers[output], is_good)
    for count in (number, number - 1):
        if count not in records:
            records[count] = trial({**skipped, "K2_LAST": str(count)}).records.get(output, Record(()))
    return _difference(output, number, records[number - 1], records[number])


def _first_bad(count: int, is_good: Callable[[int], bool]) -> int:
    """The smallest n of 1..count that is not good, where 0 is good and `count` is not."""
    low, high = 1, count
    while low < high:
        middle = (low + high) // 2
        if is_good(middle):
            low = middle + 1
        else:
            high = middle
    return low


def _is_good_with(trial: Runner, names: Sequence[str], allowed: Sequence[str], say: Callable[[str], object]) -> bool:
    say(f"with the rewrites of {len(allowed)} of {len(names)} objects")
    return trial(_skipping(name for name in names if name not in allowed)).is_good


def _skipping(names: Iterable[str]) -> dict[str, str]:
    """The variables that leave these objects alone; a space or comma in a name can be said as a question mark only."""
    patterns = [glob.escape(name).replace(" ", "?").replace(",", "?") for name in names]
    return {"K2_SKIP_FILES": " ".join([*os.environ.get("K2_SKIP_FILES", "").split(), *patterns])} if patterns else {}


def _last(record: Record) -> int:
    return max((rewrite.number for function in record.functions for rewrite in function.rewrites), default=0)


def _difference(output: str, number: int, before: Record, after: Record) -> Found:
    """What the record `after` has that `before` has not."""
    known = [(function.name, _key(rewrite)) for function in before.functions for rewrite in function.rewrites]
    found: list[tuple[str, RewriteRecord]] = []
    for function in after.functions:
        for rewrite in function.rewrites:
            if (function.name, _key(rewrite)) in known:
                known.remove((function.name, _key(rewrite)))
            else:
                found.append((function.name, rewrite))
    if not found:
        raise BisectError(f"{output}: the command fails with {number} rewrites, but the last of them is not to be told")
    return Found(output, found[0][0], number, tuple(rewrite for _, rewrite in found))


def _key(rewrite: RewriteRecord) -> tuple[str, str, str]:
    return rewrite.proposer, rewrite.before, rewrite.after

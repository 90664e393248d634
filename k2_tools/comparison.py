"""Two reports of K2_REPORT beside each other, and the gates of continuous integration on their differences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from synth.record import FunctionRecord, Record, from_value

TOTAL: Final = "total-"
METRICS: Final = {"size": "slots_after", "latency": "latency_after", "work": "work_after"}
UNITS: Final = {"size": "slots", "latency": "ps", "work": "instructions"}
_GATE: Final = re.compile(r"(?P<metric>[a-z-]+):\+(?P<number>\d+(?:\.\d+)?)(?P<percent>%?)")
_EXAMPLES: Final = "size:+0, latency:+2%, work:+100, or total-size:+0"


class ReportError(Exception):
    """A report or a gate cannot be read; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Gate:
    """How much a metric may grow: of each function, or, `is_total`, summed over all functions that both reports have.

    `most` is a number in the metric's unit (slots, picoseconds, instructions processed) or, `is_percent`, a percentage
    of the old figure.
    """

    metric: str
    most: float
    is_percent: bool
    is_total: bool

    def allows(self, old: int, new: int) -> bool:
        return new - old <= (old * self.most / 100 if self.is_percent else self.most)

    def __str__(self) -> str:
        return f"{TOTAL if self.is_total else ''}{self.metric}:+{self.most:g}{'%' if self.is_percent else ''}"


@dataclass(frozen=True, slots=True)
class Change:
    """One function in both reports."""

    output: str
    old: FunctionRecord
    new: FunctionRecord

    def figures(self, metric: str) -> tuple[int, int]:
        return getattr(self.old, METRICS[metric]), getattr(self.new, METRICS[metric])

    @property
    def differs(self) -> bool:
        return any(self.figures(metric)[0] != self.figures(metric)[1] for metric in METRICS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Functions in both, sorted by object and name, and those in one alone as "object: function"."""

    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]


def parse_gate(text: str) -> Gate:
    """A gate as `size:+0`; raises ReportError."""
    match = _GATE.fullmatch(text)
    metric = match["metric"].removeprefix(TOTAL) if match else ""
    if match is None or metric not in METRICS:
        raise ReportError(f"{text!r} is no gate: expected one as {_EXAMPLES}")
    return Gate(metric, float(match["number"]), bool(match["percent"]), match["metric"].startswith(TOTAL))


def read_report(path: Path) -> dict[str, Record]:
    """The records of a file that K2_REPORT wrote, by object; of an object built twice, the last. Raises ReportError."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from None
    return dict(_entry(f"{path}:{number}", line) for number, line in enumerate(lines, 1))


def _entry(where: str, line: str) -> tuple[str, Record]:
    try:
        value = json.loads(line)
        return str(value["object"]), from_value(value["record"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{where}: not a line of K2_REPORT ({type(error).__name__}: {error})") from None


def compare(old: Mapping[str, Record], new: Mapping[str, Record]) -> Comparison:
    """The two reports function by function."""
    first, second = _functions(old), _functions(new)
    both = sorted(first.keys() & second.keys())
    return Comparison(
        tuple(Change(key[0], first[key], second[key]) for key in both),
        tuple(f"{output}: {name}" for output, _, name in sorted(first.keys() - second.keys())),
        tuple(f"{output}: {name}" for output, _, name in sorted(second.keys() - first.keys())),
    )


def _functions(records: Mapping[str, Record]) -> dict[tuple[str, str, str], FunctionRecord]:
    return {(name, f.section, f.name): f for name, record in records.items() for f in record.functions}


def violations(comparison: Comparison, gates: Sequence[Gate]) -> Iterator[str]:
    """A sentence for each gate that a function, or the sum, does not pass.

    A figure that one report lacks (0: nobody asked, or the model does not accept the function) passes no gate on it
    unless both lack it.
    """
    for gate in gates:
        pairs = [(change, *change.figures(gate.metric)) for change in comparison.changes]
        unit = UNITS[gate.metric]
        if gate.is_total:
            old, new = sum(pair[1] for pair in pairs), sum(pair[2] for pair in pairs)
            if not gate.allows(old, new):
                yield f"all functions: {gate.metric} {old} -> {new} {unit} ({gate} is allowed)"
            continue
        for change, old, new in pairs:
            where = f"{change.output}: {change.new.name}: {gate.metric}"
            if bool(old) != bool(new):
                yield f"{where} is in one report alone ({old} -> {new} {unit})"
            elif not gate.allows(old, new):
                yield f"{where} {old} -> {new} {unit} ({gate} is allowed)"

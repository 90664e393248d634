"""The HTML page: before and after side by side, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from k2_tools.alignment import align
from k2_tools.subject import Subject
from k2_tools.tables import kernel_word, nanoseconds
from synth.record import FunctionRecord


def render(subjects: Sequence[Subject]) -> str:
    """The page about `subjects`, in their order."""
    environment = Environment(
        loader=PackageLoader("k2_tools"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("report.html").render(
        subjects=subjects,
        total_before=sum(subject.record.slots_before for subject in subjects),
        total_after=sum(subject.record.slots_after for subject in subjects),
        align=align,
        anchor=_anchor,
        kernel_word=kernel_word,
        nanoseconds=nanoseconds,
        percent=_percent,
        told=_told,
    )


def _anchor(subject: Subject, function: FunctionRecord) -> str:
    return f"{subject.name}:{function.name}".replace(" ", "-")


def _percent(function: FunctionRecord) -> str:
    if function.slots_before == 0:
        return ""
    return f"{100 * (function.slots_after - function.slots_before) / function.slots_before:+.1f} %"


def _told(function: FunctionRecord) -> list[tuple[str, int]]:
    unknown = [(f"unknown: {why}", count) for why, count in function.unknowns.items()]
    return [*function.verdicts.items(), *unknown, *function.refusals.items()]

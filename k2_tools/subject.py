"""What the commands show: an object, what became of it, and how long that took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import click

from object_stage import Outcome, optimise_in_child
from processes import ChildFailed
from synth.record import Record
from synth.settings import Settings


@dataclass(frozen=True, slots=True)
class Subject:
    """One optimised object: its name for the reader, its record, and the seconds it took.

    `is_remembered`: an earlier run found all this, and nothing that it depends on has changed since.
    """

    name: str
    record: Record
    seconds: float
    is_remembered: bool = False


def optimised(path: Path, settings: Settings) -> tuple[Outcome, Subject]:
    """Optimise the bytes of the file; a problem of ours ends the command with its sentence."""
    start = time.monotonic()
    try:
        outcome = optimise_in_child(path.read_bytes(), settings)
    except ChildFailed as error:
        raise click.ClickException(f"{path}: {error}") from None
    return outcome, Subject(str(path), outcome.record, time.monotonic() - start, outcome.is_remembered)

"""What a long campaign has done so far, on disk, so that it can be stopped and goes on where it was.

A ledger belongs to one campaign and its settings.  `commits` lists every state of the sources that took part, so that
kept figures say what they are about; after a change that matters a campaign starts afresh.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks.provenance import first_line
from verifier_model.kernel.packages import cache_folder

ROOT: Final = Path(__file__).parents[2]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The file of one campaign."""

    path: Path

    @staticmethod
    def of(campaign: str, *settings: object, fresh: bool = False) -> Ledger:
        folder = cache_folder() / "agreement"
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / f"{'-'.join(str(word) for word in (campaign, *settings))}.json")
        if fresh:
            ledger.path.unlink(missing_ok=True)
        return ledger

    def read(self) -> dict[str, Any]:
        """The last saved value, {} at the start."""
        try:
            value = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def save(self, value: dict[str, Any]) -> None:
        """Replace the value in one step, with the present commit added to `commits`."""
        commits = dict.fromkeys(
            [*self.read().get("commits", []), first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])]
        )
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({**value, "commits": list(commits)}))
        os.replace(new, self.path)  # noqa: PTH105

    @property
    def commits(self) -> str:
        """The commits that took part, as figures quote them."""
        known = self.read().get("commits", [])
        return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}" if known else ""


def to_value(tally: Any) -> dict[str, Any]:
    """A tally (a dataclass of numbers, lists, sets and counters) as JSON-ready values."""
    plain = {field.name: getattr(tally, field.name) for field in fields(tally)}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in plain.items()}


def from_value(kind: type[T], value: dict[str, Any]) -> T:
    """The tally that `to_value` took apart."""
    made = kind(**value)
    for name, content in value.items():
        if isinstance(content, dict):
            setattr(made, name, Counter(content))
    return made

"""What is known of the function behind a form: its facts, its dominators, and what is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from synth.webs.form import Form
from verifier_model.bpf.unit import Function, Unit
from verifier_model.facts import Facts


class Place(NamedTuple):
    """A line of a form."""

    label: str
    at: int


@dataclass(frozen=True, slots=True)
class Setting:
    """The function that the form was made of."""

    function: Function
    facts: Facts
    unit: Unit
    dominators: dict[str, frozenset[str]]

    def dominates(self, first: Place, second: Place) -> bool:
        """Does every way to the second line pass the first?"""
        if first.label == second.label:
            return first.at < second.at
        return first.label in self.dominators[second.label]


Family = Callable[[Form, Setting], Iterator[Form]]
"""Forms that may get by with fewer slots than the given one."""

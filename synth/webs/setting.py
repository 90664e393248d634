"""What is known of the function behind a form: its facts, its dominators, and what is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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

    def of(self, form: Form) -> Setting:
        """The setting for a form that may have other blocks."""
        return replace(self, dominators=dominators(form.edges, form.pieces[0].label))

    def dominates(self, first: Place, second: Place) -> bool:
        """Does every way to the second line pass the first?"""
        if first.label == second.label:
            return first.at < second.at
        return first.label in self.dominators[second.label]


def dominators(edges: Mapping[str, tuple[str, ...]], entry: str) -> dict[str, frozenset[str]]:
    """For each block those that every way to it passes, itself included."""
    before: dict[str, list[str]] = {name: [] for name in edges}
    for name, following in edges.items():
        for to in following:
            before[to].append(name)
    everything = frozenset(edges)
    found = dict.fromkeys(edges, everything)
    found[entry] = frozenset({entry})
    changed = True
    while changed:
        changed = False
        for name in edges:
            if name == entry:
                continue
            common = frozenset.intersection(*(found[other] for other in before[name])) if before[name] else everything
            if common | {name} != found[name]:
                found[name] = common | {name}
                changed = True
    return found


Family = Callable[[Form, Setting], Iterator[Form]]
"""Forms that may get by with fewer slots than the given one."""

"""The check for a set of kernels: each accepts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.check import Rejection, Report, check
from verifier_model.checker.knowledge import Knowledge, knowledge, knows_no_more
from verifier_model.contracts.kernels import Profile

_REACHES = tuple(range(8, 257, 8))  # bytes of a value; values of which code reads more are not looked into
_UNMODELLED = "what programs without privileges may do is not modelled"


def check_kernels(unit: Unit, function: Function, profiles: Sequence[Profile]) -> dict[Profile, Report]:
    """The report of each kernel, in the order given."""
    known: dict[Knowledge, Report] = {}
    return {profile: _checked(unit, function, profile, known)[1] for profile in profiles}


def _checked(
    unit: Unit, function: Function, profile: Profile, known: dict[Knowledge, Report]
) -> tuple[Knowledge, Report]:
    """What the profile's verifier works out, and its report, from `known` where that has been explored before."""
    knows = knowledge(profile.release, profile.strict_alignment)
    if not profile.privileged:
        return knows, Report(False, Rejection(function.name, None, _UNMODELLED), 0)
    if knows not in known:
        known[knows] = check(unit, function, knows)
    return knows, known[knows]


@dataclass(frozen=True, slots=True)
class Guard:
    """A verifier that accepts a function, and how many instructions it processes for that, program by program, with
    frozen data that may be anything and then with what the object says.

    `as_type`: what programs are loaded as whose sections do not say it, "" for what they are taken to be.  `reach`: see
    `reaching`.
    """

    knows: Knowledge
    loads: tuple[int, ...]
    as_type: str = ""
    reach: int = 0

    def report(self, unit: Unit, function: Function) -> Report:
        """What this verifier says of a changed function."""
        unit = reaching(loaded_as(unit.with_function(function), self.as_type), self.reach)
        return check(unit, unit.function(function.name), self.knows)

    def allows(self, report: Report) -> bool:
        """Is the function accepted, and does no program that reaches it cost the verifier more than it did?"""
        now = report.loads + report.written_loads
        if not report.accepted or len(now) != len(self.loads):
            return False
        return all(new <= old for new, old in zip(now, self.loads, strict=True))


def guards(unit: Unit, function: Function, profiles: Sequence[Profile]) -> tuple[Guard, ...] | Report:
    """Those by whose word the acceptance of the others is kept, too; the last refusal when no profile accepts.

    A verifier that works out more accepts whatever one that works out less does.  So among the profiles with equal
    alignment one that accepts stands for all later ones that know as much, as long as a changed function needs no other
    helper and no newer instruction; one that lacks something (stable series got it late) is asked by itself.  A program
    that may be loaded as other types, too, is guarded as each that is accepted.
    """
    found = _guards(unit, function, profiles)
    if isinstance(found, Report):
        return found
    others: list[Guard] = []
    for name in other_types(unit):
        there = loaded_as(unit, name)
        guarded = _guards(there, there.function(function.name), profiles)
        if not isinstance(guarded, Report):
            others += [replace(guard, as_type=name) for guard in guarded]
    return found + tuple(others)


def reaching(unit: Unit, reach: int) -> Unit:
    """The unit where values of unknown size in maps of other objects have `reach` bytes.

    A larger value never turns an accepted program away.  So where clang's code is accepted with the least reach that
    does it, the linked one was accepted for at least as much, and what is accepted with that least reach still is.
    """
    assumed = {
        name: replace(definition, value_size=reach, has_assumed_value=True)
        for name, definition in unit.maps.items()
        if definition.has_unknown_value
    }
    return replace(unit, maps={**unit.maps, **assumed}) if assumed and reach else unit


def other_types(unit: Unit) -> tuple[str, ...]:
    """What programs of the unit may be loaded as besides, in the order of their functions."""
    return tuple(dict.fromkeys(name for function in unit.functions for name in function.also_types))


def loaded_as(unit: Unit, program_type: str) -> Unit:
    """The unit where every program that may be of that type is."""
    functions = tuple(
        replace(function, program_type=program_type) if program_type in function.also_types else function
        for function in unit.functions
    )
    return replace(unit, functions=functions)


def _guards(unit: Unit, function: Function, profiles: Sequence[Profile]) -> tuple[Guard, ...] | Report:
    found = _guards_at(unit, function, profiles)
    if not any(definition.has_unknown_value for definition in unit.maps.values()):
        return found
    for reach in _REACHES:
        if not isinstance(found, Report):
            break
        found = _guards_at(reaching(unit, reach), function, profiles)
        if not isinstance(found, Report):
            found = tuple(replace(guard, reach=reach) for guard in found)
    return found


def _guards_at(unit: Unit, function: Function, profiles: Sequence[Profile]) -> tuple[Guard, ...] | Report:
    found: list[Guard] = []
    refusal = Report(False, Rejection(function.name, None, "no kernel is named"), 0)
    tried: dict[Knowledge, Report] = {}
    for strict in (False, True):
        for profile in sorted(profiles):
            if profile.strict_alignment is not strict:
                continue
            release = knowledge(profile.release, strict)
            if any(guard.knows.strict_alignment is strict and knows_no_more(guard.knows, release) for guard in found):
                continue
            knows, report = _checked(unit, function, profile, tried)
            if report.accepted:
                found.append(Guard(knows, report.loads + report.written_loads))
                continue
            refusal = report
    return tuple(found) or refusal

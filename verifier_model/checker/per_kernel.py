"""The check for a set of kernels: each accepts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.check import Rejection, Report, check
from verifier_model.checker.knowledge import Knowledge, knowledge
from verifier_model.contracts.kernels import Profile

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
    """A verifier that accepts a function, and how many instructions it processes for that, program by program."""

    knows: Knowledge
    loads: tuple[int, ...]

    def allows(self, report: Report) -> bool:
        """Is the function accepted, and does no program that reaches it cost the verifier more than it did?"""
        if not report.accepted or len(report.loads) != len(self.loads):
            return False
        return all(now <= then for now, then in zip(report.loads, self.loads, strict=True))


def guards(unit: Unit, function: Function, profiles: Sequence[Profile]) -> tuple[Guard, ...] | Report:
    """Those by whose word the acceptance of the others is kept, too; the last refusal when no profile accepts.

    A verifier that works out more accepts whatever one that works out less does.  So among the profiles with equal
    alignment the first to accept stands for all that accept, as long as a changed function needs no other helper and no
    newer instruction.
    """
    found: list[Guard] = []
    refusal = Report(False, Rejection(function.name, None, "no kernel is named"), 0)
    tried: dict[Knowledge, Report] = {}
    for strict in (False, True):
        for profile in sorted(profiles):
            if profile.strict_alignment is not strict:
                continue
            knows, report = _checked(unit, function, profile, tried)
            if report.accepted:
                found.append(Guard(knows, report.loads))
                break
            refusal = report
    return tuple(found) or refusal

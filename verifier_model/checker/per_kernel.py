"""The check for a set of kernels: each accepts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.allowance import helper_problem, insn_problem
from verifier_model.checker.callgraph import followed, roots_of
from verifier_model.checker.calls import helper_of
from verifier_model.checker.check import Rejection, Report, check
from verifier_model.checker.knowledge import Knowledge, knowledge
from verifier_model.contracts.kernels import Profile

_UNMODELLED = "what programs without privileges may do is not modelled"


def check_kernels(unit: Unit, function: Function, profiles: Sequence[Profile]) -> dict[Profile, Report]:
    """The report of each kernel, in the order given.  Kernels that cannot differ here are asked once."""
    known: dict[Knowledge, Report] = {}
    return {profile: _checked(unit, function, profile, known)[1] for profile in profiles}


def _checked(
    unit: Unit, function: Function, profile: Profile, known: dict[Knowledge, Report]
) -> tuple[Knowledge, Report]:
    """What the profile's verifier works out, and its report, from `known` where that has been explored before."""
    knows = knowledge(profile.release, profile.strict_alignment)
    if not profile.privileged:
        return knows, Report(False, Rejection(function.name, None, _UNMODELLED), 0)
    # The release itself matters only where something is missing from it: all others share one exploration.
    if not _lacks(unit, function, profile):
        knows = replace(knows, release=None)
    if knows not in known:
        known[knows] = check(unit, function, knows)
    return knows, known[knows]


@dataclass(frozen=True, slots=True)
class Guard:
    """A verifier that accepts a function, and how many instructions it processes for that."""

    knows: Knowledge
    processed: int


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
                found.append(Guard(knows, report.processed))
                break
            refusal = report
    return tuple(found) or refusal


def _lacks(unit: Unit, function: Function, profile: Profile) -> bool:
    """Is there an instruction or a helper that this kernel does not have, reachable or not?"""
    for root in roots_of(unit, function):
        for part in followed(unit, root):
            if insn_problem(part, profile.release) is not None:
                return True
            if any(_is_missing(unit, root, insn, profile) for _, insn in part.insns()):
                return True
    return False


def _is_missing(unit: Unit, root: Function, insn: Insn, profile: Profile) -> bool:
    helper = helper_of(insn)
    return helper is not None and helper_problem(unit, root, helper, profile.release) is not None

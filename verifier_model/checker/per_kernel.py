"""The check for a set of kernels: each accepts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    found: dict[Profile, Report] = {}
    known: dict[Knowledge, Report] = {}
    for profile in profiles:
        if not profile.privileged:
            found[profile] = Report(False, Rejection(function.name, None, _UNMODELLED), 0)
            continue
        knows = knowledge(profile.release)
        # The release itself matters only where something is missing from it: all others share one exploration.
        shared = knows if _lacks(unit, function, profile) else replace(knows, release=None)
        if shared not in known:
            known[shared] = check(unit, function, shared)
        found[profile] = known[shared]
    return found


def weakest_acceptance(
    unit: Unit, function: Function, profiles: Sequence[Profile]
) -> tuple[Knowledge, Report] | Report:
    """The verifier that works out least of those that accept the function, with its report; the last refusal otherwise.

    A verifier that works out more accepts whatever one that works out less does, so a function changed under it is
    fine for the others, too, as long as it needs no other helper and no newer instruction.
    """
    report = Report(False, Rejection(function.name, None, "no kernel is named"), 0)
    tried: list[Knowledge] = []
    for profile in sorted(profiles):
        knows = knowledge(profile.release)
        shared = knows if _lacks(unit, function, profile) else replace(knows, release=None)
        if not profile.privileged or shared in tried:
            continue
        tried.append(shared)
        report = check(unit, function, shared)
        if report.accepted:
            return shared, report
    return report


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

"""What the verifier of one kernel works out by itself, as rows of features.

A number that the model bounds and the kernel does not is a program accepted here and refused there, so the acceptance
check derives nothing that its kernel does not derive.  Facts need no such modesty: they follow from semantics alone.
Sources: kernel/bpf/verifier.c of the releases named below.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from verifier_model.contracts.kernels import Release


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One kernel's verifier; every field that is True lets it accept more.

    `linked_narrow_moves`: what a branch teaches about a number holds for its 32-bit copy, too.
    `store_immediate`: a store-immediate to the stack leaves a known number.
    `middle_entries`: a loop may be entered in its middle by falling through (check_cfg).
    `uninitialised_stack`: stack that was never written may be read as numbers.
    `unallocated_stack`: also below everything that was written so far.
    `beyond_end`: a packet pointer that was found at or behind the packet's end decides later comparisons with it.
    `ranges_decide`: branches are decided by ranges on both sides, "equal" and "differs" by ranges, too; both operands
    learn from each other, and 32-bit branches leave the 64-bit bounds alone.
    `stack_parts`: parts of a spilled number, and numbers spilled narrowly, keep what is known of them.
    `locked_calls`: static subprograms may be called while a spin lock is held.
    `reads_keep_stack`: what a helper only reads of the stack stays known.
    `release`: the kernel itself, for what it has and others lack (`allowance`); None: what some kernel has.
    `strict_alignment`: the other way round: memory is read and written aligned only (check_ptr_alignment).
    """

    linked_narrow_moves: bool = False
    store_immediate: bool = False
    middle_entries: bool = False
    uninitialised_stack: bool = False
    unallocated_stack: bool = False
    beyond_end: bool = False
    ranges_decide: bool = False
    stack_parts: bool = False
    locked_calls: bool = False
    reads_keep_stack: bool = False
    release: Release | None = None
    strict_alignment: bool = False


# What all kernels from 5.10 on have in common: whoever is accepted with it is accepted by each.
EVERY_KERNEL: Final = Knowledge()
_SINCE: Final[tuple[tuple[str, Release], ...]] = (
    ("linked_narrow_moves", (6, 10, 0)),
    ("store_immediate", (6, 4, 0)),
    ("middle_entries", (6, 7, 0)),
    ("uninitialised_stack", (6, 8, 0)),
    ("unallocated_stack", (6, 8, 0)),
    ("beyond_end", (5, 11, 0)),
    ("ranges_decide", (6, 8, 0)),
    ("stack_parts", (6, 9, 0)),
    ("locked_calls", (6, 9, 0)),
    ("reads_keep_stack", (6, 14, 0)),
)
# Stable series got some of it in a later point release.
# 6.1.192 was asked, and reads what was never written; since when is not known.  Kernels from 6.3 on, and 5.10.262, read
# it above the lowest slot that some path wrote (allocated_stack), which depends on the states that they keep: they
# count as if they did not.
_STABLE: Final[dict[tuple[int, int], tuple[tuple[str, int], ...]]] = {
    (5, 10): (("store_immediate", 186), ("beyond_end", 262)),
    (5, 15): (("store_immediate", 120),),
    (6, 1): (("store_immediate", 36), ("uninitialised_stack", 192), ("unallocated_stack", 192)),
}
_NAMES: Final = frozenset(field.name for field in fields(Knowledge)) - {"release", "strict_alignment"}
assert {name for name, _ in _SINCE} == _NAMES


def knows_no_more(one: Knowledge, other: Knowledge) -> bool:
    """Is `other` accepted with whatever `one` is accepted with, newer instructions and helpers aside?"""
    return all(getattr(one, name) <= getattr(other, name) for name in _NAMES)


def knowledge(release: Release, strict_alignment: bool = False) -> Knowledge:
    """What the kernel `release` (as 6.1.36) works out."""
    names = [name for name, since in _SINCE if release >= since]
    names += [name for name, point in _STABLE.get(release[:2], ()) if release[2] >= point]
    features: dict[str, Any] = dict.fromkeys(names, True)
    return Knowledge(release=release, strict_alignment=strict_alignment, **features)

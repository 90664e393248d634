"""How often each block of a function runs: guesses from its shape, or counts of a profile.  Integers only.

The guesses are the plain ones of Ball and Larus ("Branch Prediction for Free", PLDI 1993): loops are gone on with,
pointers are not null, and what leaves at once is the exception.  Outside the trust wall: a wrong guess costs speed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from synth import cost
from verifier_model.bpf.flow import dominators, reverse_post_order, successors
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.bpf.unit import Block, Function

ONE: Final = 1 << 16  # a block that runs once per call
TURNS: Final = 8  # of a loop, where nothing is known
LIKELY: Final = 7  # of 8
_EIGHTHS: Final = 8
_DEEPEST: Final = 4  # loops inside loops that still count
_SHORT: Final = 3  # instructions of a block that does nothing but leave
_LEAVES: Final = 6  # of 8 go the other way


class ProfileError(ValueError):
    """A profile cannot be read; the text is one sentence."""


@cache
def read_profile(path: str) -> Mapping[str, Mapping[int, int]]:
    """Function -> slot at which a block begins in the compiler's object -> how often it ran; raises ProfileError.

    The file is JSON: {"xdp_prog": {"0": 1000, "12": 40}}.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib is slow to import
            value = json.load(file)
        found = {str(name): {int(slot): int(count) for slot, count in counts.items()} for name, counts in value.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ProfileError(f"no profile in {path}: {error}") from None
    if any(count < 0 for counts in found.values() for count in counts.values()):
        raise ProfileError(f"no profile in {path}: a count below zero")
    return found


def counts_by_label(path: str, function: Function) -> dict[str, int]:
    """The profile's counts of a function as it came, by block label; empty without a profile."""
    counts = read_profile(path).get(function.name, {}) if path else {}
    found, slot = {}, 0
    for block in function.blocks:
        if slot in counts:
            found[block.label] = counts[slot]
        slot += block.slots
    return found


def frequencies(function: Function, profile: Mapping[str, int] | None = None) -> dict[str, int]:
    """Runs of each reachable block per call of the function, in 1/65536; at least 1.

    `profile`: counts by block label, of which the entry's is one call; a block without a count gets what flows into it.
    """
    order = reverse_post_order(function)
    edges = successors(function)
    above = dominators(function)
    loops = _loops(order, edges, above)
    found = dict.fromkeys(order, 0)
    known: dict[str, int] = {}
    if profile and order and profile.get(order[0], 0) > 0:
        known = {label: count * ONE // profile[order[0]] for label, count in profile.items()}
    if order:
        found[order[0]] = ONE
    for label in order:
        found[label] = known.get(label, found[label])
        ahead = [other for other in edges[label] if other not in above[label]]
        chances = _chances(function, label, edges[label], loops)
        total = sum(chances[other] for other in ahead)
        for other in ahead:
            # What turns back comes through the header again: only the ways ahead share what arrives.
            found[other] += found[label] * chances[other] // max(total, 1)
    if known:
        return {label: max(count, 1) for label, count in found.items()}
    return {label: max(count, 1) * TURNS ** min(_depth(label, loops), _DEEPEST) for label, count in found.items()}


def expected(function: Function, profile: Mapping[str, int] | None = None) -> int:
    """Picoseconds that one call is expected to take, helpers and callees at the price of the call alone."""
    counts = frequencies(function, profile)
    return sum(counts.get(block.label, 0) * cost.latency(block.insns) for block in function.blocks) // ONE


def _loops(
    order: Iterable[str], edges: Mapping[str, tuple[str, ...]], above: Mapping[str, frozenset[str]]
) -> dict[str, frozenset[str]]:
    """The blocks of each natural loop, by its header."""
    known = tuple(order)
    before: dict[str, list[str]] = {label: [] for label in known}
    for label in known:
        for other in edges[label]:
            before[other].append(label)
    found: dict[str, frozenset[str]] = {}
    for label in known:
        for header in edges[label]:
            if header in above[label]:
                inside, waiting = {header}, [label]
                while waiting:
                    one = waiting.pop()
                    if one not in inside:
                        inside.add(one)
                        waiting += before[one]
                found[header] = found.get(header, frozenset()) | inside
    return found


def _depth(label: str, loops: Mapping[str, frozenset[str]]) -> int:
    return sum(label in inside for inside in loops.values())


def _chances(
    function: Function, label: str, following: tuple[str, ...], loops: Mapping[str, frozenset[str]]
) -> dict[str, int]:
    """Eighths with which each successor is gone to; equal ones where nothing speaks for either."""
    if len(following) != 2:
        return dict.fromkeys(following, _EIGHTHS)
    fall, target = following
    stays = [any(label in inside and other in inside for inside in loops.values()) for other in following]
    if stays[0] != stays[1]:
        return _split(fall, target, LIKELY if stays[0] else _EIGHTHS - LIKELY)
    last = function.block(label).insns[-1]
    null = _null_way(last)
    if null is not None:
        return _split(fall, target, _EIGHTHS - LIKELY if null == "fall" else LIKELY)
    leaves = [_leaves(function.block(other)) for other in following]
    if leaves[0] != leaves[1]:
        return _split(fall, target, _EIGHTHS - _LEAVES if leaves[0] else _LEAVES)
    return _split(fall, target, _EIGHTHS // 2)


def _split(fall: str, target: str, chance: int) -> dict[str, int]:
    return {fall: chance, target: _EIGHTHS - chance}


def _null_way(last: Insn) -> str | None:
    """Which way a 64-bit comparison with 0 goes for a null pointer; numbers are compared so, too."""
    row = last.row
    if row.kind is not Kind.BRANCH or row.operand is not Operand.IMM or row.width != 64 or last.imm:
        return None
    return {"jeq": "target", "jne": "fall"}.get(row.op)


def _leaves(block: Block) -> bool:
    return len(block.insns) <= _SHORT and bool(block.insns) and block.insns[-1].kind is Kind.EXIT

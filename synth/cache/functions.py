"""What was done to a function, as bytes: its key, and the changes in order so that they can be made again.

The key names all that the optimiser may look at: the function and every function that references join to it, as they
stand when its turn comes, maps, data sections, types, licence, CPU level, settings, and the tool with its solver.  Line
records are not among them, since nothing is decided by them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from synth.cache.keys import tool_digest
from synth.reshape import Change, Reshape, plain_blocks, reshape
from synth.rewrite import Rewrite, Window, apply
from synth.settings import Settings
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.insn import ByteOrder, Insn, RefKind
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.prover.certificate_values import cut_of, cut_value, insn_of, insn_value

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Past:
    """How the optimisation of one function came out; `steps` are (change, method, basis) in the order of application.

    The other fields are those of `synth.pipeline.Run` of the same names, `digest` is that of the function's text.
    """

    steps: tuple[tuple[Change, str, int], ...]
    kept_reason: str
    passed_over: int
    verdicts: Mapping[str, int]
    refusals: Mapping[str, int]
    unknowns: Mapping[str, int]
    digest: str


def text_digest(function: Function) -> str:
    return hashlib.sha256(print_function(function).encode()).hexdigest()


def function_key(unit: Unit, function: Function, settings: Settings, numbered: int) -> bytes:
    """The key of what becomes of `function` in `unit`; `numbered` counts rewrites before it where settings count."""
    digest = hashlib.sha256(b"function\0" + tool_digest())
    counts = numbered if (settings.first, settings.last) != (1, 0) else 0
    shared = (settings.digest, counts, unit.cpu_level, unit.byte_order, unit.license, list(unit.maps.values()))
    _add(digest, repr(shared))
    _add(digest, repr([(section, section.places, section.constants) for section in unit.data.values()]))
    _add(digest, "" if unit.types is None else repr(unit.types.types))
    _add(digest, function.name)
    for other in joined(unit, function.name):
        head = replace(other, blocks=())
        _add(digest, repr(head))
        for block in other.blocks:
            _add(digest, repr((block.label, [_plain(insn) for insn in block.insns])))
    return digest.digest()


def _add(digest: hashlib._Hash, text: str) -> None:
    data = text.encode()
    digest.update(len(data).to_bytes(8, "big") + data)


def _plain(insn: Insn) -> tuple[object, ...]:
    return insn.row.name, insn.dst, insn.src, insn.off, insn.imm, insn.ref, insn.origin.core


def joined(unit: Unit, name: str) -> tuple[Function, ...]:
    """The function and all that references between functions join to it, however indirectly, in the unit's order."""
    pairs = [(function.name, other) for function in unit.functions for other in _referred(function)]
    found = {name}
    while more := {one for pair in pairs if found & set(pair) for one in pair} - found:
        found |= more
    return tuple(function for function in unit.functions if function.name in found)


def groups(unit: Unit) -> list[tuple[str, ...]]:
    """The functions in groups between which no reference goes, by names in the unit's order."""
    found: list[tuple[str, ...]] = []
    placed: set[str] = set()
    for function in unit.functions:
        if function.name not in placed:
            found.append(tuple(one.name for one in joined(unit, function.name)))
            placed.update(found[-1])
    return found


def _referred(function: Function) -> Iterator[str]:
    for _, insn in function.insns():
        if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION:
            yield insn.ref.name


def encoded(past: Past, order: ByteOrder) -> bytes:
    """The bytes that `decoded` reads back."""
    value = {
        "schema": SCHEMA,
        "steps": [[_change_value(change, order), method, basis] for change, method, basis in past.steps],
        "kept_reason": past.kept_reason,
        "passed_over": past.passed_over,
        "verdicts": dict(past.verdicts),
        "refusals": dict(past.refusals),
        "unknowns": dict(past.unknowns),
        "digest": past.digest,
    }
    return json.dumps(value, sort_keys=True).encode()


def decoded(data: bytes, function: Function, order: ByteOrder) -> tuple[Past, list[Function]]:
    """What was done to `function` and the functions after each step; raises ValueError when the bytes do not fit it."""
    try:
        value = json.loads(data)
        if value.pop("schema") != SCHEMA:
            raise ValueError("another version wrote it")
        steps, functions = [], []
        for change_value, method, basis in value.pop("steps"):
            change = _change_of(change_value, function, order)
            function = apply(function, change) if isinstance(change, Rewrite) else reshape(function, change)
            steps.append((change, method, basis))
            functions.append(function)
        past = Past(tuple(steps), **value)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"no record of a function: {type(error).__name__}: {error}") from error
    if text_digest(function) != past.digest:
        raise ValueError("the changes lead to another function")
    return past, functions


def _change_value(change: Change, order: ByteOrder) -> dict[str, Any]:
    value: dict[str, Any] = {"proposer": change.proposer, "why": change.why}
    if isinstance(change, Rewrite):
        window = change.window
        value["window"] = [window.label, window.start, window.stop]
        value["after"] = [insn_value(insn, order) for insn in change.after]
        return value
    value["blocks"] = [[block.label, [insn_value(insn, order) for insn in block.insns]] for block in change.blocks]
    value["cuts"] = None if change.cuts is None else [cut_value(cut) for cut in change.cuts]
    return value


def _change_of(value: dict[str, Any], function: Function, order: ByteOrder) -> Change:
    if "window" in value:
        label, start, stop = value["window"]
        before = function.block(label).insns[start:stop]
        after = tuple(insn_of(one, order) for one in value["after"])
        return Rewrite(Window(label, start, stop), before, after, value["proposer"], value["why"])
    blocks = tuple(Block(label, tuple(insn_of(one, order) for one in insns)) for label, insns in value["blocks"])
    cuts = None if value["cuts"] is None else tuple(cut_of(cut) for cut in value["cuts"])
    return Reshape(plain_blocks(function.blocks), blocks, value["proposer"], value["why"], cuts)

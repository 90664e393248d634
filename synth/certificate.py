"""The certificate of one object: every rewrite as a claim with its query, and the manifest that ties them to bytes.

"No rewrite without a proof, no proof without a certificate": all of it is derived anew from the unit and the list of
rewrites, so a verdict that came from a cache, or from simplification alone, still gives a file with the whole question.
The layout of the folder and of the manifest is described in docs/certificates.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Final

from synth.claim import Claim
from synth.composition import reads_no_more
from synth.door import canonical, obligation_of
from synth.pipeline import Journal, Step
from synth.reshape import Change, Reshape, reshape
from synth.rewrite import Rewrite
from synth.settings import ROWS, Settings
from synth.whole import Whole, context_of
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.derivation import Origins
from verifier_model.facts import Facts, analyse
from verifier_model.prover import prove
from verifier_model.prover.certificate_values import facts_value
from verifier_model.verdict import Obligation

SCHEMA: Final = "k2-certificate 1"
MANIFEST: Final = "manifest.json"
INPUT: Final = "input.o"
OUTPUT: Final = "output.o"
MADE_HERE, COMPARED = "made here", "compared"  # the output is what the rewrites give; it does what they give


class CertificateError(Exception):
    """There is no certificate; the text says why.  Without one the rewrites may not stand."""


@dataclass(frozen=True, slots=True)
class Images:
    """What the certificate is about: the object before and after, and each function's code bytes in both."""

    before: bytes
    after: bytes
    code_before: Mapping[str, bytes]
    code_after: Mapping[str, bytes]


def certificate(
    unit: Unit,
    journal: Journal,
    images: Images,
    settings: Settings,
    tools: Mapping[str, str],
    wholes: Mapping[str, Whole] | None = None,
) -> dict[str, bytes]:
    """The files of the certificate by name; the same question always gives the same bytes.

    `unit` is the input's; `journal` has the rewrites of the functions that are changed in the output, and no others;
    `tools` names versions.  With `wholes` it is about two objects of whatever origin, and says how the functions that
    are given came about after their rewrites.  Raises CertificateError.
    """
    files = {INPUT: images.before, OUTPUT: images.after}
    entries: list[dict[str, Any]] = []
    whole_entries: list[dict[str, Any]] = []
    current, number = unit, 1
    for function in unit.functions:
        steps = journal.get(function.name, ())
        stages = stages_of(function, tuple(step.rewrite for step in steps))
        for claim in claims(current, function, steps, number):
            program = stages[claim.basis]
            texts = claim.texts(current.with_function(program), program)
            contents = dict(zip((claim.file, claim.companion), (text.encode("ascii") for text in texts), strict=True))
            files |= contents
            entries.append({**claim.value(unit.byte_order), "files": {n: digest(data) for n, data in contents.items()}})
        number += sum(isinstance(step.rewrite, Rewrite) for step in steps)
        claimed = list(reshapings(current, function, steps))
        if wholes and function.name in wholes:
            claimed.append(wholes[function.name])
        for whole in claimed:
            stage = current.with_function(stages[whole.applied])
            contents = {name: text.encode("ascii") for name, (_, text) in _whole_texts(whole, stage).items()}
            files |= contents
            listed = {name: digest(data) for name, data in contents.items()}
            whole_entries.append({**whole.value(unit.byte_order), "files": listed})
        current = current.with_function(stages[-1])
    value = {
        "schema": SCHEMA,
        "kind": MADE_HERE if wholes is None else COMPARED,
        "tools": dict(tools),
        "settings": {row.name: _plain(getattr(settings, row.name)) for row in ROWS if row.shapes_output},
        "cpu_level": unit.cpu_level,
        "assumed": {f.name: asdict(f.accesses) for f in unit.functions if f.accesses is not None},
        "input": {"file": INPUT, "sha256": digest(images.before), "bytes": len(images.before)},
        "output": {"file": OUTPUT, "sha256": digest(images.after), "bytes": len(images.after)},
        "functions": [_function_value(function, images) for function in unit.functions],
        "rewrites": entries,
        "wholes": whole_entries,
    }
    files[MANIFEST] = sealed(value)
    return files


def _whole_texts(whole: Whole, unit: Unit) -> dict[str, tuple[str, str]]:
    try:
        return whole.texts(unit, unit.function(whole.name))
    except ValueError as error:
        raise CertificateError(f"{whole.name}: {error}") from error


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _function_value(function: Function, images: Images) -> dict[str, Any]:
    value: dict[str, Any] = {"name": function.name, "section": function.section}
    for side, code in (("before", images.code_before), ("after", images.code_after)):
        data = code[function.name]
        value[side] = {"sha256": digest(data), "bytes": len(data)}
    return value


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sealed(value: Mapping[str, Any]) -> bytes:
    """The manifest's bytes: the value with the digest of itself as `seal`, in the one form in which it is written."""
    value = {name: part for name, part in value.items() if name != "seal"}
    return _written({**value, "seal": digest(_written(value))})


def _written(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def stages_of(function: Function, changes: tuple[Change, ...]) -> list[Function]:
    """The function as it stands after none, one, two, ... of its changes; raises ValueError where one does not fit."""
    from synth.rewrite import apply

    stages = [function]
    for change in changes:
        after = reshape(stages[-1], change) if isinstance(change, Reshape) else apply(stages[-1], change)
        stages.append(after)
    return stages


def reshapings(unit: Unit, function: Function, steps: tuple[Step, ...]) -> Iterator[Whole]:
    """The claims about the whole function, each about the program that the changes before it have made."""
    stages = stages_of(function, tuple(step.rewrite for step in steps))
    for at, step in enumerate(steps):
        if isinstance(step.rewrite, Reshape):
            context = context_of(unit.with_function(stages[at]), stages[at])
            yield Whole(function.name, at, context, step.rewrite.blocks, step.rewrite.cuts or (), step.method)


# ---- claims ----


def claims(unit: Unit, function: Function, steps: tuple[Step, ...], number: int) -> Iterator[Claim]:
    """The claims of one function, whose first rewrite has the number `number`; raises CertificateError.

    Each is proved again under the facts of the very program it is applied to.  Where those do not suffice (the facts of
    a value that nobody needs any longer may be gone), the whole batch keeps the facts of the program it began with.
    """
    stages = stages_of(function, tuple(step.rewrite for step in steps))
    for basis, group in groupby(range(len(steps)), key=lambda index: steps[index].basis):
        batch = list(group)
        if any(isinstance(steps[index].rewrite, Reshape) for index in batch):
            continue
        found = _one_by_one(unit, stages, steps, batch) or _as_one_batch(unit, stages, steps, batch, basis)
        for claim in found:
            yield replace(claim, number=number)
            number += 1


def _one_by_one(unit: Unit, stages: list[Function], steps: tuple[Step, ...], batch: list[int]) -> list[Claim] | None:
    found = []
    for index in batch:
        facts = analyse(unit.with_function(stages[index]), stages[index])
        claim = _claim(facts, _window_of(steps[index]), index, index)
        if claim is None:
            return None
        found.append(claim)
    return found


def _as_one_batch(
    unit: Unit, stages: list[Function], steps: tuple[Step, ...], batch: list[int], basis: int
) -> list[Claim]:
    facts = analyse(unit.with_function(stages[basis]), stages[basis])
    found = []
    for index in batch:
        rewrite = _window_of(steps[index])
        claim = _claim(facts, rewrite, index, basis)
        if claim is None or not (len(batch) == 1 or reads_no_more(rewrite, facts)):
            raise CertificateError(f"{facts.function.name}: rewrite {index + 1} is not proved again")
        found.append(claim)
    return found


def _window_of(step: Step) -> Rewrite:
    assert isinstance(step.rewrite, Rewrite)
    return step.rewrite


def _claim(facts: Facts, rewrite: Rewrite, applied: int, basis: int) -> Claim | None:
    """The claim with what is needed of the facts, None unless they prove it; its number is still open."""
    obligation = question(facts, rewrite)
    verdict = prove(obligation)
    if not verdict.is_proved:
        return None
    return Claim(
        0,
        facts.function.name,
        rewrite,
        applied,
        basis,
        obligation.entry,
        obligation.demand,
        verdict.method,
        derivations(facts, rewrite, obligation),
    )


def question(facts: Facts, rewrite: Rewrite) -> Obligation:
    """What decides the rewrite under the facts, in the form in which the door asks it."""
    return canonical(obligation_of(facts.function, facts, rewrite, facts.unit))


def derivations(facts: Facts, rewrite: Rewrite, obligation: Obligation) -> dict[str, list[str]]:
    """Where each fact of the obligation comes from, by its place."""
    origins = Origins(facts)
    point = Point(rewrite.window.label, rewrite.window.start)
    found = {}
    for place in facts_value(obligation.entry):
        off = place.removeprefix("r10")
        if place == "r10":
            found[place] = ["the frame pointer"]
        elif place.startswith("r10"):
            found[place] = origins.slot(point, int(off)).lines(facts.function)
        else:
            found[place] = origins.register(point, int(place[1:])).lines(facts.function)
    return found

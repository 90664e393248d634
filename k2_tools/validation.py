"""Does one object do what another does?  Function by function by proof, everything else by comparison.

Nothing is believed about who made the second from the first.  Functions are paired by name; calls of equal names count
as calls of equals, because every pair is proved in its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from k2_tools.blockwise import Progress, turned
from llvm_bridge.elf import SHT_NOBITS, Elf, data_addend, parse_relocations, put_addend
from llvm_bridge.object import Object
from synth.pipeline import Step
from synth.whole import Whole, context_of
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.unit import Function
from verifier_model.prover import DEFAULT, Limits, guess_cuts, prove_function
from verifier_model.prover.functions import interface
from verifier_model.verdict import Status, Verdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """A verdict and, where it is PROVED, how: the steps that change blocks, then the whole function if need be."""

    verdict: Verdict
    steps: tuple[Step, ...] = ()
    whole: Whole | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One function and what is known of it; `name` "" stands for what is no function (maps, data, licence)."""

    name: str
    section: str
    evidence: Evidence

    @property
    def verdict(self) -> Verdict:
        return self.evidence.verdict


def validate(first: Object, second: Object, limits: Limits = DEFAULT) -> Iterator[Pair]:
    """The verdicts that together say whether `second` may stand for `first`: all must be PROVED."""
    for difference in differences(first, second):
        yield Pair("", "", _unknown(difference))
    same_types = has_same_types(first, second)
    others = {function.name: function for function in second.unit.functions}
    for function in first.unit.functions:
        other = others.pop(function.name, None)
        evidence = _unknown("it is in the first object only")
        if other is not None:
            evidence = compare(first, function, other, same_types, limits)
        yield Pair(function.name, function.section, evidence)
    for other in others.values():
        yield Pair(other.name, other.section, _unknown("it is in the second object only"))


def compare(first: Object, before: Function, after: Function, same_types: bool, limits: Limits = DEFAULT) -> Evidence:
    """Does `after` refine `before`, a function of `first`?"""
    misfit = misfits(before, after, same_types)
    if misfit is not None:
        return _unknown(misfit)
    if spelled(before) == spelled(after):
        return Evidence(Verdict(Status.PROVED, method="identical"))
    progress = turned(first.unit, before, after, limits)
    if progress.is_whole:
        return Evidence(Verdict(Status.PROVED, method=f"{len(progress.steps)} blocks"), progress.steps)
    return _as_a_whole(first, progress, after, limits)


def _as_a_whole(first: Object, progress: Progress, after: Function, limits: Limits) -> Evidence:
    """What the blocks leave open, by the prover of whole functions."""
    unit = first.unit.with_function(progress.function)
    whole = Whole(after.name, len(progress.steps), context_of(unit, progress.function), after.blocks, (), "")
    question = whole.obligation(unit, progress.function)
    cuts = guess_cuts(question.before, question.after, question.unit, limits)
    verdict = prove_function(replace(question, cuts=cuts), limits)
    if not verdict.is_proved:
        return Evidence(verdict)
    return Evidence(verdict, progress.steps, replace(whole, cuts=cuts, method=verdict.method))


def _unknown(reason: str) -> Evidence:
    return Evidence(Verdict(Status.UNKNOWN, reason))


def misfits(before: Function, after: Function, same_types: bool) -> str | None:
    """Why no proof about their code can make one of the functions stand for the other; None: it can."""
    if before.section != after.section:
        return f"it moved from section {before.section} to {after.section}"
    if interface(before) != interface(after) or before.accesses != after.accesses:
        return "the functions have different interfaces"
    if not same_types and any(_names_a_type(insn) for function in (before, after) for _, insn in function.insns()):
        return "it refers to types, and the objects' types differ"
    return None


def has_same_types(first: Object, second: Object) -> bool:
    """Do equal numbers mean equal types in both?"""
    return _contents(first.elf, ".BTF") == _contents(second.elf, ".BTF")


def spelled(function: Function) -> list[list[Insn]]:
    """The instructions without what only rides along, labels by their place and symbols by their name."""
    places = {block.label: str(index) for index, block in enumerate(function.blocks)}
    return [[_spelled(insn, places) for insn in block.insns] for block in function.blocks]


def _spelled(insn: Insn, places: dict[str, str]) -> Insn:
    plain = replace(insn, origin=replace(insn.origin, line=None))
    if insn.ref is None:
        return plain
    name = places.get(insn.ref.name, insn.ref.name) if insn.ref.kind is RefKind.LABEL else insn.ref.name
    return replace(plain, ref=replace(insn.ref, name=name, symbol=-1, relocation=-1))


def _names_a_type(insn: Insn) -> bool:
    """Does a number of the BTF section stand in it, or will libbpf look up a type for it?"""
    return bool(insn.origin.core) or (insn.ref is not None and insn.ref.kind is RefKind.EXTERN)


# ---- what is no function ----


def differences(first: Object, second: Object) -> Iterator[str]:
    """What differs between two objects besides the code of their functions, one sentence each."""
    one, two = first.unit, second.unit
    if one.byte_order != two.byte_order:
        yield "the byte orders differ"
        return
    if one.license != two.license:
        yield "the licences differ"
    same_types = has_same_types(first, second)
    for name in dict.fromkeys((*one.maps, *two.maps)):
        old, new = one.maps.get(name), two.maps.get(name)
        if old is None or new is None:
            yield f"the map {name} is in one object only"
        elif old != new and (same_types or replace(old, value_type=0) != replace(new, value_type=0)):
            yield f"the map {name} is declared differently"
    before, after = _data(first), _data(second)
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield f"the section {name} holds something else"


Placed = tuple[str, int]  # a function or section, and a byte in it


class Contents(NamedTuple):
    """A section's size, its bytes without addresses, and where these lead: byte, relocation type, target."""

    size: int
    data: bytes
    leads: tuple[tuple[int, int, Placed], ...]


def _data(source: Object) -> dict[str, list[Contents]]:
    """Every allocated section that is no code, by name."""
    elf = source.elf
    tables = elf.relocation_sections()
    found: dict[str, list[Contents]] = {}
    for index, section in enumerate(elf.sections):
        if not section.is_allocated or index in source.code or section.name in ("", ".eh_frame", ".text"):
            continue
        data = bytearray(b"" if section.type == SHT_NOBITS else section.data)
        leads = []
        for entry in parse_relocations(elf, tables[index]) if index in tables else ():
            addend = data_addend(elf, index, entry)
            put_addend(data, elf.order, entry, 0)
            leads.append((entry.offset, entry.type, _target(source, entry.symbol, addend)))
        found.setdefault(section.name, []).append(Contents(section.size, bytes(data), tuple(leads)))
    return found


def _target(source: Object, symbol: int, addend: int) -> Placed:
    entry = source.elf.symbols[symbol]
    if not entry.is_defined:
        return entry.name, addend
    place = entry.value + addend
    code = source.code.get(entry.section)
    function = code.at(place) if code is not None else None
    if function is not None:
        return function.name, place - function.start
    return source.elf.sections[entry.section].name, place


def _contents(elf: Elf, name: str) -> bytes:
    index = elf.section_index(name)
    return b"" if index is None else elf.sections[index].data

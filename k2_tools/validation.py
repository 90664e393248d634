"""Does one object do what another does?  Function by function by proof, everything else by comparison.

Nothing is believed about who made the second from the first.  Functions are paired by name; calls of equal names count
as calls of equals, because every pair is proved in its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from k2_tools.blockwise import turned
from llvm_bridge.elf import SHT_NOBITS, Elf, data_addend, parse_relocations, put_addend
from llvm_bridge.object import Object
from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.unit import Function
from verifier_model.checker.callgraph import roots_of
from verifier_model.prover import prove_functions
from verifier_model.verdict import Status, Verdict

_ALL_THE_SAME = Verdict(Status.PROVED, method="identical")


@dataclass(frozen=True, slots=True)
class Pair:
    """One function and what is known of it; `name` "" stands for what is no function (maps, data, licence)."""

    name: str
    section: str
    verdict: Verdict


def validate(first: Object, second: Object) -> Iterator[Pair]:
    """The verdicts that together say whether `second` may stand for `first`: all must be PROVED."""
    for difference in differences(first, second):
        yield Pair("", "", Verdict(Status.UNKNOWN, difference))
    same_types = _contents(first.elf, ".BTF") == _contents(second.elf, ".BTF")
    others = {function.name: function for function in second.unit.functions}
    for function in first.unit.functions:
        other = others.pop(function.name, None)
        if other is None:
            verdict = Verdict(Status.UNKNOWN, "it is in the first object only")
        else:
            verdict = compare(first, function, other, same_types)
        yield Pair(function.name, function.section, verdict)
    for other in others.values():
        yield Pair(other.name, other.section, Verdict(Status.UNKNOWN, "it is in the second object only"))


def compare(first: Object, before: Function, after: Function, same_types: bool) -> Verdict:
    """Does `after` refine `before`, a function of `first`?"""
    if before.section != after.section:
        return Verdict(Status.UNKNOWN, f"it moved from section {before.section} to {after.section}")
    if not same_types and any(_names_a_type(insn) for function in (before, after) for _, insn in function.insns()):
        return Verdict(Status.UNKNOWN, "it refers to types, and the objects' types differ")
    if _interface(before) == _interface(after) and spelled(before) == spelled(after):
        return _ALL_THE_SAME
    progress = turned(first.unit, before, after)
    if progress.is_whole and _interface(before) == _interface(after):
        return Verdict(Status.PROVED, method=f"{progress.steps} blocks")
    context = _program_type(first, before)
    function, other = (replace(one, program_type=context) for one in (progress.function, after))
    return prove_functions(function, other, first.unit.with_function(function))


def _program_type(source: Object, function: Function) -> str | None:
    """The program type whose context a subprogram is handed: that of all programs from which it is called."""
    types = {root.program_type for root in roots_of(source.unit, function)}
    return types.pop() if function.is_subprogram and len(types) == 1 else function.program_type


def _interface(function: Function) -> Function:
    return replace(function, blocks=())


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
    same_types = _contents(first.elf, ".BTF") == _contents(second.elf, ".BTF")
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


def _data(source: Object) -> dict[str, tuple[int, bytes, tuple[tuple[int, int, Placed], ...]]]:
    """Every allocated section that is no code: its size, its bytes without addresses, and where these lead."""
    elf = source.elf
    tables = elf.relocation_sections()
    found = {}
    for index, section in enumerate(elf.sections):
        if not section.is_allocated or index in source.code or section.name in ("", ".eh_frame", ".text"):
            continue
        data = bytearray(b"" if section.type == SHT_NOBITS else section.data)
        leads = []
        for entry in parse_relocations(elf, tables[index]) if index in tables else ():
            addend = data_addend(elf, index, entry)
            put_addend(data, elf.order, entry, 0)
            leads.append((entry.offset, entry.type, _target(source, entry.symbol, addend)))
        found[section.name] = (section.size, bytes(data), tuple(leads))
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

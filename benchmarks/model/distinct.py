"""Which programs of the corpus differ: many objects hold the same one, by other compilers or for other CPU levels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable

from benchmarks.corpus.jobs import objects_folder
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.callgraph import followed, verified_with
from verifier_model.kernel.packages import cache_folder


def fingerprint(unit: Unit, program: Function) -> str:
    """Equal for programs of one type and section with equal instructions, equal maps and equal sizes of data."""
    parts = verified_with(unit, program)
    functions = {function.name: function for part in parts for function in followed(unit, part)}
    named = {insn.ref.name for function in functions.values() for _, insn in function.insns() if insn.ref is not None}
    text = [str(program.program_type), program.section]
    text += [print_function(functions[name]) for name in sorted(functions)]
    text += [repr(unit.maps[name]) for name in sorted(named & unit.maps.keys())]
    text += [f"{name} {unit.data[name].size}" for name in sorted(named & unit.data.keys())]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def distinct_programs(keys: Iterable[str], types: Collection[str]) -> dict[str, tuple[str, ...]]:
    """By object, its programs of these types (all types when there are none) that no object before it holds."""
    seen: set[str] = set()
    found: dict[str, tuple[str, ...]] = {}
    for key, programs in _fingerprints(keys).items():
        new = []
        for name, kind, mark in programs:
            if mark not in seen and (not types or kind in types):
                seen.add(mark)
                new.append(name)
        if new:
            found[key] = tuple(new)
    return found


Programs = list[tuple[str, str, str]]


def _fingerprints(keys: Iterable[str]) -> dict[str, Programs]:
    """Name, type and fingerprint of each object's programs, kept in the corpus cache until the object changes."""
    path = cache_folder() / "fingerprints.jsonl"
    known: dict[str, tuple[int, Programs]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.endswith("]"):
            key, stamp, programs = json.loads(line)
            known[key] = stamp, [tuple(program) for program in programs]
    found: dict[str, Programs] = {}
    with path.open("a") as file:
        for key in keys:
            place = objects_folder() / f"{key}.o"
            stamp = place.stat().st_mtime_ns
            if key not in known or known[key][0] != stamp:
                known[key] = stamp, _programs(place.read_bytes())
                file.write(json.dumps([key, *known[key]]) + "\n")
            found[key] = known[key][1]
    return found


def _programs(data: bytes) -> Programs:
    source = read_object(data)
    if isinstance(source, Untouched):
        return []
    unit = source.unit
    programs = [function for function in unit.functions if not function.is_subprogram]
    return [(program.name, program.program_type or "", fingerprint(unit, program)) for program in programs]

"""One function of a unit into the running kernel by raw bpf(2): no libbpf, no BTF, no object file.

For tests that hold a unit and want to run it.  An object as users load it goes through `libbpf.load_object`; a verdict
alone is asked of an `oracle.Oracle`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from verifier_model.bpf.unit import Unit
from verifier_model.contracts.maps import BY_NAME as MAP_TYPE
from verifier_model.contracts.programs import BY_NUMBER
from verifier_model.kernel.assembling import Unloadable, raw_program
from verifier_model.kernel.maps import KernelMap, possible_cpus
from verifier_model.kernel.programs import LoadedObject, LoadedProgram
from verifier_model.kernel.questions import MapSpec, RawProgram
from verifier_model.kernel.syscall import Refused, prog_load

_PER_CPU_BY_DEFAULT: Final = frozenset({MAP_TYPE["perf_event_array"].number})
_IMMEDIATE: Final = 4  # bytes in front of a slot's immediate


def load_function(unit: Unit, name: str, contents: Mapping[str, bytes] | None = None) -> LoadedObject | Refused:
    """Load the program `name` with its subprograms, its maps newly created, its data sections filled from `contents`.

    `contents` is by section name, shorter contents are followed by zeros.  Raises PermissionError when bpf(2) is not
    allowed and OSError when a map cannot be created.
    """
    try:
        question, names = raw_program(unit, name, contents)
    except Unloadable as reason:
        return Refused(name, str(reason))
    maps: list[KernelMap] = []
    try:
        for spec, map_name in zip(question.maps, names, strict=True):
            maps.append(_create(spec, map_name, maps))
        loaded = prog_load(question.program_type, _relocated(question, maps), question.license, name)
    except BaseException:
        _close(maps)
        raise
    if isinstance(loaded, Refused):
        _close(maps)
        return loaded
    by_name = {map.name: map for map in maps}
    return LoadedObject({name: LoadedProgram(loaded, name, BY_NUMBER[question.program_type].name)}, by_name)


def _close(maps: list[KernelMap]) -> None:
    for map in maps:
        map.close()


def _relocated(question: RawProgram, maps: list[KernelMap]) -> bytes:
    code = bytearray(question.insns)
    for slot, number in question.relocations:
        struct.pack_into("=I", code, slot * 8 + _IMMEDIATE, maps[number].fd)
    return bytes(code)


def _create(spec: MapSpec, name: str, earlier: list[KernelMap]) -> KernelMap:
    entries = spec.max_entries
    if entries == 0 and spec.type in _PER_CPU_BY_DEFAULT:
        entries = possible_cpus()
    inner = 0 if spec.inner is None else earlier[spec.inner].fd
    shown = name if name.isidentifier() else "data"
    made = KernelMap.create(spec.type, spec.key_size, spec.value_size, entries, spec.flags, shown, inner)
    made.name = name
    if spec.contents:
        made.update(bytes(4), spec.contents)
    return made

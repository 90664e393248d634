"""One function of a unit into the running kernel by raw bpf(2): no libbpf, no BTF, no object file.

For tests and oracles that hold a unit.  Without BTF the kernel checks global functions like static ones and knows no
spin locks, timers or callbacks; an object as users load it goes through `libbpf.load_object`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from verifier_model.bpf.insn import Insn, Ref, RefKind, SlotOffset, encode
from verifier_model.bpf.isa import BY_NAME, WideSource
from verifier_model.bpf.unit import Function, MapDef, Unit
from verifier_model.contracts.maps import BY_NAME as MAP_TYPE
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.maps import KernelMap, possible_cpus
from verifier_model.kernel.programs import LoadedObject, LoadedProgram
from verifier_model.kernel.syscall import Refused, prog_load

_ARRAY: Final = MAP_TYPE["array"].number
_PER_CPU_BY_DEFAULT: Final = frozenset({MAP_TYPE["perf_event_array"].number})


class _Unloadable(Exception):  # noqa: N818
    """Why the function cannot be loaded this way."""


def load_function(unit: Unit, name: str, contents: Mapping[str, bytes] | None = None) -> LoadedObject | Refused:
    """Load the program `name` with its subprograms, its maps newly created, its data sections filled from `contents`.

    `contents` is by section name, shorter contents are followed by zeros.  Raises PermissionError when bpf(2) is not
    allowed and OSError when a map cannot be created.
    """
    main = unit.function(name)
    kind = PROGRAM_TYPES.get(main.program_type or "")
    if kind is None:
        return Refused(name, f"section {main.section} gives no program type")
    loading = _Loading(unit, contents or {})
    try:
        insns = loading.assemble(main)
        loaded = prog_load(kind.number, insns, unit.license or "GPL", name)
    except _Unloadable as reason:
        loaded = Refused(name, str(reason))
    except BaseException:
        loading.close()
        raise
    if isinstance(loaded, Refused):
        loading.close()
        return loaded
    return LoadedObject({name: LoadedProgram(loaded, name, kind.name)}, loading.maps)


@dataclass
class _Loading:
    unit: Unit
    contents: Mapping[str, bytes]
    maps: dict[str, KernelMap] = field(default_factory=dict)

    def close(self) -> None:
        for map in self.maps.values():
            map.close()

    def assemble(self, main: Function) -> bytes:
        functions = self._with_callees(main)
        starts, labels, at = {}, {}, 0
        for function in functions:
            starts[function.name] = at
            for block in function.blocks:
                labels[function.name, block.label] = at
                at += block.slots
        code, here = bytearray(), 0
        for function in functions:
            for _, insn in function.insns():
                following = here + insn.slots
                code += self._encode(insn, function.name, following, starts, labels)
                here = following
        return bytes(code)

    def _with_callees(self, main: Function) -> list[Function]:
        order, waiting = [main], [main]
        while waiting:
            for callee in self._callees(waiting.pop(0)):
                if callee not in order:
                    order.append(callee)
                    waiting.append(callee)
        return order

    def _callees(self, function: Function) -> Iterator[Function]:
        for _, insn in function.insns():
            if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION:
                try:
                    yield self.unit.function(insn.ref.name)
                except KeyError:
                    raise _Unloadable(f"function {insn.ref.name} is not in the unit") from None

    def _encode(
        self, insn: Insn, inside: str, following: int, starts: Mapping[str, int], labels: Mapping[tuple[str, str], int]
    ) -> bytes:
        if insn.origin.core:
            raise _Unloadable("CO-RE relocations need libbpf")
        ref, order = insn.ref, self.unit.byte_order
        if ref is None:
            return encode(insn, order)
        if ref.kind is RefKind.LABEL:
            return encode(insn, order, SlotOffset(labels[inside, ref.name] - following))
        if ref.kind is RefKind.FUNCTION:
            if ref.addend:
                raise _Unloadable(f"a reference into the middle of function {ref.name}")
            distance = SlotOffset(starts[ref.name] - following)
            if insn.row.name == "call_local":
                return encode(insn, order, distance)
            # A callback's address counts from the wide load's second slot (verifier.c: add_subprog at insn + imm + 1).
            first = following - insn.slots
            return self._wide(insn, WideSource.FUNC, (starts[ref.name] - first - 1) & 0xFFFFFFFF)
        if ref.kind is RefKind.MAP:
            return self._wide(insn, WideSource.MAP_FD, self._map(ref.name).fd)
        if ref.kind is RefKind.DATA:
            return self._wide(insn, WideSource.MAP_VALUE, self._data(ref).fd | (ref.addend & 0xFFFFFFFF) << 32)
        raise _Unloadable(f"{ref.name} is resolved by libbpf only")

    def _wide(self, insn: Insn, source: WideSource, imm: int) -> bytes:
        return encode(Insn(BY_NAME[f"lddw_{source.name.lower()}"], insn.dst, imm=imm), self.unit.byte_order)

    def _map(self, name: str) -> KernelMap:
        if name not in self.maps:
            definition = self.unit.maps.get(name)
            if definition is None:
                raise _Unloadable(f"map {name} has no definition")
            self.maps[name] = _create(definition)
        return self.maps[name]

    def _data(self, ref: Ref) -> KernelMap:
        if ref.name not in self.maps:
            section = self.unit.data.get(ref.name)
            if section is None:
                raise _Unloadable(f"data section {ref.name} is not in the unit")
            made = KernelMap.create(_ARRAY, 4, max(section.size, 1), 1, name="data")
            made.name = ref.name
            self.maps[ref.name] = made
            made.update(bytes(4), self.contents.get(ref.name, b"")[: made.value_size].ljust(made.value_size, b"\0"))
        return self.maps[ref.name]


def _create(definition: MapDef) -> KernelMap:
    entries = definition.max_entries
    if entries == 0 and definition.type in _PER_CPU_BY_DEFAULT:
        entries = possible_cpus()
    made = KernelMap.create(
        definition.type, definition.key_size, definition.value_size, entries, definition.flags, definition.name
    )
    made.name = definition.name
    return made

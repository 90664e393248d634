"""A unit's program as the bytes that PROG_LOAD takes: callees behind it, maps by number.  No libbpf, no BTF.

Without BTF the kernel checks global functions like static ones and knows no spin locks, timers or callbacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from verifier_model.bpf.insn import Insn, Ref, RefKind, SlotOffset, encode
from verifier_model.bpf.isa import BY_NAME, WideSource
from verifier_model.bpf.unit import Function, MapDef, Unit
from verifier_model.contracts.maps import BY_NAME as MAP_TYPE
from verifier_model.contracts.maps import READ_ONLY_FOR_PROGRAMS
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.questions import MapSpec, RawProgram

_ARRAY: Final = MAP_TYPE["array"].number


class Unloadable(Exception):  # noqa: N818
    """Why the function cannot be loaded this way."""


def raw_program(
    unit: Unit, name: str, contents: Mapping[str, bytes] | None = None, attach_type: int = 0
) -> tuple[RawProgram, tuple[str, ...]]:
    """The program `name` with its subprograms and maps, and the names of those maps; raises Unloadable.

    `contents` is by data section, shorter contents are followed by zeros; a read-only section with given contents is
    frozen, as libbpf does, so that the verifier knows the values, and one without them stays unknown to it.
    """
    main = unit.function(name)
    kind = PROGRAM_TYPES.get(main.program_type or "")
    if kind is None:
        raise Unloadable(f"section {main.section} gives no program type")
    assembly = _Assembly(unit, contents or {})
    insns = assembly.assemble(main)
    program = RawProgram(
        insns,
        kind.number,
        attach_type,
        license=unit.license or "GPL",
        maps=tuple(assembly.maps),
        relocations=tuple(assembly.relocations),
    )
    return program, tuple(assembly.names)


@dataclass
class _Assembly:
    unit: Unit
    contents: Mapping[str, bytes]
    maps: list[MapSpec] = field(default_factory=list)
    relocations: list[tuple[int, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

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
                    raise Unloadable(f"function {insn.ref.name} is not in the unit") from None

    def _encode(
        self, insn: Insn, inside: str, following: int, starts: Mapping[str, int], labels: Mapping[tuple[str, str], int]
    ) -> bytes:
        if insn.origin.core:
            raise Unloadable("CO-RE relocations need libbpf")
        ref, order = insn.ref, self.unit.byte_order
        if ref is None:
            return encode(insn, order)
        if ref.kind is RefKind.LABEL:
            return encode(insn, order, SlotOffset(labels[inside, ref.name] - following))
        first = following - insn.slots
        if ref.kind is RefKind.FUNCTION:
            if ref.addend:
                raise Unloadable(f"a reference into the middle of function {ref.name}")
            distance = SlotOffset(starts[ref.name] - following)
            if insn.row.name == "call_local":
                return encode(insn, order, distance)
            # A callback's address counts from the wide load's second slot (verifier.c: add_subprog at insn + imm + 1).
            return self._wide(insn, WideSource.FUNC, (starts[ref.name] - first - 1) & 0xFFFFFFFF)
        if ref.kind is RefKind.MAP:
            self.relocations.append((first, self._map(ref.name)))
            return self._wide(insn, WideSource.MAP_FD, 0)
        if ref.kind is RefKind.DATA:
            self.relocations.append((first, self._data(ref)))
            return self._wide(insn, WideSource.MAP_VALUE, (ref.addend & 0xFFFFFFFF) << 32)
        raise Unloadable(f"{ref.name} is resolved by libbpf only")

    def _wide(self, insn: Insn, source: WideSource, imm: int) -> bytes:
        return encode(Insn(BY_NAME[f"lddw_{source.name.lower()}"], insn.dst, imm=imm), self.unit.byte_order)

    def _map(self, name: str) -> int:
        if name not in self._numbers:
            definition = self.unit.maps.get(name)
            if definition is None:
                raise Unloadable(f"map {name} has no definition")
            inner = (
                None if definition.inner is None else self._add(_spec(definition.inner, None), definition.inner.name)
            )
            self._numbers[name] = self._add(_spec(definition, inner), name)
        return self._numbers[name]

    def _data(self, ref: Ref) -> int:
        if ref.name not in self._numbers:
            section = self.unit.data.get(ref.name)
            if section is None:
                raise Unloadable(f"data section {ref.name} is not in the unit")
            size, given = max(section.size, 1), self.contents.get(ref.name)
            value = (given or b"")[:size].ljust(size, b"\0")
            is_frozen = not section.is_writable and given is not None
            flags = 0 if section.is_writable else READ_ONLY_FOR_PROGRAMS
            spec = MapSpec(_ARRAY, 4, size, 1, flags, contents=value if given else b"", is_frozen=is_frozen)
            self._numbers[ref.name] = self._add(spec, ref.name)
        return self._numbers[ref.name]

    def _add(self, spec: MapSpec, name: str) -> int:
        self.maps.append(spec)
        self.names.append(name)
        return len(self.maps) - 1


def _spec(definition: MapDef, inner: int | None) -> MapSpec:
    sizes = (definition.key_size, definition.value_size, definition.max_entries)
    return MapSpec(definition.type, *sizes, definition.flags, inner)

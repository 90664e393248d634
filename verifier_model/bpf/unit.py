"""One object's programs as plain values: what the optimiser sees.  No ELF here (DESIGN.md, floor 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from verifier_model.bpf.btf import Btf
from verifier_model.bpf.insn import ByteOrder, Insn


class Point(NamedTuple):
    """A program point: just before instruction `at` of the block `label` (at == len means the block's end)."""

    label: str
    at: int


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that run in a straight line; only the last may branch or exit.

    Control falls through to the next block of the function's layout unless the last instruction is `ja`, `gotol` or
    `exit`.
    """

    label: str
    insns: tuple[Insn, ...]

    @property
    def slots(self) -> int:
        return sum(insn.slots for insn in self.insns)


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """What a function's source asked of its memory accesses, which bytecode no longer shows, after inlining.

    Accesses that are volatile, or atomic in any order; barriers: inline assembly of any kind, and fences.  Callees are
    not included.
    """

    has_volatile: bool
    has_atomic: bool
    has_barrier: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A program or subprogram.

    `section` is the ELF section; `program_type` the kernel's name for what libbpf derives from it ("xdp",
    "sched_cls", "tracepoint", ...), None for subprograms and unknown sections; `also_types` are those that it may be
    loaded as besides, where only its context's type speaks for it (`sections.types_of_context`). `argument_count`
    counts r1.. for subprograms, None when unknown. `is_global`: a separately verified function whose signature others
    rely on. `untouchable` says why nothing in it may change. `accesses` is what the compiler's pass plugin recorded,
    None when nobody knows. `type_id` is the function's FUNC in the unit's `types`, 0 without one. `operation`: the
    structure of the kernel and its member that the program implements (struct_ops), None where that is not known.
    `is_reshaped`: it was changed as a whole, so that its registers and frame need not be those of the old one anywhere.
    """

    name: str
    section: str
    blocks: tuple[Block, ...]
    program_type: str | None = None
    is_global: bool = True
    is_subprogram: bool = False
    argument_count: int | None = None
    returns_void: bool = False
    untouchable: str | None = None
    accesses: AccessFacts | None = None
    type_id: int = 0
    operation: tuple[str, str] | None = None
    also_types: tuple[str, ...] = ()
    is_reshaped: bool = field(default=False, compare=False)

    @property
    def slots(self) -> int:
        return sum(block.slots for block in self.blocks)

    def block(self, label: str) -> Block:
        for block in self.blocks:
            if block.label == label:
                return block
        raise KeyError(label)

    def insns(self) -> Iterator[tuple[Point, Insn]]:
        for block in self.blocks:
            for index, insn in enumerate(block.insns):
                yield Point(block.label, index), insn

    def with_block(self, block: Block) -> Function:
        """The same function with the block of that label replaced."""
        return replace(self, blocks=tuple(block if old.label == block.label else old for old in self.blocks))


@dataclass(frozen=True, slots=True)
class MapDef:
    """A map as its BTF definition declares it; sizes in bytes, 0 when the definition does not say.

    `value_type` is the id of the value's type in the object's BTF, 0 when it is not declared.  `inner`: what the maps
    inside a map of maps look like.  `is_external`: another object defines it, and a linker brings both together.
    `has_assumed_value`: of such a map, the value's size is no more than a guess at what clang's own code needs.
    """

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    is_private: bool = False  # internal .bss/.data/.rodata map that no other symbol can alias
    value_type: int = 0
    inner: MapDef | None = None
    is_external: bool = False
    has_assumed_value: bool = False

    @property
    def has_unknown_value(self) -> bool:
        """Is it defined elsewhere, with values of a size that nobody here knows?"""
        return self.is_external and not self.value_size


def inner_name(name: str) -> str:
    """What the maps inside the map of maps `name` are called: no symbol looks like it."""
    return name + "[]"


@dataclass(frozen=True, slots=True)
class DataSection:
    """A data section that code addresses: `size` in bytes; `is_writable` is false for .rodata and .kconfig.

    `last_zero`: the last byte that is 0 in the object, -1 without one: strings that start before it end.
    `places`: the global variables and where they lie, which BTF leaves to the symbol table (bytes).  `constants`: the
    bytes of a map that libbpf freezes, as the object has them: a loader may write others before it loads.
    """

    name: str
    size: int
    is_writable: bool
    last_zero: int = -1
    places: tuple[tuple[str, int], ...] = field(default=(), compare=False, repr=False)
    constants: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unit:
    """Everything of one object that optimisation may look at.

    `cpu_level` (1 to 4) is the highest instruction level that may be emitted.  `types` is the object's own BTF.
    `kernel_types` is the BTF of the one kernel that the unit was patched for (`contracts.relocation`), None as long as
    it is meant for any: only the check of acceptance ever sees a patched unit, nothing of it is written.
    `has_known_constants`: frozen data holds what the object says; only a count of the verifier's work sees such a unit.
    """

    functions: tuple[Function, ...]
    maps: Mapping[str, MapDef] = field(default_factory=dict)
    data: Mapping[str, DataSection] = field(default_factory=dict)
    byte_order: ByteOrder = "little"
    cpu_level: int = 1
    license: str = ""
    types: Btf | None = field(default=None, compare=False, repr=False)
    kernel_types: Btf | None = field(default=None, compare=False, repr=False)

    has_known_constants: bool = False

    def function(self, name: str) -> Function:
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)

    def map(self, name: str) -> MapDef | None:
        """The map of that name, or the template that the maps inside a map of maps follow."""
        if name.endswith(inner_name("")):
            outer = self.maps.get(name.removesuffix(inner_name("")))
            return None if outer is None else outer.inner
        return self.maps.get(name)

    def with_function(self, function: Function) -> Unit:
        new = tuple(function if old.name == function.name else old for old in self.functions)
        return replace(self, functions=new)

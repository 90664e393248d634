"""The parts of a map's value that belong to the kernel: locks, timers, stored kernel pointers, list heads, tree roots.

Source: btf_parse_fields and btf_get_field_type in kernel/bpf/btf.c.  Programs may not load or store their bytes, and
hand them to the helpers that own them by address.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from verifier_model.bpf.btf import MAX_DEPTH, Btf, BtfError, Kind
from verifier_model.bpf.unit import MapDef, Unit

# Structures by name; whatever else a later kernel puts there has no row in the programs that we know.
_STRUCTURES: Final = frozenset(
    {
        "bpf_spin_lock",
        "bpf_res_spin_lock",
        "bpf_timer",
        "bpf_wq",
        "bpf_task_work",
        "bpf_list_head",
        "bpf_list_node",
        "bpf_rb_root",
        "bpf_rb_node",
        "bpf_refcount",
    }
)
# "kptr_ref" is what kernels before 6.3 call a pointer that is owned.
_POINTER_TAGS: Final = frozenset({"kptr", "kptr_ref", "kptr_untrusted", "percpu_kptr", "uptr"})
_MOST_FIELDS: Final = 256
_POINTER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class MapField:
    """`size` bytes at `off` of the value.

    `kind` is the structure's name or the pointer's tag; `target` what a tagged pointer points to (a type id).
    `is_direct`: a member of the value itself, not of a structure or array inside (older kernels find only these).
    """

    off: int
    size: int
    kind: str
    target: int = 0
    is_direct: bool = True


@dataclass
class _Memory:
    """Fields of the types asked about last."""

    graph: Btf | None = None
    known: dict[int, tuple[MapField, ...] | None] = field(default_factory=dict)


_memory: Final = _Memory()


def fields_of(definition: MapDef, unit: Unit) -> tuple[MapField, ...] | None:
    """The kernel's own fields of the map's value, by offset; None when the type cannot be followed.

    A value whose type nobody declared has none: the kernel finds them by that type.
    """
    graph = unit.types
    if graph is None or definition.value_type == 0:
        return ()
    if _memory.graph is not graph:
        _memory.graph, _memory.known = graph, {}
    known = _memory.known
    if definition.value_type not in known:
        known[definition.value_type] = fields_of_type(graph, definition.value_type)
    return known[definition.value_type]


def fields_of_type(graph: Btf, type: int) -> tuple[MapField, ...] | None:
    """The same for a type of the object."""
    try:
        return tuple(sorted(_Walk(graph).fields(type, 0), key=lambda row: row.off))
    except (BtfError, IndexError):
        return None


class _Walk:
    """Fields of the types met so far, relative to each type's start."""

    def __init__(self, graph: Btf) -> None:
        self.graph = graph
        self.known: dict[int, tuple[MapField, ...]] = {}

    def fields(self, type: int, depth: int) -> tuple[MapField, ...]:
        """Rows of a type; those of its own members are direct."""
        if depth > MAX_DEPTH:
            raise BtfError("structures are nested too deeply")
        if type not in self.known:
            self.known[type] = self._find(type, depth)
        if len(self.known[type]) > _MOST_FIELDS:
            raise BtfError("more fields than any kernel takes")
        return self.known[type]

    def _find(self, type: int, depth: int) -> tuple[MapField, ...]:
        leaf = _leaf(self.graph, type)
        if leaf is not None:
            return (leaf,)
        resolved = self.graph.resolve(type)
        rows: list[MapField] = []
        if resolved.kind in (Kind.STRUCT, Kind.UNION):
            for member in resolved.members:
                rows += self._moved(member.type, member.value // 8, depth)
        elif resolved.kind is Kind.DATASEC:
            for member in resolved.members:
                rows += self._moved(self.graph.types[member.type].type, member.value, depth)
        elif resolved.kind is Kind.ARRAY and self.fields(resolved.type, depth + 1):
            size = self.graph.size_of(resolved.type)
            for index in range(min(resolved.count, _MOST_FIELDS + 1)):
                rows += (replace(row, is_direct=False) for row in self._moved(resolved.type, index * size, depth))
        return tuple(rows)

    def _moved(self, type: int, off: int, depth: int) -> list[MapField]:
        is_direct = _leaf(self.graph, type) is not None
        return [replace(row, off=row.off + off, is_direct=is_direct) for row in self.fields(type, depth + 1)]


def _leaf(graph: Btf, type: int) -> MapField | None:
    resolved = graph.resolve(type)
    if resolved.kind is Kind.STRUCT and resolved.name in _STRUCTURES:
        return MapField(0, resolved.size, resolved.name)
    tag = _tag(graph, resolved.type) if resolved.kind is Kind.PTR else None
    return None if tag is None else MapField(0, _POINTER_BYTES, tag, resolved.type)


def _tag(graph: Btf, type: int) -> str | None:
    """The first tag of a pointer's target that makes it the kernel's."""
    for _ in range(MAX_DEPTH):
        found = graph.types[type]
        if found.kind is Kind.TYPE_TAG and found.name in _POINTER_TAGS:
            return found.name
        if found.kind not in (Kind.TYPE_TAG, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPEDEF):
            return None
        type = found.type
    return None


def overlapping(fields: tuple[MapField, ...], low: int, high: int) -> MapField | None:
    """The first field that bytes [low, high) of the value touch."""
    return next((row for row in fields if row.off < high and low < row.off + row.size), None)

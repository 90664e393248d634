"""The parts of a map's value that belong to the kernel: locks, timers, stored kernel pointers, list heads, tree roots.

Source: btf_parse_fields and btf_get_field_type in kernel/bpf/btf.c.  Programs may not load or store their bytes, and
hand them to the helpers that own them by address.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from verifier_model.bpf.btf import LINKAGE_STATIC, MAX_DEPTH, Btf, BtfError, Kind
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
# Heads of lists and roots of trees, and what is linked into them.
_NODES: Final = {"bpf_list_head": "bpf_list_node", "bpf_rb_root": "bpf_rb_node"}
_TAG: Final = "contains:"
_MOST_FIELDS: Final = 256
MOST_KEPT: Final = 11  # of a value with more, the kernel keeps nothing (BTF_FIELDS_MAX)
_POINTER_BYTES: Final = 8


Places = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class MapField:
    """`size` bytes at `off` of the value.

    `kind` is the structure's name or the pointer's tag; `target` what a tagged pointer points to (a type id).
    `is_direct`: a member of the value itself, not of a structure or array inside (older kernels find only these).
    `is_plain`: declared as such, without a typedef or qualifier, behind which no kernel finds it.  `element`,
    `node`: for the head of a list and the root of a tree, the structure that is kept in it (a type id) and where its
    node lies; 0 where nothing says so.
    """

    off: int
    size: int
    kind: str
    target: int = 0
    is_direct: bool = True
    is_plain: bool = True
    element: int = 0
    node: int = 0


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
    section = unit.data.get(definition.name)
    return fields_of_structure(graph, definition.value_type, () if section is None else section.places)


def fields_of_structure(graph: Btf, type: int, places: Places = ()) -> tuple[MapField, ...] | None:
    """The same for a type of the object, found once."""
    if _memory.graph is not graph:
        _memory.graph, _memory.known = graph, {}
    known = _memory.known
    if type not in known:
        known[type] = fields_of_type(graph, type, places)
    return known[type]


def fields_of_type(graph: Btf, type: int, places: Places = ()) -> tuple[MapField, ...] | None:
    """The kernel's own fields of a type of the object; `places`: where the variables of a section lie.

    None where the types cannot be followed, or a field belongs to a variable that nobody knows the place of.
    """
    try:
        return tuple(sorted(_Walk(graph, places).fields(type, 0), key=lambda row: row.off))
    except (BtfError, IndexError):
        return None


class _Walk:
    """Fields of the types met so far, relative to each type's start."""

    def __init__(self, graph: Btf, places: Places) -> None:
        self.graph = graph
        self.places = dict(places)
        self.tags = _contains(graph)
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
            owner = _bare(self.graph, type)
            for at, member in enumerate(resolved.members):
                rows += self._named(self._moved(member.type, member.value // 8, depth), owner, at)
        elif resolved.kind is Kind.DATASEC:
            for member in resolved.members:
                variable = self.graph.types[member.type]
                moved = self._moved(variable.type, member.value, depth)
                if moved and variable.linkage != LINKAGE_STATIC:
                    # Where global variables lie the compiler leaves to the symbol table (btf_fixup_datasec of libbpf).
                    moved = self._moved(variable.type, self._place(variable.name), depth)
                rows += self._named(moved, member.type, -1)
        elif resolved.kind is Kind.ARRAY and self.fields(resolved.type, depth + 1):
            size = self.graph.size_of(resolved.type)
            for index in range(min(resolved.count, _MOST_FIELDS + 1)):
                rows += (replace(row, is_direct=False) for row in self._moved(resolved.type, index * size, depth))
        return tuple(rows)

    def _place(self, name: str) -> int:
        if name not in self.places:
            raise BtfError(f"nobody knows where {name} lies")
        return self.places[name]

    def _named(self, rows: list[MapField], owner: int, component: int) -> list[MapField]:
        """The rows with what the tag of the member says is kept in them."""
        tag = self.tags.get((owner, component))
        if tag is None:
            return rows
        nodes = {kind: _node(self.graph, tag, kind) for kind in _NODES}
        return [
            replace(row, element=nodes[row.kind][0], node=nodes[row.kind][1])
            if row.kind in _NODES and not row.element
            else row
            for row in rows
        ]

    def _moved(self, type: int, off: int, depth: int) -> list[MapField]:
        is_direct = _leaf(self.graph, type) is not None
        return [replace(row, off=row.off + off, is_direct=is_direct) for row in self.fields(type, depth + 1)]


def _contains(graph: Btf) -> dict[tuple[int, int], str]:
    """What is kept in lists and trees ("structure:node"), by type id and member."""
    return {
        (entry.type, entry.component): entry.name.removeprefix(_TAG)
        for entry in graph.types
        if entry.kind is Kind.DECL_TAG and entry.name.startswith(_TAG)
    }


def _node(graph: Btf, tag: str, kind: str) -> tuple[int, int]:
    """The structure that a tag names and where its node lies; zeros where there is none (btf_parse_graph_root)."""
    name, _, field = tag.partition(":")
    element = graph.named(name, Kind.STRUCT)
    members = [member for member in graph.types[element].members if element and member.name == field]
    if len(members) != 1 or members[0].value % 8:
        return 0, 0
    found = graph.types[members[0].type]
    is_node = found.kind is Kind.STRUCT and found.name == _NODES[kind]
    return (element, members[0].value // 8) if is_node else (0, 0)


def _bare(graph: Btf, type: int) -> int:
    """The id behind typedefs and qualifiers."""
    while graph.types[type].kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPEDEF, Kind.TYPE_TAG):
        type = graph.types[type].type
    return type


def _leaf(graph: Btf, type: int) -> MapField | None:
    resolved, declared = graph.resolve(type), graph.types[type]
    if resolved.kind is Kind.STRUCT and resolved.name in _STRUCTURES:
        return MapField(0, resolved.size, resolved.name, is_plain=declared.kind is Kind.STRUCT)
    tag = _tag(graph, resolved.type) if resolved.kind is Kind.PTR else None
    if tag is None:
        return None
    first = graph.types[resolved.type]
    is_only = first.kind is Kind.TYPE_TAG and graph.types[first.type].kind is not Kind.TYPE_TAG
    return MapField(0, _POINTER_BYTES, tag, _bare(graph, resolved.type), is_plain=is_only and declared.kind is Kind.PTR)


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

"""Which structures of an object's own a program may allocate, and what the kernel keeps in them (btf_parse_struct_metas
and btf_check_and_fixup_fields in kernel/bpf/btf.c).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from verifier_model.bpf.btf import Btf, Kind
from verifier_model.contracts.map_fields import MOST_KEPT, MapField, fields_of_structure

ROOTS: Final = frozenset({"bpf_list_head", "bpf_rb_root"})
NODES: Final = frozenset({"bpf_list_node", "bpf_rb_node"})
_KEPT: Final = ROOTS | NODES | {"bpf_spin_lock", "bpf_refcount", "kptr"}
_KNOWN: Final = _KEPT | {"bpf_timer", "bpf_wq", "kptr_untrusted", "percpu_kptr"}
_ONCE: Final = frozenset({"bpf_spin_lock", "bpf_refcount", "bpf_timer", "bpf_wq"})


def local_fields(types: Btf, type_id: int) -> tuple[MapField, ...] | str:
    """The kernel's own fields of a structure, or why it is none that the model follows."""
    if not 0 < type_id < len(types.types) or types.types[type_id].kind is not Kind.STRUCT:
        return "type ID argument must be of a struct"
    found = types.types[type_id]
    if not found.name:
        return "the model does not follow objects of a structure without a name"
    fields = fields_of_structure(types, type_id)
    if fields is None or any(not row.is_direct or not row.is_plain or row.kind not in _KEPT for row in fields):
        return f"the model does not follow the fields of struct {found.name}"
    return fields if all_agree(types, fields) else f"struct {found.name} is none that a kernel takes"


def all_agree(types: Btf, fields: tuple[MapField, ...]) -> bool:
    """Does a kernel keep these fields?  Of a value with one that it does not take it keeps none."""
    kinds = Counter(row.kind for row in fields)
    if len(fields) > MOST_KEPT or not all(row.is_plain and row.kind in _KNOWN for row in fields):
        return False
    if any(kinds[kind] > 1 for kind in _ONCE) or (kinds.keys() & ROOTS and "bpf_spin_lock" not in kinds):
        return False
    if kinds.keys() >= NODES and "bpf_refcount" not in kinds:
        return False
    for row in fields:
        if row.kind not in ROOTS:
            continue
        inner = fields_of_structure(types, row.element) if row.element else None
        if inner is None or not any(each.off == row.node and each.kind in NODES for each in inner):
            return False
        if kinds.keys() & NODES and any(each.kind in ROOTS for each in inner):
            return False
    return True

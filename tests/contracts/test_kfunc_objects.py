"""The structures in prototypes of kfuncs, as rows and as the running kernel's BTF has them."""

from __future__ import annotations

import pytest

from verifier_model.bpf.btf import VOID, Btf, Kind
from verifier_model.contracts.kfunc_objects import KFUNC_OBJECTS
from verifier_model.contracts.kfuncs import KFUNCS
from verifier_model.kernel.types import running_kernel_types


def structure(types: Btf, type_id: int) -> str:
    found = types.resolve(type_id) if type_id != VOID else None
    if found is None or found.kind is not Kind.PTR or found.type == VOID:
        return "-"
    target = types.resolve(found.type)
    return target.name if target.kind in (Kind.STRUCT, Kind.UNION) else "-"


@pytest.mark.needs("bpf", "linux-6.18")
def test_rows_are_what_the_kernel_declares() -> None:
    types = running_kernel_types()
    assert types is not None
    seen = 0
    for name, row in sorted(KFUNC_OBJECTS.items()):
        at = types.function(name)
        if not at:
            continue
        seen += 1
        proto = types.types[types.types[at].type]
        names = [structure(types, member.type) for member in proto.members]
        assert [*row.arguments, *["-"] * (len(names) - len(row.arguments))] == names, name
        assert (row.result or "-") == structure(types, proto.type), name
    assert seen > 60


def test_rows_are_of_known_functions() -> None:
    assert set(KFUNC_OBJECTS) <= set(KFUNCS)

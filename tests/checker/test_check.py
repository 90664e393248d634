"""The model's word on tiny programs, and the running kernel's: the model never takes what the kernel refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.checker.programs import CASES, MAPS, Case, unit_of
from verifier_model.bpf.insn import Insn, RefKind, SlotOffset, encode
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker import check
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.programs import load_insns
from verifier_model.kernel.syscall import Refused, map_create


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_model_says(case: Case) -> None:
    unit, main = unit_of(case)
    report = check(unit, main)
    if case.refused is None:
        assert report.accepted and report.rejection is None, str(report.rejection)
        assert report.processed > 0
    else:
        assert not report.accepted and report.rejection is not None
        assert case.refused in report.rejection.reason


@pytest.fixture(scope="module")
def map_fds() -> Iterator[dict[str, int]]:
    fds = {row.name: map_create(row.type, row.key_size, row.value_size, row.max_entries) for row in MAPS.values()}
    yield fds
    for fd in fds.values():
        os.close(fd)


def linked(unit: Unit, fds: dict[str, int]) -> bytes:
    """All functions behind each other, with map file descriptors and distances filled in."""
    starts: dict[tuple[str, str], int] = {}
    at = 0
    for function in unit.functions:
        starts[function.name, ""] = at
        for block in function.blocks:
            starts[function.name, block.label] = at
            at += block.slots
    code, at = b"", 0
    for function in unit.functions:
        for _, insn in function.insns():
            at += insn.slots
            code += _encoded(function, insn, starts, at, fds)
    return code


def _encoded(function: Function, insn: Insn, starts: dict[tuple[str, str], int], at: int, fds: dict[str, int]) -> bytes:
    ref = insn.ref
    if ref is None:
        return encode(insn, "little")
    if ref.kind is RefKind.MAP:
        return encode(replace(insn, imm=fds[ref.name], ref=None), "little")
    place = (ref.name, "") if ref.kind is RefKind.FUNCTION else (function.name, ref.name)
    return encode(insn, "little", SlotOffset(starts[place] - at))


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_kernel_takes_what_the_model_takes(case: Case, map_fds: dict[str, int]) -> None:
    unit, main = unit_of(case)
    assert main.program_type is not None
    loaded = load_insns(linked(unit, map_fds), PROGRAM_TYPES[main.program_type].number)
    if isinstance(loaded, Refused):
        assert not check(unit, main).accepted, loaded.log
    else:
        loaded.close()

"""Kernel objects, CO-RE, kfuncs and global functions: the running kernel's word beside the model's, and its twin's."""

from __future__ import annotations

from pathlib import Path

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.checker.kernel_programs import HEAD, PROGRAMS, Program
from tests.llvm_bridge.objects import compile_text
from verifier_model.bpf.unit import Unit
from verifier_model.checker import check
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused
from verifier_model.kernel.types import running_kernel_types

pytestmark = pytest.mark.needs("bpf", "clang-19", "libbpf-dev")


def source(program: Program, is_twin: bool) -> str:
    text = HEAD.replace("LICENSE", program.license) + program.text
    if is_twin:
        old, new = program.twin
        assert old in text, program.name
        text = text.replace(old, new)
    return text


def is_in_kallsyms(name: str) -> bool:
    return any(line.split()[2] == name for line in Path("/proc/kallsyms").read_text().splitlines())


def unit_of(data: bytes) -> Unit:
    found = read_object(data)
    assert isinstance(found, Object), found
    return found.unit


def kernel_takes(data: bytes) -> tuple[bool, str]:
    loaded = load_object(data, LoadOptions(only=frozenset({"p"})))
    if isinstance(loaded, Refused):
        return False, loaded.log
    loaded.close()
    return True, ""


@pytest.mark.parametrize("is_twin", [False, True], ids=["right", "twin"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_model_says_what_the_kernel_says(program: Program, is_twin: bool) -> None:
    data = compile_text(source(program, is_twin), "clang-19", "bpf", "v3", "-g", "-Wno-everything")
    accepted, log = kernel_takes(data)
    if program.variable:
        # Types do not say whether the kernel finds the address: the model refuses.
        assert not accepted or is_in_kallsyms(program.variable)
        accepted = False
    else:
        assert accepted is not is_twin, log[-600:]
    types = running_kernel_types()
    assert types is not None
    unit = for_kernel(unit_of(data), types)
    report = check(unit, unit.function("p"))
    assert report.accepted is accepted, (report.rejection, log[-600:])


@pytest.mark.parametrize("program", [row for row in PROGRAMS if row.variable], ids=lambda program: program.name)
def test_a_variable_without_an_address_is_refused_in_any_unit(program: Program) -> None:
    data = compile_text(source(program, False), "clang-19", "bpf", "v3", "-g", "-Wno-everything")
    unit = unit_of(data)
    assert not check(unit, unit.function("p")).accepted


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_what_the_kernel_takes_is_taken_without_its_types_too(program: Program) -> None:
    """The optimiser has no kernel at hand: the source's own types stand for it."""
    unit = unit_of(compile_text(source(program, False), "clang-19", "bpf", "v3", "-g", "-Wno-everything"))
    report = check(unit, unit.function("p"))
    if program.typed:
        assert not report.accepted
        return
    if program.variable:
        # Nor does the source say whether any kernel finds the address.
        assert report.rejection is not None and program.variable in report.rejection.reason
        return
    assert report.accepted, report.rejection


@pytest.mark.parametrize(
    "program", [row for row in PROGRAMS if "nf_conn" in row.text], ids=lambda program: program.name
)
def test_a_type_that_only_the_kernel_tells_apart_is_told_apart_in_any_unit(program: Program) -> None:
    data = compile_text(source(program, True), "clang-19", "bpf", "v3", "-g", "-Wno-everything")
    assert not kernel_takes(data)[0]
    unit = unit_of(data)
    assert not check(unit, unit.function("p")).accepted

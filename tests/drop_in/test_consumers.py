"""What reads our objects: llvm-strip, readelf, libbpf's linker and skeletons, bpf2go's steps, and k2-clang again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llvm_bridge.lint import lint
from tests.drop_in.compilers import fast_launcher
from tests.llvm_bridge.objects import INCLUDE, PROGRAMS
from tests.wrapper.harness import environment, fill

TOOLS = ("clang-19", "libbpf-dev", "bpftool", "llvm-strip-19", "llvm-readelf-19")
# Several programs in a section, static and global subprograms, callbacks; CO-RE; kfuncs, ksyms, kconfig, struct_ops, a
# table of tail calls.
NAMES = ("calls", "core", "externs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every program compiled by k2-clang with its passes, once."""
    made = tmp_path_factory.mktemp("objects")
    wrapper = fast_launcher(made / "bin")
    for name in NAMES:
        words = [
            "-target",
            "bpf",
            "-O2",
            "-g",
            "-mcpu=v3",
            INCLUDE,
            "-c",
            str(PROGRAMS / f"{name}.c"),
            "-o",
            f"{name}.o",
        ]
        succeeds([str(wrapper), *words], made)
    return made


def succeeds(command: list[str], folder: Path) -> bytes:
    settings = environment(K2_CLANG="clang-19", K2_TIERS="passes")
    path = f"{settings['PATH']}:/usr/sbin"
    done = subprocess.run(command, cwd=folder, env={**settings, "PATH": path}, capture_output=True)
    assert done.returncode == 0 and done.stderr == b"", (command, done.stderr)
    return done.stdout


@pytest.mark.needs(*TOOLS)
@pytest.mark.parametrize("name", NAMES)
def test_strip_readelf_linker_and_skeleton(name: str, folder: Path) -> None:
    """As bpf2go and makefiles do it: strip -g; then link three times, the last two alike; then a skeleton."""
    original = (folder / f"{name}.o").read_bytes()
    assert not lint(original)
    succeeds(["llvm-readelf-19", "-a", f"{name}.o"], folder)
    (folder / f"{name}.s.o").write_bytes(original)
    succeeds(["llvm-strip-19", "-g", f"{name}.s.o"], folder)
    assert b".BTF.ext" in (folder / f"{name}.s.o").read_bytes()
    # llvm-strip renumbers symbols and leaves .llvm_addrsig as it was, in clang's own objects too.
    assert {finding.rule for finding in lint((folder / f"{name}.s.o").read_bytes())} <= {"addrsig"}
    sources = (f"{name}.s.o", f"{name}.1.o", f"{name}.2.o")
    for number, source in enumerate(sources, 1):
        succeeds(["bpftool", "gen", "object", f"{name}.{number}.o", source], folder)
    assert (folder / f"{name}.2.o").read_bytes() == (folder / f"{name}.3.o").read_bytes()
    if name != "calls":  # it has a static entry program, which libbpf 1.x refuses
        assert b"__open(" in succeeds(["bpftool", "gen", "skeleton", f"{name}.3.o", "name", "skel"], folder)


@pytest.mark.needs(*TOOLS, "llvm-objdump-19")
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
@pytest.mark.parametrize("level", ["v1", "v2", "v3", "v4"])
def test_no_instruction_is_above_the_level(level: str, target: str, tmp_path: Path) -> None:
    """The disassembler of that very level knows every instruction, in both byte orders, without -g."""
    wrapper = fast_launcher(tmp_path / "bin")
    fill(tmp_path / "work")
    words = ["-target", target, "-O2", f"-mcpu={level}", "-c", "work/prog.c", "-o", "x.o"]
    succeeds([str(wrapper), *words], tmp_path)
    text = succeeds(["llvm-objdump-19", "-d", "--no-show-raw-insn", f"--mcpu={level}", "x.o"], tmp_path)
    assert b"<unknown>" not in text and text.count(b"exit") >= 1
    if level in ("v1", "v2"):
        assert b"\tw" not in text and b"if w" not in text


@pytest.mark.needs(*TOOLS)
def test_ours_again_is_ours_in_the_two_steps_that_others_take(folder: Path, tmp_path: Path) -> None:
    """k2 opt on an object of ours makes no function longer and keeps it sound."""
    from object_stage import optimise_bytes
    from synth.settings import Settings

    data = (folder / "calls.o").read_bytes()
    again = optimise_bytes(data, Settings(tiers=("passes",)))
    assert all(function.slots_after <= function.slots_before for function in again.record.functions)
    assert not lint(again.data)
    third = optimise_bytes(again.data, Settings(tiers=("passes",)))
    assert third.data == again.data

"""`k2 toolchain DIR`: what the kernel's makefiles, older pipelines with llc and bpf2go make of the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from k2_tools.toolchain import ToolchainError, launcher, make_toolchain
from tests.drop_in.rows import SOURCES
from tests.wrapper.harness import Seen, environment, fill, observe

MAJORS = [pytest.param(n, marks=pytest.mark.needs(f"clang-{n}", f"llc-{n}")) for n in (14, 16, 19)]
# As the kernel's top makefile takes LLVM= apart: a folder with its slash, a suffix, or 1.
MAKEFILE = """
ifneq ($(filter %/,$(LLVM)),)
LLVM_PREFIX := $(LLVM)
else ifneq ($(filter -%,$(LLVM)),)
LLVM_SUFFIX := $(LLVM)
endif
CLANG := $(LLVM_PREFIX)clang$(LLVM_SUFFIX)
LLC := $(LLVM_PREFIX)llc$(LLVM_SUFFIX)
STRIP := $(LLVM_PREFIX)llvm-strip$(LLVM_SUFFIX)
DIS := $(LLVM_PREFIX)llvm-dis$(LLVM_SUFFIX)
OPT := $(LLVM_PREFIX)opt$(LLVM_SUFFIX)

all: prog.bpf.o two.o three.o
%.bpf.o: %.c
\t$(CLANG) --target=bpf -mcpu=v3 -O2 -g -c $< -o $@ && $(STRIP) -g $@
two.o: prog.c
\t$(CLANG) -S -target bpf -O2 -emit-llvm -c -g -o two.ll prog.c
\t$(LLC) -march=bpf -mcpu=v3 -filetype=obj -o $@ two.ll
three.o: prog.c
\t$(CLANG) -O2 -target bpf -emit-llvm -Xclang -disable-llvm-passes -c prog.c -o - | \\
\t$(OPT) -O2 -mtriple=bpf-pc-linux | $(DIS) | $(LLC) -march=bpf -mcpu=v3 -filetype=obj -o $@
"""
OBJECTS = ("prog.bpf.o", "two.o", "three.o")


def built(folder: Path, *words: str, **variables: str) -> Seen:
    work = fill(folder / "work", {**SOURCES, "Makefile": MAKEFILE})
    return observe(["make", "-s", *words], work, b"", **variables)


@pytest.mark.parametrize("major", MAJORS)
def test_makefiles_of_the_kernel_and_pipelines_with_llc(major: int, tmp_path: Path) -> None:
    """LLVM=DIR/, with clang's own bytes where no tier is on, and smaller objects of every rule where one is."""
    made = tmp_path / "toolchain"
    make_toolchain(made, f"clang-{major}")
    theirs = built(tmp_path, f"LLVM=/usr/lib/llvm-{major}/bin/")
    assert theirs.code == 0, theirs.stderr
    assert built(tmp_path, f"LLVM={made}/", K2_TIERS="none") == theirs
    ours = built(tmp_path, f"LLVM={made}/", K2_TIERS="passes")
    assert ours.without(*OBJECTS) == theirs.without(*OBJECTS)
    for name in OBJECTS:
        assert len(ours.files[name][1]) < len(theirs.files[name][1]), name


@pytest.mark.needs("clang-16", "llc-16")
def test_suffixes_with_the_folder_first_on_path(tmp_path: Path) -> None:
    made = tmp_path / "toolchain"
    make_toolchain(made, "clang-16", "-k2")
    path = f"{made}:{environment()['PATH']}"
    theirs = built(tmp_path, "LLVM=-16", "prog.bpf.o")
    for suffix in ("-16", "-k2", "1"):
        ours = built(tmp_path, f"LLVM={suffix}", "prog.bpf.o", K2_TIERS="passes", PATH=path)
        assert ours.without("prog.bpf.o") == theirs.without("prog.bpf.o")
        assert len(ours.files["prog.bpf.o"][1]) < len(theirs.files["prog.bpf.o"][1])


@pytest.mark.needs("clang-16", "clang-19")
def test_compiler_behind_is_the_one_it_was_made_for_unless_k2_clang_says_another(tmp_path: Path) -> None:
    make_toolchain(tmp_path, "clang-16")
    for name in ("clang", "clang-16"):
        assert observe([str(tmp_path / name), "-dumpversion"], tmp_path).stdout.startswith(b"16.")
    assert observe([str(tmp_path / "clang"), "-dumpversion"], tmp_path, K2_CLANG="clang-19").stdout.startswith(b"19.")
    path = f"{tmp_path}:{environment()['PATH']}"
    found = observe(["sh", "-c", "clang-16 --version"], tmp_path, PATH=path).stdout.splitlines()
    assert b"clang version 16." in found[0] and found[-1].startswith(b"k2-clang ")


@pytest.mark.needs("clang-19")
def test_every_tool_has_the_names_that_bpf2go_and_others_derive(tmp_path: Path) -> None:
    make_toolchain(tmp_path, "clang-19")
    for tool in ("llvm-strip", "llvm-objcopy", "llvm-readelf", "llvm-dis", "opt", "clang++"):
        for name in (tool, f"{tool}-19"):
            assert (tmp_path / name).is_symlink() and os.access(tmp_path / name, os.X_OK), name


@pytest.mark.needs("clang-16", "clang-19")
def test_folder_of_ours_is_made_anew_and_a_strangers_is_left_alone(tmp_path: Path) -> None:
    make_toolchain(tmp_path / "ours", "clang-16")
    make_toolchain(tmp_path / "ours", "clang-19")
    assert observe([str(tmp_path / "ours" / "clang"), "-dumpversion"], tmp_path).stdout.startswith(b"19.")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "clang").write_text("somebody's")
    with pytest.raises(ToolchainError, match="exists and is not ours"):
        make_toolchain(foreign, "clang-19")
    assert [path.name for path in foreign.iterdir()] == ["clang"] and (foreign / "clang").read_text() == "somebody's"
    with pytest.raises(ToolchainError, match="no-such-clang"):
        make_toolchain(tmp_path / "none", "no-such-clang")


@pytest.mark.needs("clang-19")
def test_python_behind_a_long_path_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ("a long way " * 12) / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    script = tmp_path / "clang"
    script.write_text(launcher(("/usr/bin/clang-19",)))
    script.chmod(0o755)
    done = subprocess.run([str(script), "-dumpversion"], capture_output=True, text=True, env=environment())
    assert done.stdout.startswith("19.") and done.stderr == ""

"""find_package(K2) and k2_bpf_object(...) in a project of their own, with both of CMake's usual generators."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_tools.cli import main
from synth.settings import VERSION
from tests.drop_in.compilers import fast_launcher
from tests.drop_in.rows import SOURCES
from tests.drop_in.test_settings_file import TELLING
from tests.wrapper.harness import Seen, fill, observe

pytestmark = pytest.mark.needs("cmake", "clang-19")
LISTS = """
cmake_minimum_required(VERSION 3.20)
project(example LANGUAGES NONE)
find_package(K2 {version} REQUIRED)
k2_bpf_object(plain SOURCE src/prog.c INCLUDES include DEFINITIONS "WORD=1 + 1" CPU v3 {more})
k2_bpf_object(other SOURCE src/prog.c OUTPUT deep/er/x.o OPTIONS -Wall -Wextra SETTINGS GOAL=size SEED=5
              REPORT report.json EXCLUDE_FROM_ALL)
get_target_property(where plain K2_OBJECT)
message(STATUS "object: ${{where}}")
"""
PROG = '#include "own.h"\n' + SOURCES["prog.c"]


def project(tmp_path: Path, version: str = VERSION, more: str = "") -> Path:
    folder = fill(tmp_path / "work", {"CMakeLists.txt": LISTS.format(version=version, more=more)})
    for name, text in (("src/prog.c", PROG), ("include/own.h", "int unused;\n"), ("src/own.h", "int near;\n")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def configured(folder: Path, wrapper: Path, generator: str = "Unix Makefiles") -> Seen:
    place = CliRunner().invoke(main, ["cmake-dir"]).stdout.strip()
    words = ["-G", generator, f"-DK2_DIR={place}", f"-DK2_CLANG_EXECUTABLE={wrapper}"]
    return observe(["cmake", "-S", ".", "-B", "build", *words], folder, b"", K2_CLANG="clang-19")


def built(folder: Path, *words: str) -> Seen:
    return observe(["cmake", "--build", "build", *words], folder, b"", K2_CLANG="clang-19")


@pytest.mark.parametrize("generator", ["Unix Makefiles", pytest.param("Ninja", marks=pytest.mark.needs("ninja"))])
def test_objects_settings_and_dependencies(generator: str, tmp_path: Path) -> None:
    wrapper = fast_launcher(tmp_path / "bin", before=TELLING)
    folder = project(tmp_path)
    seen = configured(folder, wrapper, generator)
    assert seen.code == 0, seen.stderr
    assert f"object: {folder}/build/plain.bpf.o".encode() in seen.stdout
    seen = built(folder)
    assert seen.code == 0, seen.stdout + seen.stderr
    assert seen.files["build/plain.bpf.o"][1].endswith(b"|balanced 1") and "build/deep/er/x.o" not in seen.files
    seen = built(folder, "--target", "other")
    assert seen.files["build/deep/er/x.o"][1].endswith(b"|size 5") and "build/report.json" in seen.files
    first = (folder / "build/plain.bpf.o").stat().st_mtime_ns
    built(folder)
    assert (folder / "build/plain.bpf.o").stat().st_mtime_ns == first, "nothing changed, nothing to do"
    (folder / "src/own.h").write_text("int near, more;\n")
    os.utime(folder / "src/own.h", ns=(first + 10**9, first + 10**9))
    built(folder)
    assert (folder / "build/plain.bpf.o").stat().st_mtime_ns != first, "a header changed"


@pytest.mark.needs("bpftool")
def test_skeleton_of_a_really_optimised_object(tmp_path: Path) -> None:
    objects = []
    for tiers in ("passes", "none"):
        folder = project(tmp_path, more=f"SKELETON SETTINGS TIERS={tiers}")
        assert configured(folder, fast_launcher(tmp_path / "bin")).code == 0
        seen = built(folder)
        assert seen.code == 0, seen.stdout + seen.stderr
        assert b"struct plain *" in seen.files["build/plain.skel.h"][1]
        objects.append(seen.files["build/plain.bpf.o"][1])
    assert len(objects[0]) < len(objects[1])


@pytest.mark.parametrize(
    ("version", "more", "words"),
    [
        ("99.0", "", b"version"),
        (VERSION, "NO_SUCH_WORD", b"unknown argument NO_SUCH_WORD"),
        ("", "REPORT", b"no value for REPORT"),
    ],
)
def test_wrong_use_ends_the_configuration(version: str, more: str, words: bytes, tmp_path: Path) -> None:
    seen = configured(project(tmp_path, version, more), fast_launcher(tmp_path / "bin", before=TELLING))
    assert seen.code != 0 and words in seen.stderr


def test_missing_compiler_is_named(tmp_path: Path) -> None:
    seen = configured(project(tmp_path), Path("K2_CLANG_EXECUTABLE-NOTFOUND"))
    assert seen.code != 0 and b"k2-clang is not on PATH" in seen.stderr

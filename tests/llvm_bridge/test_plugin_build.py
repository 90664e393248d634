"""The pass plugin is built where an LLVM allows it, and nowhere may it stop the rest of the build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "llvm_bridge" / "plugin"
PROJECT = f"""cmake_minimum_required(VERSION 3.18...3.31)
project(around LANGUAGES CXX)
include({RECIPES}/for_every_llvm.cmake)
"""
pytestmark = pytest.mark.needs("c++")


def cmake(folder: Path, *words: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CMAKE_GENERATOR": "Ninja"}
    done = subprocess.run(
        ["cmake", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout + done.stderr


def surrounded(tmp_path: Path, major: int, config: str) -> Path:
    """A project like ours, and beside it an LLVM of that major version whose development files are `config`."""
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    llvm = tmp_path / "llvm"
    llvm.mkdir()
    (llvm / "LLVMConfig.cmake").write_text(f"set(LLVM_VERSION_MAJOR {major})\n{config}\n")
    cmake(tmp_path, "-S", ".", "-B", "build", f"-DK2_LLVM_DIRS={llvm}")
    return tmp_path / "build"


def test_llvm_that_does_not_fit_is_left_out_with_a_line(tmp_path: Path) -> None:
    """Its headers are missing, so compilation fails."""
    build = surrounded(tmp_path, 99, "")
    said = cmake(build, "--build", ".", "--target", "k2_plugin_llvm99")
    assert "no pass plugin for " in said and "rror" in said.partition("no pass plugin for ")[2]
    assert not list(build.glob("plugin/*.so"))


def test_broken_llvm_is_left_out_with_a_line(tmp_path: Path) -> None:
    build = surrounded(tmp_path, 98, 'message(FATAL_ERROR "broken")')
    assert "no pass plugin for " in cmake(build, "--build", ".", "--target", "k2_plugin_llvm98")


def test_too_old_llvm_and_no_plugins_at_all(tmp_path: Path) -> None:
    build = surrounded(tmp_path, 13, "")
    assert "k2_plugin_llvm13" not in cmake(build, "--build", ".", "--target", "help")
    cmake(build, "-DK2_PLUGIN=OFF", ".")
    assert "k2_plugin_llvm" not in cmake(build, "--build", ".", "--target", "help")
    cmake(build, "--build", ".", "--target", "k2_plugin")


@pytest.mark.needs("llvm-19-dev")
def test_llvm_that_fits_gets_one_with_its_number(tmp_path: Path) -> None:
    """The twin: the same rules with the real LLVM 19."""
    build = surrounded(tmp_path, 13, "")
    assert "no pass plugin" not in cmake(build, "--build", ".", "--target", "k2_plugin_llvm19")
    assert [path.name for path in build.glob("plugin/*")] == ["k2_plugin_llvm19.so"]

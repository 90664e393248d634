"""Builds with one cache: the second does no search and writes the same bytes, whatever became of the optimiser."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.wrapper.harness import SOURCES, Seen, fill, launcher, observe

pytestmark = pytest.mark.needs("clang-19")
ARGUMENTS = shlex.split("--target=bpf -O2 -g -mcpu=v3 -c prog.c -o prog.o")
BROKEN = """
import object_stage
def fault(*arguments):
    raise RuntimeError("nothing may be searched")
object_stage.optimise_bytes = fault
"""


def build(wrapper: Path, work: Path, cache: Path, **variables: str) -> Seen:
    settings: dict[str, str] = {"K2_CLANG": "clang-19", "K2_EFFORT": "0", "K2_CACHE": str(cache), **variables}
    return observe([str(wrapper), *ARGUMENTS], work, b"", **settings)


def test_a_second_build_searches_nothing_and_writes_the_same(tmp_path: Path) -> None:
    cache, work = tmp_path / "cache", tmp_path / "work"
    first = build(launcher(tmp_path / "sound"), fill(work), cache)
    plain = observe(["clang-19", *ARGUMENTS], fill(work))
    assert (first.code, first.stderr) == (0, b"")
    assert first.files["prog.o"] != plain.files["prog.o"]
    broken = launcher(tmp_path / "broken", fault=BROKEN)
    second = build(broken, fill(work), cache)
    assert (second.code, second.stderr) == (0, b"")
    assert second.files["prog.o"] == first.files["prog.o"]
    for again in (build(broken, fill(work), cache, K2_GOAL="size"), build(broken, fill(work), cache, K2_CACHE="off")):
        assert b"nothing may be searched" in again.stderr
        assert again.files["prog.o"] == plain.files["prog.o"], "a failure is no result, and is not kept"
    other = fill(work, {**SOURCES, "prog.c": SOURCES["prog.c"].replace("data[13] == 0", "data[13] == 1")})
    assert b"nothing may be searched" in build(broken, other, cache).stderr

"""Many of us at once: make's jobs and tokens, two makes with one object."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.drop_in.compilers import fast_launcher
from tests.drop_in.rows import SOURCES
from tests.wrapper.harness import SECONDS, environment, fill, observe

pytestmark = pytest.mark.needs("clang-19", "make")
COUNT = 6
# The stage says when it works, in one write each, and takes its time.
LOGGING = """
import object_stage, os, time
from synth.record import Record
def work(data, settings, cpu_level=None, second=None):
    log = os.open("LOG", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"+")
    time.sleep(0.3)
    os.write(log, b"-")
    return object_stage.Outcome(data + b"|", Record(()))
object_stage.optimise_bytes = work
"""
MAKEFILE = """
.PHONY: all
all: $(OBJECTS)
%.o: prog.c
\t+$(CC) --target=bpf -O2 -c prog.c -o $@
"""
OBJECTS = " ".join(f"x{number}.o" for number in range(COUNT))


def most_at_once(log: str) -> int:
    level = most = 0
    for mark in log:
        level += 1 if mark == "+" else -1
        most = max(most, level)
    assert level == 0
    return most


@pytest.mark.parametrize("jobs", [1, 3, 16])
def test_no_more_workers_than_tokens_and_no_token_lost(jobs: int, tmp_path: Path) -> None:
    """`+` hands the jobserver to the recipe; a token that it kept would be an error of make's at the end."""
    folder = fill(tmp_path / "work", {**SOURCES, "Makefile": MAKEFILE})
    wrapper = fast_launcher(tmp_path / "bin", before=LOGGING.replace("LOG", str(tmp_path / "log")))
    words = ["make", "-s", f"-j{jobs}", f"CC={wrapper}", f"OBJECTS={OBJECTS}"]
    seen = observe(words, folder, b"", K2_CLANG="clang-19")
    assert seen.code == 0 and seen.stderr == b"" and seen.stdout == b""
    log = (tmp_path / "log").read_text()
    assert log.count("+") == COUNT
    assert most_at_once(log) == 1 if jobs == 1 else 1 < most_at_once(log) <= jobs


def test_bytes_are_the_same_at_any_number_of_jobs(tmp_path: Path) -> None:
    wrapper = fast_launcher(tmp_path / "bin")
    seen = []
    for jobs in (1, 16):
        folder = fill(tmp_path / "work", {**SOURCES, "Makefile": MAKEFILE})
        words = ["make", "-s", f"-j{jobs}", f"CC={wrapper}", "OBJECTS=x0.o x1.o x2.o"]
        seen.append(observe(words, folder, b"", K2_CLANG="clang-19", K2_TIERS="passes"))
    assert seen[0] == seen[1] and seen[0].files["x0.o"] == seen[0].files["x2.o"]


WAITING = """
import object_stage, os, time
from synth.record import Record
def work(data, settings, cpu_level=None, second=None):
    open("STARTED", "w").close()
    while not os.path.exists("GO"):
        time.sleep(0.02)
    return object_stage.Outcome(data + b"|late", Record(()))
object_stage.optimise_bytes = work
"""


@pytest.mark.parametrize("is_newer", [True, False])
def test_object_that_another_make_has_written_meanwhile_stays(is_newer: bool, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    late = WAITING.replace("STARTED", str(started)).replace("GO", str(go))
    slow = fast_launcher(tmp_path / "slow", before=late)
    folder = fill(tmp_path / "work", SOURCES)
    words = ["--target=bpf", "-O2", "-c", "prog.c", "-o", "prog.o"]
    process = subprocess.Popen([str(slow), *words], cwd=folder, env=environment(K2_CLANG="clang-19"))
    deadline = time.monotonic() + SECONDS
    while not started.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    first = (folder / "prog.o").read_bytes()
    if is_newer:
        (folder / "prog.c").write_text(SOURCES["second.c"])
        assert observe(["clang-19", *words], folder).code == 0
    between = (folder / "prog.o").read_bytes()
    assert (between != first) == is_newer
    go.touch()
    assert process.wait(SECONDS) == 0
    assert (folder / "prog.o").read_bytes() == (between if is_newer else first + b"|late")
    assert not [name for name in os.listdir(folder) if "k2-" in name]  # noqa: PTH208


def test_two_makes_with_one_object_leave_a_whole_one(tmp_path: Path) -> None:
    wrapper = fast_launcher(tmp_path / "bin", before=LOGGING.replace("LOG", os.devnull))
    folder = fill(tmp_path / "work", SOURCES)
    words = [str(wrapper), "--target=bpf", "-O2", "-c", "prog.c", "-o", "prog.o"]
    plain = observe(["clang-19", *words[1:]], folder).files["prog.o"][1]
    for _ in range(3):
        both = [subprocess.Popen(words, cwd=folder, env=environment(K2_CLANG="clang-19")) for _ in range(2)]
        assert [process.wait(SECONDS) for process in both] == [0, 0]
        # Either of them may have been given what the other had finished.
        assert (folder / "prog.o").read_bytes().rstrip(b"|") == plain.rstrip(b"|")
        assert not [name for name in os.listdir(folder) if "k2-" in name]  # noqa: PTH208

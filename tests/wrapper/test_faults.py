"""Whatever happens to the optimiser, clang's object and clang's exit code stay."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.wrapper.harness import SECONDS, environment, files, fill, launcher, observe

pytestmark = pytest.mark.needs("clang-19")
ARGUMENTS = shlex.split("--target=bpf -O2 -g -mcpu=v3 -c prog.c -o prog.o")

REPLACED = """
import os, signal, time, object_stage
def fault(data, settings, cpu_level=None, second=None):
    {}
object_stage.optimise_bytes = fault
"""
FAULTS = {
    "raises": ("raise RuntimeError('on purpose')", "RuntimeError: on purpose"),
    "raises SystemExit": ("raise SystemExit(3)", "SystemExit: 3"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    "exits": ("os._exit(5)", "ended early with status 5"),
    "exits as if all were well": ("os._exit(0)", "ended early with status 0"),
    "is stuck": ("time.sleep(600)", "took more than 2 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_leaves_clangs_object_and_exit_code(fault: str, tmp_path: Path) -> None:
    code, words = FAULTS[fault]
    wrapper = launcher(tmp_path / "bin", fault=REPLACED.format(code))
    theirs = observe(["clang-19", *ARGUMENTS], fill(tmp_path / "work"))
    ours = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_TIMEOUT="2")
    assert ours.files == theirs.files and ours.code == theirs.code == 0 and ours.stdout == theirs.stdout
    lines = ours.stderr.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("k2-clang: prog.o: ") and words in lines[0]


def test_fault_fails_a_strict_compilation_and_leaves_no_object(tmp_path: Path) -> None:
    wrapper = launcher(tmp_path / "bin", fault=REPLACED.format("os._exit(5)"))
    seen = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_STRICT="1")
    assert seen.code == 1 and "prog.o" not in seen.files


def test_unwritable_result_is_no_harm(tmp_path: Path) -> None:
    fault = """
import os, object_stage
from synth.record import Record
def refuse(source, destination):
    raise PermissionError(13, "on purpose")
os.replace = refuse
object_stage.optimise_bytes = lambda data, *others: object_stage.Outcome(data + b"x", Record(()))
"""
    wrapper = launcher(tmp_path / "bin", fault=fault)
    theirs = observe(["clang-19", *ARGUMENTS], fill(tmp_path / "work"))
    ours = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19")
    assert ours.files == theirs.files and ours.code == 0
    assert b"on purpose" in ours.stderr


def test_harness_sees_an_object_that_was_replaced(tmp_path: Path) -> None:
    """The twin of the tests above: without a fault, the stage's bytes do arrive."""
    fault = """
import object_stage
from synth.record import Record
object_stage.optimise_bytes = lambda data, *others: object_stage.Outcome(data + b"x", Record(()))
"""
    wrapper = launcher(tmp_path / "bin", fault=fault)
    theirs = observe(["clang-19", *ARGUMENTS], fill(tmp_path / "work"))
    ours = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19")
    assert ours.files["prog.o"] == (theirs.files["prog.o"][0], theirs.files["prog.o"][1] + b"x")
    assert ours.without("prog.o") == theirs.without("prog.o")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("to_group", [False, True])
def test_stopping_during_our_stage(number: signal.Signals, to_group: bool, tmp_path: Path) -> None:
    started = tmp_path / "started"
    wrapper = launcher(
        tmp_path / "bin", fault=REPLACED.format(f"open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    )
    theirs = observe(["clang-19", *ARGUMENTS], fill(tmp_path / "work"))
    folder = fill(tmp_path / "work")
    process = subprocess.Popen(
        [str(wrapper), *ARGUMENTS], cwd=folder, env=environment(K2_CLANG="clang-19"), start_new_session=True
    )
    deadline = time.monotonic() + SECONDS
    while not (started.exists() and started.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    (os.killpg if to_group else os.kill)(process.pid, number)
    assert process.wait(SECONDS) == -number
    assert files(folder) == theirs.files, "clang's object, and no temporary file"
    child = int(started.read_text())
    while _is_running(child):
        assert time.monotonic() < deadline, "the optimiser outlives the compiler"
        time.sleep(0.02)


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV])
def test_compiler_that_dies_of_a_signal_is_seen_to(number: signal.Signals, tmp_path: Path) -> None:
    dying = tmp_path / "clang-dying"
    dying.write_text(f"#!/bin/sh\necho words >&2\nkill -{int(number)} $$\n")
    dying.chmod(0o755)
    wrapper = launcher(tmp_path / "bin")
    seen = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG=str(dying))
    assert seen.code == -number and seen.stderr == b"words\n" and "prog.o" not in seen.files


def test_failing_compilation_leaves_no_object(tmp_path: Path) -> None:
    wrapper = launcher(tmp_path / "bin")
    command = shlex.split("--target=bpf -O2 -g -c bad.c -o bad.o")
    theirs = observe(["clang-19", *command], fill(tmp_path / "work"))
    assert theirs.code == 1 and "bad.o" not in theirs.files
    assert observe([str(wrapper), *command], fill(tmp_path / "work"), K2_CLANG="clang-19") == theirs


def test_unknown_setting_warns_and_fails_only_under_strict(tmp_path: Path) -> None:
    wrapper = launcher(tmp_path / "bin", fault=REPLACED.format("return object_stage.Outcome(data, Record(()))"))
    wrapper.write_text(
        wrapper.read_text().replace("object_stage\n", "object_stage\nfrom synth.record import Record\n", 1)
    )
    lax = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_GAOL="size")
    assert lax.code == 0 and "prog.o" in lax.files
    assert lax.stderr == b"k2-clang: unknown setting K2_GAOL, did you mean K2_GOAL?\n"
    strict = observe(
        [str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_GAOL="size", K2_STRICT="1"
    )
    assert strict.code == 1 and "prog.o" not in strict.files
    probe = observe([str(wrapper), "-dumpversion"], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_GAOL="size")
    assert probe.stderr == b"", "a probe stays clang's to the byte"


def test_wrong_value_switches_us_off_and_says_so(tmp_path: Path) -> None:
    wrapper = launcher(tmp_path / "bin")
    theirs = observe(["clang-19", *ARGUMENTS], fill(tmp_path / "work"))
    ours = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_EFFORT="lots")
    assert ours.files == theirs.files and ours.code == 0
    assert ours.stderr.decode().startswith("k2-clang: K2_EFFORT='lots': expected ") and ours.stderr.count(b"\n") == 1


def test_missing_compiler_is_said_in_one_line(tmp_path: Path) -> None:
    wrapper = launcher(tmp_path / "bin")
    seen = observe([str(wrapper), *ARGUMENTS], fill(tmp_path / "work"), K2_CLANG="no-such-clang")
    assert seen.code != 0 and seen.stderr.startswith(b"k2-clang: ") and seen.stderr.count(b"\n") == 1

"""The child process around the optimiser, and the replacement of clang's object."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from object_stage import Outcome, Stopped, read_output, replace_output, run_in_child

CLANGS = b"clang's own bytes"
BETTER = b"better bytes"


def good() -> Outcome:
    return Outcome(BETTER, "{}")


def raises() -> NoReturn:
    raise ZeroDivisionError("on\npurpose")


def kills_itself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def segfaults() -> NoReturn:
    faulthandler.disable()  # pytest's own; its words would land in the test's log
    ctypes.string_at(0)
    raise AssertionError


def ends_early() -> NoReturn:
    os._exit(7)


def is_stuck() -> NoReturn:
    while True:
        time.sleep(60)


def test_good_child_hands_over_its_outcome() -> None:
    assert run_in_child(good, CLANGS, 60) == Outcome(BETTER, "{}")


def test_large_outcome_arrives_whole() -> None:
    big = bytes(range(256)) * 4096
    assert run_in_child(lambda: Outcome(big), CLANGS, 60).data == big


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (raises, "ZeroDivisionError: on purpose"),
        (kills_itself, "the optimiser was killed by SIGKILL"),
        (segfaults, "the optimiser was killed by SIGSEGV"),
        (ends_early, "the optimiser ended early with status 7"),
        (is_stuck, "the optimiser took more than 1 s"),
    ],
)
def test_failing_child_costs_the_gain_and_not_the_object(work: Callable[[], Outcome], problem: str) -> None:
    outcome = run_in_child(work, CLANGS, 1)
    assert outcome.problem == problem
    assert outcome.data == CLANGS


def test_child_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def chatters() -> Outcome:
        os.write(1, b"out")
        os.write(2, b"err")
        return good()

    assert run_in_child(chatters, CLANGS, 60).data == BETTER
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_signal_ends_the_child_and_is_told(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    with pytest.raises(Stopped) as stopped:
        run_in_child(is_stuck, CLANGS, 60)
    timer.join()
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) is before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_replacement_keeps_the_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.o"
    target.write_bytes(CLANGS)
    target.chmod(0o640)
    old = target.stat().st_ino
    replace_output(str(target), BETTER)
    assert target.read_bytes() == BETTER
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.stat().st_ino != old, "replaced by rename, not written in place"
    assert [path.name for path in tmp_path.iterdir()] == ["x.o"]


def test_failed_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.o"
    target.write_bytes(CLANGS)

    def refuse(source: str, destination: str) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        replace_output(str(target), BETTER)
    assert target.read_bytes() == CLANGS
    assert [path.name for path in tmp_path.iterdir()] == ["x.o"]


def test_only_regular_files_are_ours(tmp_path: Path) -> None:
    regular = tmp_path / "x.o"
    regular.write_bytes(CLANGS)
    assert read_output(str(regular)) == CLANGS
    link = tmp_path / "link.o"
    link.symlink_to(regular)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (link, fifo, tmp_path, tmp_path / "absent", Path(os.devnull)):
        assert read_output(str(path)) is None

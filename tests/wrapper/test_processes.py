"""The child around the optimiser, and the replacement of clang's object."""

from __future__ import annotations

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

from object_stage import read_output, replace_output
from processes import ChildFailed, Stopped, in_child

CLANGS = b"clang's own bytes"
BETTER = b"better bytes"


def good() -> bytes:
    return BETTER


def raises() -> NoReturn:
    raise ZeroDivisionError("on\npurpose")


def kills_itself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def segfaults() -> NoReturn:
    faulthandler.disable()  # pytest's own; its words would land in the test's log
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def ends_early() -> NoReturn:
    os._exit(7)


def ends_as_if_well() -> NoReturn:
    os._exit(0)


def is_stuck() -> NoReturn:
    while True:
        time.sleep(60)


@pytest.mark.parametrize("result", [b"", BETTER, bytes(range(256)) * 4096])
def test_result_arrives_whole(result: bytes) -> None:
    assert in_child(lambda: result, 60) == result
    assert in_child(lambda: result, 0) == result


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (raises, "ZeroDivisionError: on purpose"),
        (kills_itself, "the optimiser was killed by SIGKILL"),
        (segfaults, "the optimiser was killed by SIGSEGV"),
        (ends_early, "the optimiser ended early with status 7"),
        (ends_as_if_well, "the optimiser ended early with status 0"),
        (is_stuck, "the optimiser took more than 1 s"),
    ],
)
def test_failing_child_is_one_sentence(work: Callable[[], bytes], problem: str) -> None:
    with pytest.raises(ChildFailed) as failure:
        in_child(work, 1)
    assert str(failure.value) == problem
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_child_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def chatters() -> bytes:
        os.write(1, b"out")
        os.write(2, b"err")
        return BETTER

    assert in_child(chatters, 60) == BETTER
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_signal_ends_the_child_and_is_told(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    with pytest.raises(Stopped) as stopped:
        in_child(is_stuck, 60)
    timer.join()
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) is before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def outlives_a_hangup() -> bytes:
            os.kill(os.getppid(), signal.SIGHUP)
            return BETTER

        assert in_child(outlives_a_hangup, 60) == BETTER
    finally:
        signal.signal(signal.SIGHUP, before)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_replacement_keeps_the_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.o"
    target.write_bytes(CLANGS)
    target.chmod(0o640)
    old = target.stat().st_ino
    replace_output(str(target), BETTER)
    assert target.read_bytes() == BETTER
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.stat().st_ino != old, "replaced by rename, not written in place"
    assert names(tmp_path) == ["x.o"]


def test_replacement_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.o").write_bytes(CLANGS)
    replace_output("x.o", BETTER)
    assert Path("x.o").read_bytes() == BETTER
    assert names(tmp_path) == ["x.o"]


def test_failed_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.o"
    target.write_bytes(CLANGS)

    def refuse(source: str, destination: str) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        replace_output(str(target), BETTER)
    assert target.read_bytes() == CLANGS
    assert names(tmp_path) == ["x.o"]


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

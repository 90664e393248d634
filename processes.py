"""The wrapper's processes: the compiler that it runs, and the child that keeps our faults from the user."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
CHUNK = 1 << 16
SENT, RAISED = b"\0", b"\1"  # first byte of a child's message: its result, or the words of its exception
PR_SET_PDEATHSIG = 1  # prctl(2)


class Stopped(BaseException):
    """A stopping signal arrived; the argument is its number."""


class ChildFailed(Exception):  # noqa: N818  the field's word for it
    """The child did not deliver; the message is one sentence."""


def run(command: list[str]) -> int:
    """Run the compiler to its end; its exit code, negative for the signal that it died of or that we were to die of.

    Stopping signals are passed on to it and waited out, so that it can clean up as it does without us.
    """
    stopped_by = 0
    child = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = number
        os.kill(child, number)

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    try:
        child = os.posix_spawnp(command[0], command, os.environ, setsigdef=IGNORED_BY_PYTHON, setsigmask=mask)
        with _handling(forward):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _, status = os.waitpid(child, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = os.waitstatus_to_exitcode(status)
    return -stopped_by if code == 0 and stopped_by else code


def end_as(status: int) -> int:
    """The exit code that says the same as `status`; where that is a signal, die of it."""
    if status >= 0:
        return status
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the compiler has dumped its own core
    if -status not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status


def in_child(work: Callable[[], bytes], seconds: int) -> bytes:
    """What `work` returns in a forked child that has at most `seconds` (0: for ever) and whose output goes nowhere.

    Raises ChildFailed when it raises, crashes, is killed or takes too long, Stopped when a stopping signal arrives
    here; the child is gone in every case.
    """
    reading, writing = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(work, writing, mask)
    try:
        os.close(writing)
        with _handling(_raise_stopped):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            message = _read_all(reading, seconds)
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
        if message is None:
            os.kill(child, signal.SIGKILL)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if message is None:
        raise ChildFailed(f"the optimiser took more than {seconds} s")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise ChildFailed(f"the optimiser was killed by {signal.Signals(-code).name}")
    if code > 0 or not message:
        raise ChildFailed(f"the optimiser ended early with status {code}")
    if message[:1] == RAISED:
        raise ChildFailed(message[1:].decode())
    return message[1:]


class _handling:  # noqa: N801  reads as the verb that it is
    """Inside, a stopping signal calls `handler`; one that was ignored before stays ignored (nohup)."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self.handler = handler
        self.before = {number: signal.getsignal(number) for number in STOPPING_SIGNALS}

    def __enter__(self) -> None:
        for number, handler in self.before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self.handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _raise_stopped(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def _be_child(work: Callable[[], bytes], writing: int, mask: set[signal.Signals] | set[int]) -> NoReturn:
    """Do the work, send its result, and end without running the parent's clean-up."""
    try:
        for number in STOPPING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _die_with_parent_and_without_core()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):  # a native library's last words are no part of the compiler's output
            os.dup2(nowhere, fd)
        message = SENT + work()
    except BaseException as error:
        message = RAISED + f"{type(error).__name__}: {' '.join(str(error).split())}".encode(errors="replace")
    try:
        view = memoryview(message)
        while view:
            view = view[os.write(writing, view) :]
    finally:
        os._exit(0 if not view else 1)


def _die_with_parent_and_without_core() -> None:
    import ctypes
    import resource

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read_all(fd: int, seconds: int) -> bytes | None:
    """Everything until the other end closes, None when that takes longer than `seconds` (0: wait for ever)."""
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if seconds and (left <= 0 or not select.select([fd], [], [], left)[0]):
            return None
        part = os.read(fd, CHUNK)
        if not part:
            return b"".join(parts)
        parts.append(part)

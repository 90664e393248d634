"""The stage behind clang: one object's bytes in, better bytes out, and nothing lost whatever happens on the way.

`optimise_bytes` is the whole trip of DESIGN.md (reader, pipeline, writer, lint).  `optimise_in_child` makes it in a
process of its own, so that a crash of a native library, a kill or a stuck solver costs the gain and never the object.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from synth.record import Record
from synth.settings import Settings

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHUNK = 1 << 16
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an object.

    `data` is what the file should hold: the input itself where nothing was gained.  `record` is the JSON of a
    `synth.record.Record`, "" when the stage ended early.  `problem` is one sentence when something went wrong that
    the user should know of; then `data` is the input.
    """

    data: bytes
    record: str = ""
    problem: str = ""


class Stopped(BaseException):
    """A stopping signal arrived; the argument is its number."""


def optimise_bytes(data: bytes, settings: Settings, cpu_level: int | None = None) -> Outcome:
    """Read, optimise, write and check one object; whatever cannot be placed stays as it is.

    `cpu_level` is the -mcpu level (1 to 4) that the object was compiled for, None to take it from the code.
    """
    # Imported here because the parent process must stay quick: z3 alone takes longer to load than clang to run.
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object
    from llvm_bridge.writer import write_object
    from synth.pipeline import optimise

    source = read_object(data, cpu_level)
    if isinstance(source, Untouched):
        return _untouched(data, settings, source.reason)
    gate = _kernel_gate(source) if settings.gate == "kernel" else None
    unit, record = optimise(source.unit, settings, gate)
    while isinstance(written := write_object(source, unit), Untouched):
        if written.function is None:
            return _untouched(data, settings, written.reason)
        unit = unit.with_function(source.unit.function(written.function))
        record = record.with_function_kept(written.function, written.reason)
    return Outcome(written, record.to_json())


def _untouched(data: bytes, settings: Settings, reason: str) -> Outcome:
    return Outcome(data, Record(functions=(), settings=settings.digest, counters={reason: 1}).to_json())


def optimise_in_child(data: bytes, settings: Settings, cpu_level: int | None = None) -> Outcome:
    """`optimise_bytes` in a child process, bounded by `settings.timeout` seconds (0: unbounded).

    Raises Stopped when a stopping signal arrives; the child is gone by then in every case.
    """
    return run_in_child(lambda: optimise_bytes(data, settings, cpu_level), data, settings.timeout)


def run_in_child(work: Callable[[], Outcome], fallback: bytes, seconds: int) -> Outcome:
    """The outcome of `work` as a forked child finds it; the child's death or silence is a problem, never an error."""
    reading, writing = os.pipe()
    with stopping_signals_raise():
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(work, writing, mask)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(writing)
            message = _read_all(reading, seconds)
            if message is None:
                os.kill(child, signal.SIGKILL)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.close(reading)
            _, status = os.waitpid(child, 0)
    if message is None:
        return Outcome(fallback, problem=f"the optimiser took more than {seconds} s")
    if os.WIFSIGNALED(status):
        return Outcome(fallback, problem=f"the optimiser was killed by {signal.Signals(os.WTERMSIG(status)).name}")
    try:
        new, record, problem = marshal.loads(message)
    except (EOFError, ValueError, TypeError):
        return Outcome(fallback, problem=f"the optimiser ended early with status {os.waitstatus_to_exitcode(status)}")
    return Outcome(fallback if problem else new, record, problem)


def _child(work: Callable[[], Outcome], writing: int, mask: set[int]) -> NoReturn:
    """Do the work, send its outcome, and end without running the parent's clean-up."""
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _die_with_parent_and_without_core()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # a native library's last words are not part of the compiler's output
        os.dup2(nowhere, fd)
    try:
        outcome = work()
        message = (outcome.data, outcome.record, outcome.problem)
    except BaseException as error:
        message = (b"", "", f"{type(error).__name__}: {' '.join(str(error).split())}")
    with contextlib.suppress(OSError):
        view = memoryview(marshal.dumps(message))
        while view:
            view = view[os.write(writing, view) :]
    os._exit(0)


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


@contextlib.contextmanager
def stopping_signals_raise() -> Iterator[None]:
    """Inside, a stopping signal raises Stopped; those that were ignored before stay ignored (nohup)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in STOPPING_SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_output(path: str) -> bytes | None:
    """The bytes of what clang wrote, None unless it is a regular file (no device, FIFO or symbolic link)."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as file:  # noqa: PTH123  pathlib is slow to import
            return file.read()
    except OSError:
        return None


def replace_output(path: str, data: bytes) -> None:
    """Put `data` in the file's place in one step, with its mode; no stopping signal can leave half of the work.

    Raises OSError when the folder does not let us; the old file then stays and no temporary file with it.
    """
    folder, _, name = path.rpartition("/")
    temporary = os.path.join(folder, f".{name}.k2-{os.getpid()}")  # noqa: PTH118
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                os.fchmod(fd, mode)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)

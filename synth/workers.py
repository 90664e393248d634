"""Work in several processes at once: forked here, each with a share of the tasks, nothing shared but the results."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Callable, Sequence
from typing import Final

_CHUNK: Final = 1 << 16
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

Task = Callable[[], list[bytes]]


def run_all(tasks: Sequence[Task], workers: int) -> list[list[bytes] | None]:
    """Each task's result in the order of the tasks; None for those whose worker died before it was done with them.

    Which worker does what cannot be seen in the results.  Tasks come the longest first.
    """
    shares = [range(first, len(tasks), workers) for first in range(min(workers, len(tasks)))]
    found: list[list[bytes] | None] = [None] * len(tasks)
    running: dict[int, tuple[int, range, bytearray]] = {}
    try:
        for share in shares:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                _work([tasks[at] for at in share], writing)
            os.close(writing)
            running[reading] = (child, share, bytearray())
        while running:
            for reading in select.select(list(running), [], [])[0]:
                child, share, received = running[reading]
                part = os.read(reading, _CHUNK)
                received += part
                if not part:
                    del running[reading]
                    os.close(reading)
                    os.waitpid(child, 0)
                    for at, result in zip(share, _results(bytes(received)), strict=False):
                        found[at] = result
    finally:
        for reading, (child, _, _) in running.items():
            os.close(reading)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return found


def _work(tasks: Sequence[Task], writing: int) -> None:
    """Do the tasks and send each result as it is there; never returns."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with os.fdopen(writing, "wb") as stream:
            for task in tasks:
                pickle.dump(task(), stream)
                stream.flush()
    finally:
        os._exit(0)


def _results(received: bytes) -> list[list[bytes]]:
    """What a worker sent, as far as it came."""
    import io

    found = []
    with io.BytesIO(received) as stream:
        while True:
            try:
                found.append(pickle.load(stream))
            except (EOFError, pickle.UnpicklingError):
                return found

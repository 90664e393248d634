"""What a person at a terminal sees while the optimiser works: one line, written over and over, gone at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

PATIENCE: Final = 1.0  # seconds before the first word: most objects take less
BETWEEN: Final = 0.2  # seconds between two words
_CLEAR: Final = b"\r\x1b[K"
_WIDEST: Final = 78  # a line that wraps cannot be written over


class Line:
    """The line on the terminal behind a descriptor.  It decides nothing, so it alone may look at a clock."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._clock = clock
        self._start = self._last = clock()
        self._is_shown = False

    def __call__(self, name: str, before: int, now: int, proofs: int) -> None:
        at = self._clock()
        if at - self._start < PATIENCE or (self._is_shown and at - self._last < BETWEEN):
            return
        self._last, self._is_shown = at, True
        text = f" {before} → {now} slots, {proofs} proofs, {at - self._start:.0f} s"
        self._write(_CLEAR + f"k2-clang: {name[: _WIDEST - len(text) - 10]}{text}".encode())

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)
        except OSError:  # a terminal that went away is no reason to stop
            self._is_shown = False


_line: Line | None = None


def show_on(fd: int) -> None:
    """From now on, what `tell` is told goes to the terminal behind `fd`, in this process and those forked from it."""
    global _line
    _line = Line(fd)


def tell(name: str, before: int, now: int, proofs: int) -> None:
    """A function's name, its slots as they came and as they are now, and the proofs that were asked for."""
    if _line is not None:
        _line(name, before, now, proofs)


def leave(fd: int) -> None:
    """Clear the line that a child may have written, and close the descriptor."""
    with suppress(OSError):
        os.write(fd, _CLEAR)
    os.close(fd)


def terminal() -> int | None:
    """A descriptor of the terminal that stderr is, None where it is none; the caller closes it."""
    try:
        return os.dup(2) if os.isatty(2) else None
    except OSError:
        return None

"""The line on a terminal: after a while, not too often, never too long, gone at the end; and nothing elsewhere."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator

import pytest

from synth import progress
from synth.progress import BETWEEN, PATIENCE, Line


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)


def said(reading: int) -> bytes:
    try:
        return os.read(reading, 10_000)
    except BlockingIOError:
        return b""


def test_it_waits_then_speaks_now_and_then(pipe: tuple[int, int]) -> None:
    clock = Clock()
    line = Line(pipe[1], clock)
    clock.now += PATIENCE / 2
    line("f", 20, 19, 3)
    assert said(pipe[0]) == b""
    clock.now += PATIENCE
    line("f", 20, 18, 4)
    assert "f 20 → 18 slots, 4 proofs, 2 s" in said(pipe[0]).decode()
    clock.now += BETWEEN / 2
    line("f", 20, 17, 5)
    assert said(pipe[0]) == b""
    clock.now += BETWEEN
    line("f" * 500, 20, 17, 6)
    text = said(pipe[0]).decode()
    assert "17 slots, 6 proofs" in text
    assert len(text) < 90, "a line that wraps cannot be written over"
    os.close(pipe[1])


def test_a_terminal_that_went_away_stops_nobody(pipe: tuple[int, int]) -> None:
    clock = Clock()
    line = Line(pipe[1], clock)
    os.close(pipe[1])
    clock.now += 2 * PATIENCE
    line("f", 20, 18, 4)


def test_only_a_terminal_is_one(pipe: tuple[int, int]) -> None:
    kept = os.dup(2)
    leader, follower = pty.openpty()
    try:
        os.dup2(pipe[1], 2)
        assert progress.terminal() is None
        os.dup2(follower, 2)
        found = progress.terminal()
        assert found is not None
        progress.leave(found)
        assert os.read(leader, 100) == b"\r\x1b[K"
    finally:
        os.dup2(kept, 2)
        for fd in (kept, leader, follower, pipe[1]):
            os.close(fd)

"""One run of the loader, in a process or in an emulated kernel, and what follows when it dies on a question."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from verifier_model.kernel.questions import (
    Answer,
    Answered,
    AnswerStream,
    Finished,
    Outcome,
    Question,
    Started,
    encode_questions,
)

_PIECE: Final = 1 << 16
NEVER_STARTED: Final = "the kernel under test did not start"

# Starts the loader on the bytes of a question file; its standard output is the answers.
Start = Callable[[bytes], subprocess.Popen[bytes]]


def ask(questions: Sequence[Question], start: Start, patience: float, detail: bool = False) -> list[Answer]:
    """Answers in order.  A run that falls silent for `patience` seconds, or ends early, ends at the question it worked
    on, which stays UNASKED; the next run goes on behind it.  Raises RuntimeError when a run answers nothing at all."""
    answers: dict[int, Answer] = {}
    waiting = list(range(len(questions)))
    while waiting:
        part = [questions[index] for index in waiting]
        stopped_at, why = _one_run(encode_questions(part, detail), start, patience, waiting, answers)
        if why:
            if stopped_at is None:
                raise RuntimeError(f"{NEVER_STARTED}: {why}")
            answers.setdefault(waiting[stopped_at], Answer(Outcome.UNASKED, 0, why))
        left = [index for index in waiting if index not in answers]
        if len(left) == len(waiting):
            raise RuntimeError(f"{NEVER_STARTED}: it ended without an answer")
        waiting = left
    return [answers[index] for index in range(len(questions))]


def _one_run(
    file: bytes, start: Start, patience: float, numbers: Sequence[int], answers: dict[int, Answer]
) -> tuple[int | None, str]:
    """Fill `answers`; (the question of this run at which it stopped, why), why being empty when it finished."""
    stream, current = AnswerStream(), None
    with _running(start(file)) as process:
        for piece in _pieces(process, patience):
            if piece is None:
                return current, f"no answer within {patience:g} s"
            for event in stream.feed(piece):
                match event:
                    case Started(index):
                        current = index
                    case Answered(index, answer):
                        answers[numbers[index]] = answer
                    case Finished():
                        return None, ""
        return current, f"the run ended with status {process.wait()}"


def _pieces(process: subprocess.Popen[bytes], patience: float) -> Iterator[bytes | None]:
    """What the process writes until it ends; None when it stays silent for too long."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    while True:
        ready, _, _ = select.select([descriptor], [], [], patience)
        if not ready:
            yield None
            return
        data = os.read(descriptor, _PIECE)
        if not data:
            return
        yield data


@contextmanager
def _running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, gone when the block is left."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

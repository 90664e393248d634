"""The real kernel as oracle: the running one by bpf(2), Debian's others in the emulator, behind one interface.

    oracle("6.1").verdicts([RawProgram(code, program_type), ObjectProgram(data, "main")]) -> [Answer, Answer]

Answers are kept in the user's cache folder by kernel release, loader and question; what hung or died is asked again.
"""

from __future__ import annotations

import hashlib
import platform
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from verifier_model.kernel import emulator
from verifier_model.kernel.images import SUITES, image
from verifier_model.kernel.loader_binary import OracleMissingError, loader, oracle_folder, source_digest
from verifier_model.kernel.questions import Answer, Outcome, Question, RawProgram, encode_questions
from verifier_model.kernel.run import ask
from verifier_model.kernel.syscall import is_permitted

RUNNING: Final = "running"
SERIES: Final = tuple(SUITES)
_BATCH_BYTES: Final = 200 << 20
_RUNNING_PATIENCE, _EMULATED_PATIENCE = 60.0, 180.0


class Oracle(Protocol):
    """`name` as given to `oracle`; `release`: series and point release of the kernel asked."""

    @property
    def name(self) -> str: ...

    @property
    def release(self) -> str: ...

    def verdicts(self, questions: Sequence[Question], detail: bool = False) -> list[Answer]:
        """One answer per question, in order.  With `detail`, a refusal's log ends in the verifier's trace.

        Raises OracleMissingError when this kernel cannot be asked here, RuntimeError when it does not even start.
        """
        ...


@dataclass(frozen=True, slots=True)
class KernelOracle:
    """One kernel.  `build` tells apart builds of one release; `start`: (folder for temporary files, question file);
    `patience`: seconds of silence that end a run; `answers`: where answers are kept."""

    name: str
    release: str
    build: str
    start: Callable[[Path, bytes], subprocess.Popen[bytes]]
    patience: float
    answers: Path = field(default_factory=lambda: oracle_folder() / "answers.sqlite")

    def verdicts(self, questions: Sequence[Question], detail: bool = False) -> list[Answer]:
        with _kept_answers(self.answers) as kept:
            keys = [self._key(question, detail) for question in questions]
            answers = {key: answer for key in keys if (answer := kept.get(key)) is not None}
            # A question asked twice is asked once.
            missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in answers}
            for batch in _batches(missing):
                got = dict(zip(batch, self._ask([missing[key] for key in batch], detail), strict=True))
                kept.add(got)
                answers |= got
        return [answers[key] for key in keys]

    def _key(self, question: Question, detail: bool) -> bytes:
        content = hashlib.sha256(f"{self.build}\0{source_digest()}\0{detail}\0".encode())
        content.update(encode_questions([question]))
        return content.digest()

    def _ask(self, questions: Sequence[Question], detail: bool) -> list[Answer]:
        with TemporaryDirectory(prefix="k2-oracle-") as folder:
            return ask(questions, partial(self.start, Path(folder)), self.patience, detail)


def oracle(name: str) -> Oracle:
    """The kernel "running" or one of `SERIES`; raises OracleMissingError, ValueError for another name."""
    if name == RUNNING:
        if not is_permitted():
            raise OracleMissingError("bpf(2) does not allow this process to load programs")
        release = platform.release()
        build = f"{release} {platform.version()}"
        return KernelOracle(name, release.partition("-")[0], build, _start_here, _RUNNING_PATIENCE)
    if name not in SERIES:
        raise ValueError(f"no oracle is named {name}: there are {RUNNING}, {', '.join(SERIES)}")
    kernel = image(name)
    return KernelOracle(name, kernel.release, kernel.name, partial(emulator.start, kernel), _EMULATED_PATIENCE)


def _start_here(folder: Path, file: bytes) -> subprocess.Popen[bytes]:
    questions = folder / "questions"
    questions.write_bytes(file)
    command = [str(loader()), str(questions)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _batches(questions: Mapping[bytes, Question]) -> Iterator[list[bytes]]:
    """Keys in order, cut so that no question file grows beyond `_BATCH_BYTES`."""
    batch, size, last = list[bytes](), 0, b""
    for key, question in questions.items():
        content = question.insns if isinstance(question, RawProgram) else question.data
        if content is not last:  # neighbours that share an object share its bytes in the file
            size += len(content)
        last = content
        if batch and size > _BATCH_BYTES:
            yield batch
            batch, size = [], len(content)
        batch.append(key)
    if batch:
        yield batch


class _KeptAnswers:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, outcome INT, error INT, log TEXT) WITHOUT ROWID"
        )

    def get(self, key: bytes) -> Answer | None:
        row = self._database.execute("SELECT outcome, error, log FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else Answer(Outcome(row[0]), row[1], row[2])

    def add(self, answers: Mapping[bytes, Answer]) -> None:
        """Keep them, without what may be answered another time: hanging, dying, a lack of memory."""
        rows = [
            (key, answer.outcome.value, answer.error, answer.log)
            for key, answer in answers.items()
            if answer.outcome is not Outcome.UNASKED
        ]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)


@contextmanager
def _kept_answers(path: Path) -> Iterator[_KeptAnswers]:
    with closing(sqlite3.connect(path, timeout=60)) as database:
        yield _KeptAnswers(database)

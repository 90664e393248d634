"""Questions to a kernel and its answers, as values and as the bytes that `loader/` reads and writes.

Formats: loader/loader.c, raw.c and object.c.  Sizes in bytes, positions in slots.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Final

from verifier_model.bpf.sections import loose_stems
from verifier_model.contracts.programs import PROGRAM_TYPES

_RAW, _OBJECT, _STEMS = 0, 1, 2
_LICENCE_BYTES, _ATTACH_BYTES, _STEM_BYTES = 16, 64, 28
_ANSWER: Final = struct.Struct("<IBiI")
_COUNT: Final = re.compile(r"^processed (\d+) insns", re.MULTILINE)
_TIME: Final = re.compile(r"^verification time \d+ usec\n", re.MULTILINE)  # the one part that differs from run to run
_STATISTICS: Final = re.compile(
    r"processed \d+ insns|verification time|stack depth|max_states_per_insn|libbpf: failed to load object|-- END"
)


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map to create for a program, by the fields of bpf(2) MAP_CREATE.

    `inner`: which earlier map of the same question is the template of a map of maps.  `btf_key`, `btf_value`: type
    numbers in the question's BTF.  `contents`: the value under key 0.  `is_frozen`: user space may write no more, so
    that the verifier may rely on the contents of a map with BPF_F_RDONLY_PROG.
    """

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    inner: int | None = None
    btf_key: int = 0
    btf_value: int = 0
    contents: bytes = b""
    is_frozen: bool = False


@dataclass(frozen=True, slots=True)
class RawProgram:
    """Encoded instructions as PROG_LOAD takes them.

    `relocations`: (slot, number of a map in `maps`); the map's descriptor becomes that slot's immediate.  `func_info`:
    struct bpf_func_info records over `btf`; callbacks and global functions need them.  `attach`: what a
    tracing or lsm program is for, without the prefix that the kernel's BTF gives it for its `attach_type`; for
    struct_ops "struct S.member".
    """

    insns: bytes
    program_type: int
    attach_type: int = 0
    flags: int = 0
    license: str = "GPL"
    maps: tuple[MapSpec, ...] = ()
    relocations: tuple[tuple[int, int], ...] = ()
    btf: bytes = b""
    func_info: bytes = b""
    attach: str = ""


@dataclass(frozen=True, slots=True)
class ObjectProgram:
    """One program of an ELF object, loaded by libbpf without the object's other programs.

    `types`: (beginning of section names, program type) for sections whose names tell libbpf nothing.
    """

    data: bytes
    program: str
    types: tuple[tuple[str, str], ...] = ()


Question = RawProgram | ObjectProgram


class Outcome(Enum):
    """UNASKED: no verdict on the program; the log says what stood in the way (a map, libbpf, a time-out)."""

    REFUSED = 0
    ACCEPTED = 1
    UNASKED = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a kernel said: `error` is its errno (0 when accepted), `log` the end of what it wrote."""

    outcome: Outcome
    error: int = 0
    log: str = ""

    @property
    def accepted(self) -> bool:
        return self.outcome is Outcome.ACCEPTED

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.REFUSED

    @property
    def processed(self) -> int | None:
        """Instructions that the verifier processed, None when it does not say."""
        found = _COUNT.findall(self.log)
        return int(found[-1]) if found else None

    @property
    def reason(self) -> str:
        """The log's last line that says something of its own; empty when there is none."""
        for line in reversed(self.log.splitlines()):
            text = line.strip()
            if text and not _STATISTICS.match(text):
                return text.removeprefix("libbpf: ")
        return ""


def encode_questions(questions: Sequence[Question], detail: bool = False) -> bytes:
    """The question file.  With `detail`, logs of refused programs end in the verifier's trace."""
    level = 1 if detail else 0
    given = {pair for question in questions if isinstance(question, ObjectProgram) for pair in question.types}
    out = [_record(0, _STEMS, _stems(sorted(given)))]
    for _, run in groupby(enumerate(questions), key=_grouping):
        members = list(run)
        first, question = members[0]
        if isinstance(question, ObjectProgram):
            names = [member.program for _, member in members if isinstance(member, ObjectProgram)]
            out.append(_record(first, _OBJECT, _object(question.data, names, level)))
        else:
            out.append(_record(first, _RAW, _raw(question, level)))
    return b"".join(out)


def _grouping(item: tuple[int, Question]) -> tuple[int, int]:
    """Neighbours that ask for programs of one object value go together."""
    index, question = item
    return (1, id(question.data)) if isinstance(question, ObjectProgram) else (0, index)


def _record(index: int, kind: int, body: bytes) -> bytes:
    return struct.pack("<III", len(body) + 8, index, kind) + body


def _stems(given: Sequence[tuple[str, str]]) -> bytes:
    rows = [(PROGRAM_TYPES[kind].number, stem.encode()) for stem, kind in (*given, *loose_stems())]
    return struct.pack("<I", len(rows)) + b"".join(struct.pack(f"<I{_STEM_BYTES}s", *row) for row in rows)


def _object(data: bytes, names: Iterable[str], level: int) -> bytes:
    texts = [name.encode() for name in names]
    packed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack("<III", level, len(texts), len(data)) + packed + data


def _raw(question: RawProgram, level: int) -> bytes:
    licence, attach = question.license.encode()[: _LICENCE_BYTES - 1], question.attach.encode()
    if len(attach) >= _ATTACH_BYTES:
        raise ValueError(f"the name {question.attach} is too long")
    head = struct.pack(
        f"<9I{_LICENCE_BYTES}s{_ATTACH_BYTES}s",
        question.program_type,
        question.attach_type,
        question.flags,
        level,
        len(question.maps),
        len(question.relocations),
        len(question.func_info) // 8,
        len(question.btf),
        len(question.insns) // 8,
        licence,
        attach,
    )
    maps = b"".join(_map(row) for row in question.maps)
    contents = b"".join(row.contents for row in question.maps)
    relocations = b"".join(struct.pack("<II", *pair) for pair in question.relocations)
    return b"".join((head, maps, contents, relocations, question.func_info, question.btf, question.insns))


def _map(row: MapSpec) -> bytes:
    inner = 0 if row.inner is None else row.inner + 1
    sizes = (row.type, row.key_size, row.value_size, row.max_entries, row.flags, inner, row.btf_key, row.btf_value)
    return struct.pack("<10I", *sizes, len(row.contents), int(row.is_frozen))


@dataclass(frozen=True, slots=True)
class Started:
    index: int


@dataclass(frozen=True, slots=True)
class Answered:
    index: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Finished:
    """Every question of the file was answered."""


Event = Started | Answered | Finished


class AnswerStream:
    """The loader's output, piece by piece: events as soon as they are whole.  Raises ValueError for foreign bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        self._rest += data
        while self._rest:
            event, size = self._first()
            if event is None:
                return
            del self._rest[:size]
            yield event

    def _first(self) -> tuple[Event | None, int]:
        rest, kind = self._rest, self._rest[:1]
        if kind == b"E":
            return Finished(), 1
        if kind == b"S":
            return (Started(struct.unpack_from("<I", rest, 1)[0]), 5) if len(rest) >= 5 else (None, 0)
        if kind != b"A":
            raise ValueError(f"the loader wrote {bytes(rest[:16])!r}")
        if len(rest) < 1 + _ANSWER.size:
            return None, 0
        index, outcome, error, length = _ANSWER.unpack_from(rest, 1)
        size = 1 + _ANSWER.size + length
        if len(rest) < size:
            return None, 0
        log = _TIME.sub("", bytes(rest[size - length : size]).decode(errors="replace"))
        return Answered(index, Answer(Outcome(outcome), error, log)), size

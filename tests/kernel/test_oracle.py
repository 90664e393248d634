"""Real kernels as oracle: formats, runs that die, kept answers, and one emulated kernel next to the running one."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.oracle import XDP, xdp
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.contracts.kernels import is_known
from verifier_model.contracts.maps import BY_NAME as MAPS
from verifier_model.kernel.initramfs import archive
from verifier_model.kernel.oracle import KernelOracle, Oracle, oracle
from verifier_model.kernel.questions import (
    Answer,
    Answered,
    AnswerStream,
    Finished,
    MapSpec,
    ObjectProgram,
    Outcome,
    Question,
    RawProgram,
    Started,
    encode_questions,
)
from verifier_model.kernel.run import ask

ACCEPT, REFUSE = xdp("r0 = 2\nexit"), xdp("r0 = r2\nexit")
SIGN_EXTENDED = RawProgram(bytes.fromhex("b701000000000000bf100800000000009500000000000000"), XDP)
LOOKUP = """
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = 0 ll
    call 1
    r0 = 0
    exit
"""


def lookup(spec: MapSpec, key_bytes: int = 4) -> RawProgram:
    """Looks up one key of `key_bytes` initialised bytes."""
    text = LOOKUP if key_bytes == 4 else LOOKUP.replace("(u32 *)", f"(u{8 * key_bytes} *)")
    code = bytearray(xdp(text).insns)
    code[3 * 8 + 1] |= 0x10  # r1 = map by descriptor
    return RawProgram(bytes(code), XDP, maps=(spec,), relocations=((3, 0),))


ARRAY = MapSpec(MAPS["array"].number, 4, 8, 1)


def test_answers_arrive_whole_however_they_are_cut() -> None:
    log = b"R2 !read_ok\nverification time 7 usec\nprocessed 3 insns (limit 1000000)\n"
    data = struct.pack("<cI", b"S", 5) + struct.pack("<cIBiI", b"A", 5, 0, 13, len(log)) + log + b"E"
    for cut in range(len(data)):
        stream = AnswerStream()
        events = [*stream.feed(data[:cut]), *stream.feed(data[cut:])]
        answer = Answer(Outcome.REFUSED, 13, "R2 !read_ok\nprocessed 3 insns (limit 1000000)\n")
        assert events == [Started(5), Answered(5, answer), Finished()]
        assert answer.reason == "R2 !read_ok"
        assert answer.processed == 3
    with pytest.raises(ValueError, match="wrote"):
        list(AnswerStream().feed(b"X" + data))


def test_programs_of_one_object_travel_together() -> None:
    data = b"\x7fELF" + bytes(1000)
    together = encode_questions([ObjectProgram(data, "a"), ObjectProgram(data, "b")])
    assert together.count(data) == 1
    assert encode_questions([ObjectProgram(data, "a"), ACCEPT, ObjectProgram(data, "b")]).count(data) == 2


def test_an_archive_is_padded_and_ends_with_its_trailer() -> None:
    data = archive({"init": b"abc"})
    assert len(data) % 4 == 0
    assert data.index(b"init\0") < data.index(b"abc") < data.index(b"TRAILER!!!")


def dying(file: bytes) -> subprocess.Popen[bytes]:
    """Accepts every raw program but those whose first immediate is 13 or 14: there it dies, or falls silent."""
    script = """
import struct, sys, time
data, at, out = sys.stdin.buffer.read(), 0, sys.stdout.buffer
while at < len(data):
    size, index, kind = struct.unpack_from("<III", data, at)
    body = data[at + 12 : at + 4 + size]
    at += 4 + size
    if kind == 0:
        out.write(struct.pack("<cI", b"S", index)); out.flush()
        imm = struct.unpack_from("<i", body, len(body) - 12)[0]
        if imm == 13: sys.exit(9)
        if imm == 14: time.sleep(60)
        out.write(struct.pack("<cIBiI", b"A", index, 1, 0, 0))
out.write(b"E")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(file)
    process.stdin.close()
    return process


def test_a_run_that_dies_or_hangs_costs_one_answer() -> None:
    numbers = [1, 13, 2, 13, 14, 3]
    answers = ask([xdp(f"r0 = {number}\nexit") for number in numbers], dying, patience=1.5)
    assert [answer.outcome for answer in answers] == [
        Outcome.UNASKED if number in (13, 14) else Outcome.ACCEPTED for number in numbers
    ]
    assert "status 9" in answers[1].log
    assert "no answer" in answers[4].log


def test_a_kernel_that_never_starts_is_no_verdict() -> None:
    def nothing(file: bytes) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["true"], stdout=subprocess.PIPE)

    with pytest.raises(RuntimeError, match="did not start"):
        ask([ACCEPT], nothing, patience=5)


def test_answers_are_kept_by_kernel_and_question(tmp_path: Path) -> None:
    asked = []

    def start(folder: Path, file: bytes) -> subprocess.Popen[bytes]:
        asked.append(file)
        return dying(file)

    def kernel(build: str) -> KernelOracle:
        return KernelOracle("x", "1.0", build, start, 2, tmp_path / "answers")

    one, two = xdp("r0 = 1\nexit"), xdp("r0 = 13\nexit")
    first = kernel("a").verdicts([one, two, one])
    assert [answer.outcome for answer in first] == [Outcome.ACCEPTED, Outcome.UNASKED, Outcome.ACCEPTED]
    before = len(asked)
    assert kernel("a").verdicts([one]) == [first[0]]
    assert len(asked) == before, "a kept answer is not asked again"
    kernel("a").verdicts([two])
    assert len(asked) == before + 1, "what died is asked again"
    kernel("b").verdicts([one])
    assert len(asked) == before + 2, "another kernel is another question"
    kernel("b").verdicts([one], detail=True)
    assert len(asked) == before + 3


QUESTIONS: list[tuple[Question, bool]] = [
    (ACCEPT, True),
    (REFUSE, False),
    (lookup(ARRAY), True),
    (lookup(MapSpec(MAPS["hash"].number, 8, 8, 1), key_bytes=4), False),
    (lookup(MapSpec(MAPS["hash"].number, 8, 8, 1), key_bytes=8), False),  # 8 bytes from fp-4: beyond the frame
    (lookup(MapSpec(MAPS["prog_array"].number, 4, 4, 1)), False),
    (RawProgram(ACCEPT.insns, 1), True),
    (RawProgram(ACCEPT.insns, 999), False),
    *((xdp(f"r0 = {number}\nr1 = {number}\nexit"), True) for number in range(12)),
    *((xdp(f"r0 = *(u8 *)(r1 + {number})\nexit"), False) for number in range(12)),
]


def afresh(name: str, folder: Path) -> KernelOracle:
    """An oracle that has kept no answers yet."""
    kernel = oracle(name)
    assert isinstance(kernel, KernelOracle)
    return replace(kernel, answers=folder / "answers")


UNKNOWN = re.compile(r"unknown opcode|reserved fields|invalid atomic opcode|invalid BPF_")


def with_row(row: Row) -> RawProgram:
    """A program that holds the instruction, its fields as the row pins them; it may be refused for other reasons."""
    src = row.fixed_src if row.fixed_src is not None else int("src" in row.uses)
    default = int(row.kind is Kind.ALU and row.operand is Operand.IMM)  # 0 is no divisor
    imm = default if row.fixed_imm is None else row.fixed_imm
    code = struct.pack("<BBhi", row.code, src << 4, row.fixed_off or 0, imm) + bytes(8 * (row.kind is Kind.LOAD_WIDE))
    return RawProgram(xdp("r0 = 0\nr1 = 0").insns + code + ACCEPT.insns, XDP)


def disagreements(kernel: Oracle) -> list[str]:
    """Instructions that the kernel knows and our rows say it does not, or the other way round."""
    major, minor, point = map(int, kernel.release.split(".")[:3])
    answers = kernel.verdicts([with_row(row) for row in ROWS])
    found = {row.name: UNKNOWN.search(answer.log) is None for row, answer in zip(ROWS, answers, strict=True)}
    return [row.name for row in ROWS if found[row.name] != is_known(row, (major, minor, point))]


@pytest.mark.needs("bpf", "libbpf-dev", "cc")
def test_the_running_kernel_answers_in_order(tmp_path: Path) -> None:
    answers = afresh("running", tmp_path).verdicts([question for question, _ in QUESTIONS], detail=True)
    assert [answer.accepted for answer in answers] == [expected for _, expected in QUESTIONS]
    assert answers[1].reason == "R2 !read_ok" or "R2 !read_ok" in answers[1].log
    impossible = oracle("running").verdicts([lookup(MapSpec(MAPS["array"].number, 3, 8, 1))])[0]
    assert impossible.outcome is Outcome.UNASKED


@pytest.mark.needs("libbpf-dev", "cc", "qemu-system-x86_64", "linux-image-6.1")
@pytest.mark.xdist_group("emulator")
def test_an_emulated_kernel_answers_as_its_series_does(tmp_path: Path) -> None:
    kernel = afresh("6.1", tmp_path)
    assert kernel.release.startswith("6.1.")
    questions = [question for question, _ in QUESTIONS]
    answers = kernel.verdicts([*questions, SIGN_EXTENDED, xdp("exit")])
    assert [answer.accepted for answer in answers[:-2]] == [expected for _, expected in QUESTIONS]
    assert answers[-2].reason == "BPF_MOV uses reserved fields", "instructions of CPU level 4 came after 6.1"
    assert answers[-1].reason == "R0 !read_ok"
    assert answers[0].processed == 2
    assert disagreements(kernel) == []


@pytest.mark.needs("bpf", "libbpf-dev", "cc")
def test_the_running_kernel_knows_level_4() -> None:
    assert oracle("running").verdicts([SIGN_EXTENDED])[0].accepted
    assert disagreements(oracle("running")) == []


def test_only_known_kernels_can_be_asked() -> None:
    with pytest.raises(ValueError, match=r"no oracle is named 6\.2"):
        oracle("6.2")

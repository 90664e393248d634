"""The corpus machinery: what it unpacks, makes, finds, and that it does find faults."""

from __future__ import annotations

import json
import lzma
import random
import struct
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.corpus import build, jobs, report
from benchmarks.corpus import examine as examination
from benchmarks.corpus.examine import Finding, _compare, examine
from benchmarks.corpus.jobs import Job, objects_folder
from benchmarks.corpus.loaded import Fate, _numbered, fates
from benchmarks.corpus.report import tally
from benchmarks.corpus.shake import Shaken, contents, shake, taken_out, with_no_ops
from benchmarks.corpus.speed import Timing, growth
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from tests.llvm_bridge.objects import compile_text, compiled
from verifier_model.bpf.asm import parse_function, print_function
from verifier_model.kernel import lz4
from verifier_model.kernel.bzimage import uncompressed_kernel
from verifier_model.kernel.packages import PackageError

SEED = 20261123


def lz4_frame(*blocks: bytes) -> bytes:
    return lz4.MAGIC + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


def test_lz4_literals_matches_and_long_lengths() -> None:
    # 3 literals, a match of 4 + 5 at distance 3; then 1 literal, as every block must end
    assert lz4.unpack(lz4_frame(b"\x35abc\x03\x00\x10!")) == b"abcabcabcabc!"
    literals = bytes(range(256)) * 2
    assert lz4.unpack(lz4_frame(b"\xf0\xff" + bytes([512 - 15 - 255]) + literals)) == literals
    # what follows a block that is not full (the kernel's size word) is not read
    assert lz4.unpack(lz4_frame(b"\x10x") + b"\x01\0\0\0") == b"x"


@pytest.mark.parametrize("data", [b"", b"\x02\x21\x4c\x19", lz4.MAGIC, lz4_frame(b"\x10x\x02\x00"), lz4_frame(b"\xf0")])
def test_damaged_lz4_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="LZ4"):
        lz4.unpack(data)


def boot_image(payload: bytes) -> bytes:
    image = bytearray(5 * 512) + payload
    image[0x1F1] = 4
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image)


def test_the_kernel_inside_a_boot_image() -> None:
    kernel = b"\x7fELF" + bytes(100)
    assert uncompressed_kernel(boot_image(lzma.compress(kernel))) == kernel
    assert uncompressed_kernel(boot_image(lz4_frame(b"\x40\x7fELF"))) == b"\x7fELF"
    with pytest.raises(PackageError, match="unknown way"):
        uncompressed_kernel(boot_image(b"\x00" + lzma.compress(kernel)[1:]))
    with pytest.raises(PackageError, match="boot header"):
        uncompressed_kernel(kernel)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    objects_folder().mkdir(parents=True)
    return tmp_path


def job(key: str, text: str) -> Job:
    source = objects_folder() / f"{Path(key).name}.c"
    source.write_text(text)
    return Job(key, (("clang-19", "-target", "bpf", "-c", str(source), "-o", "{out}"),))


@pytest.mark.needs("clang-19")
def test_a_run_goes_on_where_the_last_one_stopped(cache: Path) -> None:
    both = [job("a/good", "int x;"), job("a/bad", "int x = y;")]
    build.run(both)
    assert both[0].output.is_file()
    assert not both[1].output.exists()
    assert build.known_failures() == {"a/bad": "use of undeclared identifier 'y'"}
    before = both[0].output.stat().st_mtime_ns
    build.run(both)
    assert both[0].output.stat().st_mtime_ns == before
    assert len(build.failures_path().read_text().splitlines()) == 1
    both[0].output.unlink()
    build.run(both)
    assert both[0].output.is_file()


def test_a_line_cut_short_by_a_kill_is_not_read(cache: Path) -> None:
    build.failures_path().write_text('["a", "why"]\n["b", "wh')
    assert build.known_failures() == {"a": "why"}


def test_a_compiler_that_took_too_long_is_asked_again(cache: Path) -> None:
    slow = f"clang-19 {build.TOO_LONG} 120 s"
    build.failures_path().write_text(f'["a", "why"]\n["b", "{slow}"]\n')
    assert build.known_failures() == {"a": "why"}


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_objects_of_the_same_bytes_are_examined_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = cache / "corpus.md"
    document.write_text("<!-- corpus -->\n<!-- end of corpus -->\n")
    monkeypatch.setattr(report, "DOCUMENT", document)
    empty: dict[str, dict[str, str]] = {name: {} for name in ("sources", "types", "kernel headers", "compilers")}
    manifest = {**empty, "compiled": ["a", "b", "c"], "failed": {}, "not tried": 0, "jobs": 3}
    build.manifest_path().write_text(json.dumps(manifest))
    for level, data in (("v1", compiled("packets")), ("v2", compiled("packets")), ("v3", b"\x7fELF")):
        report.object_path(f"6.1/selftests/clang-19/{level}/x").parent.mkdir(parents=True)
        report.object_path(f"6.1/selftests/clang-19/{level}/x").write_bytes(data)
    arguments = ["--date", "2026-11-23", "--no-tools", "--no-kernel"]
    done = CliRunner().invoke(report.main, arguments)
    assert (done.exit_code, done.exception and repr(done.exception)) == (0, None)
    assert len(report.answers_path().read_text().splitlines()) == 2
    text = document.read_text()
    assert "Examined 3 objects" in text
    assert "2 different files" in text
    assert "| read | ok | 2 |" in text
    assert "| read | kept: not an ELF64 relocatable BPF object | 1 |" in text
    before = report.answers_path().read_bytes()
    assert CliRunner().invoke(report.main, arguments).exit_code == 0
    assert report.answers_path().read_bytes() == before


def test_an_examination_that_did_not_end_is_no_answer(cache: Path) -> None:
    lines = [["a", [["read", "ok", 1]]], ["b", [[report.UNFINISHED, "the optimiser took more than 300 s", 1]]]]
    report.answers_path().write_text("".join(json.dumps(line) + "\n" for line in lines) + '["c", [["re')
    assert report.known_answers() == {"a": [Finding("read", "ok")]}


def test_reasons_are_counted_without_names_and_numbers() -> None:
    assert report.general("extern 'rx' [52] section: -2") == report.general("extern 'my' [7] section: -2")
    assert report.general("clang's object, too: a 'name'") == "clang's object, too: a '...'"
    assert report.general("skipping section(19) .bss") == "skipping section(N) .bss"
    machine = "Cannot select: 0x557ed2f9a960: i64 = AtomicCmpSwap<(s32)> 0x557ed2f9a8f0, /home/someone/progs/x.c:5"
    assert report.general(machine) == "Cannot select: 0x...: i64 = AtomicCmpSwap<(s32)> 0x..."
    assert report.general("relocation type 4 on jeq_k") != report.general("relocation type 1 on jeq_k")


def test_a_sample_is_drawn_by_its_seed() -> None:
    everything = [Job(str(number), ()) for number in range(100)]
    drawn = build.select(everything, 10, SEED)
    assert drawn == build.select(everything, 10, SEED)
    assert drawn != build.select(everything, 10, SEED + 1)
    assert len({one.key for one in drawn}) == 10
    assert build.select(everything, 0, SEED) == everything


@pytest.mark.needs("clang-19", "libbpf-dev", "bpf", "bpftool", "llvm-strip-19")
def test_an_object_without_faults() -> None:
    found = examine(compiled("packets"), str(SEED), with_tools=True, with_kernel=True)
    assert [finding for finding in found if finding.is_fault] == []
    words = tally({"packets": found})
    assert words["take all out"] == {"ok": 1}
    assert words["bpftool gen object, three times"] == {"ok": 1}
    assert words["translated insns"]["ok"] >= 1


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_a_no_op_left_behind_is_seen() -> None:
    source = read_object(compiled("packets"))
    assert isinstance(source, Object)
    shaken = shake(source, 0.3, random.Random(SEED))
    assert isinstance(shaken, Shaken)
    again = read_object(shaken.data)
    assert isinstance(again, Object)
    restored = taken_out(again, shaken.places)
    assert isinstance(restored, bytes)
    assert contents(restored) == contents(source.data)
    name = max(shaken.places, key=lambda function: len(shaken.places[function]))
    one_less = {**shaken.places, name: shaken.places[name][1:]}
    spoilt = taken_out(again, one_less)
    assert isinstance(spoilt, bytes)
    assert contents(spoilt) != contents(source.data)


@pytest.mark.needs("clang-19", "libbpf-dev", "bpf")
def test_programs_that_are_not_loaded_by_themselves_are_asked_alone() -> None:
    text = """
    #define SEC(name) __attribute__((section(name), used))
    SEC("xdp") int good(void *ctx) { return 2; }
    SEC("?xdp") int asleep(void *ctx) { return 1; }
    SEC("?xdp") int wrong(void *ctx) { return *(int *)0; }
    char _license[] SEC("license") = "GPL";
    """
    found = {fate.program: bool(fate.refusal) for fate in fates(compile_text(text), ("good", "asleep", "wrong"))}
    assert found == {"good": False, "asleep": False, "wrong": True}


GOOD = Fate("p", "", b"\x01" * 8, b"l", b"f")
TOO_MUCH = Fate("p", f"no space: {examination.TOO_MUCH_WORK}. Processed 1000001 insn")


@pytest.mark.parametrize(
    ("theirs", "ours", "fault"),
    [
        (GOOD, GOOD, None),
        (Fate("p", "why"), Fate("p", "another why"), None),
        (GOOD, Fate("p", "", b"\x01" * 7 + b"\x03", b"l", b"f"), "translated insns"),
        (GOOD, Fate("p", "", b"\x01" * 8, b"m", b"f"), "translated lines"),
        (GOOD, Fate("p", "", b"\x01" * 8, b"l", b"g"), "translated functions"),
        (GOOD, Fate("p", "why"), "kernel"),
        (Fate("p", "why"), GOOD, "kernel"),
    ],
)
def test_what_the_kernel_does_differently_is_a_fault(theirs: Fate, ours: Fate, fault: str | None) -> None:
    assert [f.check for f in _compare((theirs,), (ours,)) if f.is_fault] == ([fault] if fault else [])


@pytest.mark.needs("clang-19", "libbpf-dev")
@pytest.mark.parametrize(
    ("theirs", "answers", "words"),
    [
        (GOOD, [TOO_MUCH, GOOD], ["shake at 3.0%", "kernel", "translated insns"]),
        (GOOD, [TOO_MUCH, TOO_MUCH, GOOD], ["shake at 3.0%", "shake at 0.3%", "kernel", "translated insns"]),
        (GOOD, [TOO_MUCH, TOO_MUCH, TOO_MUCH], ["shake at 3.0%", "shake at 0.3%", "kernel"]),
        (Fate("p", "why"), [TOO_MUCH], ["kernel"]),
        (GOOD, [Fate("p", "another why")], ["kernel"]),
    ],
)
def test_fewer_no_ops_where_they_are_too_much_work(
    theirs: Fate, answers: list[Fate], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_object(compiled("packets"))
    assert isinstance(source, Object)
    shaken = shake(source, 0.3, random.Random(SEED))
    assert isinstance(shaken, Shaken)
    asked: list[int] = []

    def next_answer(data: bytes, programs: tuple[str, ...]) -> tuple[Fate, ...]:
        asked.append(len(data))
        return (answers[len(asked) - 1],)

    monkeypatch.setattr(examination, "fates", next_answer)
    found = list(examination._in_the_kernel(source, (theirs,), shaken, ("p",), str(SEED)))
    assert [f.check for f in found][: len(words)] == [f.check for f in found if f.check.startswith(tuple(words))]
    assert len(asked) == len(answers)
    assert asked == sorted(asked, reverse=True)
    is_refused = bool(answers[-1].refusal) and not theirs.refusal
    assert any(f.is_fault for f in found) is is_refused


def test_a_program_that_is_gone_is_a_fault() -> None:
    assert [f.is_fault for f in _compare((GOOD,), ())] == [True]
    assert not Finding("kernel", "clang's is refused, too").is_fault
    assert Finding("take all out", "differs: .text").is_fault


def wide(source: int, value: int) -> bytes:
    return struct.pack("<BBhI", 0x18, source << 4 | 1, 0, value & 0xFFFFFFFF) + struct.pack("<II", 0, value >> 32)


def test_maps_and_addresses_are_compared_by_order_of_use() -> None:
    pool, other = 0xFFFF_8881_0000_1000, 0xFFFF_8882_0000_2000
    assert _numbered(wide(1, 77) + wide(1, 78) + wide(1, 77)) == _numbered(wide(1, 5) + wide(1, 9) + wide(1, 5))
    assert _numbered(wide(1, 77) + wide(1, 77)) != _numbered(wide(1, 5) + wide(1, 9))
    assert _numbered(wide(0, pool)) == _numbered(wide(0, other))
    assert _numbered(wide(0, pool) + wide(0, pool)) != _numbered(wide(0, pool) + wide(0, other))
    assert _numbered(wide(0, 7)) != _numbered(wide(0, 8))
    assert _numbered(wide(0, (1 << 64) - 2)) != _numbered(wide(0, (1 << 64) - 3))


def test_no_no_op_splits_spill_call_and_fill() -> None:
    text = "*(u64 *)(r10 - 8) = r1\ncall 8\nr1 = *(u64 *)(r10 - 8)\nr0 = r1\nexit\n"
    shaken, places = with_no_ops(parse_function(text), 1.0, random.Random(SEED))
    assert places == (0, 4, 6)
    assert print_function(shaken).count("goto") == 3


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0])
def test_the_growth_of_time_is_measured(power: float) -> None:
    sizes = (1000, 2500, 6000, 50_000)
    found = [Timing("x", 8 * n, n, 0.6e-6 * n**power, 0.4e-6 * n**power, 0.0, 0.0) for n in sizes]
    assert growth([*found, Timing("small", 9000, 10, 5.0, 5.0, 0.0, 0.0)]) == pytest.approx(power)


@pytest.mark.needs("ziglang")
def test_the_newest_clang_is_the_one_of_the_wheel(tmp_path: Path) -> None:
    source, out = tmp_path / "x.c", tmp_path / "x.o"
    source.write_text("int f(int *p) { return *p; }")
    command = [word.replace("{out}", str(out)) for word in jobs._compile(jobs.NEWEST, "v4", source, ())]
    subprocess.run(command, check=True, timeout=60)
    assert isinstance(read_object(out.read_bytes()), Object)
    assert jobs.command_of("clang-19") == ("clang-19",)


def test_without_the_wheel_there_is_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "command_of", lambda compiler: ())
    assert jobs.newest_jobs([]) == []

"""Which objects a compiler run writes: the rows of toolchain-conventions, section 2, against the real compilers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from llvm_bridge.arguments import expand, may_write_object, split_words
from llvm_bridge.invocation import jobs

SOURCE = "int f(int x) { return x + 1; }\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.c", "b.c", 'odd "name" $x\\y.c'):
        (tmp_path / name).write_text(SOURCE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.c").write_text(SOURCE)
    return tmp_path


def ask(arguments: list[str], compiler: str = "clang-19") -> list[tuple[str, int | None]]:
    """What the compiler writes, after it did."""
    path = shutil.which(compiler)
    assert path is not None
    assert may_write_object(arguments)
    subprocess.run([path, *arguments], check=True, capture_output=True, timeout=60)
    found = jobs([path], arguments)
    for job in found:
        assert Path(job.output).read_bytes()[:4] == b"\x7fELF"
    return [(job.output, job.cpu_level) for job in found]


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-target", "bpf", "-mcpu=v3", "-O2", "-c", "a.c", "-o", "x.o"], [("x.o", 3)]),
        (["--target=bpf", "-mcpu=v4", "-c", "a.c"], [("a.o", 4)]),
        (["--target=bpfel", "-mcpu=v2", "-c", "sub/d.c"], [("d.o", 2)]),
        (["--target=bpfeb", "-c", "a.c", "-o./y.o"], [("./y.o", 1)]),
        (["-target", "bpf", "-mcpu=v3", "-c", "a.c", "b.c"], [("a.o", 3), ("b.o", 3)]),
        (["-target", "bpf", "-c", 'odd "name" $x\\y.c'], [('odd "name" $x\\y.o', 1)]),
        (["-target", "bpf", "-c", "a.c", "-save-temps", "-mcpu=v3"], [("a.o", 3)]),
        (["-target", "bpf", "-c", "a.c", "-MD", "-MP", "-MFdeps"], [("a.o", 1)]),
        (["-target", "bpf", "-mcpu=v3", "-Xclang", "-target-feature", "-Xclang", "-alu32", "-c", "a.c"], [("a.o", 2)]),
        (["-v", "-target", "bpf", "-c", "a.c"], [("a.o", 1)]),
        (["-c", "a.c", "-o", "host.o"], []),
    ],
)
def test_objects_and_levels(folder: Path, arguments: list[str], expected: list[tuple[str, int | None]]) -> None:
    assert ask(arguments) == expected


@pytest.mark.needs("clang-14", "clang-16")
@pytest.mark.parametrize("compiler", ["clang-14", "clang-16"])
def test_old_compilers_do_not_tell_their_default_level(folder: Path, compiler: str) -> None:
    assert ask(["-target", "bpf", "-c", "a.c"], compiler) == [("a.o", None)]
    assert ask(["-target", "bpf", "-mcpu=v2", "-c", "a.c"], compiler) == [("a.o", 2)]


@pytest.mark.needs("clang-19")
def test_a_response_file_is_looked_into(folder: Path) -> None:
    (folder / "inner.rsp").write_text("-c 'a.c'\n-o \"in dir.o\"")
    (folder / "outer.rsp").write_text("-target bpf\n@inner.rsp -mcpu=v3")
    assert ask(["@outer.rsp"]) == [("in dir.o", 3)]


@pytest.mark.needs("clang-19")
def test_a_target_hidden_in_a_configuration_file_is_found(folder: Path) -> None:
    (folder / "hidden.cfg").write_text("--target=bpf\n-mcpu=v3\n")
    assert ask(["--config=./hidden.cfg", "-c", "a.c"]) == [("a.o", 3)]


@pytest.mark.needs("clang-19")
def test_assembly_and_bitcode_inputs(folder: Path) -> None:
    path = shutil.which("clang-19")
    assert path is not None
    for option, name in (("-S", "a.s"), ("-emit-llvm", "a.bc")):
        words = ["-target", "bpf", option, *(["-c"] if option != "-S" else []), "a.c", "-o", name]
        assert not may_write_object(words)
        subprocess.run([path, *words], check=True, timeout=60)
    assert ask(["-target", "bpf", "-c", "a.s"]) == [("a.o", 1)]
    assert ask(["-target", "bpf", "-mcpu=v3", "-c", "a.bc", "-o", "from_bc.o"]) == [("from_bc.o", 3)]


@pytest.mark.needs("clang-19")
def test_standard_output_is_not_touched(folder: Path) -> None:
    assert ask(["-target", "bpf", "-c", "a.c", "-o", "-"]) == []


@pytest.mark.needs("ziglang")
def test_the_wheel_answers_like_clang(folder: Path) -> None:
    from llvm_bridge.toolchain import find_compiler

    command, arguments = find_compiler(["k2-clang", "-target", "bpf", "-c", "a.c"], {"PATH": ""})
    assert [job[:4] for job in jobs(command, arguments)] == [("a.o", "bpf", None, 3)]
    words = ["k2-clang", "-target", "bpf", "-mcpu=v4", "-c", "a.c", "-o", "z.o"]
    command, arguments = find_compiler(words, {"PATH": ""})
    assert [job[:4] for job in jobs(command, arguments)] == [("z.o", "bpf", "v4", 4)]


@pytest.mark.parametrize(
    "arguments",
    [
        "-v -E -",
        "--version",
        "-dM -E -",
        "-print-resource-dir",
        "-print-file-name=include",
        "-dumpversion",
        "-target bpf -S -c a.c",
        "-target bpf -O2 -emit-llvm -c a.c -o -",
        "-target bpf -fsyntax-only a.c -c",
        "-target bpf -M a.c -c",
        "-target bpf -flto -c a.c",
        "-target bpf -### -c a.c",
        "-target bpf a.c -o a.out",
        "-march=bpf -mattr=help",
        "-fPIC -shared -o lib.so a.c",
        "",
    ],
)
def test_runs_without_an_object_of_ours(arguments: str) -> None:
    assert not may_write_object(arguments.split())


def test_llc(folder: Path) -> None:
    for words, expected in (
        ("-march=bpf -mcpu=v3 -filetype=obj -o x.o x.ll", [("x.o", 3)]),
        ("-march=bpf --filetype=obj -o=y.o x.ll", [("y.o", None)]),
        ("-march bpf -filetype=obj sub/x.bc", [("sub/x.o", None)]),
        ("-march=bpf -mcpu=probe -filetype=obj", []),
        ("-march=bpf -mattr=-alu32 -mcpu=v3 -filetype=obj x.ll", [("x.o", 2)]),
    ):
        assert may_write_object(words.split())
        found = jobs(["/usr/bin/llc-19"], words.split())
        assert [(job.output, job.cpu_level) for job in found] == expected


@pytest.mark.needs("clang-19", "llc-19")
def test_llc_of_llvm_19_agrees(folder: Path) -> None:
    subprocess.run(["clang-19", "-target", "bpf", "-O2", "-S", "-emit-llvm", "a.c"], check=True, timeout=60)
    words = ["-march=bpf", "-mcpu=v3", "-filetype=obj", "a.ll"]
    subprocess.run(["llc-19", *words], check=True, timeout=60)
    assert [job.output for job in jobs(["llc-19"], words) if Path(job.output).exists()] == ["a.o"]


def test_words_of_a_response_file() -> None:
    text = "a 'b c' \"d \\\" e\" f\\ g\n  h''i '' \\\\"
    assert split_words(text) == ["a", "b c", 'd " e', "f g", "hi", "", "\\"]


def test_a_response_file_that_names_itself_ends(folder: Path) -> None:
    (folder / "loop.rsp").write_text("-c @loop.rsp")
    assert expand(["@loop.rsp"]).count("-c") < 100
    assert expand(["@missing.rsp", "x@y"]) == ["@missing.rsp", "x@y"]


def test_the_environment_is_left_alone(folder: Path) -> None:
    before = dict(os.environ)
    may_write_object(["-c", "a.c"])
    jobs(["/bin/false"], ["-target", "bpf", "-c", "a.c"])
    assert dict(os.environ) == before

"""Finding the compiler: never ourselves, the newest otherwise, one sentence when there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from llvm_bridge.toolchain import BEHIND, CompilerMissing, find_clang, find_compiler, find_llc

OURS = "#!/bin/sh\n# from clang_wrapper import main\n"


def program(folder: Path, name: str, text: str = "#!/bin/sh\n") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_k2_clang_wins(tmp_path: Path) -> None:
    program(tmp_path / "path", "clang")
    chosen = program(tmp_path / "mine", "my-clang")
    environ = {"PATH": str(tmp_path / "path"), "K2_CLANG": chosen}
    assert find_clang("k2-clang", environ).command == (chosen,)


def test_k2_clang_may_be_words_or_a_name(tmp_path: Path) -> None:
    found = program(tmp_path / "path", "clang-17")
    environ = {"PATH": str(tmp_path / "path"), "K2_CLANG": "clang-17 -fcolor-diagnostics"}
    assert find_clang("k2-clang", environ).command == (found, "-fcolor-diagnostics")
    spaced = program(tmp_path / "two words", "clang")
    assert find_clang("k2-clang", {"PATH": "", "K2_CLANG": spaced}).command == (spaced,)


def test_a_wrong_k2_clang_is_no_silent_fallback(tmp_path: Path) -> None:
    program(tmp_path / "path", "clang")
    with pytest.raises(CompilerMissing, match="K2_CLANG=nothing is no program other than k2-clang itself"):
        find_clang("k2-clang", {"PATH": str(tmp_path / "path"), "K2_CLANG": "nothing"})


def test_k2_clang_is_never_ourselves(tmp_path: Path) -> None:
    own = program(tmp_path / "k2", "clang", OURS)
    real = program(tmp_path / "usr", "clang")
    environ = {"PATH": f"{tmp_path / 'k2'}:{tmp_path / 'usr'}", "K2_CLANG": "clang"}
    assert find_clang(own, environ).command == (real,)
    with pytest.raises(CompilerMissing, match="itself"):
        find_clang(own, {"PATH": "", "K2_CLANG": own})


def test_clang_before_numbered_ones_and_the_newest_of_these(tmp_path: Path) -> None:
    folder = tmp_path / "path"
    nine, nineteen = program(folder, "clang-9"), program(folder, "clang-19")
    program(folder, "clang-format-20")
    program(folder, "clang-cpp-21")
    environ = {"PATH": f"{tmp_path / 'empty'}:{folder}"}
    assert find_clang("k2-clang", environ).command == (nineteen,)
    plain = program(folder, "clang")
    assert find_clang("k2-clang", environ).command == (plain,)
    assert find_clang("/opt/k2/clang-9", environ).command == (nine,)


def test_we_are_skipped_by_inode_and_by_what_we_import(tmp_path: Path) -> None:
    own = program(tmp_path / "bin", "k2-clang", "#!/bin/sh\n")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "clang").symlink_to(own)
    (tmp_path / "second").mkdir()
    os.link(own, tmp_path / "second" / "clang")
    program(tmp_path / "third", "clang", OURS)
    real = program(tmp_path / "fourth", "clang")
    folders = [str(tmp_path / name) for name in ("first", "second", "third", "fourth")]
    assert find_clang(own, {"PATH": ":".join(folders)}).command == (real,)
    assert find_clang(f"{folders[0]}/clang", {"PATH": ":".join(folders)}).command == (real,)
    # Found by a bare name, as a shell would have found us.
    assert find_clang("clang", {"PATH": ":".join(folders)}).command == (real,)


def test_a_masquerading_ccache_does_not_come_back_to_us(tmp_path: Path) -> None:
    own = program(tmp_path / "k2", "clang", OURS)
    cache = program(tmp_path / "real", "ccache")
    (tmp_path / "masquerade").mkdir()
    (tmp_path / "masquerade" / "clang").symlink_to(cache)
    real = program(tmp_path / "usr", "clang")
    environ = {"PATH": ":".join(str(tmp_path / name) for name in ("k2", "masquerade", "usr"))}
    command, _ = find_compiler([own, "-c", "x.c"], environ)
    assert command == [str(tmp_path / "masquerade" / "clang")]
    assert environ[BEHIND] == command[0]
    command, _ = find_compiler([own, "-c", "x.c"], environ)  # ccache starts us once more
    assert command == [real]


def test_the_compiler_may_be_the_first_argument(tmp_path: Path) -> None:
    given = program(tmp_path, "bpf-clang-19")
    assert find_compiler(["k2-clang", given, "-c", "x.c"], {"PATH": ""}) == ([given], ["-c", "x.c"])
    source = tmp_path / "clang"
    source.write_text("a file that is called clang")
    with pytest.raises(CompilerMissing):
        find_compiler(["k2-llc", str(source)], {"PATH": ""})


def test_llc_is_found_beside_k2_clang_or_on_path(tmp_path: Path) -> None:
    clang = program(tmp_path / "llvm", "clang-19")
    beside = program(tmp_path / "llvm", "llc-19")
    on_path = program(tmp_path / "path", "llc-16")
    assert find_llc("k2-llc", {"PATH": "", "K2_CLANG": clang}).command == (beside,)
    assert find_llc("k2-llc", {"PATH": str(tmp_path / "path")}).command == (on_path,)
    command, _ = find_compiler(["/x/k2-llc", "-march=bpf"], {"PATH": str(tmp_path / "path")})
    assert command == [on_path]


def test_one_sentence_when_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(CompilerMissing) as caught:
        find_clang("k2-clang", {"PATH": ""})
    assert "K2_CLANG" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.needs("ziglang")
@pytest.mark.parametrize("target", ["-target bpf", "--target=bpf", "--target=bpfel", "--target=bpfeb"])
@pytest.mark.parametrize("cpu", ["v1", "v3", "v4"])
def test_the_wheel_takes_every_spelling(target: str, cpu: str, tmp_path: Path) -> None:
    """... and finds Linux headers on a machine that has none."""
    command, arguments = find_compiler(["k2-clang", *target.split(), f"-mcpu={cpu}", "-nostdlibinc"], {"PATH": ""})
    source = tmp_path / "x.c"
    headers = "".join(f"#include <{name}>\n" for name in ("linux/bpf.h", "linux/ip.h", "stddef.h"))
    source.write_text(f"{headers}int f(void) {{ return sizeof(struct iphdr); }}\n")
    output = tmp_path / "x.o"
    done = subprocess.run(
        [*command, *arguments, "-O2", "-g", "-Werror", "-c", str(source), "-o", str(output)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert output.read_bytes()[5] == (2 if "eb" in target else 1)
    assert b".eh_frame" not in output.read_bytes()

"""Beside the object, nobody can tell k2-clang from clang: exit code, both outputs, every file."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.wrapper.harness import environment, fill, launcher, observe

CLANGS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("clang-19", "clang-16", "clang-14")]

PASS_THROUGH = [
    "-v -E -",
    "-E -P -x c -",
    "-dM -E -",
    "-Wp,-v -E -",
    "-print-multiarch",
    "-print-resource-dir",
    "-print-file-name=include",
    "-print-prog-name=ld",
    "-print-search-dirs",
    "-print-targets",
    "-print-effective-triple --target=bpf",
    "-dumpversion",
    "-dumpmachine",
    "--help",
    "--no-such-option",
    "",
    "-c no-such-file.c --target=bpf",
    "-### -c prog.c --target=bpf",
    "--target=bpf -O2 -S prog.c -o -",
    "--target=bpf -O2 -g -S prog.c",
    "--target=bpf -O2 -emit-llvm -c prog.c -o prog.bc",
    "--target=bpf -O2 -emit-llvm -S prog.c -o -",
    "--target=bpf -O2 -flto -c prog.c -o prog.o",
    "--target=bpf -fsyntax-only prog.c",
    "--target=bpf -fsyntax-only bad.c",
    "--target=bpf -M prog.c",
    "--target=bpf -MM prog.c",
    "--target=bpf -E prog.c -o prog.i",
    "--target=bpf -mcpu=? -c prog.c",
    "--target=bpf prog.c",
    "--target=bpf -O2 -c prog.c -o -",
    "--target=bpf -O2 -c prog.c -o /dev/null",
    "--target=bpf -O2 -c bad.c -o bad.o",
    "--target=bpf -O2 -c prog.c -o no-such-folder/prog.o",
    "--target=bpf -O2 -c prog.c second.c -o both.o",
    "-Werror -Wall --target=bpf -c warns.c -o warns.o",
    "-c host.c -o host.o",
    "-fPIC -c host.c",
]

OBJECTS = [
    ("--target=bpf -O2 -g -c prog.c -o prog.o", ["prog.o"]),
    ("-target bpf -O2 -c prog.c -o prog.o", ["prog.o"]),
    ("-O2 -g --target=bpfeb -mcpu=v3 -c prog.c -o eb.o", ["eb.o"]),
    ("-O2 -mcpu=v1 -target bpfel -c prog.c -o x.o -fno-ident -fdebug-compilation-dir . -g -MD -MP -MFx.d", ["x.o"]),
    ("-O2 -g --target=bpf -c prog.c -Wp,-MMD,.x.o.d", ["prog.o"]),
    ("-O2 -g --target=bpf -c prog.c second.c", ["prog.o", "second.o"]),
    ("@args.rsp", ["from rsp.o"]),
    ("--target=bpf -Wall -c warns.c -o warns.o", ["warns.o"]),
    ("--target=bpf -O2 -g -c -x c - -o in.o", ["in.o"]),
    ("-Werror -target bpf -c -x c /dev/null -o empty.o", ["empty.o"]),
    ("--target=bpf -O2 -g -save-temps -c prog.c -o prog.o", ["prog.o"]),
    ("--target=bpf -O2 -g -gsplit-dwarf -c prog.c -o prog.o", ["prog.o"]),
    ("--target=bpf -O2 -fno-integrated-cc1 -c prog.c", ["prog.o"]),
]


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launcher(tmp_path_factory.mktemp("bin"))


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize("arguments", PASS_THROUGH)
def test_what_is_not_ours_is_clangs_to_the_byte(clang: str, arguments: str, wrapper: Path, tmp_path: Path) -> None:
    words = shlex.split(arguments)
    stdin = b"int answer = 42;\n"
    folder = tmp_path / "work"
    theirs = observe([clang, *words], fill(folder), stdin)
    ours = observe([str(wrapper), *words], fill(folder), stdin, K2_CLANG=clang)
    assert ours == theirs


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize(("arguments", "objects"), OBJECTS)
def test_beside_the_object_all_is_clangs(
    clang: str, arguments: str, objects: list[str], wrapper: Path, tmp_path: Path
) -> None:
    words = shlex.split(arguments)
    stdin = b"int main(void) { return 0; }\n"
    folder = tmp_path / "work"
    theirs = observe([clang, *words], fill(folder), stdin)
    assert theirs.code == 0, theirs.stderr
    ours = observe([str(wrapper), *words], fill(folder), stdin, K2_CLANG=clang)
    assert ours.without(*objects) == theirs.without(*objects)
    for name in objects:
        assert ours.files[name][0] == theirs.files[name][0], "same mode"
        assert ours.files[name][1][:20] == theirs.files[name][1][:20], "the same kind of ELF file"
    switched_off = observe([str(wrapper), *words], fill(folder), stdin, K2_CLANG=clang, K2_DISABLE="1")
    assert switched_off == theirs
    no_tiers = observe([str(wrapper), *words], fill(folder), stdin, K2_CLANG=clang, K2_TIERS="none")
    assert no_tiers == theirs


@pytest.mark.parametrize("clang", CLANGS)
def test_version_begins_with_clangs_own_words(clang: str, wrapper: Path, tmp_path: Path) -> None:
    theirs = observe([clang, "--version"], fill(tmp_path / "work"))
    ours = observe([str(wrapper), "--version"], tmp_path / "work", K2_CLANG=clang)
    assert ours.stdout.startswith(theirs.stdout)
    added = ours.stdout.removeprefix(theirs.stdout).decode()
    assert added.startswith("k2-clang ") and added.count("\n") == 1
    assert "clang version" not in added
    other = observe([str(wrapper), "--version"], tmp_path / "work", K2_CLANG=clang, K2_SEED="99")
    assert other.stdout != ours.stdout, "a compiler cache must see that settings changed"


@pytest.mark.needs("clang-19")
def test_version_when_switched_off_is_clangs(wrapper: Path, tmp_path: Path) -> None:
    theirs = observe(["clang-19", "--version"], fill(tmp_path / "work"))
    assert observe([str(wrapper), "--version"], tmp_path / "work", K2_CLANG="clang-19", K2_DISABLE="1") == theirs


@pytest.mark.needs("clang-19")
def test_fifo_is_passed_through(wrapper: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "work")
    read = {}
    for name, command in (("theirs", ["clang-19"]), ("ours", [str(wrapper)])):
        compile_into = f'"$@" --target=bpf -O2 -c prog.c -o {name}; status=$?; wait; exit $status'
        script = f"mkfifo {name}; cat {name} > {name}.o & {compile_into}"
        run = subprocess.run(
            ["sh", "-c", script, "sh", *command], cwd=folder, env=environment(K2_CLANG="clang-19"), capture_output=True
        )
        read[name] = (run.returncode, run.stderr.replace(name.encode(), b""), (folder / f"{name}.o").read_bytes())
    assert read["ours"] == read["theirs"]


@pytest.mark.needs("clang-19")
def test_symbolic_link_is_replaced_as_clang_does(wrapper: Path, tmp_path: Path) -> None:
    command = ["--target=bpf", "-O2", "-c", "prog.c", "-o", "link.o"]
    seen = []
    for compiler in ("clang-19", str(wrapper)):
        folder = fill(tmp_path / "work")
        (folder / "link.o").symlink_to("elsewhere")
        seen.append(observe([compiler, *command], folder, K2_CLANG="clang-19"))
    assert seen[0].without("link.o") == seen[1].without("link.o")
    assert seen[0].files["link.o"][0] == seen[1].files["link.o"][0]


@pytest.mark.needs("clang-19")
def test_wrapper_first_on_path_does_not_find_itself(tmp_path: Path) -> None:
    """Installed as `clang` in front of the real one, and once more behind a second name for the same folder."""
    first = launcher(tmp_path / "toolchain", "clang-19")
    (tmp_path / "again").symlink_to(tmp_path / "toolchain")
    path = f"{tmp_path / 'toolchain'}:{tmp_path / 'again'}:{environment()['PATH']}"
    folder = fill(tmp_path / "work")
    seen = observe([str(first), "--target=bpf", "-O2", "-c", "prog.c"], folder, PATH=path)
    assert seen.code == 0 and "prog.o" in seen.files, seen.stderr


@pytest.mark.needs("clang-19")
def test_two_runs_and_two_hash_seeds_give_the_same_bytes(wrapper: Path, tmp_path: Path) -> None:
    command = [str(wrapper), "--target=bpf", "-O2", "-g", "-mcpu=v3", "-c", "prog.c", "-o", "prog.o"]
    runs = [
        observe(command, fill(tmp_path / "work"), K2_CLANG="clang-19", PYTHONHASHSEED=seed) for seed in ("1", "2", "2")
    ]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0].code == 0 and runs[0].stderr == b""


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["-E -P -x c -", "--target=bpf -O2 -g -c prog.c -o prog.o", "-c bad.c"])
def test_closed_streams_are_no_harm(closed: str, arguments: str, wrapper: Path, tmp_path: Path) -> None:
    script = f'exec "$@" {arguments} {closed}'
    seen = []
    for compiler in ("clang-19", str(wrapper)):
        command = ["sh", "-c", script, "sh", compiler]
        seen.append(observe(command, fill(tmp_path / "work"), K2_CLANG="clang-19").without("prog.o"))
    assert seen[0] == seen[1]


@pytest.mark.needs("clang-19")
def test_behind_ccache_the_first_argument_is_the_compiler(wrapper: Path, tmp_path: Path) -> None:
    """CCACHE_PREFIX=k2-clang starts us with the compiler's path in front of its arguments."""
    clang = shutil.which("clang-19")
    assert clang is not None
    words = [clang, "--target=bpf", "-O2", "-g", "-c", "prog.c", "-o", "prog.o"]
    theirs = observe(words, fill(tmp_path / "work"))
    ours = observe([str(wrapper), *words], fill(tmp_path / "work"), K2_CLANG="no-such-clang")
    assert ours.without("prog.o") == theirs.without("prog.o") and "prog.o" in ours.files
    probe = observe([str(wrapper), clang, "-dumpversion"], tmp_path / "work", K2_CLANG="no-such-clang")
    assert probe.stdout == observe([clang, "-dumpversion"], tmp_path / "work").stdout


@pytest.mark.needs("clang-19", "llc-19")
def test_llc_beside_the_chosen_clang(tmp_path: Path) -> None:
    """The two-step build of older makefiles: clang writes LLVM IR, llc the object."""
    llc = str(launcher(tmp_path / "bin", "k2-llc"))
    folder = fill(tmp_path / "work")
    observe(["clang-19", *shlex.split("--target=bpf -O2 -g -S -emit-llvm prog.c -o prog.ll")], folder)
    asm = shlex.split("-march=bpf -mcpu=v3 -filetype=asm -o - prog.ll")
    assert observe([llc, *asm], folder, K2_CLANG="clang-19") == observe(["llc-19", *asm], folder)
    command = shlex.split("-march=bpf -mcpu=v3 -filetype=obj -o prog.o prog.ll")
    theirs = observe(["llc-19", *command], folder)
    (folder / "prog.o").unlink()
    ours = observe([llc, *command], folder, K2_CLANG="clang-19", K2_VERBOSE="1")
    assert ours.code == theirs.code == 0 and ours.stdout == theirs.stdout
    assert b"prog.o:xdp (pass)" in ours.stderr, "the object went through our stage"
    (folder / "prog.o").unlink()
    assert observe([llc, *command], folder, K2_CLANG="clang-19", K2_DISABLE="1") == theirs


@pytest.mark.needs("clang-19")
def test_report_gets_one_line_for_each_object(wrapper: Path, tmp_path: Path) -> None:
    words = shlex.split("--target=bpf -O2 -g -c prog.c second.c")
    seen = observe([str(wrapper), *words], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_REPORT="report.json")
    lines = [json.loads(line) for line in seen.files["report.json"][1].splitlines()]
    assert [line["object"] for line in lines] == ["prog.o", "second.o"]
    assert [line["record"]["functions"][0]["name"] for line in lines] == ["pass", "second"]

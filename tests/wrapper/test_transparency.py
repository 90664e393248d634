"""Beside the object, nobody can tell k2-clang from clang (every invocation: tests/drop_in/test_rows.py)."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.wrapper.harness import environment, fill, launcher, observe

CLANGS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("clang-19", "clang-16", "clang-14")]


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launcher(tmp_path_factory.mktemp("bin"))


OFF = ({"K2_DISABLE": "1"}, {"K2_TIERS": "none"}, {"K2_SKIP_FILES": "*.o"}, {"K2_SKIP_FUNCS": "*"})


@pytest.mark.needs("clang-19")
@pytest.mark.parametrize("settings", OFF, ids=str)
def test_what_is_switched_off_leaves_clangs_bytes(settings: dict[str, str], wrapper: Path, tmp_path: Path) -> None:
    words = shlex.split("--target=bpf -O2 -g -mcpu=v3 -c prog.c second.c")
    theirs = observe(["clang-19", *words], fill(tmp_path / "work"))
    assert observe([str(wrapper), *words], fill(tmp_path / "work"), b"", K2_CLANG="clang-19", **settings) == theirs


@pytest.mark.needs("clang-19")
def test_what_is_not_switched_off_gets_smaller(wrapper: Path, tmp_path: Path) -> None:
    """The twin: the same compilation with nothing but the setting missing."""
    words = shlex.split("--target=bpf -O2 -g -mcpu=v3 -c prog.c second.c")
    theirs = observe(["clang-19", *words], fill(tmp_path / "work"))
    ours = observe([str(wrapper), *words], fill(tmp_path / "work"), K2_CLANG="clang-19", K2_TIERS="passes")
    assert ours.without("prog.o") == theirs.without("prog.o")
    assert len(ours.files["prog.o"][1]) < len(theirs.files["prog.o"][1])


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

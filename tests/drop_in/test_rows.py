"""Every row of the table of invocations, k2-clang beside the real compiler, for every compiler we know."""

from __future__ import annotations

from pathlib import Path

import pytest

from llvm_bridge.glance import has_code
from tests.drop_in.compilers import COMPILERS, DEFAULT_LEVEL, MARKING, compiler, fast_launcher, run_script
from tests.drop_in.rows import LEVEL, OPTIMISED, PASSED, SOURCES, Row
from tests.wrapper.harness import Seen, fill


def both(row: Row, name: str, wrapper: Path, tmp_path: Path) -> tuple[Seen, Seen]:
    """What the real compiler did and what k2-clang did, in folders of the same name."""
    real = compiler(name, tmp_path)
    folder = tmp_path / "work"
    theirs = run_script(row.script, real.words, fill(folder, SOURCES), row.stdin, **real.environment)
    ours = run_script(row.script, str(wrapper), fill(folder, SOURCES), row.stdin, **real.environment)
    return theirs, ours


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fast_launcher(tmp_path_factory.mktemp("bin"), before=MARKING)


def named(rows: tuple[Row, ...]) -> list[object]:
    return [pytest.param(row, id=f"{row.number}: {row.script}") for row in rows]


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("row", named(PASSED))
def test_what_is_not_ours_is_the_compilers_to_the_byte(row: Row, name: str, wrapper: Path, tmp_path: Path) -> None:
    if row.only and name not in row.only:
        return
    theirs, ours = both(row, name, wrapper, tmp_path)
    assert ours == theirs


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("row", named(OPTIMISED))
def test_our_stage_gets_the_objects_and_nothing_else_changes(
    row: Row, name: str, wrapper: Path, tmp_path: Path
) -> None:
    if row.only and name not in row.only:
        return
    theirs, ours = both(row, name, wrapper, tmp_path)
    assert theirs.code == 0, theirs.stderr
    assert ours.without(*row.objects, *row.unsteady) == theirs.without(*row.objects, *row.unsteady)
    assert ours.files.keys() == theirs.files.keys()
    for path, level in row.objects.items():
        mode, data = theirs.files[path]
        told = DEFAULT_LEVEL[name] if level == LEVEL else level
        assert ours.files[path] == (mode, data + f"|level {told}".encode())


@pytest.mark.needs("clang-19")
def test_code_is_seen_at_a_glance(tmp_path: Path) -> None:
    """What has no instruction is not worth starting the optimiser; what cannot be told is."""
    folder = fill(tmp_path / "work", SOURCES)
    for target in ("bpfel", "bpfeb"):
        run_script(f"$CC --target={target} -g -c prog.c -o c.o", "clang-19", folder)
        code = (folder / "c.o").read_bytes()
        (folder / "data.c").write_text("int x = 1;\n")
        run_script(f"$CC --target={target} -g -c data.c -o d.o", "clang-19", folder)
        data = (folder / "d.o").read_bytes()
        assert has_code(code) and not has_code(data)
        for broken in (
            b"",
            b"\x7fELF",
            data[:70],
            data[:40] + b"\xff" * 8 + data[48:],
            data[:60] + b"\0\0" + data[62:],
        ):
            assert has_code(broken)

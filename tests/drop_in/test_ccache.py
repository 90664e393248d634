"""ccache around us, us around ccache, both first on PATH: one pass of our stage, the right bytes, a cache that sees.

The k2-clang of these tests marks what its stage is given, so a second pass or none would show in the bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.drop_in.compilers import MARKING, fast_launcher
from tests.drop_in.rows import SOURCES
from tests.wrapper.harness import Seen, environment, fill, observe

pytestmark = pytest.mark.needs("ccache", "clang-19")
ARGUMENTS = "--target=bpf -O2 -g -mcpu=v3 -c prog.c -o prog.o"
MARK = b"|level 3"


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    return fast_launcher(tmp_path / "bin", before=MARKING)


def compiled(words: str, tmp_path: Path, **variables: str) -> Seen:
    """The compilation in an always fresh folder with the test's own cache."""
    # ccache 4 names files of its own in the folder of CCACHE_DIR; that folder is no part of what is seen.
    cache = {"CCACHE_DIR": str(tmp_path / "cache"), "CCACHE_NOHASHDIR": "1", "CCACHE_SLOPPINESS": "time_macros"}
    return observe(["sh", "-c", f"{words} {ARGUMENTS}"], fill(tmp_path / "work", SOURCES), b"", **cache, **variables)


def hits(tmp_path: Path) -> int:
    done = observe(["ccache", "--print-stats"], tmp_path, b"", CCACHE_DIR=str(tmp_path / "cache"))
    counts = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    return int(counts["direct_cache_hit"]) + int(counts["preprocessed_cache_hit"])


def plain(tmp_path: Path) -> bytes:
    return compiled("clang-19", tmp_path).files["prog.o"][1]


def test_ccache_around_us_keeps_what_we_made(wrapper: Path, tmp_path: Path) -> None:
    expected = plain(tmp_path) + MARK
    for count in (0, 1):
        seen = compiled(f"ccache {wrapper}", tmp_path, K2_CLANG="clang-19")
        assert seen.code == 0 and seen.files["prog.o"][1] == expected and hits(tmp_path) == count


def test_cache_that_checks_our_version_sees_settings(wrapper: Path, tmp_path: Path) -> None:
    """CCACHE_COMPILERCHECK as docs/drop-in.md says: by default ccache knows the wrapper's own file alone."""
    check = {"CCACHE_COMPILERCHECK": "%compiler% --version", "K2_CLANG": "clang-19"}
    for settings, count in (({}, 0), ({}, 1), ({"K2_GOAL": "size"}, 1), ({"K2_GOAL": "size"}, 2), ({}, 3)):
        assert compiled(f"ccache {wrapper}", tmp_path, **check, **settings).code == 0
        assert hits(tmp_path) == count, settings


def test_we_as_ccaches_prefix(wrapper: Path, tmp_path: Path) -> None:
    expected = plain(tmp_path) + MARK
    path = f"{wrapper.parent}:{environment()['PATH']}"
    for count in (0, 1):
        seen = compiled("ccache clang-19", tmp_path, CCACHE_PREFIX="k2-clang", PATH=path)
        assert seen.code == 0 and seen.files["prog.o"][1] == expected and hits(tmp_path) == count


def test_ccache_behind_us(wrapper: Path, tmp_path: Path) -> None:
    """Ours is made anew each time, clang's comes from the cache; the questions we ask count as no compilations."""
    expected = plain(tmp_path) + MARK
    for count in (0, 1):
        seen = compiled(str(wrapper), tmp_path, K2_CLANG="ccache clang-19")
        assert seen.code == 0 and seen.files["prog.o"][1] == expected and hits(tmp_path) == count


@pytest.mark.parametrize("order", ["ours first", "ccache first"])
def test_masquerade_in_both_orders_ends_at_the_real_compiler(order: str, tmp_path: Path) -> None:
    """/usr/lib/ccache-like links beside a folder with us, both under clang's own name, both on PATH."""
    expected = plain(tmp_path) + MARK
    ours = fast_launcher(tmp_path / "ours", "clang-19", before=MARKING).parent
    links = tmp_path / "links"
    links.mkdir()
    ccache = shutil.which("ccache")
    assert ccache is not None
    (links / "clang-19").symlink_to(ccache)
    folders = (ours, links) if order == "ours first" else (links, ours)
    path = ":".join([*map(str, folders), environment()["PATH"]])
    for _ in range(2):
        seen = compiled("clang-19", tmp_path, PATH=path)
        assert seen.code == 0, seen.stderr
        assert seen.files["prog.o"][1] == expected
    assert hits(tmp_path) == 1

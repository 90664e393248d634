"""The cache's file: what was put comes back, and whatever is wrong with it is a miss without a word."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.cache import store
from synth.cache.keys import object_key
from synth.cache.store import FILE, OFF, Store
from synth.settings import Settings

KEY, OTHER = b"\x00" * 32, b"\x00" * 31 + b"\x01"


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "cache"))
    found.put(KEY, b"proved")
    return found


def test_what_was_put_comes_back_and_for_a_key_of_one_other_bit_nothing(kept: Store) -> None:
    assert kept.get(KEY) == b"proved"
    assert kept.get(OTHER) is None
    kept.put(KEY, b"proved anew")
    assert kept.get(KEY) == b"proved anew"


def test_folder_and_file_are_for_their_owner_alone(kept: Store) -> None:
    assert stat.S_IMODE(Path(kept.folder).stat().st_mode) == 0o700
    assert stat.S_IMODE((Path(kept.folder) / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_folder_that_others_may_write_counts_for_nothing(kept: Store, mode: int) -> None:
    Path(kept.folder).chmod(mode)
    assert kept.get(KEY) is None
    kept.put(OTHER, b"more")
    Path(kept.folder).chmod(0o755)
    assert kept.get(KEY) == b"proved", "others may read it"
    assert kept.get(OTHER) is None


def _flip(folder: Path) -> None:
    with sqlite3.connect(folder / FILE) as database:
        (value,) = database.execute("SELECT value FROM results").fetchone()
        database.execute("UPDATE results SET value = ?", (value[:-1] + bytes([value[-1] ^ 1]),))


def _swap_keys(folder: Path) -> None:
    with sqlite3.connect(folder / FILE) as database:
        database.execute("UPDATE results SET key = ?", (OTHER,))


def _drop(folder: Path) -> None:
    with sqlite3.connect(folder / FILE) as database:
        database.execute("DROP TABLE results")


SPOILS: list[Callable[[Path], object]] = [
    _flip,
    _swap_keys,
    _drop,
    lambda folder: (folder / FILE).write_bytes(b"no database " * 1000),
    lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:5000]),
    lambda folder: (folder / FILE).unlink(),
]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_damaged_is_a_miss_and_is_mended_by_the_next_result(
    kept: Store, spoil: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(Path(kept.folder))
    assert kept.get(KEY) is None
    assert kept.get(OTHER) is None
    kept.put(KEY, b"again")
    assert kept.get(KEY) == b"again"
    assert capfd.readouterr() == ("", "")


def test_a_lock_that_stays_is_a_miss(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_READ_SECONDS", 0.05)
    monkeypatch.setattr(store, "_WRITE_SECONDS", 0.05)
    other = sqlite3.connect(Path(kept.folder) / FILE)
    other.execute("BEGIN EXCLUSIVE")
    assert kept.get(KEY) is None
    kept.put(OTHER, b"more")
    other.rollback()
    other.close()
    assert kept.get(KEY) == b"proved", "a locked file is not thrown away"
    assert kept.get(OTHER) is None


def test_a_folder_that_cannot_be_made_and_no_folder_at_all_are_misses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (str(tmp_path / "file" / "cache"), "/proc/self/cache", OFF):
        nowhere = Store(folder)
        nowhere.put(KEY, b"proved")
        assert nowhere.get(KEY) is None


def test_a_file_of_another_version_is_begun_anew(kept: Store) -> None:
    with sqlite3.connect(Path(kept.folder) / FILE) as database:
        database.execute("PRAGMA user_version = 999")
    kept.put(OTHER, b"more")
    assert kept.get(OTHER) == b"more"
    assert kept.get(KEY) is None


def test_a_file_that_grew_too_large_is_begun_anew(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_BYTES", 1)
    kept.put(OTHER, b"more")
    assert kept.get(OTHER) == b"more"
    assert kept.get(KEY) is None


def test_builds_at_the_same_time_all_keep_what_they_found(tmp_path: Path) -> None:
    script = (
        "import sys; from synth.cache.store import Store; s = Store(sys.argv[1])\n"
        "for n in range(10): s.put(bytes([int(sys.argv[2]), n]) * 16, bytes([n]) * 99)\n"
    )
    folder = str(tmp_path / "cache")
    running = [subprocess.Popen([sys.executable, "-c", script, folder, str(who)]) for who in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    found = Store(folder)
    assert all(found.get(bytes([who, n]) * 16) == bytes([n]) * 99 for who in range(3) for n in range(10))


def test_an_object_key_names_what_shapes_the_output_and_nothing_else() -> None:
    plain = object_key(b"data", Settings(), 3, None)
    same = (Settings(verbose=True), Settings(jobs=4), Settings(cache="/x"), Settings(timeout=1), Settings(report="r"))
    assert all(object_key(b"data", settings, 3, None) == plain for settings in same)
    others = [
        Settings(goal="size"),
        Settings(effort=2),
        Settings(seed=2),
        Settings(kernels=("6.1.0",)),
        Settings(last=1),
    ]
    keys = [object_key(b"data", settings, 3, None) for settings in others]
    keys += [object_key(b"dat`", Settings(), 3, None), object_key(b"data", Settings(), 2, None)]
    keys += [object_key(b"data", Settings(), 3, b""), object_key(b"data", Settings(), 3, "why")]
    assert len({plain, *keys}) == len(keys) + 1

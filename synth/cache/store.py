"""Proved results by key, in one SQLite file in a folder that only its owner can write.

Inside the trust wall: what comes out of here is not proved again.  So a value counts only from a folder that belongs to
this user and that nobody else may write, under a key that names everything it rests on, with its digest intact.
Whatever else is the matter (locked, corrupted, read-only, out of reach) is a miss, without a word.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

OFF: Final = "off"
FILE: Final = "proved.sqlite"
SCHEMA: Final = 1
MOST_BYTES: Final = 1 << 29  # of the file; then it is begun anew
_READ_SECONDS, _WRITE_SECONDS = 0.5, 5.0  # for which a lock of others is waited out
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def default_folder() -> str:
    """$XDG_CACHE_HOME/k2-clang/proved, by default below ~/.cache; "" where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return f"{base}/k2-clang/proved" if base.startswith("/") else ""


class Store:
    """Values by key.  `folder`: as K2_CACHE has it ("": the default, "off": nothing is kept and nothing found)."""

    def __init__(self, folder: str = "") -> None:
        self.folder = "" if folder == OFF else folder or default_folder()

    def get(self, key: bytes) -> bytes | None:
        """The value, None for a miss."""
        if not self.folder or not _is_ours(self.folder):
            return None
        try:
            with self._open("ro", _READ_SECONDS) as database:
                row = database.execute("SELECT digest, value FROM results WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] != _digest(key, row[1]):
                return None
            return zlib.decompress(row[1])
        except (sqlite3.Error, OSError, zlib.error, TypeError):
            return None

    def put(self, key: bytes, value: bytes) -> None:
        """Keep it, unless something stands in the way."""
        if not self.folder:
            return
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)  # noqa: PTH103  pathlib is slow to import
            if not _is_ours(self.folder):
                return
            try:
                self._insert(key, value)
            except sqlite3.OperationalError:  # locked for long, or no room: nothing is wrong with the file
                return
            except sqlite3.DatabaseError:
                os.unlink(self._path)  # noqa: PTH108
                self._insert(key, value)
        except (sqlite3.Error, OSError):
            return

    @property
    def _path(self) -> str:
        return f"{self.folder}/{FILE}"

    def _insert(self, key: bytes, value: bytes) -> None:
        packed = zlib.compress(value, 6)
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_size > MOST_BYTES:  # noqa: PTH116
                os.unlink(self._path)  # noqa: PTH108
        mask = os.umask(0o077)
        try:
            with self._open("rwc", _WRITE_SECONDS) as database, database:
                database.execute("PRAGMA synchronous = OFF")  # a loss costs a search; the digest tells what is whole
                found = database.execute("PRAGMA user_version").fetchone()[0]
                if found not in (0, SCHEMA):
                    raise sqlite3.DatabaseError("another version wrote it")
                database.execute(f"PRAGMA user_version = {SCHEMA}")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS results (key BLOB PRIMARY KEY, digest BLOB, value BLOB) WITHOUT ROWID"
                )
                database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (key, _digest(key, packed), packed))
        finally:
            os.umask(mask)

    @contextmanager
    def _open(self, mode: str, seconds: float) -> Iterator[sqlite3.Connection]:
        address = f"file:{self._path.replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode={mode}"
        with closing(sqlite3.connect(address, timeout=seconds, uri=True)) as database:
            yield database


def _is_ours(folder: str) -> bool:
    """Is it a folder of this user's that nobody else may write?"""
    try:
        found = os.stat(folder)  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _digest(key: bytes, packed: bytes) -> bytes:
    return hashlib.sha256(len(key).to_bytes(4, "big") + key + packed).digest()

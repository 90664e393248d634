"""The loader as an executable: compiled at first use with the machine's C compiler, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "loader"
_COMPILERS: Final = ("cc", "gcc", "clang")
_OPTIONS: Final = ("-O2", "-static", "-Wl,--wrap=syscall")
_LIBRARIES: Final = ("-lbpf", "-lelf", "-lz")
_COMPILE_SECONDS: Final = 120


class OracleMissingError(RuntimeError):
    """A kernel cannot be asked here; the text says in one sentence what is missing and which package has it."""


def oracle_folder() -> Path:
    """Where loaders, kernels and answers are kept: $XDG_CACHE_HOME/k2-clang/oracle, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "k2-clang" / "oracle"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@cache
def source_digest() -> str:
    """Names the loader's sources: another loader may give other answers."""
    content = b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]")))
    return hashlib.sha256(content).hexdigest()[:16]


@cache
def loader() -> Path:
    """The static executable; raises OracleMissingError."""
    target = oracle_folder() / f"loader-{source_digest()}"
    if target.exists():
        return target
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise OracleMissingError("there is no C compiler to build the loader with (Debian package gcc)")
    partial = target.with_suffix(f".{os.getpid()}")
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    command = [compiler, *_OPTIONS, "-o", str(partial), *sources, *_LIBRARIES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OracleMissingError(f"the loader cannot be built: {error}") from error
    if done.returncode != 0:
        last = next((line for line in done.stderr.splitlines() if "error" in line or "cannot find" in line), "")
        raise OracleMissingError(f"the loader cannot be built (Debian packages libbpf-dev, gcc): {last}")
    partial.rename(target)
    return target

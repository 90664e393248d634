"""Is what the demo made last time still what it would make now?"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("clang_wrapper", "object_stage", "processes", "llvm_bridge", "synth", "verifier_model")
SOURCES = (".py", ".so", ".csv", ".toml", ".json")


def fingerprint(command: Sequence[str], sources: Sequence[Path], compiler: str) -> str:
    """Hex digest over all that decides the result of `command`.

    That is the words of the command, the content of `sources`, our own code, the solver, every K2_* variable, the words
    with which the compiler introduces itself, and the running kernel, which is the gate.
    """
    digest = hashlib.sha256()
    for word in (*command, compiler, platform.release(), version("z3-solver")):
        digest.update(word.encode() + b"\0")
    for name, value in sorted(os.environ.items()):
        if name.startswith("K2_"):
            digest.update(f"{name}={value}\0".encode())
    for path in (*sorted(sources), *_own_code()):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _own_code() -> list[Path]:
    found: list[Path] = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        if spec.submodule_search_locations is None:
            found.append(Path(str(spec.origin)))
        else:
            for folder in spec.submodule_search_locations:
                found += (path for path in Path(folder).rglob("*") if path.suffix in SOURCES)
    return sorted(found)

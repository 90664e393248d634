"""Names of results: digests over everything that a result rests on."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.util import find_spec
from typing import Final

from synth.settings import VERSION, Settings

# Whatever in these can change an output: proposals, proofs, the model, reading and writing.
ROOMS: Final = ("synth", "verifier_model", "llvm_bridge")
FILES: Final = ("object_stage",)
_ENDINGS: Final = (".py", ".so", ".toml", ".json", ".csv")


@cache
def tool_digest() -> bytes:
    """Names this very optimiser: the text of its modules and data, its compiled engine, and the solver."""
    digest = hashlib.sha256(f"{VERSION}\0{_solver()}\0".encode())
    for name in ROOMS:
        spec = find_spec(name)
        for place in sorted(spec.submodule_search_locations or ()) if spec is not None else ():
            for path in _files(place):
                _add(digest, f"{name}{path.removeprefix(place)}", path)
    for name in FILES:
        spec = find_spec(name)
        if spec is not None and spec.origin:
            _add(digest, name, spec.origin)
    return digest.digest()


def _solver() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("z3-solver")
    except PackageNotFoundError:
        return "unknown"


def _files(folder: str) -> list[str]:
    found = []
    for entry in os.scandir(folder):
        if entry.is_dir():
            found += _files(entry.path) if entry.name != "__pycache__" else []
        elif entry.name.endswith(_ENDINGS):
            found.append(entry.path)
    return sorted(found)


def _add(digest: hashlib._Hash, name: str, path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123  pathlib is slow to import
        content = file.read()
    digest.update(f"{name}\0{len(content)}\0".encode() + content)


def object_key(data: bytes, settings: Settings, cpu_level: int | None, second: bytes | str | None) -> bytes:
    """The key of a whole object's result: its bytes, the plugin's object, all settings that shape the output, ours."""
    digest = hashlib.sha256(b"object\0" + tool_digest())
    other = second if isinstance(second, bytes) else repr(second).encode()
    for part in (settings.digest.encode(), repr(cpu_level).encode(), other, data):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()

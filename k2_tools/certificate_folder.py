"""A certificate's folder read back: is every byte of it accounted for, before anything in it is believed?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synth.certificate import INPUT, MANIFEST, OUTPUT, SCHEMA, digest, sealed


@dataclass(frozen=True, slots=True)
class CertificateFolder:
    """`manifest` as it was written and `files` by name, without the manifest; `faults` says what does not fit."""

    manifest: dict[str, Any]
    files: dict[str, bytes]
    faults: tuple[str, ...] = field(default=())


class NoCertificateError(Exception):
    """There is nothing here that could be checked; the text says why."""


def folders_below(place: Path) -> tuple[Path, ...]:
    """The certificate folders that `k2 recheck` is to look at: the place itself, or every folder in it."""
    if (place / MANIFEST).is_file():
        return (place,)
    return tuple(sorted(path for path in place.iterdir() if path.is_dir()))


def read_folder(folder: Path) -> CertificateFolder:
    """The folder's contents; raises NoCertificateError when there is no manifest of this schema."""
    try:
        written = (folder / MANIFEST).read_bytes()
        manifest = json.loads(written)
    except (OSError, ValueError, RecursionError) as error:
        raise NoCertificateError(f"{MANIFEST}: {' '.join(str(error).split())}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise NoCertificateError(f"{MANIFEST} is not of the schema {SCHEMA!r}")
    files = {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST
    }
    faults = [] if sealed(manifest) == written else ["the manifest was changed after it was written"]
    faults += [f"{path.name} does not belong here" for path in sorted(folder.iterdir()) if not path.is_file()]
    try:
        listed = dict(_listed(manifest))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NoCertificateError(f"{MANIFEST} is incomplete: {type(error).__name__}: {error}") from None
    faults += [f"{name} is missing" for name in listed if name not in files]
    faults += [f"{name} is in no list" for name in files if name not in listed]
    faults += [
        f"{name} was changed after it was written"
        for name, data in files.items()
        if name in listed and digest(data) != listed[name]
    ]
    return CertificateFolder(manifest, files, tuple(faults))


def _listed(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every file that should be there with its digest; raises KeyError and its like for a manifest without them."""
    for name, side in ((INPUT, manifest["input"]), (OUTPUT, manifest["output"])):
        if side["file"] != name:
            raise ValueError(f"{name} is called {side['file']!r}")
        yield name, side["sha256"]
    for rewrite in (*manifest["rewrites"], *manifest["wholes"]):
        yield from rewrite["files"].items()

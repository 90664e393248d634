"""Debian's kernels as images for the emulator: taken from the package mirror once, uncompressed, kept in the cache.

A series that the machine's own Debian release does not have comes from the release that does, on the same mirror.
"""

from __future__ import annotations

import re
import shutil
from functools import cmp_to_key
from pathlib import Path
from types import MappingProxyType
from typing import Final

from verifier_model.kernel.bzimage import uncompressed_kernel
from verifier_model.kernel.emulator import Image
from verifier_model.kernel.loader_binary import OracleMissingError, oracle_folder
from verifier_model.kernel.packages import (
    PackageError,
    Suite,
    compare_versions,
    deb,
    newest_package,
    unpack_deb,
    version_of,
)

# The suite of a Debian release that still gets this series' point releases; an empty one: what apt knows already.
SUITES: Final = MappingProxyType(
    {
        "5.10": Suite("bullseye-security", "debian-security"),
        "6.1": Suite("", ""),
        "6.12": Suite("", ""),
        "6.18": Suite("trixie-backports", "debian"),
    }
)
_KEPT: Final = re.compile(r"vmlinux-(?P<package>linux-image-[^_]+)_(?P<version>[^_]+)")


def image(series: str) -> Image:
    """Debian's newest build of the series that this machine has or can get; raises OracleMissingError."""
    if series not in SUITES:
        raise OracleMissingError(f"Debian has no kernel {series} for the emulator: there are {', '.join(SUITES)}")
    kept = _kept(series)
    return kept if kept is not None else _fetched(series)


def _kept(series: str) -> Image | None:
    found = [path for path in oracle_folder().glob(f"vmlinux-linux-image-{series}.*_*") if _config(path).exists()]
    newest = max(found, key=cmp_to_key(_compare), default=None)
    return None if newest is None else _image(newest)


def _compare(left: Path, right: Path) -> int:
    return compare_versions(left.name, right.name)


def _image(path: Path) -> Image:
    match = _KEPT.fullmatch(path.name)
    assert match is not None
    release = match["version"].partition("-")[0]
    return Image(path, _config(path), release, f"Debian {match['package']} {match['version']}")


def _config(kernel: Path) -> Path:
    return kernel.with_name(kernel.name.replace("vmlinux-", "config-", 1))


def _fetched(series: str) -> Image:
    folder = oracle_folder()
    try:
        suite = SUITES[series]
        package = newest_package(rf"linux-image-{re.escape(series)}[.]\d+[-+].*cloud-amd64", suite)
        file = deb(package, suite)
        target = folder / f"vmlinux-{package}_{version_of(file)}"
        tree = unpack_deb(package, folder / f"unpacked-{package}", suite)
        compressed = next((tree / "boot").glob("vmlinuz-*"), None)
        options = next((tree / "boot").glob("config-*"), None)
        if compressed is None or options is None:
            raise OracleMissingError(f"{package} holds no kernel image")
        shutil.copyfile(options, _config(target))
        partial = target.with_name("partial-" + target.name)
        partial.write_bytes(uncompressed_kernel(compressed.read_bytes()))
        partial.rename(target)
        shutil.rmtree(tree)
    except PackageError as error:
        raise OracleMissingError(str(error)) from error
    return _image(target)

"""Debian packages as material: taken from the package mirror and unpacked under a cache folder, never installed.

Every step leaves its result whole or not at all (unpacked beside its final name, then renamed), so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Final

DOWNLOAD_SECONDS: Final = 900
UNPACK_SECONDS: Final = 600
_ARCHIVE_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


class PackageError(RuntimeError):
    """A package cannot be had; the text is one sentence that says which one and why."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A Debian suite besides those in the machine's apt sources, in an archive ("debian", "debian-security") of the
    machine's own mirror.  An empty name: what apt knows already."""

    name: str
    archive: str


APT_SOURCES: Final = Suite("", "")


def cache_folder() -> Path:
    """Where all material lies: $XDG_CACHE_HOME/k2-clang/corpus, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "k2-clang" / "corpus"


def deb(package: str, suite: Suite = APT_SOURCES) -> Path:
    """The package's file, downloaded when it is not in the cache; raises PackageError."""
    folder = cache_folder() / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if (found := _newest_file(folder, package)) is not None:
        return found
    command = ["apt-get", *_options_for(suite), "download", package]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"{package} cannot be downloaded: {error}") from error
    found = _newest_file(folder, package)
    if done.returncode != 0 or found is None:
        last = (done.stderr.strip().splitlines() or ["apt-get said nothing"])[-1]
        raise PackageError(f"{package} cannot be downloaded: {last}")
    return found


def _options_for(suite: Suite) -> list[str]:
    """Options that make apt look at that suite alone, its lists fetched once per cache folder."""
    if not suite.name:
        return []
    folder = cache_folder() / f"apt-{suite.name}"
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Check-Valid-Until": "false",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    if not (folder / "ready").exists():
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        keys = f"signed-by={_ARCHIVE_KEYS} arch=amd64"
        (folder / "sources.list").write_text(f"deb [{keys}] {_mirror(suite.archive)} {suite.name} main\n")
        _run(["apt-get", *words, "update"], DOWNLOAD_SECONDS)
        (folder / "ready").touch()
    return words


def _mirror(archive: str) -> str:
    """Where the machine's apt gets that archive from."""
    bases = _output(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    found = next((base for base in bases if base.rstrip("/").endswith(f"/{archive}")), None)
    if found is None:
        raise PackageError(f"no apt source of this machine leads to the archive {archive}")
    return found


def version_of(package_file: Path) -> str:
    """The Debian version of a .deb, from its control file."""
    return _output(["dpkg-deb", "--field", str(package_file), "Version"]).strip()


def newest_package(pattern: str, suite: Suite = APT_SOURCES) -> str:
    """Of all package names on the mirror that match the regular expression wholly, the highest by Debian's order."""
    names = [
        name for name in _output(["apt-cache", *_options_for(suite), "pkgnames"]).split() if re.fullmatch(pattern, name)
    ]
    if not names:
        raise PackageError(f"the package mirror has no package named {pattern}: run apt-get update")
    return max(names, key=cmp_to_key(compare_versions))


def compare_versions(left: str, right: str) -> int:
    """Whole package names compared as versions: where they differ they differ in a version."""
    older = subprocess.run(["dpkg", "--compare-versions", left, "lt", right], stderr=subprocess.DEVNULL)
    return -1 if older.returncode == 0 else 1


def unpack_deb(package: str, target: Path, suite: Suite = APT_SOURCES) -> Path:
    """All files of a package below `target`; raises PackageError."""
    if target.is_dir():
        return target
    source = deb(package, suite)
    partial = _partial(target)
    _run(["dpkg-deb", "--extract", str(source), str(partial)], UNPACK_SECONDS)
    partial.rename(target)
    return target


def source_tarball(package: str) -> tuple[Path, str]:
    """(path of linux-source-X.tar.xz, Debian version): of the installed package, else from the mirror's."""
    installed = Path("/usr/src") / f"{package}.tar.xz"
    if installed.is_file():
        return installed, _output(["dpkg-query", "--show", "--showformat=${Version}", package])
    source = deb(package)
    tree = unpack_deb(package, cache_folder() / f"{package}-deb")
    return tree / "usr" / "src" / f"{package}.tar.xz", version_of(source)


def source_tree(package: str, parts: Sequence[str]) -> tuple[Path, str]:
    """(folder with those parts of a linux-source package, Debian version); raises PackageError.

    A part is a path in the kernel tree.  The folder is named by package and version.
    """
    tarball, version = source_tarball(package)
    tree = cache_folder() / f"{package}_{version}"
    missing = [part for part in parts if not (tree / part).exists()]
    if missing:
        partial = _partial(tree.with_name(tree.name + ".parts"))
        members = [f"{package}/{part}" for part in missing]
        command = ["tar", "--extract", "--xz", "--file", str(tarball), "--strip-components=1"]
        _run([*command, "--directory", str(partial), *members], UNPACK_SECONDS)
        for part in missing:
            (tree / part).parent.mkdir(parents=True, exist_ok=True)
            (partial / part).rename(tree / part)
        shutil.rmtree(partial)
    return tree, version


def _newest_file(folder: Path, package: str) -> Path | None:
    def compare(left: Path, right: Path) -> int:
        return compare_versions(version_of(left), version_of(right))

    return max(folder.glob(f"{package}_*.deb"), key=cmp_to_key(compare), default=None)


def _partial(target: Path) -> Path:
    """An empty folder beside the target; leftovers of a stopped run go."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _run(command: Sequence[str], seconds: int) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"{command[0]} failed: {error}") from error
    if done.returncode != 0:
        raise PackageError(f"{' '.join(command[:4])}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise PackageError(f"{command[0]} failed: {error}") from error

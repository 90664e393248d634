"""vmlinux.h: the kernel's types as C, from the BTF of Debian's kernel image, failing that of the running kernel."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from verifier_model.kernel.bzimage import uncompressed_kernel
from verifier_model.kernel.packages import PackageError, cache_folder, newest_package, unpack_deb, version_of
from verifier_model.kernel.packages import deb as package_file

RUNNING_BTF: Final = Path("/sys/kernel/btf/vmlinux")


@dataclass(frozen=True, slots=True)
class TypesHeader:
    """A folder that holds vmlinux.h, and in words where the types come from."""

    folder: Path
    origin: str


def types_header(series: str) -> TypesHeader:
    """The header that fits the kernel series ("6.1"); raises PackageError when there are no types at all."""
    try:
        image = newest_package(rf"linux-image-{series.replace('.', '[.]')}[.]\d+[-+].*cloud-amd64")
        return _from_image(image)
    except PackageError as error:
        if not RUNNING_BTF.exists():
            raise
        folder = cache_folder() / f"types-running-{platform.release()}"
        _dump(RUNNING_BTF, folder)
        return TypesHeader(folder, f"the running kernel {platform.release()}, because {error}")


def _from_image(package: str) -> TypesHeader:
    version = version_of(package_file(package))
    folder = cache_folder() / f"types-{package}_{version}"
    if not (folder / "vmlinux.h").exists():
        tree = unpack_deb(package, cache_folder() / f"image-{package}")
        image = next((tree / "boot").glob("vmlinuz-*"), None)
        if image is None:
            raise PackageError(f"{package} holds no kernel image")
        kernel = folder.with_suffix(".vmlinux")
        kernel.write_bytes(uncompressed_kernel(image.read_bytes()))
        _dump(kernel, folder)
        kernel.unlink()
        shutil.rmtree(tree)
    return TypesHeader(folder, f"{package} {version}")


def bpftool() -> str:
    """The path of bpftool; raises PackageError."""
    found = shutil.which("bpftool", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise PackageError("bpftool is missing (Debian package bpftool)")
    return found


def _dump(types: Path, folder: Path) -> None:
    if (folder / "vmlinux.h").exists():
        return
    done = subprocess.run(
        [bpftool(), "btf", "dump", "file", str(types), "format", "c"], capture_output=True, timeout=120
    )
    if done.returncode != 0:
        raise PackageError(f"bpftool cannot dump {types.name}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "vmlinux.h.partial"
    partial.write_bytes(done.stdout)
    partial.rename(folder / "vmlinux.h")

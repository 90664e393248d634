"""vmlinux.h: the kernel's types as C, from the BTF of Debian's kernel image, failing that of the running kernel."""

from __future__ import annotations

import lzma
import os
import platform
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.corpus import lz4
from benchmarks.packages import PackageError, cache_folder, newest_package, unpack_deb, version_of
from benchmarks.packages import deb as package_file

RUNNING_BTF: Final = Path("/sys/kernel/btf/vmlinux")
# Documentation/x86/boot.rst: where the compressed kernel lies, counted from the protected-mode code.
_SETUP_SECTORS_AT: Final = 0x1F1
_PAYLOAD_AT: Final = 0x248
_DEFAULT_SETUP_SECTORS: Final = 4
_SECTOR_BYTES: Final = 512


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


def uncompressed_kernel(image: bytes) -> bytes:
    """The ELF file inside a bzImage (boot protocol 2.08 and later); raises PackageError."""
    if len(image) < _PAYLOAD_AT + 8 or image[0x202:0x206] != b"HdrS":
        raise PackageError("the kernel image has no boot header")
    sectors = image[_SETUP_SECTORS_AT] or _DEFAULT_SETUP_SECTORS
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = (sectors + 1) * _SECTOR_BYTES + offset
    payload = image[start : start + length]
    for magic, unpack in _FORMATS:
        if payload.startswith(magic):
            return unpack(payload)
    raise PackageError(f"the kernel image is compressed in an unknown way ({payload[:4].hex()})")


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload)


def _zstd(payload: bytes) -> bytes:
    done = subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True, timeout=60)
    if not done.stdout.startswith(b"\x7fELF"):  # the size behind the frame makes zstd complain after its work
        raise PackageError("zstd cannot unpack the kernel image (Debian package zstd)")
    return done.stdout


_FORMATS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\xfd7zXZ", _xz),
    (b"\x1f\x8b", _gzip),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (lz4.MAGIC, lz4.unpack),
)


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

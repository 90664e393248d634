"""The parts of a kernel source package that BPF programs are compiled with, and the headers made from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from verifier_model.kernel.packages import PackageError, source_tree

PARTS: Final = (
    "samples/bpf",
    "tools/testing/selftests/bpf",
    "tools/lib/bpf",
    "tools/include",
    "include/uapi",
    "scripts/bpf_doc.py",
)


@dataclass(frozen=True, slots=True)
class KernelTree:
    """An unpacked source package: `series` as "6.1", `version` as Debian counts, `folder` the root of the tree."""

    series: str
    version: str
    folder: Path

    @property
    def package(self) -> str:
        return f"linux-source-{self.series}"

    @property
    def libbpf_include(self) -> Path:
        """The folder that makes <bpf/bpf_helpers.h> the one of this tree."""
        return self.folder / "k2-include"


def kernel_tree(series: str) -> KernelTree:
    """The tree of `linux-source-<series>`, with libbpf's headers laid out as installed; raises PackageError."""
    folder, version = source_tree(f"linux-source-{series}", PARTS)
    tree = KernelTree(series, version, folder)
    if not tree.libbpf_include.is_dir():
        _lay_out_libbpf(tree)
    return tree


def _lay_out_libbpf(tree: KernelTree) -> None:
    """libbpf's public headers in a folder bpf/; the helper declarations come from the comments of the uapi header."""
    partial = tree.libbpf_include.with_name("k2-include.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "bpf").mkdir(parents=True)
    for header in sorted((tree.folder / "tools/lib/bpf").glob("*.h")):
        shutil.copy(header, partial / "bpf")
    command = [sys.executable, "scripts/bpf_doc.py", "--header", "--file", "include/uapi/linux/bpf.h"]
    done = subprocess.run(command, cwd=tree.folder, capture_output=True, timeout=60)
    if done.returncode != 0:
        raise PackageError(f"{tree.package}: scripts/bpf_doc.py fails: {done.stderr.decode(errors='replace')[-200:]}")
    (partial / "bpf" / "bpf_helper_defs.h").write_bytes(done.stdout)
    partial.rename(tree.libbpf_include)


def system_headers() -> list[str]:
    """Options for the C library's and Linux's user-space headers of this machine, which the bpf target leaves out."""
    folders = ("/usr/include", f"/usr/include/{os.uname().machine}-linux-gnu")
    return [word for folder in folders for word in ("-idirafter", folder)]

"""Capabilities that tests ask for: `pytest.mark.needs("bpf", "clang-19")`.

A name is looked up in `PROBES`; any other name is a program on PATH.  A missing capability skips the test and says
which Debian package has it; with K2_REQUIRE_ALL=1 (continuous integration) it fails the test instead.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["K2_CACHE"] = "off"  # a test sees what this code does, not what an earlier run kept

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_XDP = 6
RETURN_ZERO = bytes.fromhex("b7000000000000009500000000000000")


def _bpf() -> str | None:
    """Whether this process may load an XDP program, asked by loading one that returns 0 (closed at once)."""
    number = BPF_SYSCALL.get(platform.machine())
    if number is None:
        return f"no bpf(2) number is known for {platform.machine()}"
    libc = ctypes.CDLL(None, use_errno=True)
    insns = ctypes.create_string_buffer(RETURN_ZERO, len(RETURN_ZERO))
    licence = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack(
        "=IIQQ", BPF_PROG_TYPE_XDP, len(RETURN_ZERO) // 8, ctypes.addressof(insns), ctypes.addressof(licence)
    ).ljust(128, b"\0")
    fd = libc.syscall(ctypes.c_long(number), BPF_PROG_LOAD, ctypes.c_char_p(attr), len(attr))
    if fd < 0:
        return f"bpf(2) refuses this process: {os.strerror(ctypes.get_errno())} (run as root)"
    os.close(fd)
    return None


def _file(path: str, package: str) -> Callable[[], str | None]:
    return lambda: None if Path(path).exists() else f"{path} is missing (Debian package {package})"


def _module(name: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(name) else f"the Python package {name} is missing"


def _plugin(major: int) -> Callable[[], str | None]:
    path = Path(__file__).parents[1] / "llvm_bridge" / "plugin" / f"k2_plugin_llvm{major}.so"
    return lambda: None if path.exists() else f"the pass plugin was not built (Debian package llvm-{major}-dev)"


def _release(series: str) -> Callable[[], str | None]:
    return lambda: (
        None if platform.release().startswith(f"{series}.") else f"Linux {series} is wanted, not {platform.release()}"
    )


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _kernel_image(series: str) -> Callable[[], str | None]:
    """Fetched from the package mirror when it is not in the cache yet."""

    def probe() -> str | None:
        from verifier_model.kernel.images import image
        from verifier_model.kernel.loader_binary import OracleMissingError

        try:
            image(series)
        except OracleMissingError as error:
            return str(error)
        return None

    return probe


PROBES: dict[str, Callable[[], str | None]] = {
    "bpf": _bpf,
    "root": _root,
    "linux-6.18": _release("6.18"),
    "ziglang": _module("ziglang"),
    "bitwuzla": _module("bitwuzla"),
    "cvc5": _module("cvc5"),
    "libbpf-dev": _file("/usr/include/bpf/bpf_helpers.h", "libbpf-dev"),
    "llvm-19-dev": _file("/usr/lib/llvm-19/lib/cmake/llvm/LLVMConfig.cmake", "llvm-19-dev"),
    **{f"plugin-{major}": _plugin(major) for major in (14, 16, 19)},
    "linux-libc-dev": _file("/usr/include/linux/bpf.h", "linux-libc-dev"),
    **{f"linux-image-{series}": _kernel_image(series) for series in ("5.10", "6.1", "6.12")},
    "linux-source-6.1": _file("/usr/src/linux-source-6.1.tar.xz", "linux-source-6.1"),
}

PACKAGES = {
    "llvm-mc-19": "llvm-19",
    "llvm-objdump-19": "llvm-19",
    "llvm-strip-19": "llvm-19",
    "llvm-readelf-19": "llvm-19",
    "ld": "binutils",
    "c++": "g++",
    "cc": "gcc",
    "qemu-system-x86_64": "qemu-system-x86",
}


@functools.cache
def missing(capability: str) -> str | None:
    """Why the capability is not there, None when it is."""
    if capability in PROBES:
        return PROBES[capability]()
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    if shutil.which(capability, path=path):
        return None
    return f"{capability} is not on PATH (Debian package {PACKAGES.get(capability, capability)})"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for capability in marker.args:
            reason = missing(capability)
            if reason is None:
                continue
            if os.environ.get("K2_REQUIRE_ALL") == "1":
                pytest.fail(f"K2_REQUIRE_ALL=1, and this test needs {capability}: {reason}", pytrace=False)
            pytest.skip(f"needs {capability}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*capabilities): skip, or fail under K2_REQUIRE_ALL=1, where one is missing"
    )

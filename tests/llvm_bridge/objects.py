"""Real objects for the tests: the programs beside this file, compiled by real compilers, once per session."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

import pytest

from llvm_bridge.toolchain import find_compiler

PROGRAMS = Path(__file__).parent / "programs"
INCLUDE = "-I/usr/include/x86_64-linux-gnu"
NAMES = tuple(sorted(path.stem for path in PROGRAMS.glob("*.c")))
WITHOUT_DEBUG = tuple(name for name in NAMES if name != "core")  # CO-RE needs -g

# compiler, target, -mcpu
DEFAULT = ("clang-19", "bpf", "v3")
VARIANTS = (
    DEFAULT,
    ("clang-19", "bpf", "v1"),
    ("clang-19", "bpf", "v2"),
    ("clang-19", "bpf", "v4"),
    ("clang-19", "bpfeb", "v3"),
    ("clang-14", "bpf", "v3"),
    ("clang-16", "bpf", "v3"),
    ("ziglang", "bpf", "v4"),
)


def needs(*compilers: str) -> pytest.MarkDecorator:
    return pytest.mark.needs("libbpf-dev", *compilers)


def cases(variants: tuple[tuple[str, str, str], ...] = VARIANTS, names: tuple[str, ...] = NAMES) -> list[object]:
    """pytest parameters (program, compiler, target, cpu) with the capability that each needs."""
    return [
        pytest.param(name, *variant, marks=needs(variant[0]), id=f"{name}-{'-'.join(variant)}")
        for variant in variants
        for name in names
    ]


@functools.cache
def compiled(name: str, compiler: str = "clang-19", target: str = "bpf", cpu: str = "v3", *options: str) -> bytes:
    """The object of one of the programs; `options` replace the default -g."""
    return compile_text((PROGRAMS / f"{name}.c").read_text(), compiler, target, cpu, *(options or ("-g",)))


@functools.cache
def compile_text(text: str, compiler: str = "clang-19", target: str = "bpf", cpu: str = "v3", *options: str) -> bytes:
    """The object of a C text."""
    command = [compiler]
    if compiler == "ziglang":
        command, _ = find_compiler(["k2-clang"], {"PATH": ""})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.o"
        command += ["-target", target, "-O2", f"-mcpu={cpu}", INCLUDE, *options, "-x", "c", "-c", "-", "-o", str(path)]
        subprocess.run(command, input=text.encode(), check=True, timeout=60)
        return path.read_bytes()

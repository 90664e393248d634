"""The examples compiled by real compilers and optimised with the product's own stage, each once per test process."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from llvm_bridge.toolchain import find_compiler
from object_stage import Outcome, optimise_bytes
from synth.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = tuple(sorted(path.name.removesuffix(".bpf.c") for path in EXAMPLES.glob("*.bpf.c")))
COMPILERS = (("clang-19", "v1"), ("clang-19", "v2"), ("clang-19", "v3"), ("clang-19", "v4"), ("ziglang", "v3"))


@functools.cache
def compiled(name: str, compiler: str = "clang-19", cpu: str = "v3", level: str = "-O2") -> bytes:
    """The object of one example; `compiler` is a program on PATH, or "ziglang" for the clang that comes as a wheel."""
    command = [compiler]
    if compiler == "ziglang":
        command, _ = find_compiler(["k2-clang"], {"PATH": ""})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "example.o"
        flags = ["-target", "bpf", level, "-g", f"-mcpu={cpu}", f"-I{EXAMPLES / 'include'}"]
        source = str(EXAMPLES / f"{name}.bpf.c")
        subprocess.run([*command, *flags, "-c", source, "-o", str(out)], check=True, timeout=300)
        return out.read_bytes()


@functools.cache
def optimised(name: str, compiler: str = "clang-19", cpu: str = "v3", level: str = "-O2") -> Outcome:
    """The same after the optimiser with its default settings, which ask no kernel."""
    return optimise_bytes(compiled(name, compiler, cpu, level), Settings(), int(cpu[1:]))

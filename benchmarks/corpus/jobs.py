"""What to compile: every BPF source of the kernel trees, with each clang, at every CPU level that it knows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.corpus.vmlinux import TypesHeader, types_header
from benchmarks.kernel_tree import KernelTree, kernel_tree, system_headers
from llvm_bridge.toolchain import CompilerMissing, find_compiler
from verifier_model.kernel.packages import PackageError, cache_folder, newest_package, unpack_deb

SERIES: Final = ("6.1", "6.12")
# -mcpu levels by LLVM major: v4 came with LLVM 18.
LEVELS: Final = {14: ("v1", "v2", "v3"), 16: ("v1", "v2", "v3"), 19: ("v1", "v2", "v3", "v4")}
# LLVM 22, from the ziglang wheel: a sample of the sources alone.
NEWEST: Final = "ziglang"
NEWEST_LEVELS: Final = ("v1", "v2", "v3", "v4")
WARNINGS: Final = ("-w",)


@dataclass(frozen=True, slots=True)
class Job:
    """One object to make.  `steps` are commands run in turn; "{out}" stands for the object's path."""

    key: str
    steps: tuple[tuple[str, ...], ...]

    @property
    def output(self) -> Path:
        return objects_folder() / f"{self.key}.o"


@dataclass(frozen=True, slots=True)
class Material:
    """One kernel series: its sources, types, and folders of kernel headers (none when they cannot be had)."""

    tree: KernelTree
    types: TypesHeader
    kernel_headers: tuple[Path, Path] | None
    headers_origin: str


def objects_folder() -> Path:
    return cache_folder() / "objects"


def material(series: str) -> Material:
    """Everything that the sources of one series need; raises PackageError without sources or types."""
    tree, types = kernel_tree(series), types_header(series)
    try:
        name = newest_package(rf"linux-headers-{series.replace('.', '[.]')}[.]\d+[-+].*cloud-amd64")
        common = name.removesuffix("-cloud-amd64") + "-common"
        folders = tuple(unpack_deb(p, cache_folder() / f"headers-{p}") / "usr" / "src" / p for p in (name, common))
    except PackageError as error:
        return Material(tree, types, None, str(error))
    return Material(tree, types, (folders[0], folders[1]), name)


def compilers() -> dict[int, str]:
    """The clangs of this machine that the corpus is made with, by LLVM major."""
    return {major: f"clang-{major}" for major in LEVELS if shutil.which(f"clang-{major}")}


def jobs(materials: Iterable[Material]) -> list[Job]:
    """Every object of the corpus, in a fixed order; a key reads series/kind/compiler/level/source."""
    return [
        recipe(one, f"{one.tree.series}/{kind}/{compiler}/{level}/", compiler, level, source)
        for one in materials
        for major, compiler in compilers().items()
        for level in LEVELS[major]
        for kind, folder, pattern, recipe in _RECIPES
        for source in sorted((one.tree.folder / folder).glob(pattern))
    ]


def newest_jobs(materials: Iterable[Material]) -> list[Job]:
    """What a sample of LLVM 22's objects is drawn from: sources that need no more than a clang; none without it."""
    if not command_of(NEWEST):
        return []
    return [
        recipe(one, f"{one.tree.series}/{kind}/{NEWEST}/{level}/", NEWEST, level, source)
        for one in materials
        for level in NEWEST_LEVELS
        for kind, folder, pattern, recipe in _RECIPES[:2]
        for source in sorted((one.tree.folder / folder).glob(pattern))
    ]


@cache
def command_of(compiler: str) -> tuple[str, ...]:
    """How to call a compiler of the corpus; empty for a wheel that is not installed."""
    if compiler != NEWEST:
        return (compiler,)
    try:
        return tuple(find_compiler(["k2-clang"], {"PATH": ""})[0])
    except CompilerMissing:
        return ()


def sample(one: Material, compiler: str, level: str, source: Path, flag: str) -> Job:
    """A file of samples/bpf at an optimisation level of the caller's; the key is its name."""
    recipe = _modern_sample if source.name.endswith(".bpf.c") else _kernel_sample
    return recipe(one, "", compiler, level, source, flag)


def _compile(compiler: str, level: str, source: Path, options: Sequence[str], flag: str = "-O2") -> tuple[str, ...]:
    target = ("-target", "bpf", f"-mcpu={level}", flag, "-g", *WARNINGS)
    return (*command_of(compiler), *target, *options, *system_headers(), "-c", str(source), "-o", "{out}")


def _selftest(one: Material, start: str, compiler: str, level: str, source: Path) -> Job:
    """As tools/testing/selftests/bpf/Makefile does it, without -Werror."""
    base = one.tree.folder
    folders = (one.types.folder, one.tree.libbpf_include, source.parent.parent, base / "tools/include/uapi")
    options = ["-D__TARGET_ARCH_x86", "-DENABLE_ATOMICS_TESTS", "-mlittle-endian", "-fno-strict-aliasing", "-std=gnu11"]
    if source.name in ("test_l4lb_noinline.c", "test_xdp_noinline.c"):
        options.append("-fno-inline")
    return Job(start + source.stem, (_compile(compiler, level, source, [*options, *_include(folders)]),))


def _modern_sample(one: Material, start: str, compiler: str, level: str, source: Path, flag: str = "-O2") -> Job:
    """As samples/bpf/Makefile treats *.bpf.c: with vmlinux.h."""
    base = one.tree.folder
    folders = (one.types.folder, base / "include", source.parent, base / "tools/include", one.tree.libbpf_include)
    options = ["-D__TARGET_ARCH_x86", *_include(folders)]
    return Job(start + source.name.removesuffix(".c"), (_compile(compiler, level, source, options, flag),))


def _kernel_sample(one: Material, start: str, compiler: str, level: str, source: Path, flag: str = "-O2") -> Job:
    """As samples/bpf/Makefile treats *_kern.c: kernel headers for the host in front, BPF behind."""
    key = start + source.stem
    if one.kernel_headers is None:
        return Job(key, (("false",),))
    built, common = one.kernel_headers
    base = one.tree.folder
    architecture = [
        folder / name
        for name in ("arch/x86/include", "arch/x86/include/generated", "include")
        for folder in (built, common)
    ]
    exported = [
        folder / name
        for name in (
            "arch/x86/include/uapi",
            "arch/x86/include/generated/uapi",
            "include/uapi",
            "include/generated/uapi",
        )
        for folder in (built, common)
    ]
    folders = [*architecture, *exported, source.parent, base / "tools/testing/selftests/bpf", one.tree.libbpf_include]
    first = ("include/linux/compiler-version.h", "include/linux/kconfig.h")
    options = [word for name in first for word in ("-include", str(common / name))]
    options += ["-include", str(source.parent / "asm_goto_workaround.h")]
    defines = ("-D__KERNEL__", "-D__BPF_TRACING__", "-D__TARGET_ARCH_x86", "-fno-asynchronous-unwind-tables")
    suffix = compiler.removeprefix("clang")
    front = (compiler, "-nostdinc", *_include(folders), *options, *defines, *WARNINGS, flag, "-g", "-emit-llvm")
    return Job(
        key,
        (
            (*front, "-Xclang", "-disable-llvm-passes", "-c", str(source), "-o", "{out}.1.bc"),
            (f"opt{suffix}", flag, "-mtriple=bpf-pc-linux", "{out}.1.bc", "-o", "{out}.2.bc"),
            (f"llc{suffix}", "-march=bpf", f"-mcpu={level}", "-filetype=obj", "{out}.2.bc", "-o", "{out}"),
        ),
    )


def _include(folders: Iterable[Path]) -> list[str]:
    return [word for folder in folders for word in ("-I", str(folder))]


# kind, folder of the kernel tree, which files, how to compile one
_RECIPES: Final[tuple[tuple[str, str, str, Callable[[Material, str, str, str, Path], Job]], ...]] = (
    ("selftests", "tools/testing/selftests/bpf/progs", "*.c", _selftest),
    ("samples", "samples/bpf", "*.bpf.c", _modern_sample),
    ("samples", "samples/bpf", "*_kern.c", _kernel_sample),
)

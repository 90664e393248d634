"""Finding the real compiler behind us.

In order: `K2_CLANG`; the name we were called by, then `clang`, then the newest `clang-N` on PATH, never ourselves; the
clang inside the ziglang wheel.  For k2-llc the same with `llc` (a K2_CLANG names the llc beside it); the wheel has
none. We recognise ourselves by inode and, for a second installation, by what the entry script imports: names prove
nothing.

The wheel's `zig clang` is the plain clang driver, so it takes every spelling of target and CPU that clang takes
(`zig cc` would refuse `-target bpf`).  It only has to be told where the wheel keeps clang's own headers; the Linux
headers of the wheel go behind all others, so that a machine without any can compile BPF.
"""

# pathlib takes 10 ms to import, in every run of a configure script.
# ruff: noqa: PTH100, PTH112, PTH113, PTH114, PTH116, PTH119, PTH120, PTH123, PTH208

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # at run time `typing` would take longer to import than all that is done here
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence
    from typing import Final

# What we put into the environment when the compiler that we start is a symbolic link to something else (ccache's
# masquerade) or several words, because that may look for "the next clang on PATH" and find us again.  Who finds it
# there is inside a compilation of ours, and leaves the object to us.
BEHIND: Final = "_K2_BEHIND"
_OWN_MARK: Final = b"clang_wrapper"
_NO_LLC_IN_WHEEL: Final = "no llc: set K2_CLANG to a clang with its llc beside it, or install the Debian package llvm"
_NO_CLANG: Final = (
    "no clang: set K2_CLANG to one that knows BPF, or install the Debian package clang or ziglang from PyPI"
)


class CompilerMissing(Exception):  # noqa: N818  names the condition, as FileNotFound does
    """There is no compiler to run; the text is one sentence that says what to install."""


class Compiler:
    """How to start the real compiler: `command` goes in front of the user's arguments.

    `kind` is "clang" or "llc" for a program of that name, "wheel" for the clang inside ziglang.
    """

    __slots__ = ("command", "kind")

    def __init__(self, command: tuple[str, ...], kind: str) -> None:
        self.command = command
        self.kind = kind


def find_compiler(
    argv: Sequence[str], environ: MutableMapping[str, str], behind: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    """(command, the user's arguments) for a run of ours with that argv; raises CompilerMissing.

    When the first argument is itself a compiler (CCACHE_PREFIX=k2-clang) it is the one to run.  `behind` is the one
    to run where K2_CLANG names no other.
    """
    arguments = list(argv[1:])
    if arguments and _is_compiler(arguments[0]):
        return [arguments[0]], arguments[1:]
    name = os.path.basename(argv[0])
    if behind and not environ.get("K2_CLANG"):
        compiler = Compiler(behind, "llc" if "llc" in name else "clang")
    else:
        compiler = find_llc(argv[0], environ) if "llc" in name else find_clang(argv[0], environ)
    program = compiler.command[0]
    is_other = os.path.islink(program) and "clang" not in os.path.basename(os.path.realpath(program))
    if compiler.kind != "wheel" and (is_other or len(compiler.command) > 1):
        environ[BEHIND] = program
    command = list(compiler.command)
    if compiler.kind == "wheel":
        command += _wheel_headers(program)
    return command, arguments


def find_clang(argv0: str = "k2-clang", environ: Mapping[str, str] | None = None) -> Compiler:
    """The clang to run; raises CompilerMissing."""
    environ = os.environ if environ is None else environ
    if environ.get("K2_CLANG"):
        return Compiler(_chosen(argv0, environ), "clang")
    found = next(_on_path("clang", argv0, environ), None)
    if found is not None:
        return Compiler((found,), "clang")
    return _wheel()


def find_llc(argv0: str = "k2-llc", environ: Mapping[str, str] | None = None) -> Compiler:
    """The llc to run; raises CompilerMissing."""
    environ = os.environ if environ is None else environ
    if environ.get("K2_CLANG"):
        folder, slash, name = _chosen(argv0, environ)[0].rpartition("/")
        beside = folder + slash + name.replace("clang", "llc")
        if name.startswith("clang") and _is_program(beside):
            return Compiler((beside,), "llc")
    found = next(_on_path("llc", argv0, environ), None)
    if found is None:
        raise CompilerMissing(_NO_LLC_IN_WHEEL)
    return Compiler((found,), "llc")


def find_plugin(llvm: int | None, folder: str | None = None) -> str | None:
    """Our pass plugin for that major version of LLVM, None where it was not built; it fits no other version."""
    path = f"{folder or os.path.dirname(os.path.abspath(__file__)) + '/plugin'}/k2_plugin_llvm{llvm}.so"
    return path if llvm is not None and os.path.isfile(path) else None


def _chosen(argv0: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """K2_CLANG as a command: a program, or words as BPF2GO_CC allows them; never ourselves."""
    text = environ["K2_CLANG"]
    own = _own_inodes(argv0, environ)
    words = (text,) if _locate(text, own, environ) else tuple(text.split())
    program = _locate(words[0], own, environ) if words else None
    if program is None:
        raise CompilerMissing(f"K2_CLANG={text} is no program other than k2-clang itself")
    return (program, *words[1:])


def _locate(name: str, own: set[tuple[int, int]], environ: Mapping[str, str]) -> str | None:
    paths = [name] if "/" in name else _candidates(name, environ)
    return next((path for path in paths if _is_program(path) and not _is_us(path, own)), None)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _stem_and_version(program: str) -> tuple[str, str]:
    """("clang", "-19") of /usr/bin/bpf-clang-19: the tool's name without prefix, and its version suffix or ""."""
    words = program.rpartition("/")[2].split("-")
    version = ""
    if len(words) > 1 and words[-1].replace(".", "").isdigit():
        version = "-" + words.pop()
    return words[-1], version


def _is_compiler(argument: str) -> bool:
    if "/" not in argument or _stem_and_version(argument)[0] not in ("clang", "llc"):
        return False
    return _is_program(argument) and not _is_us(argument, set())


def _folders(environ: Mapping[str, str]) -> list[str]:
    return [folder or "." for folder in environ.get("PATH", os.defpath).split(os.pathsep)]


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    for folder in _folders(environ):
        yield f"{folder}/{name}"


def _on_path(stem: str, argv0: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Every program on PATH that may be the compiler `stem`, best first, without ourselves."""
    own = _own_inodes(argv0, environ)
    called, suffix = _stem_and_version(argv0)
    names = [stem + suffix, stem] if called == stem and suffix else [stem]
    for name in names:
        yield from (path for path in _candidates(name, environ) if _is_program(path) and not _is_us(path, own))
    versions: dict[int, list[str]] = {}
    for folder in _folders(environ):
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            number = entry.removeprefix(stem + "-")
            if number != entry and number.isascii() and number.isdigit():
                versions.setdefault(int(number), []).append(f"{folder}/{entry}")
    for version in sorted(versions, reverse=True):
        yield from (path for path in versions[version] if _is_program(path) and not _is_us(path, own))


def _own_inodes(argv0: str, environ: Mapping[str, str]) -> set[tuple[int, int]]:
    paths = [argv0] if "/" in argv0 else [path for path in _candidates(argv0, environ) if _is_program(path)][:1]
    if environ.get(BEHIND):
        paths.append(environ[BEHIND])
    found = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _is_us(path: str, own: set[tuple[int, int]]) -> bool:
    """Is this program an entry script of ours (or the one that we run behind)?"""
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in own:
            return True
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return head.startswith(b"#!") and _OWN_MARK in head


def _wheel() -> Compiler:
    """The clang inside the ziglang package; raises CompilerMissing."""
    for folder in sys.path:
        program = f"{folder}/ziglang/zig"
        if _is_program(program):
            return Compiler((program, "clang", "-resource-dir", f"{folder}/ziglang/lib"), "wheel")
    raise CompilerMissing(_NO_CLANG)


def _wheel_headers(program: str) -> list[str]:
    """The Linux user-space headers of the wheel, behind all other folders."""
    base = program.rpartition("/")[0] + "/lib/libc/include"
    machine = {"x86_64": "x86", "i686": "x86", "riscv64": "riscv", "s390x": "s390x", "ppc64le": "powerpc"}
    architecture = machine.get(os.uname().machine, os.uname().machine)
    folders = (f"{base}/any-linux-any", f"{base}/{architecture}-linux-any")
    words = [word for folder in folders if os.path.isdir(folder) for word in ("-idirafter", folder)]
    # Not every input has headers: of these words clang must not say that it did not use them.
    return ["--start-no-unused-arguments", *words, "--end-no-unused-arguments"]

"""`k2 toolchain DIR`: a folder that a build system takes for LLVM's own, with k2-clang and k2-llc in it.

The kernel's makefiles put a compiler together from `LLVM=DIR/` or, with DIR in front of PATH, from `LLVM=-19`; bpf2go
derives the name of `llvm-strip` from clang's.  So every tool is there by its plain name and by its name with a version;
all but clang and llc are symbolic links to the real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import click

ROOT: Final = Path(__file__).resolve().parents[1]
LONGEST_INTERPRETER: Final = 120  # bytes of a `#!` line that every kernel reads whole
MARK: Final = "# k2 toolchain: the compiler stands at the end\n"
KEPT_BACK: Final = ("clang", "llc")  # these are ours; the others' names begin otherwise


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--clang", metavar="PROGRAM", help="the real clang to stand in front of; default: as k2-clang finds it")
@click.option("--suffix", metavar="-NAME", help="give every tool a name with this suffix too, beside -N for LLVM N")
def toolchain(folder: Path, clang: str | None, suffix: str | None) -> None:
    """Make DIR a folder of LLVM's tools in which clang and llc are ours: make LLVM=DIR/"""
    try:
        made = make_toolchain(folder, clang, suffix)
    except (ToolchainError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{folder}: {made}")


class ToolchainError(Exception):
    """The folder cannot be made; the message is one sentence."""


def make_toolchain(folder: Path, clang: str | None = None, suffix: str | None = None) -> str:
    """Fill `folder`, which may hold an older one of ours; returns a sentence. Raises ToolchainError and OSError."""
    from llvm_bridge.toolchain import CompilerMissing, find_clang, find_llc

    environment = dict(os.environ)
    if clang:
        environment["K2_CLANG"] = clang
    try:
        real = find_clang("k2-clang", environment)
    except CompilerMissing as error:
        raise ToolchainError(str(error)) from None
    try:
        environment["K2_CLANG"] = " ".join(real.command) if real.kind == "clang" else ""
        llc = find_llc("k2-llc", environment).command if real.kind == "clang" else ()
    except CompilerMissing:
        llc = ()
    version = _major(real.command)
    suffixes = {"", *([suffix] if suffix else []), *([f"-{version}"] if version and real.kind == "clang" else [])}
    links = {f"{name}{end}": target for name, target in _tools(real.command).items() for end in sorted(suffixes)}
    scripts = {f"clang{end}": launcher(real.command if real.kind == "clang" else ()) for end in sorted(suffixes)}
    if llc:
        scripts |= {f"llc{end}": launcher(llc) for end in sorted(suffixes)}
    _fill(folder, links, scripts)
    behind = real.command[0] if real.kind == "clang" else "the clang of the ziglang wheel"
    return f"clang{' and llc' if llc else ''} in front of {behind}, {len(_tools(real.command))} tools beside"


def launcher(command: tuple[str, ...]) -> str:
    """The text of an entry point in front of that compiler; () for the one that k2-clang finds by itself.

    Its Python starts without the folders of packages being searched, which a compiler asked a hundred times by a
    configure script is thankful for, and isolated from the user's PYTHON* variables.
    """
    first = f"#!{sys.executable} -IS\n"
    if len(first) > LONGEST_INTERPRETER or " " in sys.executable:
        # sh reads the second line as a command, Python the two as a string.
        first = f"#!/bin/sh\n'''exec' \"{sys.executable}\" -IS \"$0\" \"$@\"\n' '''\n"
    folders = list(dict.fromkeys((str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))))
    body = f"import sys\nsys.path[:0] = {folders[:1]!r}\nsys.path += {folders[1:]!r}\n"
    return f"{first}{MARK}{body}from clang_wrapper import main\nsys.exit(main({command!r}))\n"


def _major(command: tuple[str, ...]) -> str:
    """The major version that the compiler says, "" when it says none."""
    done = subprocess.run([*command, "-dumpversion"], capture_output=True, text=True, check=False)
    major = done.stdout.partition(".")[0].strip()
    return major if done.returncode == 0 and major.isdigit() else ""


def _tools(command: tuple[str, ...]) -> dict[str, str]:
    """Name without version -> path of every tool beside the compiler, but those that are ours."""
    home = os.path.dirname(os.path.realpath(command[0]))  # noqa: PTH120
    found: dict[str, str] = {}
    for name in sorted(os.listdir(home)):  # noqa: PTH208
        path = f"{home}/{name}"
        stem, _, version = name.rpartition("-")
        plain = stem if stem and version.isdigit() else name
        if plain in KEPT_BACK or not (plain.startswith(("clang", "llvm-", "ld.lld", "lld")) or plain == "opt"):
            continue
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112
            found.setdefault(plain, path)
    return found


def _fill(folder: Path, links: dict[str, str], scripts: dict[str, str]) -> None:
    """Everything in its place, each in one step; what is not ours is refused before anything is changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*links, *scripts):
        path = folder / name
        if path.is_symlink() or not path.exists():
            continue
        if not path.is_file() or MARK.encode() not in path.read_bytes():
            raise ToolchainError(f"{path} exists and is not ours; nothing was changed")
    for name, target in links.items():
        temporary = folder / f".{name}.k2-{os.getpid()}"
        temporary.symlink_to(target)
        temporary.replace(folder / name)
    for name, text in scripts.items():
        temporary = folder / f".{name}.k2-{os.getpid()}"
        temporary.write_text(text)
        temporary.chmod(0o755)
        temporary.replace(folder / name)

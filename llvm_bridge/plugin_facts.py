"""What the program asked of its memory accesses, from a second compilation with our pass plugin.

The user's own compilation is over and keeps its arguments and its output.  The second is the same job of the same
compiler (clang -cc1, as `-###` shows it) with the plugin added; its object comes through a pipe, so nothing is left
behind.  What it recorded counts only for the very same code, and only from a source that does not forge the record.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH116

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from llvm_bridge.elf import Elf, ObjectError, Relocation, parse, parse_relocations
from llvm_bridge.facts_section import NAME, find, parse_annotations, parse_record
from llvm_bridge.invocation import Job
from llvm_bridge.toolchain import find_plugin
from verifier_model.bpf.btf import BtfError
from verifier_model.bpf.unit import AccessFacts


class NoFacts(Exception):  # noqa: N818  names the condition
    """There are no facts about this object; the text says why, fit for a counter in the record."""


# Options of `clang -cc1` that name, in the next word, a file to write beside the object; the code is the same without.
_SIDE_FILES: Final = frozenset(
    {"-dependency-file", "-serialize-diagnostic-file", "-diagnostic-log-file", "-header-include-file"}
)
# Whatever else may write to a file or to standard output is told by a part of its name, so that options of compilers
# to come are declined too; `-mllvm` options are among them.
_WRITING: Final = ("file", "output", "dump", "report", "trace", "stats", "record", "save-temp", "print-", "index-store")
_NOT_WRITING: Final = frozenset({"-main-file-name"})
_FREE_TEXT: Final = ("-D", "-U", "-I", "-W", "-fdebug-prefix-map", "-fmacro-prefix-map", "-fcoverage-prefix-map")
# Passes of others, which may come behind ours, and instrumentation, which does.
_DECLINED: Final = (
    "-fpass-plugin",
    "-fplugin",
    "-plugin",
    "-add-plugin",
    "-load",
    "-fsanitize",
    "-fprofile-",
    "-fcoverage-mapping",
    "-coverage-",
    "-fcs-",
    "-fxray",
    "-finstrument-",
    "-pg",
    "-fmodules",
    "-flto",
    "-fthin",
    "-fembed-",
    "-disable-llvm-passes",
)


def second_object(job: Job, seconds: int, folder: str | None = None) -> bytes:
    """The object of the same job compiled with the plugin, within `seconds` (0: unbounded); raises NoFacts.

    `folder` holds the plugins in place of our own.  Standard input of the compilation is empty.
    """
    import subprocess

    command = _command(job, folder)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds or None,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoFacts("the compilation with the plugin took too long") from None
    except OSError:
        raise NoFacts("the compilation with the plugin could not be started") from None
    if done.returncode or not done.stdout:
        raise NoFacts("the compilation with the plugin failed")
    return done.stdout


def _command(job: Job, folder: str | None) -> list[str]:
    """The job's own command with the plugin added, and without files to write; raises NoFacts."""
    if not job.words:
        raise NoFacts("the compiler's job is not clang's own")
    plugin = find_plugin(job.llvm, folder)
    if plugin is None:
        raise NoFacts(f"no plugin for LLVM {job.llvm}" if job.llvm else "the compiler does not say its version")
    return [job.words[0], "-cc1", f"-fpass-plugin={plugin}", *silent_words(job.words[2:])]


def silent_words(words: Sequence[str]) -> list[str]:
    """The words of a `clang -cc1` job with standard output for its result and no other file to write.

    Raises NoFacts where one may be written, or where the source is gone.
    """
    kept: list[str] = []
    before = ""
    for word in words:
        if before in _SIDE_FILES:
            before = ""
            continue
        if before == "-o":
            kept.append("-")
        elif word == "-" or _is_stream(word):
            raise NoFacts("the source came from a stream")
        elif _is_declined(word):
            raise NoFacts(f"{word.partition('=')[0]} cannot be combined with the plugin")
        elif word not in _SIDE_FILES:
            kept.append(word)
        before = word
    return kept


def _is_stream(word: str) -> bool:
    """Is this a file that may hold something else, or nothing, when it is read again?"""
    try:
        mode = os.stat(word).st_mode
    except (OSError, ValueError):
        return False
    return word != os.devnull and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _is_declined(word: str) -> bool:
    name = word.partition("=")[0]
    if not name.startswith("-") or name in _SIDE_FILES or name in _NOT_WRITING or name.startswith(_FREE_TEXT):
        return False
    return name.startswith(_DECLINED) or any(part in name for part in _WRITING)


class Recorded(NamedTuple):
    """What the plugin recorded, by the symbol names of functions: their accesses, and `annotate` texts of ours."""

    accesses: Mapping[str, AccessFacts]
    annotations: Mapping[str, tuple[str, ...]]


def facts_for(data: bytes, second: bytes) -> Mapping[str, AccessFacts]:
    """`recorded`, the accesses alone."""
    return recorded(data, second).accesses


def recorded(data: bytes, second: bytes) -> Recorded:
    """What `second`, compiled with the plugin, says about the functions of `data`; raises NoFacts."""
    try:
        first, other = parse(data), parse(second)
        if any(section.name == NAME for section in first.sections):
            raise NoFacts(f"the source has a section {NAME} of its own")
        found = find(other)
        if found is None:
            raise NoFacts("the plugin recorded nothing")
        if _code(first) != _code(other):
            raise NoFacts("the plugin changed the code")
        facts = parse_record(other.sections[found].data)
        wishes = parse_annotations(other.sections[found].data)
    except (ObjectError, BtfError):
        raise NoFacts("the plugin's object cannot be read") from None
    names = Counter(name for _, name, _, _ in _functions(first))
    return Recorded(
        {name: accesses for name, accesses in facts.items() if names[name] == 1},
        {name: texts for name, texts in wishes.items() if names[name] == 1},
    )


def _code(elf: Elf) -> list[object]:
    """All that two objects with the same code share, free of section and symbol numbers."""
    tables = elf.relocation_sections()
    code: list[object] = [elf.order, _functions(elf)]
    for index, section in enumerate(elf.sections):
        if section.is_code:
            entries = parse_relocations(elf, tables[index]) if index in tables else ()
            code.append((section.name, section.data, [_named(elf, entry) for entry in entries]))
    return code


def _functions(elf: Elf) -> list[tuple[str, str, int, int]]:
    """(section, symbol, start, size in bytes) of every symbol in code, sorted."""
    return sorted(
        (elf.sections[symbol.section].name, symbol.name, symbol.value, symbol.size)
        for symbol in elf.symbols
        if symbol.is_defined and symbol.name and elf.sections[symbol.section].is_code
    )


def _named(elf: Elf, entry: Relocation) -> tuple[int, int, str, str, int]:
    symbol = elf.symbols[entry.symbol]
    home = elf.sections[symbol.section].name if symbol.is_defined else ""
    return entry.offset, entry.type, home, symbol.name, symbol.value

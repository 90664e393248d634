"""What the program asked of its memory accesses, from a second compilation with our pass plugin.

The user's own compilation is over and keeps its arguments and its output.  The second is the same job of the same
compiler (clang -cc1, as `-###` shows it) with the plugin added; its object comes through a pipe, so nothing is left
behind.  What it recorded counts only for the very same code, and only from a source that does not forge the record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from llvm_bridge.elf import Elf, ObjectError, Relocation, parse, parse_relocations
from llvm_bridge.facts_section import NAME, find, parse_record
from llvm_bridge.invocation import Job
from llvm_bridge.toolchain import find_plugin
from verifier_model.bpf.btf import BtfError
from verifier_model.bpf.unit import AccessFacts


class NoFacts(Exception):  # noqa: N818  names the condition
    """There are no facts about this object; the text says why, fit for a counter in the record."""


# Options of `clang -cc1` that name, in the next word, a file to write beside the object; the code is the same without.
_SIDE_FILES: Final = frozenset(
    {
        "-dependency-file",
        "-serialize-diagnostic-file",
        "-diagnostic-log-file",
        "-header-include-file",
        "-dependency-dot",
        "-module-dependency-dir",
    }
)
# The others that write files, passes of others that may come behind ours, and instrumentation that comes behind us.
_DECLINED: Final = (
    "-split-dwarf",
    "-opt-record",
    "-ftime-trace",
    "-stats-file",
    "-coverage-",
    "-fcoverage-mapping",
    "-femit-coverage",
    "-ftest-coverage",
    "-fprofile-",
    "-fsanitize",
    "-fpass-plugin",
    "-fplugin",
    "-plugin",
    "-add-plugin",
    "-load",
    "-flto",
    "-fembed-",
    "-fmodules",
    "-fthin",
    "-fdump-",
    "-index-",
    "-ast-dump",
    "-disable-llvm-passes",
    "-fno-integrated-as",
    "-emit-llvm",
    "-fxray",
    "-fcs-",
)
_DECLINED_OF_LLVM: Final = ("info-output", "pass-remarks-output", "print-", "ir-dump", "stats", "time-")


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
    return [job.words[0], "-cc1", f"-fpass-plugin={plugin}", *_without_outputs(job.words[2:])]


def _without_outputs(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    follows = ""
    for word in words:
        if follows == "-mllvm" and word.lstrip("-").startswith(
            ("info-output", "pass-remarks-output", "print-", "ir-dump")
        ):
            raise NoFacts(f"{word.partition('=')[0]} cannot be repeated silently")
        if word.startswith(_DECLINED) and follows != "-o":
            raise NoFacts(f"{word.partition('=')[0]} cannot be combined with the plugin")
        if word == "-":
            raise NoFacts("the source came from standard input")
        if follows == "-o":
            word = "-"
        if word not in _SIDE_FILES and follows not in _SIDE_FILES:
            kept.append(word)
        follows = "" if follows in _SIDE_FILES else word
    return kept


def facts_for(data: bytes, second: bytes) -> Mapping[str, AccessFacts]:
    """What `second`, compiled with the plugin, says about the functions of `data`, by symbol name; raises NoFacts."""
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
    except (ObjectError, BtfError):
        raise NoFacts("the plugin's object cannot be read") from None
    names = Counter(name for _, name, _, _ in _functions(first))
    return {name: accesses for name, accesses in facts.items() if names[name] == 1}


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

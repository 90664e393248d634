"""What will the compiler write?  Asked of the compiler itself (`-###`), behind the cheap look of `arguments`.

There is no copy of clang's option table here: `-###` answers target spelling, response files, configuration files,
several inputs, default names and -save-temps at once (toolchain-conventions, sections 1 and 2).
"""

# pathlib takes 10 ms to import, in every run of a configure script.
# ruff: noqa: PTH113, PTH123

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from llvm_bridge.arguments import expand, split_words, writes_by_llc

_LEVELS: Final = {"v1": 1, "v2": 2, "v3": 3, "v4": 4}
_EM_BPF: Final = 247
# Each takes a file, in the same word or the next.
_WRITTEN_BY_DRIVER: Final = ("--serialize-diagnostics", "-serialize-diagnostics", "-MJ", "-gen-cdb-fragment-path")


class Job(NamedTuple):
    """One object that the compiler writes: `output` as the compiler names it, relative to the working directory.

    `cpu_level` (1 to 4) is the -mcpu level, None when it cannot be told.  `words` is the compiler's own command for
    this job alone, () where it is not clang's compiler proper, `llvm` the major version that clang says to have.
    """

    output: str
    triple: str
    cpu: str | None
    cpu_level: int | None
    words: tuple[str, ...] = ()
    llvm: int | None = None


def jobs(command: Sequence[str], arguments: Sequence[str]) -> tuple[Job, ...]:
    """The BPF objects that `command` with `arguments` has just written, in its order; call it after a success."""
    words = expand(arguments)
    if writes_by_llc(words):
        return _llc_jobs(words)
    if not _is_bpf_likely(command, words):
        return ()
    printed = _ask([*command, "-###", *_harmless(arguments, words)])
    found = []
    levels: dict[str, int | None] = {}
    for words_of_job in _job_lines(printed):
        job = _job(words_of_job)
        if job is None:
            continue
        if job.cpu is None or (job.cpu_level is None and job.cpu != "probe"):
            if job.triple not in levels:
                levels[job.triple] = _default_level(command, job.triple)
            job = job._replace(cpu_level=levels[job.triple])
        found.append(job._replace(llvm=_llvm_version(printed)))
    return tuple(found)


def _harmless(arguments: Sequence[str], words: Sequence[str]) -> Sequence[str]:
    """The arguments as they may be asked about: even under `-###` the driver removes a file of diagnostics and a
    compilation database, which the compilation has just written."""
    if not any(word.startswith(_WRITTEN_BY_DRIVER) for word in words):
        return arguments
    kept = []
    before = ""
    for word in words:
        if not word.startswith(_WRITTEN_BY_DRIVER) and before not in _WRITTEN_BY_DRIVER:
            kept.append(word)
        before = word
    return kept


def _is_bpf_likely(command: Sequence[str], words: Sequence[str]) -> bool:
    """Is BPF named, or is the object that the arguments name for BPF (a target hidden in a configuration file)?"""
    if any("bpf" in word for word in words) or "bpf" in command[0].rpartition("/")[2]:
        return True
    return any(_is_bpf_file(path) for path in _guessed_outputs(words))


def _guessed_outputs(words: Sequence[str]) -> Iterator[str]:
    named = _option_value(words, "-o")
    if named is not None:
        yield named
        return
    for word in words:
        if not word.startswith("-") and "." in word:
            yield word.rpartition("/")[2].rpartition(".")[0] + ".o"


def _option_value(words: Sequence[str], option: str) -> str | None:
    """The last value of an option that is spelt `-o x` or `-ox`."""
    value = None
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            value = words[index + 1]
        elif word.startswith(option) and len(word) > len(option) and not word.startswith("-objc"):
            value = word[len(option) :]
    return value


def _is_bpf_file(path: str) -> bool:
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return False
    machine = int.from_bytes(head[18:20], "little" if head[5:6] == b"\1" else "big")
    return head[:4] == b"\x7fELF" and machine == _EM_BPF


def _ask(command: Sequence[str]) -> str:
    """What a command prints on stderr and stdout; "" when it fails.

    A ccache in between would answer for its own preprocessing, so it is told to stay out.
    """
    import subprocess

    environment = {**os.environ, "CCACHE_DISABLE": "1"}
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False)
    except OSError:
        return ""
    return "" if done.returncode else (done.stderr + done.stdout).decode(errors="surrogateescape")


def _job_lines(printed: str) -> Iterator[list[str]]:
    """The arguments of every job that `-###` shows: lines that begin with a space and a quote."""
    for line in printed.split("\n"):
        if line.startswith(' "'):
            yield split_words(line)


def _job(words: Sequence[str]) -> Job | None:
    """The job, None unless it writes an object for BPF into a named file."""
    if len(words) < 2 or words[1] not in ("-cc1", "-cc1as"):
        return None
    values = _values(words, ("-triple", "-target-cpu", "-o", "-filetype"))
    is_object = "-emit-obj" in words if words[1] == "-cc1" else values.get("-filetype") == "obj"
    triple, output = values.get("-triple", ""), values.get("-o", "-")
    if not is_object or not triple.startswith("bpf") or output == "-":
        return None
    cpu = values.get("-target-cpu")
    level = _LEVELS.get(cpu or "")
    # -mno-alu32 in any spelling: the user wants no 32-bit instruction though the level has them.
    if level is not None and level > 2 and any(word == "-alu32" for word in words):
        level = 2
    return Job(output, triple, cpu, level, tuple(words) if words[1] == "-cc1" else ())


def _llvm_version(printed: str) -> int | None:
    """N of the line `... clang version N.x` that `-###` begins with; None for Apple's, which counts otherwise."""
    for line in printed.split("\n"):
        before, mark, version = line.partition("clang version ")
        if mark and "Apple" not in before:
            major = version.partition(".")[0]
            return int(major) if major.isascii() and major.isdigit() else None
    return None


def _values(words: Sequence[str], options: Sequence[str]) -> dict[str, str]:
    return {word: value for word, value in pairwise(words) if word in options}


def _default_level(command: Sequence[str], triple: str) -> int | None:
    """The level that this compiler takes without -mcpu: its __BPF_CPU_VERSION__, None before LLVM 19 had one."""
    macros = _ask([*command, "-target", triple, "-dM", "-E", "-x", "c", os.devnull])
    for line in macros.split("\n"):
        words = line.split()
        if words[:2] == ["#define", "__BPF_CPU_VERSION__"]:
            return _LEVELS.get("v" + words[2])
    return None


def _llc_jobs(words: Sequence[str]) -> tuple[Job, ...]:
    """What llc writes: `-o`, else the input's name with .o; nothing for standard output."""
    values = {}
    inputs = []
    takes_value = {"-o", "-mcpu", "-march", "-mtriple", "-mattr", "-O"}
    index = 0
    while index < len(words):
        word = words[index] if words[index][:2] != "--" else words[index][1:]
        name, equals, value = word.partition("=")
        if name in takes_value and not equals and index + 1 < len(words) and name != "-O":
            index += 1
            value = words[index]
        if word == "-" or not word.startswith("-"):
            inputs.append(words[index])
        else:
            values[name] = value
        index += 1
    source = inputs[0] if inputs else "-"
    stem = next((source[: -len(end)] for end in (".ll", ".bc", ".mir") if source.endswith(end)), source)
    output = values.get("-o") or ("-" if source == "-" else stem + ".o")
    if output == "-":
        return ()
    cpu = values.get("-mcpu") or None
    level = _LEVELS.get(cpu or "")
    if level is not None and level > 2 and "-alu32" in values.get("-mattr", "").split(","):
        level = 2
    return (Job(output, values.get("-mtriple") or values.get("-march") or "", cpu, level),)

"""The objects that are measured: every sample by clang-19 at four levels of optimisation, and the smallest of them."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from benchmarks.corpus.jobs import Job, Material, sample
from benchmarks.corpus.vmlinux import bpftool
from benchmarks.provenance import first_line
from benchmarks.size.programs import COMMON, linked
from verifier_model.kernel.packages import cache_folder

COMPILER: Final = "clang-19"
FLAGS: Final = ("-O1", "-O2", "-O3", "-Os")
CPUS: Final = ("v1", "v2", "v3", "v4")
_STEP_SECONDS: Final = 120


class NoObject(RuntimeError):  # noqa: N818  the field's word for it
    """A source does not compile; the text is the compiler's first error."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One object to measure: `flag` is the level of optimisation that gave the smallest one, "" where it came ready.

    `functions`: those of its functions that are rows.
    """

    source: str
    cpu: str
    flag: str
    data: bytes
    functions: tuple[str, ...]

    @property
    def cpu_level(self) -> int | None:
        return int(self.cpu.removeprefix("v")) if self.cpu else None


def function_slots(data: bytes) -> dict[str, int]:
    """Slots per function, read from the object's symbols (an independent witness to our own record)."""
    with io.BytesIO(data) as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        if not isinstance(symbols, SymbolTableSection):
            raise ValueError("an object without symbols")
        found = {s.name: s["st_size"] // 8 for s in symbols.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"}
        code = sum(s["sh_size"] for s in elf.iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR) // 8
    if sum(found.values()) != code:
        raise ValueError(f"functions have {sum(found.values())} slots, sections {code}")
    return found


def smallest(one: Material, name: str, cpu: str) -> Subject:
    """The sample's smallest object of the four levels by its own functions, the first of equals; raises NoObject."""
    found = []
    for flag in FLAGS:
        data = compiled(one, name, flag)[cpu]
        slots = function_slots(data)
        functions = tuple(slots)
        if name in linked():
            common = function_slots(compiled(one, COMMON, flag)[cpu])
            functions = tuple(f for f in slots if f not in common) or tuple(common)
        found.append((sum(slots[f] for f in functions), Subject(name, cpu, flag, data, functions)))
    return min(found, key=lambda item: item[0])[1]


@cache
def _compiler() -> str:
    return first_line([COMPILER, "--version"])


def compiled(one: Material, name: str, flag: str) -> dict[str, bytes]:
    """The sample's objects by CPU level, from the cache folder where they are; raises NoObject."""
    source = one.tree.folder / "samples" / "bpf" / name
    jobs = {cpu: sample(one, COMPILER, cpu, source, flag) for cpu in CPUS}
    text = "\n".join(" ".join(step) for job in jobs.values() for step in job.steps)
    digest = hashlib.sha256(f"{_compiler()}\n{text}".encode() + source.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / "size" / f"{name}{flag}-{digest}"
    if not folder.is_dir():
        _build(jobs, folder)
    if (failure := folder / "failure").exists():
        raise NoObject(failure.read_text())
    paths = {cpu: folder / f"{cpu}.o" for cpu in CPUS}
    if name in linked():
        paths = {cpu: _linked(one, path, cpu, flag) for cpu, path in paths.items()}
    return {cpu: path.read_bytes() for cpu, path in paths.items()}


def _linked(one: Material, path: Path, cpu: str, flag: str) -> Path:
    """The object joined with the samples' common part, as their Makefile does it; raises NoObject."""
    target = path.with_suffix(".linked.o")
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            common, partial = Path(folder) / "common.o", Path(folder) / "x.o"
            common.write_bytes(compiled(one, COMMON, flag)[cpu])
            if failure := _run([bpftool(), "gen", "object", str(partial), str(path), str(common)]):
                raise NoObject(failure)
            partial.rename(target)
    return target


def _build(jobs: dict[str, Job], folder: Path) -> None:
    """All levels in one folder that appears whole; steps that they share are made once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        done: set[tuple[str, ...]] = set()
        for cpu, job in jobs.items():
            for step in _unless(job.steps, done):
                if failure := _run([word.replace("{out}", str(partial / "x.o")) for word in step]):
                    (partial / "failure").write_text(failure)
                    break
            if (partial / "failure").exists():
                break
            done |= set(job.steps[:-1])
            (partial / "x.o").rename(partial / f"{cpu}.o")
        for rest in partial.glob("x.o.*"):
            rest.unlink()
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():  # another process may have been first
            raise


def _unless(steps: Sequence[tuple[str, ...]], done: set[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    return (step for step in steps if step not in done)


def _run(command: Sequence[str]) -> str:
    """ "" or the first error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_STEP_SECONDS)
    except subprocess.TimeoutExpired:
        return f"{command[0]} takes longer than {_STEP_SECONDS} s"
    if done.returncode == 0:
        return ""
    errors = [line.partition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
    return errors[0] if errors else f"{command[0]} ends with {done.returncode}"

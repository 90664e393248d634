"""Everything that is asked of one object of the corpus; a tale of findings, each a check and its word.

The word is "ok", or says what is wrong.  Words that start with "clang's" or "kept" are no faults of ours: clang's own
object fails the same way, or a part was left as it was, for the reason given.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmarks.corpus.loaded import Fate, fates
from benchmarks.corpus.shake import Shaken, contents, shake, taken_out
from llvm_bridge import writer
from llvm_bridge.elf import parse
from llvm_bridge.lint import lint
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object

CHANCE: Final = 0.3
TOOL_SECONDS: Final = 60
OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names the question; `word` the answer; `count` how many functions or programs it is about."""

    check: str
    word: str
    count: int = 1

    @property
    def is_fault(self) -> bool:
        return self.word != OK and not self.word.startswith(("clang's", "kept"))


def examine(data: bytes, seed: str, with_tools: bool, with_kernel: bool) -> list[Finding]:
    """All findings about one object; `seed` starts the random choice of places."""
    source = read_object(data)
    if isinstance(source, Untouched):
        return [Finding("read", f"kept: {source.reason}")]
    found = [Finding("read", OK), *_unchanged(source)]
    kept = Counter(f.untouchable for f in source.unit.functions if f.untouchable)
    found += [Finding("functions", f"kept: {reason}", count) for reason, count in sorted(kept.items())]
    found.append(Finding("functions", OK, len(source.unit.functions) - sum(kept.values())))
    shaken = shake(source, CHANCE, random.Random(seed))
    if isinstance(shaken, Untouched):
        return [*found, Finding("shake", f"kept: {shaken.reason}")]
    found.append(Finding("shake", OK))
    found += _taken_out(source, shaken, random.Random(seed + "/out"))
    if with_tools:
        found += _tools(data, shaken.data)
    if with_kernel:
        programs = tuple(f.name for f in source.unit.functions if not f.is_subprogram)
        found += _compare(fates(data, programs), fates(shaken.data, programs))
    return found


def _unchanged(source: Object) -> Iterator[Finding]:
    """Read and written without a change, but with every section assembled anew."""
    data = writer._write(source, source.unit)
    old, new = parse(source.data), parse(data)
    differing = [a.name for a, b in zip(old.sections, new.sections, strict=True) if a.data != b.data]
    yield Finding("write unchanged", f"sections differ: {', '.join(differing)}" if differing else OK)
    again = read_object(data)
    stable = isinstance(again, Object) and writer._write(again, again.unit) == data
    yield Finding("write again", OK if stable else "a second writing gives other bytes")
    yield Finding("same bytes", OK if data == source.data else "clang's file layout differs, contents are the same")
    lints = sorted({finding.rule for finding in lint(source.data)})
    yield Finding("lint", f"clang's own object breaks: {', '.join(lints)}" if lints else OK)


def _taken_out(source: Object, shaken: Shaken, rng: random.Random) -> Iterator[Finding]:
    """Some of the no-ops, then all, are taken out again; without any the object must be clang's."""
    again = read_object(shaken.data)
    if isinstance(again, Untouched):
        yield Finding("read shaken", again.reason)
        return
    yield Finding("read shaken", OK)
    some = {name: [at for at in places if rng.random() < 0.5] for name, places in shaken.places.items()}
    fewer = taken_out(again, some)
    yield Finding("take some out", fewer.reason if isinstance(fewer, Untouched) else OK)
    restored = taken_out(again, shaken.places)
    if isinstance(restored, Untouched):
        yield Finding("take all out", restored.reason)
        return
    old, new = contents(source.data), contents(restored)
    differing = [name for name in old if old[name] != new.get(name)]
    yield Finding("take all out", f"differs: {', '.join(differing)}" if differing or old.keys() != new.keys() else OK)


def _tools(before: bytes, after: bytes) -> Iterator[Finding]:
    """bpftool's linker three times, its skeletons, and LLVM's stripping tools; clang's object is the yardstick."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
        bpftool = shutil.which("bpftool", path=path) or "bpftool"
        theirs, ours = _use(bpftool, before, folder / "clang"), _use(bpftool, after, folder / "k2")
        for check, word in ours.items():
            if word != OK and theirs[check] != OK:
                word = f"clang's object, too: {theirs[check]}"
            yield Finding(check, word)


def _use(bpftool: str, data: bytes, folder: Path) -> dict[str, str]:
    folder.mkdir()
    files = [folder / f"{number}.o" for number in range(4)]
    files[0].write_bytes(data)
    linked = OK
    for before, after in pairwise(files):
        linked = linked if linked != OK else _run([bpftool, "gen", "object", str(after), str(before)])
    if linked == OK and files[2].read_bytes() != files[3].read_bytes():
        linked = "the second and the third output differ"
    skeleton = _run([bpftool, "gen", "skeleton", str(files[0]), "name", "corpus"])
    strip = shutil.which("llvm-strip-19") or "llvm-strip"
    dump = shutil.which("llvm-dwarfdump-19") or "llvm-dwarfdump"
    copy = shutil.which("llvm-objcopy-19") or "llvm-objcopy"
    return {
        "bpftool gen object, three times": linked,
        "bpftool gen skeleton": skeleton,
        "llvm-dwarfdump --verify": _run([dump, "--verify", "--quiet", str(files[0])]),
        "llvm-strip -g": _run([strip, "-g", str(files[0]), "-o", str(folder / "stripped.o")]),
        "llvm-objcopy --strip-debug": _run([copy, "--strip-debug", str(files[0]), str(folder / "copied.o")]),
    }


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {TOOL_SECONDS} s"
    if done.returncode == 0:
        return OK
    return (done.stderr.strip().splitlines() or [f"ends with {done.returncode}"])[0][:120]


def _compare(first: tuple[Fate, ...], ours: tuple[Fate, ...]) -> Iterator[Finding]:
    """Our programs' fates against those of clang's object."""
    if not first:
        yield Finding("kernel", "clang's object has no program that libbpf loads")
    theirs = {fate.program: fate for fate in first}
    found = Counter[tuple[str, str]]()
    for fate in ours:
        known = theirs.get(fate.program)
        if known is None:
            found["kernel", "a program appeared"] += 1
        elif bool(known.refusal) != bool(fate.refusal):
            found["kernel", f"refused, clang's is accepted: {fate.refusal}" if fate.refusal else "accepted alone"] += 1
        elif known.refusal:
            found["kernel", "clang's is refused, too"] += 1
        else:
            found["kernel", OK] += 1
            for check in ("insns", "lines", "functions"):
                same = getattr(known, check) == getattr(fate, check)
                found[f"translated {check}", OK if same else "differ from clang's"] += 1
    missing = len(first) - len(ours)
    if missing:
        found["kernel", "a program is missing"] += missing
    yield from (Finding(check, word, count) for (check, word), count in found.items())

"""Everything that is asked of one object of the corpus; a tale of findings, each a check and its word.

The word is "ok", or says what is wrong.  Words that start with "clang's" or "kept" are no faults of ours: clang's own
object fails the same way, or a part was left as it was, for the reason given.
"""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
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
# The kernel gives up on a program after a million instructions, and no-ops count.  A program that comes close to that
# without any is asked again with fewer.
FEWER: Final = (0.03, 0.003)
TOO_MUCH_WORK: Final = "BPF program is too large"
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
        found += _in_the_kernel(source, fates(data, programs), shaken, programs, seed)
    return found


def _in_the_kernel(
    source: Object, theirs: tuple[Fate, ...], shaken: Shaken, programs: tuple[str, ...], seed: str
) -> Iterator[Finding]:
    """What the kernel makes of both objects; with fewer no-ops where they alone are too much work for it."""
    ours = fates(shaken.data, programs)
    accepted = {fate.program for fate in theirs if not fate.refusal}
    for chance in FEWER:
        if not any(TOO_MUCH_WORK in fate.refusal and fate.program in accepted for fate in ours):
            break
        fewer = shake(source, chance, random.Random(seed))
        if isinstance(fewer, Untouched):
            break
        yield Finding(f"shake at {chance:.1%} of places, for the kernel's bound of work", OK)
        ours = fates(fewer.data, programs)
    yield from _compare(theirs, ours)


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
    """What bpftool and LLVM's tools say about our object; clang's own is the yardstick where one complains."""
    with tempfile.TemporaryDirectory() as name:
        theirs, ours = Path(name) / "clang", Path(name) / "k2"
        for folder, data in ((theirs, before), (ours, after)):
            folder.mkdir()
            (folder / "0.o").write_bytes(data)
        for check, ask in _TOOLS.items():
            word = ask(ours)
            if word != OK and (their_word := ask(theirs)) != OK:
                word = f"clang's object, too: {their_word}"
            yield Finding(check, word)


@cache
def _tool(name: str) -> str:
    """The path of a tool, LLVM 19's where there are several."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which(f"{name}-19", path=path) or shutil.which(name, path=path) or name


def _linked_three_times(folder: Path) -> str:
    files = [str(folder / f"{number}.o") for number in range(4)]
    for before, after in pairwise(files):
        if (word := _run([_tool("bpftool"), "gen", "object", after, before])) != OK:
            return word
    return OK if filecmp.cmp(files[2], files[3], shallow=False) else "the second and the third output differ"


_TOOLS: Final[dict[str, Callable[[Path], str]]] = {
    "bpftool gen object, three times": _linked_three_times,
    "bpftool gen skeleton": lambda at: _run([_tool("bpftool"), "gen", "skeleton", f"{at}/0.o", "name", "corpus"]),
    "llvm-dwarfdump --verify": lambda at: _run([_tool("llvm-dwarfdump"), "--verify", "--quiet", f"{at}/0.o"]),
    "llvm-strip -g": lambda at: _run([_tool("llvm-strip"), "-g", f"{at}/0.o", "-o", f"{at}/stripped.o"]),
    "llvm-objcopy --strip-debug": lambda at: _run(
        [_tool("llvm-objcopy"), "--strip-debug", f"{at}/0.o", f"{at}/copied.o"]
    ),
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

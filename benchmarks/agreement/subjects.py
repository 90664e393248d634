"""Programs whose runs are traced: the examples, the corpus, and random ones."""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.agreement.random_programs import random_unit
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from verifier_model.bpf.unit import Unit
from verifier_model.kernel.packages import cache_folder

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
KINDS: Final = frozenset({"xdp", "sched_cls", "sched_act", "socket_filter", "cgroup_skb"})
_LEVELS: Final = ("v1", "v2", "v3", "v4")


@dataclass(frozen=True, slots=True)
class Subject:
    """One program.  `data` is the object it came from, None when it never was in one."""

    name: str
    unit: Unit
    program: str
    data: bytes | None = None


def subjects_of(name: str, data: bytes) -> list[Subject]:
    """The programs on packets in an object that can be read."""
    source = read_object(data)
    if isinstance(source, Untouched):
        return []
    return [
        Subject(f"{name}:{function.name}", source.unit, function.name, data)
        for function in source.unit.functions
        if function.program_type in KINDS and not function.is_subprogram
    ]


def example_objects(levels: tuple[str, ...] = _LEVELS, compiler: str = "clang-19") -> Iterator[tuple[str, bytes]]:
    """The examples at each CPU level, as the compiler writes them."""
    for source in sorted(EXAMPLES.glob("*.bpf.c")):
        for level in levels:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "example.o"
                flags = ["-target", "bpf", "-O2", "-g", f"-mcpu={level}", f"-I{EXAMPLES / 'include'}"]
                subprocess.run([compiler, *flags, "-c", str(source), "-o", str(out)], check=True, timeout=300)
                yield f"{source.name.removesuffix('.bpf.c')}/{level}", out.read_bytes()


def corpus_objects(seed: int) -> Iterator[tuple[str, bytes]]:
    """Every object of the corpus that is there, in an order drawn by `seed`, equal ones once."""
    folder = cache_folder() / "objects"
    paths = sorted(folder.rglob("*.o"))
    random.Random(seed).shuffle(paths)
    seen: set[bytes] = set()
    for path in paths:
        data = path.read_bytes()
        if data not in seen:
            seen.add(data)
            yield str(path.relative_to(folder).with_suffix("")), data


def random_subject(seed: int, number: int) -> Subject:
    return Subject(f"random {number}", random_unit(random.Random(f"traces {seed} {number}")), "f")

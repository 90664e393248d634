"""The running kernel's word on one object file, asked from a process of its own: a crash there costs one answer.

As a program: `python -m benchmarks.kernel_word OBJECT` prints one JSON line per main program.  Nothing is attached or
pinned; everything loaded goes when the process ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from verifier_model.kernel.gate import KernelWord, ask_kernel

ROOT: Final = Path(__file__).resolve().parent.parent
LOAD_SECONDS: Final = 60


class NoWordError(RuntimeError):
    """The kernel could not be asked: neither accepted nor refused."""


def kernel_words(path: Path, seconds: int = LOAD_SECONDS) -> dict[str, KernelWord]:
    """What the kernel says of each main program of the object at `path`; raises NoWordError."""
    command = [sys.executable, "-m", "benchmarks.kernel_word", str(path.resolve())]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise NoWordError(f"no answer within {seconds} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise NoWordError(f"asking ended with {done.returncode}: {last}")
    words = (KernelWord(**json.loads(line)) for line in done.stdout.splitlines())
    return {word.program: word for word in words}


def main(path: str) -> int:
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object

    data = Path(path).read_bytes()
    source = read_object(data)
    if isinstance(source, Untouched):
        print(source.reason, file=sys.stderr)
        return 2
    programs = tuple(function.name for function in source.unit.functions if not function.is_subprogram)
    for word in ask_kernel(data, programs):
        print(json.dumps(asdict(word)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Sets up every kernel that can be asked, and shows that each answers: `python -m benchmarks.oracle` (make oracle).

Fetches and unpacks the kernel images, builds the loader, boots each kernel once and asks programs whose verdicts are
known; prints one line per kernel.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import click

from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.insn import encode
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.loader_binary import OracleMissingError
from verifier_model.kernel.oracle import RUNNING, SERIES, Oracle, oracle
from verifier_model.kernel.questions import RawProgram

XDP: Final = PROGRAM_TYPES["xdp"].number


def xdp(text: str) -> RawProgram:
    """An XDP program without maps and branches from its text."""
    return RawProgram(b"".join(encode(insn, "little") for insn in parse_insns(text)), XDP)


@click.command()
@click.option("--questions", default=2000, show_default=True, help="How many programs to ask, for the rate.")
@click.argument("names", nargs=-1)
def main(questions: int, names: tuple[str, ...]) -> None:
    """Set up the kernels NAMES (all, when none is given) and ask each."""
    troubles = 0
    for name in names or (RUNNING, *SERIES):
        try:
            click.echo(_line(oracle(name), questions))
        except (OracleMissingError, RuntimeError, ValueError) as error:
            troubles += 1
            click.echo(f"{name}: {error}")
    sys.exit(1 if troubles else 0)


def _line(kernel: Oracle, count: int) -> str:
    fresh = time.time_ns() & 0x7FFFFFFF  # never asked before, so nothing comes from the kept answers
    programs = [xdp(f"r0 = {(fresh + number) & 0x7FFFFFFF}\nexit") for number in range(count)]
    unread = [xdp(f"r1 = {(fresh + number) & 0x7FFFFFFF}\nr0 = r2\nexit") for number in range(count)]
    start = time.monotonic()
    answers = kernel.verdicts([*programs, *unread])
    seconds = time.monotonic() - start
    right = all(answer.accepted for answer in answers[:count]) and all(answer.refused for answer in answers[count:])
    if not right:
        raise RuntimeError(f"{kernel.release} gives wrong verdicts")
    return f"{kernel.name}: Linux {kernel.release}, {2 * count} programs in {seconds:.1f} s, all as expected"


if __name__ == "__main__":
    main()

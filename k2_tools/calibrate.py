"""`k2 calibrate`: what each kind of instruction costs on the running kernel, by TEST_RUN of programs full of them.

An instruction's cost is the difference between a program with many copies of it and the same program without, divided
by their number; the median of several such differences counts, since a machine does other things in between.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import click

from synth.cost import CostTable, table
from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Unit

COPIES: Final = 500
ROUNDS: Final = 9
REPEATS: Final = 20_000
PACKET: Final = bytes(64)
_SET_UP: Final = "r6 = 3\nr7 = 5\nr2 = 7\n*(u64 *)(r10 - 8) = r7\n"
_LEAST: Final = 1  # picoseconds: no instruction is free


@dataclass(frozen=True, slots=True)
class Probe:
    """How one price is found: `text` is copied.

    `is_chain`: each copy waits for the one before, so the figure is a latency, else a throughput.
    """

    price: str
    text: str
    is_chain: bool = False


# ALU operations as dependent chains, moves, stores, loads and branches as independent copies.  A load in a program
# weighs more than one among many like it, whose latency of some five cycles hides: `_LOAD_WEIGHT` of a chain's.
PROBES: Final = (
    Probe("alu", "r2 += r7", is_chain=True),
    Probe("alu.mov", "r2 = r7"),
    Probe("mov64_imm", "r2 = 7"),
    Probe("mov32_imm", "w2 = 7"),
    Probe("alu.mul", "r2 *= r7", is_chain=True),
    Probe("alu.div", "r2 /= r7", is_chain=True),
    Probe("alu.mod", "r2 %= r7", is_chain=True),
    Probe("be16", "r2 = be16 r2", is_chain=True),
    Probe("endian", "r2 = be64 r2", is_chain=True),
    Probe("load_wide", "r2 = 0x123456789abcdef ll"),
    Probe("store", "*(u64 *)(r10 - 8) = r7"),
    Probe("store_imm", "*(u64 *)(r10 - 8) = 7"),
    Probe("atomic", "lock *(u64 *)(r10 - 8) += r7", is_chain=True),
    Probe("branch", "if r7 == 77 goto OUT"),
    Probe("load", "r2 = *(u64 *)(r10 - 8)"),
)
# Priced like a relative: what cannot be measured alone, or only some kernels know.
ALIKE: Final = {
    "alu.sdiv": "alu.div",
    "alu.smod": "alu.mod",
    "alu.movsx8": "alu.mov",
    "alu.movsx16": "alu.mov",
    "alu.movsx32": "alu.mov",
    "bswap16": "be16",
    "endian.le": "alu.mov",
    "cast": "alu",
    "jump": "mov64_imm",
}
LOADS: Final = ("load", "load_acquire")
_LOAD_WEIGHT: Final = (250, 64)  # what the shipped table makes of 64 picoseconds measured: docs/results.md

Timer = Callable[[str], float]
"""Nanoseconds that one run of a program takes, from its text."""


def program_text(probe: Probe | None, copies: int) -> str:
    """The program with so many copies of the probe's instruction, without any for None."""
    body = "" if probe is None else f"{probe.text}\n" * copies
    return f"L0:\n{_SET_UP}{body}OUT:\nr0 = 1\nexit\n"


def price(probe: Probe, timer: Timer, copies: int = COPIES, rounds: int = ROUNDS) -> int:
    """Picoseconds of one copy: the median of `rounds` differences, taken in turn."""
    text, empty = program_text(probe, copies), program_text(None, copies)
    differences = [timer(text) - timer(empty) for _ in range(rounds)]
    return max(round(1000 * median(differences) / copies), _LEAST)


def prices(timer: Timer, shipped: CostTable, told: Callable[[str], None] = lambda line: None) -> dict[str, int]:
    """Every price of the shipped table, measured where that can be, else scaled as what is like it."""
    found: dict[str, int] = {}
    for probe in PROBES:
        measured = price(probe, timer)
        if probe.price in LOADS:
            measured = round(measured * _LOAD_WEIGHT[0] / _LOAD_WEIGHT[1])
        found[probe.price] = measured
        told(f"{probe.price:12} {measured:6} ps")
    for name, like in ALIKE.items():
        found[name] = found[like]
    scale = sum(found[probe.price] for probe in PROBES) / sum(shipped.picoseconds[probe.price] for probe in PROBES)
    return {name: found.get(name, max(round(old * scale), _LEAST)) for name, old in shipped.picoseconds.items()}


def toml(found: Mapping[str, int], source: str) -> str:
    """The table as a file; keys that are no bare words are quoted."""
    lines = [f'"{name}" = {value}' if "." in name else f"{name} = {value}" for name, value in found.items()]
    return f'source = """{source}"""\n\n[picoseconds]\n' + "\n".join(lines) + "\n"


def kernel_timer() -> Timer:
    """Runs programs in the running kernel; raises click.ClickException where it does not take them."""
    from verifier_model.kernel.loading import load_function
    from verifier_model.kernel.programs import LoadedProgram
    from verifier_model.kernel.syscall import Refused

    loaded: dict[str, LoadedProgram] = {}

    def run(text: str) -> float:
        if text not in loaded:
            function = parse_function(text, "calibrate", section="xdp", program_type="xdp")
            found = load_function(Unit((function,), cpu_level=4, license="GPL"), "calibrate")
            if isinstance(found, Refused):
                raise click.ClickException(f"the kernel refuses a program of ours: {found.reason or found.log[-200:]}")
            loaded[text] = found.programs["calibrate"]
        return float(loaded[text].test_run(PACKET, repeat=REPEATS).duration)

    return run


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="file for the table (K2_COSTS)")
def calibrate(output: Path | None) -> None:
    """Measure what instructions cost on the running kernel; needs the permission to load BPF programs."""
    try:
        found = prices(kernel_timer(), table("x86_64"), lambda line: click.echo(line, err=True))
    except PermissionError:
        raise click.ClickException("bpf(2) is not permitted here: run it as root") from None
    source = (
        f"Measured by k2 calibrate under Linux {platform.release()} on {platform.machine()}: the median of {ROUNDS} "
        f"TEST_RUN differences with {COPIES} copies of an instruction."
    )
    text = toml(found, source)
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text)
        click.echo(f"{output}: use it by K2_COSTS={output.resolve()}", err=True)

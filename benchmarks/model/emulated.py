"""`make model-emulated`: the kernel's verifier cases, and mutants of them and of corpus programs, put to every emulated
kernel and to the model as that kernel's profile.

    python -m benchmarks.model.emulated [--series 5.10 ...] [--count 5000] [--seed 1] [--date D --write]

All cases are asked; of the mutants those that the model accepts and a random share of the others.  Each program is put
to the model twice: as this kernel, and as what all kernels from 5.10 on have in common.  Exit status 1 when either
accepts what the kernel refuses; each is printed with the kernel's reason.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import click

from benchmarks.model.corpus import reason_class
from benchmarks.model.fixed_maps import KEY_TYPE, POINTERS, btf
from benchmarks.model.kernel_cases import kernel_cases
from benchmarks.model.mutants import LONGEST, SHARE_OF_LOADED, bases, verdict
from benchmarks.model.mutation import mutant
from benchmarks.model.oracle import PAGE
from benchmarks.model.slots import SlotProgram
from benchmarks.provenance import replace_section
from verifier_model.bpf.insn import SLOT_BYTES
from verifier_model.bpf.unit import MapDef
from verifier_model.checker.knowledge import EVERY_KERNEL, knowledge
from verifier_model.kernel.oracle import SERIES, Oracle, oracle
from verifier_model.kernel.questions import MapSpec, Outcome, RawProgram

SHARE_OF_OTHERS: Final = 0.2  # of the mutants that the model refuses, so many are asked about
_WIDE, _MAP_SOURCES = 0x18, (1, 2)


@dataclass(frozen=True, slots=True)
class Asked:
    """One program: what the model and the kernel said; `kernel` None where the kernel has no verdict."""

    name: str
    is_case: bool
    model: str  # why it is refused, "" when accepted
    every: str  # the same of the model that knows no more than every kernel
    kernel: bool | None
    reason: str
    insns: str
    type: int

    @property
    def is_false_accept(self) -> bool:
        return not (self.model and self.every) and self.kernel is False


def raw_of(program: SlotProgram) -> RawProgram:
    """The program with its maps as the oracle takes it."""
    specs: list[MapSpec] = []
    numbers: dict[str, int] = {}
    relocations = []
    for slot, row in program.maps.items():
        at = slot * SLOT_BYTES
        if at < len(program.insns) and program.insns[at] == _WIDE and program.insns[at + 1] >> 4 in _MAP_SOURCES:
            if row.name not in numbers:
                inner = None if row.inner is None else _add(specs, _spec(row.inner, None))
                numbers[row.name] = _add(specs, _spec(row, inner))
            relocations.append((slot, numbers[row.name]))
    types = btf(POINTERS in numbers) if any(spec.btf_value for spec in specs) else b""
    return RawProgram(
        program.insns,
        program.type,
        program.attach,
        program.flags,
        maps=tuple(specs),
        relocations=tuple(relocations),
        btf=types,
    )


def _add(specs: list[MapSpec], spec: MapSpec) -> int:
    specs.append(spec)
    return len(specs) - 1


def _spec(row: MapDef, inner: int | None) -> MapSpec:
    sizes = (row.key_size, row.value_size, row.max_entries)
    return MapSpec(row.type, *sizes, row.flags, inner, KEY_TYPE if row.value_type else 0, row.value_type)


def programs(seed: int, count: int) -> list[tuple[SlotProgram, bool]]:
    """The cases (True) and `count` mutants (False), decided by the seed alone."""
    cases = [
        replace(case.program, flags=0)
        for case in kernel_cases()
        if 2 <= case.program.count <= LONGEST and not case.needs
    ]
    loaded, refused = bases(seed)
    rng = random.Random(f"emulated:{seed}")
    chosen: list[tuple[SlotProgram, bool]] = [(case, True) for case in cases]
    for _ in range(count):
        pool = loaded if rng.random() < SHARE_OF_LOADED else refused
        chosen.append((mutant(rng, rng.choice(pool), rng.choice((1, 2))), False))
    return chosen


def compare(kernel: Oracle, chosen: Sequence[tuple[SlotProgram, bool]], seed: int) -> list[Asked]:
    """The model's word on all, the kernel's on those that are asked about."""
    major, minor, point = map(int, kernel.release.split(".")[:3])
    knows = knowledge((major, minor, point))
    # What all kernels know, with the instructions and helpers of this one.
    common = replace(EVERY_KERNEL, release=knows.release)
    rng = random.Random(f"asked:{seed}")
    told = []
    for program, is_case in chosen:
        share = rng.random()
        reason, every = verdict(program, knows), verdict(program, common)
        if is_case or not (reason and every) or share < SHARE_OF_OTHERS:
            told.append((program, is_case, reason, every))
    answers = kernel.verdicts([raw_of(row[0]) for row in told])
    return [
        Asked(
            program.name,
            is_case,
            reason,
            every,
            None if answer.outcome is Outcome.UNASKED else answer.accepted,
            answer.reason or answer.log.strip(),
            program.insns.hex(),
            program.type,
        )
        for (program, is_case, reason, every), answer in zip(told, answers, strict=True)
    ]


def figures(kernel: Oracle, found: Sequence[Asked], mutants: int) -> tuple[str, list[Asked]]:
    """A row of the table, and the false accepts."""
    wrong = [one for one in found if one.is_false_accept]
    cells = [f"Linux {kernel.release}"]
    for is_case in (True, False):
        asked = [one for one in found if one.is_case is is_case and one.kernel is not None]
        loaded = [one for one in asked if one.kernel]
        agreed = sum(not one.model for one in loaded)
        # Mutants that the model refuses were asked about by a share only.
        lost = (len(loaded) - agreed) / (1 if is_case else SHARE_OF_OTHERS)
        share = 100 * agreed / (agreed + lost) if loaded else 0.0
        cells += [str(len(asked) if is_case else mutants), f"{share:.1f} %"]
        cells.append(str(sum(one.is_false_accept for one in asked)))
    return f"| {' | '.join(cells)} |", wrong


@click.command()
@click.option("--series", "chosen", multiple=True, default=SERIES, help="kernels of the emulator")
@click.option("--count", default=5000, help="mutants per kernel")
@click.option("--seed", default=1, help="start of all random choices")
@click.option("--save", default="", help="write every comparison to this file, one JSON line each")
@click.option("--date", default="", help="of the run, for the page")
@click.option("--write", is_flag=True, help="keep the table in docs/kernels.md")
def main(chosen: tuple[str, ...], count: int, seed: int, save: str, date: str, write: bool) -> None:
    """Compare, print the figures, exit 1 at a false accept."""
    every = programs(seed, count)
    lines = [
        "| kernel | cases asked | accepted of what it loads | false accepts | mutants | accepted of what it loads "
        "| false accepts |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    wrong: list[tuple[str, Asked]] = []
    for series in chosen:
        kernel = oracle(series)
        found = compare(kernel, every, seed)
        row, false = figures(kernel, found, count)
        lines.append(row)
        wrong += [(kernel.release, one) for one in false]
        click.echo(row)
        lost = Counter(reason_class(one.model) for one in found if one.model and one.kernel and not one.is_case)
        for reason, times in lost.most_common(12):
            click.echo(f"{times:5d}  {reason}")
        if save:
            with open(save, "a") as file:  # noqa: PTH123
                file.writelines(json.dumps({"kernel": kernel.release, **asdict(one)}) + "\n" for one in found)
    for release, one in wrong:
        which = "as every kernel" if not one.every else "as this kernel"
        click.echo(f"false accept {which}, Linux {release}: {one.name}: {one.reason}\n  {one.insns}")
    if write:
        replace_section(PAGE, "model-emulated", "\n".join([f"Measured {date}, seed {seed}.", "", *lines]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""`make model-oracle`: the model beside the kernels of the emulator, on corpus programs of their own series.

    python -m benchmarks.model.oracle [--series 6.1 --series 6.12] [--programs 600] [--seed 1] [--date D --write]

Draws objects until there are enough distinct programs (also of the types that the running kernel refuses: fentry, lsm,
struct_ops), asks the kernel in one boot, and the model as the profile of that kernel, on the object as its loader
relocates it.  Prints for each series an acceptance table by program type and every false accept (exit status 1).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.model.corpus import Comparison, corpus_keys, reasons, table
from benchmarks.provenance import replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from processes import ChildFailed, in_child
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.btf import Btf
from verifier_model.bpf.unit import Unit
from verifier_model.checker import check
from verifier_model.checker.knowledge import Knowledge, knowledge
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.oracle import Oracle, oracle
from verifier_model.kernel.questions import Answer, ObjectProgram
from verifier_model.kernel.types import image_types

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
_OBJECT_SECONDS: Final = 300
MOST_STEPS: Final = 20_000  # of the model per program: what takes longer counts as refused
# Refusals that follow from how the kernel at hand was built or what is attached to, not from the program.
_PLACE: Final = re.compile(r"is not sleepable|is not modifiable|not found in kernel|attach_btf_id|not supported")
_VERIFIER: Final = "processed "


@dataclass(frozen=True, slots=True)
class Drawn:
    """One object of the draw, and the programs of it that no earlier one had."""

    key: str
    data: bytes
    unit: Unit
    programs: tuple[str, ...]


def draw(series: str, programs: int, seed: int) -> Iterator[Drawn]:
    """Objects of the series in random order until they hold so many distinct programs."""
    keys = [key for key in corpus_keys() if key.startswith(f"{series}/")]
    random.Random(seed).shuffle(keys)
    seen: set[bytes] = set()
    for key in keys:
        if len(seen) >= programs:
            return
        data = (objects_folder() / f"{key}.o").read_bytes()
        source = read_object(data)
        if isinstance(source, Untouched):
            continue
        fresh = []
        for function in source.unit.functions:
            text = f"{function.section}\n{print_function(function)}"
            digest = hashlib.sha256(text.encode()).digest()
            if not function.is_subprogram and digest not in seen:
                seen.add(digest)
                fresh.append(function.name)
        if fresh:
            yield Drawn(key, data, source.unit, tuple(fresh))


def kernel_word(answer: Answer) -> str:
    """ "accepted", "refused" (by the verifier, for what the program is) or "not asked"."""
    if answer.accepted:
        return "accepted"
    by_verifier = answer.refused and _VERIFIER in answer.log and answer.reason and not _PLACE.search(answer.reason)
    return "refused" if by_verifier else "not asked"


def compare(kernel: Oracle, drawn: Sequence[Drawn], types: Btf | None) -> list[Comparison]:
    """The kernel's word and the model's on every program drawn."""
    answers = iter(kernel.verdicts([ObjectProgram(one.data, name) for one in drawn for name in one.programs]))
    major, minor, point = map(int, kernel.release.split(".")[:3])
    knows = knowledge((major, minor, point))
    found = []
    for index, one in enumerate(drawn):
        if index % 25 == 0:
            click.echo(f"{kernel.name}: object {index} of {len(drawn)}", err=True)
        unit = one.unit if types is None else for_kernel(one.unit, types)
        reports = _model(unit, one.programs, knows)
        for name in one.programs:
            answer, function = next(answers), one.unit.function(name)
            accepted, reason, processed, cpu = reports[name]
            found.append(
                Comparison(
                    key=one.key,
                    program=name,
                    type=function.program_type or "none",
                    kernel=kernel_word(answer),
                    kernel_reason=answer.reason,
                    verified_insns=answer.processed or 0,
                    model=accepted,
                    model_reason=reason,
                    processed=processed,
                    slots=function.slots,
                    cpu=cpu,
                )
            )
    return found


Verdict = tuple[bool, str, int, float]


def _model(unit: Unit, programs: Sequence[str], knows: Knowledge) -> dict[str, Verdict]:
    """The model's word on each program, from a child process: a crash or a hang is a refusal with that reason."""

    def work() -> bytes:
        found: dict[str, Verdict] = {}
        for name in programs:
            start = time.process_time()
            report = check(unit, unit.function(name), knows, MOST_STEPS)
            reason = "" if report.rejection is None else report.rejection.reason
            found[name] = report.accepted, reason, report.processed, time.process_time() - start
        return json.dumps(found).encode()

    try:
        rows = json.loads(in_child(work, _OBJECT_SECONDS))
        return {name: (row[0], row[1], row[2], row[3]) for name, row in rows.items()}
    except ChildFailed as error:
        if len(programs) == 1:
            return {programs[0]: (False, f"no verdict: {error}", 0, 0.0)}
        return {name: verdict for one in programs for name, verdict in _model(unit, [one], knows).items()}


def summary(kernel: Oracle, found: Sequence[Comparison], seed: int) -> list[str]:
    """What the documentation keeps of one series."""
    words = Counter(one.kernel for one in found)
    objects = len({one.key for one in found})
    wrong = [one for one in found if one.is_false_accept]
    lines = [
        f"### Linux {kernel.release}",
        "",
        f"{len(found)} distinct programs of {objects} objects (seed {seed}): the kernel accepts {words['accepted']}, "
        f"its verifier refuses {words['refused']}, and {words['not asked']} it cannot be asked about (modules, hooks, "
        f"maps not there).  Accepted by the model and refused by the kernel: {len(wrong)}.",
        "",
        *table(found),
        "",
    ]
    lines += [f"* false accept: `{one.key}` {one.program} ({one.type}): {one.kernel_reason}" for one in wrong]
    return [*lines, ""] if wrong else lines


@click.command()
@click.option("--series", "chosen", multiple=True, default=("6.1", "6.12"), help="kernels, each with its own objects")
@click.option("--programs", default=600, help="distinct programs per kernel")
@click.option("--seed", default=1, help="start of the draw")
@click.option("--examples", default=1, help="examples per reason for a false reject")
@click.option("--save", default="", help="write every comparison to this file, one JSON line each")
@click.option("--date", default="", help="of the run, for the page")
@click.option("--write", is_flag=True, help="keep the tables in docs/kernels.md")
def main(chosen: tuple[str, ...], programs: int, seed: int, examples: int, save: str, date: str, write: bool) -> None:
    """Compare and print; exit 1 at a false accept."""
    page: list[str] = []
    wrong = 0
    for series in chosen:
        kernel = oracle(series)
        found = compare(kernel, list(draw(series, programs, seed)), image_types(series))
        wrong += sum(one.is_false_accept for one in found)
        lines = summary(kernel, found, seed)
        page += lines
        click.echo("\n".join([*lines, "Why the model refuses what the kernel loads:", *reasons(found, examples), ""]))
        if save:
            with open(save, "a") as file:  # noqa: PTH123
                file.writelines(json.dumps(asdict(one)) + "\n" for one in found)
    if write:
        replace_section(PAGE, "model-oracle", "\n".join([f"Measured {date}.", "", *page] if date else page))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

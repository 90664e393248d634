"""`make model-counts`: the model's count of processed instructions beside the running kernel's, program by program.

    python -m benchmarks.model.counts [--objects N --seed S]

Distinct programs of the corpus that both accept, in an order that the seed decides.  What was compared is kept beside
the corpus, so that a stopped run goes on; `--fresh` starts anew, as after a change of the count.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.model.corpus import corpus_keys, rank_correlation
from benchmarks.model.distinct import fingerprint
from benchmarks.model.verdicts import KernelVerdicts, running_knowledge
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from processes import ChildFailed, in_child
from verifier_model.bpf.unit import Unit
from verifier_model.checker import check
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.packages import cache_folder
from verifier_model.kernel.types import running_kernel_types

DOCUMENT: Final = ROOT / "docs" / "model.md"
_SECONDS: Final = 60  # for the programs of one object
_STEPS: Final = 20_000  # that the model takes for one program at most
_LARGEST: Final = 5000  # slots of an object; the model takes minutes for larger ones
_BANDS: Final = ((1, 100), (100, 1000), (1000, 10_000), (10_000, 1_000_001))
_MOST_LISTED: Final = 40


@dataclass(frozen=True, slots=True)
class Count:
    """One program that both accept: instructions that the model and the kernel's verifier processed."""

    key: str
    program: str
    type: str
    slots: int
    model: int
    kernel: int


def counts(key: str, verdicts: KernelVerdicts, seen: set[str]) -> list[Count]:
    """The programs of one object that are not `seen` and that both accept; `seen` gains their fingerprints."""
    data = (objects_folder() / f"{key}.o").read_bytes()
    source = read_object(data)
    if isinstance(source, Untouched) or sum(function.slots for function in source.unit.functions) > _LARGEST:
        return []
    programs = [function for function in source.unit.functions if not function.is_subprogram]
    marks = {function.name: fingerprint(source.unit, function) for function in programs}
    fresh = [function for function in programs if marks[function.name] not in seen]
    seen.update(marks.values())
    if not fresh:
        return []
    words = verdicts.of(data, tuple(function.name for function in programs))
    asked = [function for function in fresh if function.name in words and words[function.name].accepted]
    types = running_kernel_types()
    unit = source.unit if types is None else for_kernel(source.unit, types)
    found = _model(unit, [function.name for function in asked])
    return [
        Count(
            key,
            function.name,
            function.program_type or "none",
            function.slots,
            found[function.name],
            words[function.name].verified_insns,
        )
        for function in asked
        if function.name in found
    ]


def _model(unit: Unit, programs: Sequence[str]) -> dict[str, int]:
    """What the model processes of those that it accepts, from a child process."""

    def work() -> bytes:
        reports = {name: check(unit, unit.function(name), running_knowledge(), _STEPS) for name in programs}
        return json.dumps({name: report.processed for name, report in reports.items() if report.accepted}).encode()

    try:
        return dict(json.loads(in_child(work, _SECONDS))) if programs else {}
    except ChildFailed:
        if len(programs) == 1:
            return {}
        return {name: count for one in programs for name, count in _model(unit, [one]).items()}


class Ledger:
    """What was compared, a line per object: its key, the fingerprints that it added, its counts."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self.path = path
        self.seen: set[str] = set()
        self.objects: dict[str, list[Count]] = {}
        if fresh:
            path.unlink(missing_ok=True)
        for line in path.read_text().splitlines() if path.exists() else ():
            key, marks, rows = json.loads(line)
            self.seen.update(marks)
            self.objects[key] = [Count(**row) for row in rows]

    def of(self, key: str, verdicts: KernelVerdicts) -> list[Count]:
        if key not in self.objects:
            before = set(self.seen)
            found = self.objects[key] = counts(key, verdicts, self.seen)
            with self.path.open("a") as file:
                file.write(json.dumps([key, sorted(self.seen - before), [asdict(one) for one in found]]) + "\n")
        return self.objects[key]


def markdown(found: Sequence[Count], objects: int, seed: int, source: dict[str, object]) -> str:
    """The figures as they stand in docs/model.md."""
    pairs = [(one.model, one.kernel) for one in found]
    equal = sum(a == b for a, b in pairs)
    lines = [
        f"On {source['date']}, running kernel {source['kernel']}, commit {source['commit']}: {len(found)} distinct "
        f"programs of {objects} objects (seed {seed}) that both accept, the model within {_STEPS:,} steps. Rank "
        f"correlation {rank_correlation(pairs):.4f}; equal for {equal} ({100 * equal / max(len(pairs), 1):.1f} %).",
        "",
        "| the kernel processes | programs | equal | rank correlation | the model counts less | more |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for low, high in _BANDS:
        band = [(a, b) for a, b in pairs if low <= b < high]
        if band:
            alike, less = sum(a == b for a, b in band), sum(a < b for a, b in band)
            lines.append(
                f"| {low} to {high - 1} | {len(band)} | {100 * alike / len(band):.1f} % | "
                f"{rank_correlation(band):.4f} | {less} | {len(band) - alike - less} |"
            )
    return "\n".join(lines)


def differing(found: Sequence[Count]) -> Iterator[str]:
    """Programs that are counted differently, the largest relative difference first; one of each name."""
    names: Counter[str] = Counter()
    rows = sorted((one for one in found if one.model != one.kernel), key=lambda one: -abs(one.model / one.kernel - 1))
    for one in rows:
        names[one.program] += 1
        if names[one.program] == 1:
            yield f"{one.model:7d} {one.kernel:7d}  {one.key} {one.program} ({one.type}, {one.slots} slots)"


@click.command()
@click.option("--objects", default=1500, show_default=True, help="so many objects, drawn at random")
@click.option("--seed", default=1, show_default=True)
@click.option("--fresh", is_flag=True, help="compare anew what was compared before")
@click.option("--date", default="", help="the day; with it the figures are kept in docs/model.md")
def main(objects: int, seed: int, fresh: bool, date: str) -> None:
    """Compare, print, keep the figures."""
    keys = corpus_keys()
    random.Random(seed).shuffle(keys)
    ledger, verdicts = Ledger(cache_folder() / f"counts-{seed}.jsonl", fresh), KernelVerdicts()
    found = [one for key in keys[:objects] for one in ledger.of(key, verdicts)]
    text = markdown(found, min(objects, len(keys)), seed, provenance(date, ()))
    click.echo(text)
    for line, _ in zip(differing(found), range(_MOST_LISTED), strict=False):
        click.echo(line)
    if date:
        replace_section(DOCUMENT, "counts", text)


if __name__ == "__main__":
    main()

"""`make model-corpus`: the model's verdict beside the running kernel's, for programs of the corpus.

    python -m benchmarks.model.corpus [--sample N --seed S | --all] [--type xdp] [--reason TEXT] [--examples N]
    python -m benchmarks.model.corpus --distinct --all --type xdp --type sched_cls

Prints, by program type, how many of the programs that the kernel loads the model accepts, why it refuses the others,
and every program that the model accepts and the kernel's verifier refuses (a false accept: exit status 1).  With
`--distinct`, of programs that several objects hold alike only the first counts.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.model.distinct import distinct_programs
from benchmarks.model.verdicts import KernelVerdicts, is_verifiers, refusal, running_knowledge
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from processes import ChildFailed, in_child
from verifier_model.bpf.unit import Unit
from verifier_model.checker import check
from verifier_model.checker.check import PROCESSED_LIMIT
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.types import running_kernel_types

OBJECT_SECONDS: Final = 120
DOCUMENT: Final = ROOT / "docs" / "model.md"
SIZES: Final = ((1, 100), (100, 400), (400, 600), (600, 1500), (1500, 2500), (2500, 1 << 20))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One program: the kernel's word and the model's.  `cpu`: seconds that the model took.

    `kernel`: "accepted", "refused" (by the verifier) or "not asked" (something in front of it gave up).
    """

    key: str
    program: str
    type: str
    kernel: str
    kernel_reason: str
    verified_insns: int
    model: bool
    model_reason: str
    processed: int
    slots: int
    cpu: float

    @property
    def is_false_accept(self) -> bool:
        return self.model and self.kernel == "refused"

    @property
    def is_false_reject(self) -> bool:
        return not self.model and self.kernel == "accepted"


def compare(
    key: str, verdicts: KernelVerdicts, limit: int = PROCESSED_LIMIT, only: Collection[str] | None = None
) -> list[Comparison]:
    """Every main program of one corpus object, or only these; the model refuses what takes more than `limit` steps."""
    data = (objects_folder() / f"{key}.o").read_bytes()
    source = read_object(data)
    if isinstance(source, Untouched):
        return []
    unit = source.unit
    programs = tuple(function.name for function in unit.functions if not function.is_subprogram)
    programs = tuple(name for name in programs if only is None or name in only)
    words = verdicts.of(data, programs)
    types = running_kernel_types()
    reports = _model(unit if types is None else for_kernel(unit, types), programs, limit)
    found = []
    for name in programs:
        function, word, report = unit.function(name), words.get(name), reports[name]
        kernel = "not asked" if word is None or not is_verifiers(word) else "accepted" if word.accepted else "refused"
        found.append(
            Comparison(
                key=key,
                program=name,
                type=function.program_type or "none",
                kernel=kernel,
                kernel_reason="" if word is None or word.accepted else refusal(word),
                verified_insns=0 if word is None else word.verified_insns,
                model=bool(report[0]),
                model_reason=str(report[1]),
                processed=int(report[2]),
                slots=function.slots,
                cpu=float(report[3]),
            )
        )
    return found


Verdict = tuple[bool, str, int, float]


def _model(unit: Unit, programs: Sequence[str], limit: int) -> dict[str, Verdict]:
    """The model's word on each program, from a child process: a crash or a hang is a refusal with that reason."""

    def work() -> bytes:
        found: dict[str, Verdict] = {}
        for name in programs:
            start = time.process_time()
            report = check(unit, unit.function(name), running_knowledge(), limit)
            reason = "" if report.rejection is None else report.rejection.reason
            found[name] = report.accepted, reason, report.processed, time.process_time() - start
        return json.dumps(found).encode()

    try:
        return {
            name: (row[0], row[1], row[2], row[3]) for name, row in json.loads(in_child(work, OBJECT_SECONDS)).items()
        }
    except ChildFailed as error:
        if len(programs) == 1:
            return {programs[0]: (False, f"no verdict: {error}", 0, 0.0)}
        return {name: verdict for one in programs for name, verdict in _model(unit, [one], limit).items()}


def corpus_keys() -> list[str]:
    """All objects of the corpus, in a fixed order."""
    return sorted(str(path.relative_to(objects_folder()))[:-2] for path in objects_folder().rglob("*.o"))


def reason_class(reason: str) -> str:
    """The reason without registers, numbers and names, so that equal causes count together."""
    text = re.sub(r"\b[rRwW]\d+\b", "Rn", reason)
    text = re.sub(r"-?\b(0x[0-9a-fA-F]+|\d+)\b", "N", text)
    return re.sub(r"[\w.]*\.\w+|(?<=#)\w+", "*", text)[:110]


def table(found: Iterable[Comparison]) -> list[str]:
    """By program type: programs the kernel loads, those of them that the model accepts, per cent."""
    loaded: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for one in found:
        if one.kernel == "accepted":
            loaded[one.type] += 1
            agreed[one.type] += one.model
    rows = [(name, loaded[name], agreed[name]) for name in sorted(loaded, key=lambda name: (-loaded[name], name))]
    rows.append(("all", loaded.total(), agreed.total()))
    lines = ["| program type | the kernel loads | the model accepts | of these |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {all_} | {good} | {100 * good / max(all_, 1):.1f} % |" for name, all_, good in rows]
    return lines


def reasons(found: Iterable[Comparison], examples: int = 1) -> list[str]:
    """Why the model refuses programs that the kernel loads: count, reason class, examples."""
    classes: dict[str, list[Comparison]] = defaultdict(list)
    for one in found:
        if one.is_false_reject:
            classes[reason_class(one.model_reason)].append(one)
    lines = []
    for reason, members in sorted(classes.items(), key=lambda item: (-len(item[1]), item[0])):
        types = Counter(one.type for one in members)
        shown = ", ".join(f"{name} {count}" for name, count in types.most_common(4))
        lines.append(f"{len(members):5d}  {reason}  [{shown}]")
        step = max(len(members) // max(examples, 1), 1)
        lines += [
            f"         {one.key} {one.program}: {one.model_reason}" for one in members[::step][: max(examples, 0)]
        ]
    return lines


def rank_correlation(pairs: Sequence[tuple[int, int]]) -> float:
    """Spearman's: how alike both columns order their rows, 1 for equal orders; equal values share their mean rank."""
    left, right = _ranks([a for a, _ in pairs]), _ranks([b for _, b in pairs])
    middle = (len(pairs) + 1) / 2
    shared = sum((a - middle) * (b - middle) for a, b in zip(left, right, strict=True))
    spread = sum((a - middle) ** 2 for a in left) * sum((b - middle) ** 2 for b in right)
    return shared / math.sqrt(spread) if spread else 1.0


def _compared(
    keys: Iterable[str], limit: int, path: Path | None, only: Mapping[str, Collection[str]] | None = None
) -> list[Comparison]:
    """All comparisons; those in the file at `path` are not made again, new ones are added to it.

    `only`: by object the programs that are compared, all of them where it is None.
    """
    known: dict[str, list[Comparison]] = {}
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        key, rows = json.loads(line)
        known[key] = [Comparison(**row) for row in rows]
    verdicts, found = KernelVerdicts(), list[Comparison]()
    for key in keys:
        if key not in known:
            known[key] = compare(key, verdicts, limit, None if only is None else only[key])
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps([key, [asdict(one) for one in known[key]]]) + "\n")
        found += known[key]
    return found


def _ranks(values: Sequence[int]) -> list[float]:
    places: dict[int, list[int]] = defaultdict(list)
    for place, value in enumerate(sorted(values), 1):
        places[value].append(place)
    return [sum(places[value]) / len(places[value]) for value in values]


def work_line(found: Iterable[Comparison]) -> str:
    """How the model's processed instructions rank programs beside the kernel's."""
    pairs = [(one.processed, one.verified_insns) for one in found if one.model and one.kernel == "accepted"]
    equal = sum(a == b for a, b in pairs)
    return (
        f"Processed instructions of {len(pairs)} programs that both accept: rank correlation "
        f"{rank_correlation(pairs):.4f}, equal for {equal} ({100 * equal / max(len(pairs), 1):.1f} %)."
    )


def speed_lines(found: Iterable[Comparison]) -> list[str]:
    """CPU seconds of the check by size, for programs that the model accepts."""
    accepted = [one for one in found if one.model]
    lines = ["| slots | programs | median | slowest | program |", "|---|--:|--:|--:|---|"]
    for low, high in SIZES:
        band = sorted((one for one in accepted if low <= one.slots < high), key=lambda one: one.cpu)
        if band:
            last = band[-1]
            name = f"{last.key} {last.program}"
            lines.append(
                f"| {low} to {high - 1} | {len(band)} | {band[len(band) // 2].cpu:.3f} s | {last.cpu:.3f} s | {name} |"
            )
    return lines


def markdown(found: Sequence[Comparison], objects: int, seed: int, source: Mapping[str, object]) -> str:
    """The figures as they stand in docs/model.md."""
    kernel = Counter(one.kernel for one in found)
    wrong = sum(one.is_false_accept for one in found)
    return "\n".join(
        [
            f"On {source['date']}, running kernel {source['kernel']}, commit {source['commit']}: {objects} objects "
            f"(seed {seed}) with {len(found)} programs, of which the kernel accepts {kernel['accepted']}, its verifier "
            f"refuses {kernel['refused']}, and {kernel['not asked']} do not come as far. False accepts: {wrong}.",
            "",
            *table(found),
            "",
            work_line(found),
            "",
            "CPU seconds of the check by size of program:",
            "",
            *speed_lines(found),
            "",
            "Why the model refuses what the kernel loads:",
            "",
            "```",
            *reasons(found, 0),
            "```",
        ]
    )


@click.command()
@click.option("--sample", default=150, help="so many objects, drawn at random")
@click.option("--seed", default=1, help="start of the draw")
@click.option("--all", "everything", is_flag=True, help="every object of the corpus")
@click.option("--folder", default="", help="only objects whose key contains this")
@click.option("--type", "only_types", multiple=True, help="only programs of this type; may be given again")
@click.option("--distinct", is_flag=True, help="of equal programs only the first, over the whole corpus")
@click.option("--reason", default="", help="only false rejects whose reason contains this; lists each")
@click.option("--examples", default=1, help="examples per reason")
@click.option("--limit", default=PROCESSED_LIMIT, help="steps that the model takes for one program at most")
@click.option("--write", "date", default="", help="write docs/model.md, with this day beside the figures")
@click.option("--save", default="", help="keep comparisons in this file, and go on with those that it holds")
def main(
    sample: int,
    seed: int,
    everything: bool,
    folder: str,
    only_types: tuple[str, ...],
    distinct: bool,
    reason: str,
    examples: int,
    limit: int,
    date: str,
    save: str,
) -> None:
    """Compare and print; exit 1 at a false accept."""
    keys = [key for key in corpus_keys() if folder in key]
    programs = distinct_programs(keys, frozenset(only_types)) if distinct else None
    keys = keys if programs is None else list(programs)
    if not everything and sample < len(keys):
        keys = sorted(random.Random(seed).sample(keys, sample))
    compared = _compared(keys, limit, Path(save) if save else None, programs)
    found = [one for one in compared if not only_types or one.type in only_types]
    if reason:
        for one in found:
            if one.is_false_reject and reason in one.model_reason:
                print(f"{one.key} {one.program} ({one.type}): {one.model_reason}")
        return
    kernel = Counter(one.kernel for one in found)
    print(
        f"{len(keys)} objects (seed {seed}), {len(found)} programs: "
        + ", ".join(f"{kernel[word]} {word}" for word in ("accepted", "refused", "not asked"))
        + " by the kernel"
    )
    print("\n".join(["", *table(found), "", "Why the model refuses what the kernel loads:", *reasons(found, examples)]))
    print("\n".join(["", work_line(found), *speed_lines(found)]))
    if date:
        replace_section(DOCUMENT, "corpus", markdown(found, len(keys), seed, provenance(date, ())))
    wrong = [one for one in found if one.is_false_accept]
    print(f"\n{len(wrong)} false accepts")
    for one in wrong:
        print(f"  {one.key} {one.program} ({one.type}): {one.kernel_reason}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

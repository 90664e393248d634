"""`make model-mutants`: small changes to the kernel's verifier cases and to corpus programs, put to model and kernel.

    python -m benchmarks.model.mutants [--count N] [--seed S] [--folder F] [--workers 2] [--again]

The running kernel is asked about every mutant that the model accepts, and about a random share of the others, which
gives the share of accepted ones among all that the kernel accepts.  A run is made of shards, each decided by seed and
number alone; finished shards are kept, so a stopped run goes on.  Every false accept is kept, minimised.
"""

from __future__ import annotations

import json
import platform
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.model.corpus import DOCUMENT, corpus_keys, reason_class
from benchmarks.model.kernel_cases import kernel_cases
from benchmarks.model.mutation import minimised, mutant
from benchmarks.model.raw_kernel import NoMapError, RawKernel
from benchmarks.model.slots import MAIN, SlotProgram, attach_of, of_raw, unit_of
from benchmarks.model.verdicts import running_knowledge
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from verifier_model.bpf.insn import SLOT_BYTES
from verifier_model.bpf.unit import MapDef
from verifier_model.checker import check
from verifier_model.checker.knowledge import EVERY_KERNEL, Knowledge
from verifier_model.kernel.assembling import Unloadable, raw_program
from verifier_model.kernel.packages import cache_folder

SHARD: Final = 2000
SHARE_OF_OTHERS: Final = 0.1  # of the mutants that the model refuses, so many are asked about
SHARE_OF_LOADED: Final = 0.85  # of the mutants come from programs that the kernel loads
MOST_STEPS: Final = 3000  # long loops are no more telling than short ones
LONGEST: Final = 120  # slots of a program to be mutated
OBJECTS: Final = 400  # objects that corpus programs are drawn from
_CRASH: Final = "the model fails"


@dataclass
class Tally:
    """Counts of one shard.  `asked_of_refused` and `lost`: refused mutants asked about, and accepted by the kernel."""

    mutants: int = 0
    accepted: int = 0
    agreed: int = 0
    asked_of_refused: int = 0
    lost: int = 0
    false_accepts: list[dict[str, object]] = field(default_factory=list)
    lost_reasons: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.mutants += other.mutants
        self.accepted += other.accepted
        self.agreed += other.agreed
        self.asked_of_refused += other.asked_of_refused
        self.lost += other.lost
        self.false_accepts += other.false_accepts
        for reason, count in other.lost_reasons.items():
            self.lost_reasons[reason] = self.lost_reasons.get(reason, 0) + count

    @property
    def share(self) -> float:
        """Of the mutants that the kernel accepts, how many the model accepts, from the sample."""
        refused = self.mutants - self.accepted
        lost = self.lost * refused / self.asked_of_refused if self.asked_of_refused else 0.0
        return self.agreed / (self.agreed + lost) if self.agreed else 0.0


def verdict(program: SlotProgram, knows: Knowledge) -> str:
    """ "" when the model accepts, else why not."""
    unit = unit_of(program)
    try:
        report = check(unit, unit.function(MAIN), knows, MOST_STEPS)
    except RecursionError:
        return f"{_CRASH}: too deep"
    return "" if report.rejection is None else report.rejection.reason


@cache
def bases(seed: int) -> tuple[tuple[SlotProgram, ...], tuple[SlotProgram, ...]]:
    """What is mutated: programs that the running kernel loads, and those of its cases that it refuses.

    The loaded ones are the kernel's cases and, as many again as there are cases, corpus programs that need no libbpf.
    """
    # The model is one of kernels with efficient unaligned access: nobody asks for strict alignment.
    cases = [
        replace(case.program, flags=0)
        for case in kernel_cases()
        if 2 <= case.program.count <= LONGEST and not case.needs
    ]
    loaded, refused = [], []
    with RawKernel() as kernel:
        for program in (*cases, *_corpus_programs(seed)):
            try:
                accepted = kernel.ask(program).accepted
            except NoMapError:
                continue
            if accepted:
                loaded.append(program)
            elif program in cases:
                refused.append(program)
            if len(loaded) >= 2 * len(cases):
                break
    return tuple(loaded), tuple(refused)


def _corpus_programs(seed: int) -> Iterator[SlotProgram]:
    keys = corpus_keys()
    seen: set[bytes] = set()
    for key in random.Random(seed).sample(keys, min(OBJECTS, len(keys))):
        source = read_object((objects_folder() / f"{key}.o").read_bytes())
        if isinstance(source, Untouched):
            continue
        for function in source.unit.functions:
            attach = attach_of(function.section)
            if function.is_subprogram or function.program_type is None or attach is None:
                continue
            try:
                raw, _ = raw_program(source.unit, function.name, attach_type=attach)
            except Unloadable:
                continue
            if 16 <= len(raw.insns) <= LONGEST * SLOT_BYTES and raw.insns not in seen:
                seen.add(raw.insns)
                yield of_raw(f"{key} {function.name}", raw)


def shard(seed: int, number: int, is_every: bool) -> Tally:
    """One shard's mutants, put to the model and to the running kernel."""
    rng = random.Random(f"{seed}:{number}")
    knows = EVERY_KERNEL if is_every else running_knowledge()
    loaded, refused = bases(seed)
    tally = Tally()
    with RawKernel() as kernel:
        for _ in range(SHARD):
            programs = loaded if rng.random() < SHARE_OF_LOADED else refused
            program = mutant(rng, rng.choice(programs), rng.choice((1, 2)))
            is_asked = rng.random() < SHARE_OF_OTHERS
            reason = verdict(program, knows)
            tally.mutants += 1
            tally.accepted += not reason
            if reason and not is_asked:
                continue
            try:
                word = kernel.ask(program)
            except NoMapError:
                continue
            if reason:
                tally.asked_of_refused += 1
                tally.lost += word.accepted
                if word.accepted:
                    group = reason_class(reason)
                    tally.lost_reasons[group] = tally.lost_reasons.get(group, 0) + 1
            elif word.accepted:
                tally.agreed += 1
            else:
                tally.false_accepts.append(_found(program, kernel, knows))
    return tally


def _found(program: SlotProgram, kernel: RawKernel, knows: Knowledge) -> dict[str, object]:
    def is_wrong(smaller: SlotProgram) -> bool:
        return not verdict(smaller, knows) and not kernel.ask(smaller).accepted

    small = minimised(program, is_wrong)
    return {
        "base": program.name,
        "reason": kernel.reason(program),
        "small_reason": kernel.reason(small),
        "type": small.type,
        "attach": small.attach,
        "flags": small.flags,
        "maps": {str(slot): asdict(row) for slot, row in small.maps.items()},
        "insns": small.insns.hex(),
        "whole": program.insns.hex(),
    }


def results_path(seed: int, is_every: bool) -> Path:
    word = "every" if is_every else "running"
    return cache_folder() / f"mutants-{platform.release()}-{word}-{seed}.jsonl"


def known(path: Path) -> dict[int, Tally]:
    lines = path.read_text().splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines if line.endswith("}"))
    return {row.pop("shard"): Tally(**row) for row in rows}


def run(seed: int, numbers: Sequence[int], workers: int, is_every: bool, path: Path) -> None:
    """The shards `numbers`, appended to `path` as they finish."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, path.open("a") as file:
        for number, tally in zip(
            numbers, pool.map(shard, *zip(*((seed, number, is_every) for number in numbers), strict=True)), strict=True
        ):
            file.write(json.dumps({"shard": number, **vars(tally)}) + "\n")
            file.flush()


@click.command()
@click.option("--count", default=200_000, help="mutants in all")
@click.option("--seed", default=1, help="start of all random choices")
@click.option("--workers", default=2, help="processes")
@click.option("--every", "is_every", is_flag=True, help="the model knows only what every kernel knows")
@click.option("--again", is_flag=True, help="forget finished shards")
@click.option("--write", "date", default="", help="write docs/model.md, with this day beside the figures")
def main(count: int, seed: int, workers: int, is_every: bool, again: bool, date: str) -> None:
    """Run what is missing, print the figures; exit 1 at a false accept."""
    path = results_path(seed, is_every)
    if again:
        path.unlink(missing_ok=True)
    wanted = range((count + SHARD - 1) // SHARD)
    missing = [number for number in wanted if number not in known(path)]
    if missing:
        run(seed, missing, workers, is_every, path)
    total = Tally()
    for number, tally in known(path).items():
        if number in wanted:
            total.add(tally)
    print(
        f"{total.mutants} mutants (seed {seed}), {total.accepted} accepted by the model; of those that the kernel "
        f"accepts, the model accepts {100 * total.share:.1f} %"
    )
    if date:
        replace_section(DOCUMENT, "mutants", markdown(total, seed, is_every, provenance(date, ())))
    for reason, lost in Counter(total.lost_reasons).most_common(25):
        print(f"{lost:5d}  {reason}")
    print(f"{len(total.false_accepts)} false accepts")
    for group, members in _by_reason(total.false_accepts).items():
        print(f"{len(members):5d}  {group}: {members[0]['base']}")
    sys.exit(1 if total.false_accepts else 0)


def still_accepted(found: Sequence[Mapping[str, object]], knows: Knowledge) -> list[Mapping[str, object]]:
    """Of the false accepts that were kept, those that the model as it is now accepts again."""
    return [one for one in found if not verdict(_restored(one), knows)]


def _restored(one: Mapping[str, object]) -> SlotProgram:
    maps, kept = dict[int, MapDef](), one["maps"]
    assert isinstance(kept, dict)
    for slot, row in kept.items():
        inner = row["inner"]
        maps[int(slot)] = MapDef(**{**row, "inner": None if inner is None else MapDef(**inner)})
    type, attach, flags = (int(str(one[name])) for name in ("type", "attach", "flags"))
    return SlotProgram(str(one["base"]), bytes.fromhex(str(one["insns"])), type, attach, flags, maps)


def markdown(total: Tally, seed: int, is_every: bool, source: Mapping[str, object]) -> str:
    """The figures as they stand in docs/model.md."""
    knows = EVERY_KERNEL if is_every else running_knowledge()
    left = still_accepted(total.false_accepts, knows)
    lines = [
        f"On {source['date']}, running kernel {source['kernel']}, commit {source['commit']}: {total.mutants} mutants "
        f"(seed {seed}), {total.accepted} accepted by the model, all of which the kernel was asked about, and "
        f"{total.asked_of_refused} of the others. Of the mutants that the kernel accepts, the model accepts "
        f"{100 * total.share:.1f} %. False accepts while the run went on: {len(total.false_accepts)}; the model as it "
        f"is now accepts {len(left)} of them.",
        "",
        "Why the model refuses mutants that the kernel accepts (of those asked about):",
        "",
        "| mutants | reason |",
        "|--:|---|",
    ]
    lines += [
        f"| {lost} | {reason.replace('|', '/')} |" for reason, lost in Counter(total.lost_reasons).most_common(20)
    ]
    return "\n".join(lines)


def _by_reason(found: list[dict[str, object]]) -> dict[str, list[dict[str, object]]]:
    groups: dict[str, list[dict[str, object]]] = {}
    for one in found:
        groups.setdefault(reason_class(str(one["small_reason"])), []).append(one)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


if __name__ == "__main__":
    main()

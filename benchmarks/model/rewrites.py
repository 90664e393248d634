"""`make model-rewrites`: equivalent rewrites of corpus programs, put to the model and to the running kernel.

    python -m benchmarks.model.rewrites [--objects N --seed S] [--tiers passes,enumerate,stochastic] [--fresh]

The optimiser proposes for functions of corpus objects that both accept, and nobody asks the model before a proved
proposal is applied.  So what is put to both is every form that a function goes through: each rewrite of a batch alone,
the whole batch, and what follows from there.  Exit status 1 when the model accepts what the kernel's verifier refuses.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.model.corpus import corpus_keys, reason_class
from benchmarks.model.distinct import fingerprint
from benchmarks.model.verdicts import is_verifiers, refusal, running_knowledge
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from processes import ChildFailed, in_child
from synth.door import Door
from synth.pipeline import Run, Step
from synth.reshape import Reshape
from synth.rewrite import Rewrite, apply
from synth.settings import Settings
from verifier_model.bpf.asm import print_function
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker import check
from verifier_model.checker.callgraph import roots_of
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.gate import KernelWord
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.packages import cache_folder
from verifier_model.kernel.syscall import Refused
from verifier_model.kernel.types import running_kernel_types

DOCUMENT: Final = ROOT / "docs" / "model.md"
MOST_FORMS: Final = 16  # of one function that are put to both, the last one among them
LARGEST: Final = 1200  # slots of an object; larger ones take minutes each
_SECONDS: Final = 240  # for one object


@dataclass
class Unchecked(Run):
    """The run of one function where the check has no say.  `forms`: each proved form, and how it came about."""

    forms: dict[str, tuple[str, Function]] = field(default_factory=dict)

    def _applied(self, batch: list[tuple[Rewrite, str]]) -> list[Step]:
        for rewrite, _ in batch:
            self._note("one rewrite", apply(self.current, rewrite))
        steps = super()._applied(batch)
        self._note("one batch" if len(batch) > 1 else "one rewrite", steps[-1].function)
        return steps

    def _reshape_with(self, proposal: Reshape) -> bool:
        is_applied = super()._reshape_with(proposal)
        if is_applied:
            self._note("other blocks", self.current)
        return is_applied

    def _is_acceptable(self, function: Function) -> bool:
        return True

    def _note(self, kind: str, function: Function) -> None:
        # A form that comes alone and again behind others counts once.
        before = "" if self.current == self.original else " on top of others"
        self.forms.setdefault(print_function(function), (kind + before, function))


@dataclass(frozen=True, slots=True)
class Put:
    """One form of one program.  `kernel`: "accepted", "refused" or "not asked"; the counts are 0 without acceptance."""

    key: str
    program: str
    function: str
    kind: str
    model: str  # why it is refused, "" when accepted
    kernel: str
    reason: str
    model_count: int
    kernel_count: int

    @property
    def is_false_accept(self) -> bool:
        return not self.model and self.kernel == "refused"


def forms_of(unit: Unit, function: Function, settings: Settings, rng: random.Random) -> list[tuple[str, Function]]:
    """At most MOST_FORMS forms of a function, proved and not checked."""
    run = Unchecked(unit, settings, function, Door(unit, settings), None, 0)
    run.optimise()
    found = list(run.forms.values())
    if len(found) <= MOST_FORMS:
        return found
    return [*rng.sample(found[:-1], MOST_FORMS - 1), found[-1]]


def put_object(key: str, marks: set[str], settings: Settings, seed: int) -> list[Put]:
    """Every form of every function of one object; programs whose fingerprint is in `marks` are left out."""
    data = (objects_folder() / f"{key}.o").read_bytes()
    source = read_object(data)
    if isinstance(source, Untouched) or sum(function.slots for function in source.unit.functions) > LARGEST:
        return []
    fresh = _accepted(source, marks)
    found: list[Put] = []
    for function in source.unit.functions:
        programs = [root.name for root in roots_of(source.unit, function) if root.name in fresh]
        if not programs or function.untouchable is not None:
            continue
        for kind, form in forms_of(source.unit, function, settings, random.Random(f"{seed} {key} {function.name}")):
            written = write_object(source, source.unit.with_function(form))
            if isinstance(written, Untouched) or written == data:
                continue
            found += [_put(key, written, program, function.name, kind) for program in programs]
    return found


def _accepted(source: Object, marks: set[str]) -> set[str]:
    """The programs that neither was seen before nor is refused by the kernel or the model."""
    found = set()
    for function in source.unit.functions:
        if function.is_subprogram or fingerprint(source.unit, function) in marks:
            continue
        if ask(source.data, function.name).accepted and not model_word(source.unit, function.name)[0]:
            found.add(function.name)
    return found


def ask(data: bytes, program: str) -> KernelWord:
    """The running kernel's word on one program of an object."""
    loaded = load_object(data, LoadOptions(only=frozenset({program})))
    if isinstance(loaded, Refused):
        return KernelWord(program, False, 0, loaded.reason, loaded.log)
    with loaded:
        word = loaded.programs.get(program)
        return KernelWord(program, word is not None, word.verified_insns if word else 0)


def model_word(unit: Unit, program: str) -> tuple[str, int]:
    """Why the model refuses ("" when it does not), and its count."""
    types = running_kernel_types()
    unit = unit if types is None else for_kernel(unit, types)
    report = check(unit, unit.function(program), running_knowledge())
    return ("" if report.rejection is None else report.rejection.reason), report.processed


def _put(key: str, written: bytes, program: str, function: str, kind: str) -> Put:
    back = read_object(written)
    reason, count = (back.reason, 0) if isinstance(back, Untouched) else model_word(back.unit, program)
    word = ask(written, program)
    kernel = "not asked" if not is_verifiers(word) else "accepted" if word.accepted else "refused"
    why = "" if word.accepted else refusal(word)
    return Put(key, program, function, kind, reason, kernel, why, 0 if reason else count, word.verified_insns)


class Ledger:
    """What was put to both, a line per object: its key, the fingerprints of its programs, the forms."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self.path = path
        self.marks: set[str] = set()
        self.objects: dict[str, list[Put]] = {}
        if fresh:
            path.unlink(missing_ok=True)
        for line in path.read_text().splitlines() if path.exists() else ():
            key, marks, rows = json.loads(line)
            self.marks.update(marks)
            self.objects[key] = [Put(**row) for row in rows]

    def of(self, key: str, settings: Settings, seed: int) -> list[Put]:
        if key in self.objects:
            return self.objects[key]
        try:
            rows = [Put(**row) for row in json.loads(in_child(lambda: self._work(key, settings, seed), _SECONDS))]
        except ChildFailed as error:
            click.echo(f"{key}: {error}", err=True)
            return []
        source = read_object((objects_folder() / f"{key}.o").read_bytes())
        new = [] if isinstance(source, Untouched) else _marks(source.unit)
        self.marks.update(new)
        self.objects[key] = rows
        with self.path.open("a") as file:
            file.write(json.dumps([key, new, [asdict(row) for row in rows]]) + "\n")
        return rows

    def _work(self, key: str, settings: Settings, seed: int) -> bytes:
        return json.dumps([asdict(row) for row in put_object(key, self.marks, settings, seed)]).encode()


def _marks(unit: Unit) -> list[str]:
    return sorted({fingerprint(unit, function) for function in unit.functions if not function.is_subprogram})


def _row(name: str, rows: Sequence[Put]) -> str:
    loaded = [row for row in rows if row.kernel == "accepted"]
    taken = [row for row in loaded if not row.model]
    equal = sum(row.model_count == row.kernel_count for row in taken)
    cells = (
        name,
        len(rows),
        len(loaded),
        sum(row.kernel == "refused" for row in rows),
        f"{100 * len(taken) / max(len(loaded), 1):.1f} %",
        sum(row.is_false_accept for row in rows),
        f"{100 * equal / max(len(taken), 1):.1f} %",
    )
    return f"| {' | '.join(map(str, cells))} |"


def markdown(rows: Sequence[Put], objects: int, seed: int, tiers: str, source: dict[str, object]) -> str:
    """The figures as they stand in docs/model.md."""
    programs = {(row.key, row.program) for row in rows}
    kinds = sorted({row.kind for row in rows})
    lost = Counter(reason_class(row.model) for row in rows if row.model and row.kernel == "accepted")
    lines = [
        f"On {source['date']}, running kernel {source['kernel']}, commit {source['commit']}: {len(rows)} rewritten "
        f"forms of {len(programs)} distinct programs of {objects} objects (seed {seed}, tiers {tiers}).",
        "",
        "| form | put to both | the kernel accepts | its verifier refuses | of the accepted the model accepts "
        "| false accepts | counted alike |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_row(kind, [row for row in rows if row.kind == kind]) for kind in kinds),
        _row("all", rows),
    ]
    if lost:
        lines += ["", "Why the model refuses forms that the kernel accepts:", "", "| forms | reason |", "|--:|---|"]
        lines += [f"| {count} | {reason} |" for reason, count in lost.most_common()]
    return "\n".join(lines)


def notable(rows: Iterable[Put]) -> list[str]:
    """False accepts, false rejects, and forms that are counted differently."""
    lines = []
    for row in rows:
        name = f"{row.key} {row.program} ({row.function}, {row.kind})"
        if row.is_false_accept:
            lines.append(f"FALSE ACCEPT {name}: {row.reason}")
        elif row.model and row.kernel == "accepted":
            lines.append(f"refused {name}: {row.model}")
        elif row.kernel == "accepted" and row.model_count != row.kernel_count:
            lines.append(f"counted {row.model_count}, kernel {row.kernel_count} {name}")
    return lines


@click.command()
@click.option("--objects", default=200, show_default=True, help="so many objects, drawn at random")
@click.option("--seed", default=1, show_default=True)
@click.option("--tiers", default="passes,enumerate,stochastic", show_default=True)
@click.option("--budget", default=0, help="K2_BUDGET of the search")
@click.option("--fresh", is_flag=True, help="start anew instead of where the last run of this seed stopped")
@click.option("--date", default="", help="the day; with it the figures are kept in docs/model.md")
def main(objects: int, seed: int, tiers: str, budget: int, fresh: bool, date: str) -> None:
    """Rewrite, ask, print, keep the figures; exit 1 at a false accept."""
    keys = corpus_keys()
    random.Random(seed).shuffle(keys)
    settings = Settings(tiers=tuple(tiers.split(",")), budget=budget)
    ledger = Ledger(cache_folder() / f"rewrites-{seed}-{tiers.replace(',', '-')}.jsonl", fresh)
    rows = [row for key in keys[:objects] for row in ledger.of(key, settings, seed)]
    text = markdown(rows, min(objects, len(keys)), seed, tiers.replace(",", ", "), provenance(date, ()))
    click.echo(text)
    for line in notable(rows):
        click.echo(line)
    if date:
        replace_section(DOCUMENT, "rewrites", text)
    sys.exit(1 if any(row.is_false_accept for row in rows) else 0)


if __name__ == "__main__":
    main()

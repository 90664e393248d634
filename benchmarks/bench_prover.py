"""How fast the prover is, and what each acceleration brings.

    python -m benchmarks.bench_prover --date 2026-01-31 [--objects DIR] [--sample 300]

The obligations are real ones: the optimiser runs over the examples (compiled with clang-19) and over objects of the
corpus, and the door's questions are recorded.  Each is then asked again, in this process, in CPU time; once with
everything on, and (a sample of them) with one acceleration off.  Whole functions: pairs of clang's output and of ours.
Results go to benchmarks/results/prover.json and into the table of docs/prover.md.
"""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final
from unittest.mock import patch

import click

from benchmarks.agreement.mutants import mutants
from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from synth import door
from synth.door import FOR_SEARCH
from synth.pipeline import optimise
from synth.settings import Settings
from tests.prover.slices import question
from verifier_model.bpf.unit import Function, Unit
from verifier_model.domains.registers import Register
from verifier_model.domains.state import State
from verifier_model.kernel.packages import cache_folder
from verifier_model.prover import Limits, guess_cuts, prove, prove_function
from verifier_model.prover.limits import DEFAULT
from verifier_model.prover.simplify import SimplifyingTerms
from verifier_model.prover.terms import Term, Terms
from verifier_model.verdict import FunctionObligation, Obligation, Verdict

RESULTS: Final = ROOT / "benchmarks" / "results" / "prover.json"
DOCUMENT: Final = ROOT / "docs" / "prover.md"
SHAPES: Final = ROOT / "tests" / "prover" / "shapes"
SEED: Final = 5
SHORT: Final = 8  # instructions: the windows that the median and the 99th percentile are promised for
MOST_MEDIAN, MOST_P99 = 0.010, 1.0  # CPU seconds
MOST_FUNCTION: Final = 1.0


class WithoutOffsets(SimplifyingTerms):
    """Addresses are not taken apart into base and constant: whether two bytes are one is a question each time."""

    def split(self, address: Term) -> tuple[Term, int]:
        return address, 0


@dataclass(frozen=True, slots=True)
class Figure:
    """CPU milliseconds over `questions`; `verdicts` counts the answers."""

    name: str
    questions: int
    median: float
    p90: float
    p99: float
    most: float
    total_seconds: float
    verdicts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """One function, clang's against another version of it; `made` says how the other came about."""

    name: str
    made: str
    slots: tuple[int, int]
    verdict: str
    guess_seconds: float
    proof_seconds: float


# ---- obligations ----


def objects(folder: Path, most: int) -> Iterator[Path]:
    """The examples, compiled, and a seeded sample of the corpus's clang-19 objects."""
    with tempfile.TemporaryDirectory() as place:
        for source in sorted((ROOT / "examples").glob("*.bpf.c")):
            yield compiled(source, Path(place), "-I", str(ROOT / "examples" / "include"))
    found = sorted(folder.glob("6.1/*/clang-19/v3/*.o"))
    yield from sorted(random.Random(SEED).sample(found, min(most, len(found))))


def compiled(source: Path, folder: Path, *options: str) -> Path:
    """The object that clang-19 makes of a source at -mcpu=v3."""
    output = folder / f"{source.stem}.o"
    command = ["clang-19", "-O2", "-g", "-target", "bpf", "-mcpu=v3", *options, "-c", str(source), "-o", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    return output


def unit_of(path: Path) -> Unit | None:
    source = read_object(path.read_bytes())
    return None if isinstance(source, Untouched) else source.unit


def recorded(unit: Unit, effort: int) -> tuple[list[Obligation], int, Unit]:
    """The questions that reached the prover, how often one was asked that had been asked before, and the new unit."""
    asked: list[Obligation] = []
    questions = Counter[object]()
    lookup = door._key

    def record(obligation: Obligation, limits: Limits = DEFAULT) -> Verdict:
        asked.append(obligation)
        return prove(obligation, limits)

    def count(obligation: Obligation) -> door.Key:
        key = lookup(obligation)
        questions[key] += 1
        return key

    with patch.object(door, "prove", record), patch.object(door, "_key", count):
        new, _ = optimise(unit, replace(Settings(), effort=effort))
    return asked, sum(questions.values()) - len(questions), new


# ---- variants ----

ON_MUTANTS: Final = ("everything on", "no concrete states first", "no cone of influence")
Variant = Callable[[Obligation], Verdict]


def everything_on(obligation: Obligation) -> Verdict:
    """As the door asks."""
    return prove(obligation, FOR_SEARCH)


def mutated(obligation: Obligation) -> Iterator[Obligation]:
    """The same question about two mutants of the replacement, most of which are wrong."""
    found = list(islice(mutants(obligation.after), 200))
    for after in random.Random(SEED).sample(found, min(2, len(found))):
        yield replace(obligation, after=after)


def _without_types(obligation: Obligation) -> Obligation:
    """Every pointer but r10 of unknown origin."""
    entry = obligation.entry
    registers = tuple(
        Register.unknown() if fact.is_pointer and number < 10 else fact for number, fact in enumerate(entry.regs)
    )
    return replace(obligation, entry=State(registers, entry.stack))


def variants() -> dict[str, Variant]:
    """Everything on, and each acceleration off."""
    return {
        "everything on": everything_on,
        "no simplification before the solver": lambda o: prove(o, FOR_SEARCH, Terms),
        "no concrete states first": lambda o: prove(o, replace(FOR_SEARCH, samples=0)),
        "no cone of influence": lambda o: prove(o, replace(FOR_SEARCH, cone=False)),
        "no concrete offsets": lambda o: prove(o, FOR_SEARCH, WithoutOffsets),
        "no region types": lambda o: everything_on(_without_types(o)),
    }


def measured(name: str, obligations: Sequence[Obligation], variant: Variant) -> Figure:
    """Each question once, garbage collection and all."""
    seconds: list[float] = []
    verdicts: Counter[str] = Counter()
    for obligation in obligations:
        start = time.process_time()
        verdict = variant(obligation)
        seconds.append(time.process_time() - start)
        verdicts[verdict.status.value] += 1
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return Figure(
        name,
        len(ordered),
        at(0.5),
        at(0.9),
        at(0.99),
        round(1000 * ordered[-1], 2),
        round(sum(ordered), 2),
        dict(sorted(verdicts.items())),
    )


# ---- whole functions ----


def compare(name: str, made: str, before: Function, after: Function, unit: Unit) -> Pair:
    start = time.process_time()
    cuts = guess_cuts(before, after, unit)
    middle = time.process_time()
    verdict = prove_function(FunctionObligation(before, after, unit, cuts))
    end = time.process_time()
    slots = (before.slots, after.slots)
    return Pair(name, made, slots, verdict.status.value, round(middle - start, 3), round(end - middle, 3))


def shapes() -> list[Pair]:
    """The two functions of the shape that K2 reports: clang's against ours, and against those of a rewritten source."""
    result = []
    include = ("-I", str(ROOT / "examples" / "include"))
    with tempfile.TemporaryDirectory() as place:
        for source in sorted(SHAPES.glob("*.bpf.c")):
            unit = unit_of(compiled(source, Path(place), *include))
            other = unit_of(compiled(source, Path(place), *include, "-DREWRITTEN"))
            assert unit is not None and other is not None
            new, _ = optimise(unit, replace(Settings(), effort=1))
            for function in unit.functions:
                result.append(compare(function.name, "ours", function, new.function(function.name), unit))
                result.append(compare(function.name, "rewritten", function, other.function(function.name), unit))
    return result


def changed(name: str, unit: Unit, new: Unit) -> Iterator[Pair]:
    """Whole functions that the optimiser changed."""
    for function in unit.functions:
        after = new.function(function.name)
        if after != function:
            yield compare(f"{name}: {function.name}", "ours", function, after, unit)


# ---- the report ----


def shortfalls(figures: Sequence[Figure], pairs: Sequence[Pair]) -> list[str]:
    """Promises that the figures do not keep."""
    short = next(figure for figure in figures if figure.name == WINDOWS)
    slow = short.median >= 1000 * MOST_MEDIAN or short.p99 >= 1000 * MOST_P99
    problems = [f"{WINDOWS}: median {short.median} ms, 99th percentile {short.p99} ms"] if slow else []
    problems += [
        f"{pair.name} against {pair.made}: {pair.verdict}"
        for pair in pairs
        if pair.verdict != "PROVED" or pair.guess_seconds + pair.proof_seconds >= MOST_FUNCTION
    ]
    return problems


WINDOWS: Final = f"windows of up to {SHORT} instructions"
_HEAD: Final = (
    "| | questions | median ms | 90 % | 99 % | most | total s | answers |",
    "|---|--:|--:|--:|--:|--:|--:|---|",
)


def table(figures: Sequence[Figure]) -> str:
    lines = list(_HEAD)
    for each in figures:
        answers = ", ".join(f"{count} {verdict}" for verdict, count in each.verdicts.items())
        times = f"{each.median} | {each.p90} | {each.p99} | {each.most} | {each.total_seconds}"
        lines.append(f"| {each.name} | {each.questions} | {times} | {answers} |")
    return "\n".join(lines)


def function_table(pairs: Sequence[Pair]) -> str:
    lines = ["| function | against | slots | verdict | guess, CPU s | proof, CPU s |", "|---|---|---|---|--:|--:|"]
    for pair in pairs:
        slots = f"{pair.slots[0]} -> {pair.slots[1]}"
        lines.append(
            f"| {pair.name} | {pair.made} | {slots} | {pair.verdict} | {pair.guess_seconds} | {pair.proof_seconds} |"
        )
    return "\n".join(lines)


def whole(pairs: Sequence[Pair]) -> Figure:
    """The functions that the optimiser changed, as one figure."""
    ordered = sorted(1000 * (pair.guess_seconds + pair.proof_seconds) for pair in pairs)
    verdicts = dict(sorted(Counter(pair.verdict for pair in pairs).items()))

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    total = round(sum(ordered) / 1000, 2)
    return Figure("whole functions, guess and proof", len(ordered), at(0.5), at(0.9), at(0.99), at(1), total, verdicts)


def collection() -> Path:
    """What benchmarks.agreement.proven keeps."""
    return cache_folder() / "agreement" / "proved-1.pickle"


@click.command()
@click.option("--date", required=True, help="the day that goes into the results")
@click.option(
    "--objects", "folder", type=click.Path(file_okay=False, path_type=Path), default=objects_folder, help="the corpus"
)
@click.option("--most", default=40, show_default=True, help="objects of the corpus")
@click.option("--sample", default=300, show_default=True, help="questions that are asked with an acceleration off")
@click.option("--effort", default=1, show_default=True, help="effort of the optimiser on the examples; 0 on the corpus")
@click.option("--collected", type=click.Path(path_type=Path), default=collection, help="proved rewrites, if there are")
def main(date: str, folder: Path, most: int, sample: int, effort: int, collected: Path) -> None:
    """Measure the prover and write the results down."""
    asked: list[Obligation] = []
    functions: list[Pair] = []
    repeated = 0
    for path in objects(folder, most):
        unit = unit_of(path)
        if unit is None:
            continue
        is_example = path.name.endswith(".bpf.o") and (ROOT / "examples" / f"{path.stem}.c").exists()
        questions, again, new = recorded(unit, effort if is_example else 0)
        asked += questions
        repeated += again
        functions += changed(path.name, unit, new)
        click.echo(f"{path.name}: {len(questions)} questions", err=True)
    short = [each for each in asked if len(each.before) <= SHORT]
    figures = [measured(WINDOWS, short, everything_on), measured("all windows", asked, everything_on)]
    if collected.exists():
        found, _ = pickle.loads(collected.read_bytes())
        figures.append(measured("rewrites that make fool-prover collected", found, everything_on))
    figures += [measured(f"a slice of 4 over {n} others", [question(n)] * 5, everything_on) for n in (8, 32, 128)]
    chosen = random.Random(SEED).sample(asked, min(sample, len(asked)))
    figures += [measured(name, chosen, variant) for name, variant in variants().items()]
    wrong = [mutant for each in chosen for mutant in mutated(each)]
    figures += [measured(f"mutants: {name}", wrong, variants()[name]) for name in ON_MUTANTS]
    figures += [*canonical_cache(asked, repeated, figures[1]), whole(functions)]
    pairs = shapes()
    problems = shortfalls(figures, pairs)
    record(date, figures, pairs, functions, problems)
    click.echo(table(figures) + "\n\n" + function_table(pairs))
    if problems:
        raise click.ClickException("; ".join(problems))


def canonical_cache(asked: Sequence[Obligation], repeated: int, alone: Figure) -> list[Figure]:
    """Without the cache each question that was asked again would have cost what the average one costs."""
    total = round(alone.total_seconds * (1 + repeated / max(1, len(asked))), 2)
    name = f"no cache of canonical forms ({repeated} questions more, at the average price)"
    return [replace(alone, name=name, questions=len(asked) + repeated, total_seconds=total)]


def record(
    date: str, figures: Sequence[Figure], pairs: Sequence[Pair], functions: Sequence[Pair], problems: Sequence[str]
) -> None:
    content = {
        "provenance": provenance(date, ["clang-19"]),
        "seed": SEED,
        "figures": [asdict(figure) for figure in figures],
        "shapes": [asdict(pair) for pair in pairs],
        "not proved": [asdict(pair) for pair in functions if pair.verdict != "PROVED"],
        "shortfalls": list(problems),
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    replace_section(DOCUMENT, "bench", f"Measured on {date}.\n\n{table(figures)}\n\n{function_table(pairs)}")


if __name__ == "__main__":
    main()

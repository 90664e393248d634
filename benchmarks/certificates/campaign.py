"""`make recheck`: certificates of the examples and of a sample of the corpus, checked again by other solvers.

    python -m benchmarks.certificates.campaign --date 2026-01-31 [--sample N --seed S]

The examples are optimised with the default settings, the corpus's objects by the passes alone.  The sample is drawn
from the objects with a program of the networking types and 40 to 700 slots in all.  Each object is a process of its
own, bounded in time: one that does not end is counted, by name.  Objects of equal bytes count once.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks.certificates.one import Result, examine, whole
from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from processes import ChildFailed, in_child
from synth.settings import Settings
from verifier_model.prover.second_solver import Bounds, version

SOLVERS: Final = ("bitwuzla", "cvc5")
RESULTS: Final = ROOT / "benchmarks" / "results" / "certificates.json"
DOCUMENT: Final = ROOT / "docs" / "certificates.md"
SECTION: Final = "figures of make recheck"
CPU_SECONDS: Final = 150
NET_SECONDS: Final = 3600  # on a busy machine only
LEAST_SLOTS, MOST_SLOTS = 40, 700
NETWORKING: Final = frozenset(
    [
        "xdp",
        "sched_cls",
        "sched_act",
        "socket_filter",
        "cgroup_skb",
        "cgroup_sock_addr",
        "lwt_in",
        "lwt_out",
        "lwt_xmit",
        "lwt_seg6local",
        "sk_skb",
        "sk_msg",
        "sk_lookup",
        "sk_reuseport",
        "sock_ops",
        "flow_dissector",
    ]
)
LEAST_CONFIRMED: Final = 0.98
KEPT_EVERY: Final = 5
EXAMPLE_COMPILER: Final = "clang-19"
EXAMPLE_LEVELS: Final = ("v1", "v3", "v4")
DEFAULT: Final = Settings(certificate="made here")
PASSES: Final = Settings(certificate="made here", tiers=("passes",))


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    data: bytes
    cpu_level: int
    settings: Settings


def examples() -> Iterator[Subject]:
    include = ROOT / "examples" / "include"
    for source in sorted((ROOT / "examples").glob("*.bpf.c")):
        for level in EXAMPLE_LEVELS:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "x.o"
                flags = ["-target", "bpf", "-O2", "-g", f"-mcpu={level}", f"-I{include}"]
                subprocess.run([EXAMPLE_COMPILER, *flags, "-c", str(source), "-o", str(out)], check=True)
                yield Subject(f"examples/{source.name} {level}", out.read_bytes(), int(level[1:]), DEFAULT)


def corpus(count: int, seed: int) -> Iterator[Subject]:
    """`count` objects of the population drawn from all that `make corpus` made, no two of the same bytes."""
    home = objects_folder()
    paths = sorted(home.rglob("*.o"))
    random.Random(seed).shuffle(paths)
    seen: set[str] = set()
    for path in paths:
        if len(seen) == count:
            return
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        name = path.relative_to(home)
        level = int(name.parts[3][1:])
        if digest not in seen and is_wanted(data, level):
            seen.add(digest)
            yield Subject(str(name.with_suffix("")), data, level, PASSES)


def is_wanted(data: bytes, level: int) -> bool:
    source = read_object(data, level)
    if isinstance(source, Untouched):
        return False
    slots = sum(function.slots for function in source.unit.functions)
    types = {function.program_type for function in source.unit.functions}
    return LEAST_SLOTS <= slots <= MOST_SLOTS and bool(types & NETWORKING)


def result_of(subject: Subject, bounds: Bounds) -> Result:
    """Both examinations, each in its own process; what did not end is a note."""

    def certify() -> bytes:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        made, output = examine(subject.name, subject.data, subject.cpu_level, subject.settings, SOLVERS, bounds)
        return marshal.dumps((made.to_json(), output))

    def prove() -> bytes:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        return whole(subject.data, output).to_json().encode()

    try:
        text, output = marshal.loads(in_child(certify, NET_SECONDS))
    except ChildFailed as error:
        return Result(subject.name, notes=[f"not finished: {error}"])
    result = Result(**json.loads(text))
    if output == subject.data:
        return result
    try:
        proved = Result(**json.loads(in_child(prove, NET_SECONDS)))
    except ChildFailed as error:
        result.notes.append(f"prove: not finished: {error}")
        return result
    result.functions, result.proved = proved.functions, proved.proved
    result.seconds |= proved.seconds
    result.notes += proved.notes
    return result


def totals(results: list[Result]) -> dict[str, Counter[str]]:
    """The words of each solver over all results, and the verdicts of `k2 prove` under "prove"."""
    found = {solver: Counter[str]() for solver in SOLVERS}
    found["prove"] = Counter()
    for result in results:
        for solver in SOLVERS:
            found[solver].update(result.words.get(solver, {}))
        found["prove"].update(result.proved)
    return found


def page(results: list[Result], origin: dict[str, object], seed: int) -> str:
    """The figures as Markdown."""
    lines = [
        f"{origin['date']}, commit {origin['commit']}, z3 {origin['z3']}; the examples at {', '.join(EXAMPLE_LEVELS)} "
        f"by {EXAMPLE_COMPILER} with the default settings; the corpus's objects (seed {seed}) by the passes.",
        "",
        "| | objects | with rewrites | rewrites | facts of a batch's start | unfinished |",
        "|---|---|---|---|---|---|",
    ]
    groups = {
        "examples": [result for result in results if result.name.startswith("examples/")],
        "corpus": [result for result in results if not result.name.startswith("examples/")],
    }
    for name, group in groups.items():
        unfinished = sum(any(note.startswith("not finished") for note in result.notes) for result in group)
        rewritten = sum(result.rewrites > 0 for result in group)
        count, batches = (sum(getattr(result, field) for result in group) for field in ("rewrites", "batches"))
        lines.append(f"| {name} | {len(group)} | {rewritten} | {count} | {batches} | {unfinished} |")
    lines += [
        "",
        "| checked by | group | confirmed | contradicted | unknown | confirmed of all | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for solver in SOLVERS:
        for name, group in groups.items():
            words = totals(group)[solver]
            seconds = sum(result.seconds.get(solver, 0.0) for result in group)
            share = 100 * words["confirmed"] / max(words.total(), 1)
            counts = " | ".join(str(words[word]) for word in ("confirmed", "contradicted", "unknown"))
            lines.append(f"| {version(solver)} | {name} | {counts} | {share:.1f} % | {seconds:.0f} |")
    lines += [
        "",
        "`k2 prove` on the same pairs of objects, which sees nothing of the rewrites (changed functions only):",
        "",
        "| group | proved | refuted | unknown | not finished |",
        "|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        verdicts = totals(group)["prove"]
        unfinished = sum(any(note.startswith("prove: not finished") for note in result.notes) for result in group)
        counts = " | ".join(str(verdicts[word]) for word in ("PROVED", "REFUTED", "UNKNOWN"))
        lines.append(f"| {name} | {counts} | {unfinished} |")
    return "\n".join(lines)


def kept_results() -> list[Result]:
    """What the last run found."""
    return [Result(**result) for result in json.loads(RESULTS.read_text())["results"]]


def keep(results: list[Result], date: str, seed: int) -> None:
    """Results and document, as far as the campaign has come."""
    origin = provenance(date, [EXAMPLE_COMPILER])
    kept = {"provenance": origin, "results": [asdict(result) for result in results]}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    replace_section(DOCUMENT, SECTION, page(results, origin, seed))


@click.command()
@click.option("--date", required=True)
@click.option("--sample", type=int, default=60, show_default=True, help="objects of the corpus")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--no-examples", is_flag=True)
@click.option("--again", is_flag=True, help="only the objects of the last run of which something was not confirmed")
@click.option("--dry", is_flag=True, help="write neither results nor document")
def main(date: str, sample: int, seed: int, no_examples: bool, again: bool, dry: bool) -> None:
    """Write certificates and check them again; status 1 when too few are confirmed or one is contradicted."""
    bounds = Bounds()
    subjects = [*(() if no_examples else examples()), *corpus(sample, seed)]
    known = {result.name: result for result in kept_results() if not result.notes} if again else {}
    results: list[Result] = []
    for subject in subjects:
        result = known.get(subject.name) or result_of(subject, bounds)
        results.append(result)
        sys.stdout.flush()
        words = ", ".join(f"{solver} {found}" for solver, found in result.words.items())
        click.echo(f"{result.name}: {result.rewrites} rewrites; {words}; proved {result.proved}")
        for note in result.notes:
            click.echo(f"    {note}")
        if not dry and (len(results) % KEPT_EVERY == 0 or len(results) == len(subjects)):
            keep(results, date, seed)
    found = totals(results)
    for name, counted in found.items():
        click.echo(f"{name}: {dict(sorted(counted.items()))}")
    fine = all(
        found[solver]["contradicted"] == 0
        and found[solver]["confirmed"] >= LEAST_CONFIRMED * max(found[solver].total(), 1)
        for solver in SOLVERS
    )
    sys.exit(0 if fine and found["prove"]["REFUTED"] == 0 else 1)


if __name__ == "__main__":
    os.nice(5)
    main()

"""`make corpus-report`: examine every object that `make corpus` made, and count the answers.

    python -m benchmarks.corpus.report --date 2026-01-31 [--sample N --seed S] [--no-tools] [--no-kernel] [--again]

Each object is examined in a process of its own, bounded in time and memory.  Answers are kept as they come
(results.jsonl in the cache folder), so a stopped run goes on; --again forgets them.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

import click
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.corpus.build import manifest_path
from benchmarks.corpus.examine import OK, Finding, examine
from benchmarks.corpus.jobs import compilers, objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.packages import cache_folder
from benchmarks.provenance import provenance, replace_section
from processes import ChildFailed, in_child
from verifier_model.kernel.libbpf import is_available

DOCUMENT: Final = ROOT / "docs" / "corpus.md"
OBJECT_SECONDS: Final = 300
OBJECT_BYTES: Final = 2 << 30


def results_path() -> Path:
    return cache_folder() / "results.jsonl"


def known_results() -> dict[str, list[Finding]]:
    path = results_path()
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = (json.loads(line) for line in lines if line.endswith("]"))
    return {key: [Finding(*finding) for finding in findings] for key, findings in parsed}


def select(keys: Sequence[str], sample: int, seed: int) -> list[str]:
    """`sample` keys drawn by `seed`, in order; all for 0."""
    if not sample or sample >= len(keys):
        return list(keys)
    return sorted(random.Random(seed).sample(keys, sample))


def examined(key: str, seed: int, with_tools: bool, with_kernel: bool) -> list[Finding]:
    """The findings about one object; a crash, a hang or too much memory is a finding, too."""
    data = (objects_folder() / f"{key}.o").read_bytes()

    def work() -> bytes:
        resource.setrlimit(resource.RLIMIT_AS, (OBJECT_BYTES, OBJECT_BYTES))
        found = examine(data, f"{seed}:{key}", with_tools, with_kernel)
        return json.dumps([astuple(finding) for finding in found]).encode()

    try:
        return [Finding(*finding) for finding in json.loads(in_child(work, OBJECT_SECONDS))]
    except ChildFailed as error:
        return [Finding("examine", str(error).strip().splitlines()[-1])]


def tally(results: Mapping[str, Iterable[Finding]]) -> dict[str, Counter[str]]:
    """For each check how often each word was said."""
    counts: dict[str, Counter[str]] = {}
    for findings in results.values():
        for finding in findings:
            counts.setdefault(finding.check, Counter())[finding.word] += finding.count
    return counts


def markdown(results: Mapping[str, Sequence[Finding]], source: Mapping[str, object], seed: int) -> str:
    """The report as it stands in docs/corpus.md."""
    manifest = json.loads(manifest_path().read_text())
    reasons = Counter(manifest["failed"].values())
    lines = [
        f"Examined {len(results)} objects on {source['date']} with seed {seed}, kernel {source['kernel']}, "
        f"commit {source['commit']}. The corpus: {len(manifest['compiled'])} objects compiled, "
        f"{len(manifest['failed'])} sources do not compile, {manifest['not tried']} of {manifest['jobs']} not tried.",
        "",
        *(f"* {name}: {version}" for name, version in manifest["sources"].items()),
        *(f"* vmlinux.h for {name}: {origin}" for name, origin in manifest["types"].items()),
        *(f"* kernel headers for {name}: {origin}" for name, origin in manifest["kernel headers"].items()),
        *(f"* {name}: {version}" for name, version in manifest["compilers"].items()),
        "",
        "| check | answer | count |",
        "|---|---|--:|",
    ]
    for check, words in tally(results).items():
        ordered = sorted(words.items(), key=lambda item: (item[0] != OK, -item[1], item[0]))
        lines += [f"| {check} | {word.replace('|', '/')} | {count} |" for word, count in ordered]
    lines += [
        "",
        "Why sources do not compile (the twenty most frequent reasons):",
        "",
        "| count | reason |",
        "|--:|---|",
    ]
    lines += [f"| {count} | {reason.replace('|', '/')} |" for reason, count in reasons.most_common(20)]
    return "\n".join(lines)


@click.command()
@click.option("--date", required=True, help="the day, recorded beside the numbers")
@click.option("--sample", default=0, help="examine only so many objects, drawn at random (0: all)")
@click.option("--seed", default=1, help="start of all random choices")
@click.option("--tools/--no-tools", default=True, help="ask bpftool and LLVM's tools")
@click.option("--kernel/--no-kernel", default=True, help="load into the running kernel (where permitted)")
@click.option("--again", is_flag=True, help="forget earlier answers")
@click.option("--known", is_flag=True, help="examine nothing more, count the answers there are")
def main(date: str, sample: int, seed: int, tools: bool, kernel: bool, again: bool, known: bool) -> None:
    """Examine, count, print; exit 1 when an object shows a fault of ours."""
    if again:
        results_path().unlink(missing_ok=True)
    everything = sorted(str(p.relative_to(objects_folder()))[:-2] for p in objects_folder().rglob("*.o"))
    results = known_results()
    chosen = sorted(results) if known else select(everything, sample, seed)
    ask_kernel = kernel and is_available()
    left = [key for key in chosen if key not in results]
    columns = (TextColumn("examining"), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as progress, results_path().open("a") as file:
        task = progress.add_task("", total=len(left))
        for key in left:
            results[key] = examined(key, seed, tools, ask_kernel)
            file.write(json.dumps([key, [astuple(finding) for finding in results[key]]]) + "\n")
            file.flush()
            progress.update(task, advance=1, description=key)
    answers = {key: results[key] for key in chosen}
    text = markdown(answers, provenance(date, list(compilers().values())), seed)
    click.echo(text)
    faults = [(key, f) for key, findings in answers.items() for f in findings if f.is_fault]
    for key, finding in faults:
        click.echo(f"{key}: {finding.check}: {finding.word}", err=True)
    replace_section(DOCUMENT, "corpus", text)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

"""`make corpus-report`: examine every object that `make corpus` made, and count the answers.

    python -m benchmarks.corpus.report --date 2026-01-31 [--sample N --seed S] [--no-tools] [--no-kernel] [--again]

Objects are examined two at a time, each in a process of its own, bounded in time and memory.  Objects of the same bytes
(one code at several CPU levels) are one question, whose random choices follow from the bytes, and are examined once.
Answers are kept by those bytes' hash as they come (answers.jsonl in the cache folder), so a stopped run goes on;
--again forgets them.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import random
import re
import resource
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import click
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.corpus.build import manifest_path
from benchmarks.corpus.examine import OK, Finding, examine
from benchmarks.corpus.jobs import compilers, objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.provenance import provenance, replace_section
from processes import ChildFailed, in_child
from verifier_model.kernel.libbpf import is_available
from verifier_model.kernel.packages import cache_folder

DOCUMENT: Final = ROOT / "docs" / "corpus.md"
OBJECT_SECONDS: Final = 300
OBJECT_BYTES: Final = 2 << 30
WORKERS: Final = 2
UNFINISHED: Final = "examine"  # the check that fails when an examination does not end; it is tried again


@dataclass(frozen=True, slots=True)
class Request:
    """How objects are examined."""

    seed: int
    with_tools: bool
    with_kernel: bool


def answers_path() -> Path:
    return cache_folder() / "answers.jsonl"


def known_answers() -> dict[str, list[Finding]]:
    """Findings by the hash of the object's bytes; those that were not finished are no answers."""
    path = answers_path()
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = (json.loads(line) for line in lines if line.endswith("]"))
    known = {digest: [Finding(*finding) for finding in findings] for digest, findings in parsed}
    return {digest: findings for digest, findings in known.items() if all(f.check != UNFINISHED for f in findings)}


def digests(keys: Iterable[str]) -> dict[str, str]:
    """The hash of each object's bytes."""
    return {key: hashlib.sha256(object_path(key).read_bytes()).hexdigest() for key in keys}


def object_path(key: str) -> Path:
    return objects_folder() / f"{key}.o"


def select(keys: Sequence[str], sample: int, seed: int) -> list[str]:
    """`sample` keys drawn by `seed`, in order; all for 0."""
    if not sample or sample >= len(keys):
        return list(keys)
    return sorted(random.Random(seed).sample(keys, sample))


def examined(key: str, digest: str, request: Request) -> list[Finding]:
    """The findings about one object; a crash, a hang or too much memory is a finding, too."""
    data = object_path(key).read_bytes()

    def work() -> bytes:
        gc.disable()  # a process for one object holds little that is garbage
        resource.setrlimit(resource.RLIMIT_AS, (OBJECT_BYTES, OBJECT_BYTES))
        found = examine(data, f"{request.seed}:{digest}", request.with_tools, request.with_kernel)
        return json.dumps([astuple(finding) for finding in found]).encode()

    try:
        return [Finding(*finding) for finding in json.loads(in_child(work, OBJECT_SECONDS))]
    except ChildFailed as error:
        return [Finding(UNFINISHED, str(error).strip().splitlines()[-1])]


def ask(first: Mapping[str, str], request: Request) -> Iterator[tuple[str, list[Finding]]]:
    """(hash, findings) of each object as they are done; `first` names one object of each hash."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as pool:
        waiting = {pool.submit(examined, key, digest, request): digest for digest, key in first.items()}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def tally(results: Mapping[str, Iterable[Finding]]) -> dict[str, Counter[str]]:
    """For each check how often each word was said."""
    counts: dict[str, Counter[str]] = {}
    for findings in results.values():
        for finding in findings:
            counts.setdefault(finding.check, Counter())[finding.word] += finding.count
    return counts


def general(word: str) -> str:
    """The word without names, numbers, addresses and paths, so that equal reasons are counted together."""
    for pattern, instead in (
        (r"([\[(])\d+([\])])", r"\1N\2"),
        (r"(?<!\w)'[^']*'", "'...'"),
        (r"0x[0-9a-f]{6,}", "0x..."),
        (r",? /.*", ""),
    ):
        word = re.sub(pattern, instead, word)
    return word.replace("|", "/")


def markdown(
    results: Mapping[str, Sequence[Finding]], files: int, source: Mapping[str, object], request: Request
) -> str:
    """The report as it stands in docs/corpus.md; `files` counts the different ones among the objects."""
    manifest = json.loads(manifest_path().read_text())
    reasons = Counter(general(reason) for reason in manifest["failed"].values())
    lines = [
        f"Examined {len(results)} objects on {source['date']} with seed {request.seed}, kernel {source['kernel']}, "
        f"commit {source['commit']}. They are {files} different files; objects of the same bytes are the same question "
        f"and were examined once, but count each. The corpus: {len(manifest['compiled'])} objects compiled, "
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
        merged = Counter[str]()
        for word, count in words.items():
            merged[general(word)] += count
        ordered = sorted(merged.items(), key=lambda item: (item[0] != OK, -item[1], item[0]))
        lines += [f"| {check} | {word} | {count} |" for word, count in ordered]
    lines += [
        "",
        "Why sources do not compile (the twenty most frequent reasons):",
        "",
        "| count | reason |",
        "|--:|---|",
    ]
    lines += [f"| {count} | {reason} |" for reason, count in reasons.most_common(20)]
    return "\n".join(lines)


@click.command()
@click.option("--date", required=True, help="the day, recorded beside the numbers")
@click.option("--sample", default=0, help="examine only so many objects, drawn at random (0: all)")
@click.option("--seed", default=1, help="start of all random choices")
@click.option("--tools/--no-tools", default=True, help="ask bpftool and LLVM's tools")
@click.option("--kernel/--no-kernel", default=True, help="load into the running kernel (where permitted)")
@click.option("--again", is_flag=True, help="forget earlier answers")
@click.option("--faults", is_flag=True, help="examine again what showed a fault")
@click.option("--known", is_flag=True, help="examine nothing more, count the answers there are")
def main(date: str, sample: int, seed: int, tools: bool, kernel: bool, again: bool, faults: bool, known: bool) -> None:
    """Examine, count, print; exit 1 when an object shows a fault of ours."""
    if again:
        answers_path().unlink(missing_ok=True)
    everything = sorted(str(p.relative_to(objects_folder()))[:-2] for p in objects_folder().glob("*/*/*/*/*.o"))
    chosen = select(everything, sample, seed)
    hashes, answers = digests(chosen), known_answers()
    if faults:
        answers = {digest: found for digest, found in answers.items() if not any(f.is_fault for f in found)}
    request = Request(seed, tools, kernel and is_available())
    first = {digest: key for key, digest in reversed(hashes.items()) if digest not in answers}
    columns = (TextColumn("examining"), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as progress, answers_path().open("a") as file:
        task = progress.add_task("", total=len(first))
        for digest, findings in ask({} if known else first, request):
            answers[digest] = findings
            file.write(json.dumps([digest, [astuple(finding) for finding in findings]]) + "\n")
            file.flush()
            progress.update(task, advance=1, description=first[digest])
    results = {key: answers[digest] for key, digest in hashes.items() if digest in answers}
    files = len({hashes[key] for key in results})
    text = markdown(results, files, provenance(date, list(compilers().values())), request)
    click.echo(text)
    wrong = [(key, f) for key, findings in results.items() for f in findings if f.is_fault]
    for key, finding in wrong:
        click.echo(f"{key}: {finding.check}: {finding.word}", err=True)
    replace_section(DOCUMENT, "corpus", text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

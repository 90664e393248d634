"""Soundness of facts: whatever a run passes through lies in its fact, at every instruction.

    python -m benchmarks.agreement.traces --traces 10000 --seed 1

Programs that the running kernel loads (examples, corpus, random ones) run natively with a trace on generated packets
and map contents; every register and stack slot is compared with `facts.analyse` before every instruction, and what a
run leaves with the kernel's TEST_RUN of the same input.  Any contradiction ends the command with status 1.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.agreement.ledger import Ledger, from_value, to_value
from benchmarks.agreement.programs import rare_collection
from benchmarks.agreement.subjects import Subject, corpus_objects, example_objects, random_subject, subjects_of
from benchmarks.agreement.tracing import KernelSide, Tracer, difference, draw_input, is_arbitrary
from benchmarks.provenance import provenance, replace_section
from processes import ChildFailed, in_child
from verifier_model.bpf.concrete import UnmodelledError
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.loading import load_function
from verifier_model.kernel.packets import Packets
from verifier_model.kernel.programs import LoadedObject
from verifier_model.kernel.substitution import SeededMap
from verifier_model.kernel.syscall import Refused

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "semantics.md"
_LARGEST_ARRAY: Final = 1024
_LARGEST_PROGRAM: Final = 2500  # slots of a program; larger ones take minutes to analyse
_OBJECT_SECONDS: Final = 300
_MOST_SHOWN: Final = 20
_BATCH: Final = 10  # objects between two looks at the ledger


@dataclass
class Tally:
    """Traces that ran to their exit (`traces`) or in part, by source; what was compared; what was wrong."""

    traces: Counter[str] = field(default_factory=Counter)
    programs: Counter[str] = field(default_factory=Counter)
    moments: int = 0
    values: int = 0
    partial: Counter[str] = field(default_factory=Counter)
    kernel: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # ends that differ from the kernel's

    def add(self, other: Tally) -> None:
        for name in ("traces", "programs", "partial", "kernel", "skipped"):
            getattr(self, name).update(getattr(other, name))
        self.moments += other.moments
        self.values += other.values
        self.wrong += other.wrong
        self.odd += other.odd


def trace_subject(subject: Subject, source: str, inputs: int, seed: str) -> Tally:
    """Trace one program on `inputs` inputs."""
    tally = Tally()
    function = subject.unit.function(subject.program)
    if function.untouchable is not None:
        tally.skipped["untouchable"] += 1
        return tally
    if sum(one.slots for one in subject.unit.functions) > _LARGEST_PROGRAM:
        tally.skipped["too large"] += 1
        return tally
    seeded = SeededMap()
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    loaded = _load(subject, seeded)
    if isinstance(loaded, Refused):
        seeded.close()
        tally.skipped["refused by the kernel"] += 1
        return tally
    with loaded:
        try:
            _trace(subject, source, inputs, random.Random(seed), KernelSide(loaded, seeded, cpu), tally)
        except UnmodelledError as reason:
            tally.skipped[_general(str(reason))] += 1
        except MemoryError:
            tally.skipped["maps too large"] += 1
    seeded.close()
    return tally


def _load(subject: Subject, seeded: SeededMap) -> LoadedObject | Refused:
    if subject.data is None:
        return load_function(subject.unit, subject.program)
    only = frozenset({subject.program})
    return load_object(subject.data, LoadOptions(only, largest_array=_LARGEST_ARRAY, rewrite=seeded.rewrite))


def _trace(subject: Subject, source: str, inputs: int, rng: random.Random, side: KernelSide, tally: Tally) -> None:
    if any(insn.origin.core for function in subject.unit.functions for _, insn in function.insns()):
        raise UnmodelledError("CO-RE relocations")
    tracer = Tracer(subject.unit, subject.program, side.loaded.maps)
    if tracer.incomplete:
        tally.skipped["no facts"] += 1
        return
    tally.programs[source] += 1
    packets = Packets(rng)
    for _ in range(inputs):
        packet = packets.next() if subject.data is not None else packets.next().ljust(256, b"\1")
        given = side.prepare(draw_input(rng, tracer.kind, packet, side.loaded.maps))
        outcome, run = tracer.run(given, side.data)
        tally.moments += outcome.moments
        tally.values += outcome.values
        if outcome.contradiction:
            tally.wrong.append(f"{subject.name}, packet {given.packet.hex()}: {outcome.contradiction}")
            return
        if outcome.stop:
            tally.partial[_general(outcome.stop)] += 1
            if outcome.stop.startswith("fault"):
                tally.odd.append(f"{subject.name}, packet {given.packet.hex()}: {outcome.stop}")
            continue
        tally.traces[source] += 1
        if not tracer.world.is_comparable:
            tally.kernel[f"not compared: {tracer.world.why}"] += 1
            continue
        what = difference(tracer, run, side, given)
        if what.startswith("["):
            tally.kernel[f"not run there: {what}"] += 1
        elif what and tracer.shows_addresses(run):
            tally.kernel["not compared: it shows addresses"] += 1
        elif what and is_arbitrary(tracer, run, given, side.data):
            tally.kernel["not compared: it depends on uninitialised stack"] += 1
        elif what:
            tally.kernel["different"] += 1
            tally.odd.append(f"{subject.name}, packet {given.packet.hex()}: {what}")
        else:
            tally.kernel["equal, r0 aside, which may be an address" if tracer.may_return_address else "equal"] += 1


def _general(reason: str) -> str:
    return re.sub(r" in .*| at Point.*|\b0x[0-9a-f]+\b", "", reason).strip()


def sources(seed: int, wanted: set[str]) -> Iterator[tuple[str, list[Subject]]]:
    """Subjects by object, in a fixed order, as long as their source is wanted; the caller takes names away."""
    for name, data in example_objects():
        yield "examples", subjects_of(name, data)
    number = 0
    while "random" in wanted:
        yield "random", [random_subject(seed, number)]
        number += 1
    for name, data in corpus_objects(seed):
        if "corpus" not in wanted:
            return
        yield "corpus", subjects_of(name, data)


def campaign(shares: dict[str, int], seed: int, inputs: dict[str, int], ledger: Ledger | None = None) -> Tally:
    """Trace until each source has given its share, from where the ledger ends.

    An object's programs run in a process of their own.
    """
    kept = ledger.read() if ledger is not None else {}
    tally, done = (from_value(Tally, kept["tally"]), kept["done"]) if kept else (Tally(), 0)
    wanted = {source for source, share in shares.items() if tally.traces[source] < share}
    number = 0
    for number, (source, subjects) in enumerate(sources(seed, wanted)):
        if number < done or source not in wanted:
            continue
        tally.add(_traced(source, subjects, inputs[source], seed))
        if tally.traces[source] >= shares[source]:
            wanted.discard(source)
        if ledger is not None and number % _BATCH == 0:
            ledger.save({"tally": to_value(tally), "done": number + 1})
            click.echo(f"{sum(tally.traces.values())} traces, {len(tally.wrong)} contradictions", err=True)
    if ledger is not None:
        ledger.save({"tally": to_value(tally), "done": number + 1})
    return tally


def _traced(source: str, subjects: list[Subject], inputs: int, seed: int) -> Tally:
    def work() -> bytes:
        found = Tally()
        with rare_collection():
            for subject in subjects:
                found.add(trace_subject(subject, source, inputs, f"{seed} {subject.name}"))
        return json.dumps(to_value(found)).encode()

    if source == "random":
        return from_value(Tally, json.loads(work()))
    try:
        return from_value(Tally, json.loads(in_child(work, _OBJECT_SECONDS)))
    except ChildFailed as error:
        tally = Tally()
        tally.skipped[f"ended: {error}".splitlines()[0][:80]] += 1
        return tally


def markdown(tally: Tally, seed: int, source: dict[str, object]) -> str:
    total = sum(tally.traces.values())
    lines = [
        f"{total:,} traces to the exit and {sum(tally.partial.values()):,} in part, {tally.moments:,} moments with "
        f"{tally.values:,} registers and stack slots, on {source['date']} (seed {seed}, kernel {source['kernel']}, "
        f"commit {source['commit']}): **{len(tally.wrong)} contradictions**.",
        "",
        "| source | programs | traces |",
        "|---|--:|--:|",
        *(f"| {name} | {tally.programs[name]:,} | {count:,} |" for name, count in tally.traces.items()),
        "",
        "What the kernel's TEST_RUN of the same inputs left (r0, packet, maps):",
        "",
        *(f"* {word}: {count:,}" for word, count in tally.kernel.most_common()),
        "",
        "Runs that ended early, and programs that were left out:",
        "",
        *(f"* {word}: {count:,} runs" for word, count in tally.partial.most_common()),
        *(f"* {word}: {count:,} programs" for word, count in tally.skipped.most_common()),
    ]
    return "\n".join(lines)


@click.command()
@click.option(
    "--traces", default=10_000, show_default=True, help="half of them from the corpus, a tenth from the examples"
)
@click.option("--seed", default=1, show_default=True)
@click.option("--fresh", is_flag=True, help="start anew instead of where the last run of this seed stopped")
@click.option("--date", default="", help="the day; with it the figures are kept in docs/semantics.md")
def main(traces: int, seed: int, fresh: bool, date: str) -> None:
    """Trace, compare, print, keep the figures; exit 1 on any contradiction."""
    ledger = Ledger.of("traces", seed, traces, fresh=fresh)
    shares = {"examples": traces // 10, "random": traces - traces // 10 - traces // 2, "corpus": traces // 2}
    tally = campaign(shares, seed, {"examples": max(traces // 100, 1), "random": 4, "corpus": 12}, ledger)
    text = markdown(tally, seed, {**provenance(date, []), "commit": ledger.commits})
    click.echo(text)
    for line in [*tally.wrong, *tally.odd][:_MOST_SHOWN]:
        click.echo(line, err=True)
    if date:
        replace_section(DOCUMENT, "traces", text)
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()

"""`make bench-model`: CPU seconds that the check takes for the biggest XDP and tc programs of the corpus, by slots.

    python -m benchmarks.model.speed [--runs 3] [--date YYYY-MM-DD]

The goals: 500 instructions in under 0.5 s, a balancer of 1,800 in under 5 s.  Each run is a process of its own, so that
nothing is remembered from the one before; the fastest counts, since others use the machine, too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.kernel_word import ROOT
from benchmarks.model.verdicts import running_knowledge
from benchmarks.provenance import provenance, replace_section
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from processes import ChildFailed, in_child
from verifier_model.checker import check
from verifier_model.checker.callgraph import followed, verified_with
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.types import running_kernel_types

DOCUMENT: Final = ROOT / "docs" / "model.md"
SECONDS: Final = 300
_FOLDER: Final = "6.12/selftests/clang-19/v3"
# Object, program: balancers, forwarders and parsers as clang 19 makes them for CPU level 3.
PROGRAMS: Final = (
    (f"{_FOLDER}/test_xdp", "_xdp_tx_iptunnel"),
    (f"{_FOLDER}/bpf_flow", "flow_dissector_3"),
    (f"{_FOLDER}/test_xdp_noinline", "balancer_ingress_v4"),
    (f"{_FOLDER}/test_xdp_noinline", "balancer_ingress_v6"),
    (f"{_FOLDER}/test_l4lb_noinline_dynptr", "balancer_ingress"),
    (f"{_FOLDER}/test_l4lb_noinline", "balancer_ingress"),
    (f"{_FOLDER}/test_l4lb", "balancer_ingress"),
    (f"{_FOLDER}/xdp_synproxy_kern", "syncookie_xdp"),
    (f"{_FOLDER}/xdp_synproxy_kern", "syncookie_tc"),
    (f"{_FOLDER}/test_cls_redirect_dynptr", "cls_redirect"),
    (f"{_FOLDER}/test_cls_redirect", "cls_redirect"),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """One program.  `slots`: with all functions that it reaches; `seconds`: of CPU, the fastest run."""

    name: str
    slots: int
    processed: int
    seconds: float
    refusal: str


def measure(key: str, program: str, runs: int) -> Timing:
    """The check as the running kernel; raises ChildFailed when it does not come to an end."""
    replies = [json.loads(in_child(lambda: _run(key, program), SECONDS)) for _ in range(runs)]
    slots, processed, refusal, _ = replies[0]
    return Timing(f"{key} {program}", slots, processed, min(reply[3] for reply in replies), refusal)


def _run(key: str, program: str) -> bytes:
    source = read_object((objects_folder() / f"{key}.o").read_bytes())
    if isinstance(source, Untouched):
        return json.dumps((0, 0, source.reason, 0.0)).encode()
    types = running_kernel_types()
    unit = source.unit if types is None else for_kernel(source.unit, types)
    start = time.process_time()
    report = check(unit, unit.function(program), running_knowledge())
    seconds = time.process_time() - start
    refusal = "" if report.rejection is None else str(report.rejection)
    parts = verified_with(unit, unit.function(program))
    reached = {place.name: place.slots for part in parts for place in followed(unit, part)}
    return json.dumps((sum(reached.values()), report.processed, refusal, seconds)).encode()


@click.command()
@click.option("--runs", default=3, help="how often each program is checked")
@click.option("--date", default="", help="write docs/model.md, with this day beside the figures")
def main(runs: int, date: str) -> None:
    """Measure and print."""
    lines = ["| program | slots | processed | verdict | seconds |", "|---|--:|--:|---|--:|"]
    for key, program in PROGRAMS:
        try:
            one = measure(key, program, runs)
        except ChildFailed as error:
            lines.append(f"| {key} {program} | | | {error} | |")
            continue
        verdict = one.refusal or "accepted"
        lines.append(f"| {one.name} | {one.slots} | {one.processed} | {verdict} | {one.seconds:.2f} |")
    print("\n".join(lines))
    if date:
        source = provenance(date, ())
        head = f"On {source['date']}, {source['machine']}, commit {source['commit']}, as kernel {source['kernel']}."
        replace_section(DOCUMENT, "speed", "\n".join([head, "", *lines]))


if __name__ == "__main__":
    main()

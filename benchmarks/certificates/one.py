"""One object optimised with a certificate, checked again by other solvers, and proved as a whole."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from k2_tools.certificate_folder import read_folder
from k2_tools.rechecking import recheck
from k2_tools.validation import validate
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from object_stage import optimise_bytes, write_certificate
from synth.certificate import MANIFEST
from synth.pipeline import optimise
from synth.settings import Settings
from verifier_model.prover.second_solver import Bounds

LOADED = (optimise,)  # before any process is forked: all objects meet the same code


@dataclass(slots=True)
class Result:
    """What became of one object.  Times are seconds; `words` counts findings by solver, `proved` functions by verdict.

    `batches` counts rewrites whose facts are those of the program at the start of their batch.  `notes` has a line for
    everything that was not confirmed.
    """

    name: str
    rewrites: int = 0
    batches: int = 0
    functions: int = 0
    files_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    words: dict[str, dict[str, int]] = field(default_factory=dict)
    proved: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def examine(
    name: str, data: bytes, cpu_level: int | None, settings: Settings, solvers: Sequence[str], bounds: Bounds
) -> tuple[Result, bytes]:
    """The result and the optimised object; raises CertificateError when a rewrite has no certificate."""
    result = Result(name)
    start = time.monotonic()
    outcome = optimise_bytes(data, settings, cpu_level)
    result.seconds["optimise and certify"] = time.monotonic() - start
    if not outcome.certificate:
        result.notes.append(f"no certificate: {', '.join(outcome.record.counters)}")
        return result, outcome.data
    with tempfile.TemporaryDirectory() as place:
        folder = Path(write_certificate(place, "object.o", outcome))
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        result.rewrites = len(manifest["rewrites"])
        result.batches = sum(entry["basis"] != entry["applied"] for entry in manifest["rewrites"])
        result.files_bytes = sum(path.stat().st_size for path in folder.iterdir())
        for solver in solvers:
            start = time.monotonic()
            counted: Counter[str] = Counter()
            for finding in recheck(read_folder(folder), solver, bounds):
                counted[finding.word] += 1
                if finding.word != "confirmed":
                    result.notes.append(f"{solver}: {finding.number} {finding.where}: {finding.word}: {finding.reason}")
            result.words[solver] = dict(sorted(counted.items()))
            result.seconds[solver] = time.monotonic() - start
    return result, outcome.data


def whole(data: bytes, output: bytes) -> Result:
    """`k2 prove` of the object as it was and as it became, for the functions that changed."""
    result = Result("")
    start = time.monotonic()
    first, second = read_object(data), read_object(output)
    if isinstance(first, Untouched) or isinstance(second, Untouched):
        result.notes.append("it cannot be read")
        return result
    counted: Counter[str] = Counter()
    for pair in validate(first, second):
        if pair.verdict.method == "identical":
            continue
        result.functions += 1
        counted[pair.verdict.status.value] += 1
        if not pair.verdict.is_proved:
            found = pair.verdict.counterexample
            detail = pair.verdict.reason if found is None else found.difference
            result.notes.append(f"prove: {pair.name}: {pair.verdict.status.value}: {detail}")
    result.proved = dict(sorted(counted.items()))
    result.seconds["prove"] = time.monotonic() - start
    return result

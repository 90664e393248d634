"""One object optimised: our slots function by function, and how long it took with a cold and a warm cache.

Results are kept in a ledger by everything that they rest on (the object's bytes, our code, the settings), so a run that
was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from benchmarks.kernel_word import ROOT
from benchmarks.size.objects import Subject, function_slots
from synth.record import Record, from_json
from synth.settings import Settings
from verifier_model.kernel.packages import cache_folder

WORKERS: Final = 2
OBJECT_SECONDS: Final = 1500
_CODE: Final = ("synth", "verifier_model", "llvm_bridge", "object_stage.py", "processes.py")
_ENDINGS: Final = (".py", ".so", ".toml", ".json")


@dataclass(frozen=True, slots=True)
class Plan:
    """One object and how it is to be optimised; `types` are program types of sections that libbpf does not know."""

    subject: Subject
    goal: str
    effort: int
    types: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.subject.source} {self.subject.cpu} {self.goal} effort {self.effort}"

    @property
    def settings(self) -> Settings:
        types = tuple(f"{section}={kind}" for section, kind in self.types)
        others = tuple(sorted(set(function_slots(self.subject.data)) - set(self.subject.functions)))
        return Settings(
            goal=self.goal, effort=self.effort, program_types=types, skip_funcs=others, timeout=OBJECT_SECONDS
        )

    @property
    def key(self) -> str:
        """Names all that the result rests on."""
        parts = (self.subject.data.hex(), self.subject.cpu, self.settings.digest, code_digest())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an object: our slots and why by function; wall and CPU seconds of the whole object.

    `kept` says of a function that is as it was why; `failure` why there is no output at all.  `data` is ours in hex.
    """

    key: str
    data: str = ""
    failure: str = ""
    seconds: float = 0.0
    seconds_warm: float | None = None
    cpu_seconds: float = 0.0
    cpu_seconds_warm: float = 0.0
    slots: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    proposers: dict[str, dict[str, int]] = field(default_factory=dict)
    refusals: dict[str, dict[str, int]] = field(default_factory=dict)


def sections_of(data: bytes) -> dict[str, str]:
    """The ELF section of each function."""
    with io.BytesIO(data) as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        return {
            symbol.name: elf.get_section(symbol["st_shndx"]).name
            for symbol in symbols.iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC"
        }


@cache
def code_digest() -> str:
    """Names our code and the solver: another optimiser may give another result."""
    digest = hashlib.sha256(metadata.version("z3-solver").encode())
    for name in _CODE:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in _ENDINGS)
        for file in files:
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def ledger_path() -> Path:
    return cache_folder() / "size" / "ledger.jsonl"


def known_results(path: Path) -> dict[str, Result]:
    """The ledger by key; a line that a stopped run left half written counts as absent."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        found[value["key"]] = Result(**value)
    return found


def optimised(plan: Plan) -> Result:
    """The object optimised twice, each time in a fresh process: with an empty cache, and with what that left in it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.o"
        source.write_bytes(plan.subject.data)
        settings = replace(plan.settings, cache=str(Path(folder) / "cache"))
        cold = _run(source, Path(folder) / "cold.o", plan.subject.cpu_level or 0, settings)
        if isinstance(cold, str):
            return Result(plan.key, failure=cold)
        warm = _run(source, Path(folder) / "warm.o", plan.subject.cpu_level or 0, settings)
        if isinstance(warm, str) or (warm.data, warm.record) != (cold.data, cold.record):
            return Result(plan.key, failure="a warm cache gives another result than a cold one")
    return Result(
        plan.key,
        cold.data.hex(),
        "",
        round(cold.seconds, 3),
        round(warm.seconds, 3),
        round(cold.cpu_seconds, 3),
        round(warm.cpu_seconds, 3),
        function_slots(cold.data),
        _kept(cold.record, plan.subject),
        _gains(cold.record),
        {one.name: dict(one.refusals) for one in cold.record.functions if one.refusals},
    )


def differs(plan: Plan, result: Result, jobs: int) -> bool:
    """Does the object come out otherwise with so many processes and no cache?"""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.o"
        source.write_bytes(plan.subject.data)
        settings = replace(plan.settings, cache="off", jobs=jobs)
        other = _run(source, Path(folder) / "out.o", plan.subject.cpu_level or 0, settings)
    return isinstance(other, str) or other.data.hex() != result.data


@dataclass(frozen=True, slots=True)
class _Run:
    data: bytes
    record: Record
    seconds: float
    cpu_seconds: float


def _run(source: Path, target: Path, level: int, settings: Settings) -> _Run | str:
    """One process from its start to its end, or why there is no output."""
    changed = {name: value for name, value in asdict(settings).items() if value != getattr(Settings(), name)}
    command = [sys.executable, "-m", "benchmarks.size.one", str(source), str(target), str(level), json.dumps(changed)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    last = (done.stdout.splitlines() or done.stderr.splitlines() or ["no word"])[-1]
    if done.returncode != 0:
        return last
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Run(target.read_bytes(), from_json(last), seconds, cpu)


def _kept(record: Record, subject: Subject) -> dict[str, str]:
    if not record.functions:
        return dict.fromkeys(function_slots(subject.data), "; ".join(record.counters))
    return {one.name: one.kept_reason for one in record.functions if one.kept_reason}


def _gains(record: Record) -> dict[str, dict[str, int]]:
    """Slots saved by function and proposer."""
    found: dict[str, dict[str, int]] = {}
    for function in record.functions:
        gains = found.setdefault(function.name, {})
        for rewrite in function.rewrites:
            gains[rewrite.proposer] = gains.get(rewrite.proposer, 0) + rewrite.slots_saved
    return found


def results(plans: Sequence[Plan], again: bool = False, workers: int = WORKERS) -> Iterator[tuple[Plan, Result]]:
    """Every plan with its result, those of the ledger first, the others as they come."""
    path = ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {} if again else known_results(path)
    missing: dict[str, Plan] = {}
    for plan in plans:
        if plan.key in known:
            yield plan, known[plan.key]
        else:
            missing.setdefault(plan.key, plan)
    with ProcessPoolExecutor(workers) as pool, path.open("a") as ledger:
        waiting = {pool.submit(optimised, plan): plan for plan in _long_ones_first(missing.values())}
        for future in as_completed(waiting):
            result = future.result()
            if not result.failure:  # may have been a time-out of a busy machine
                ledger.write(json.dumps(asdict(result)) + "\n")
                ledger.flush()
            for plan in plans:
                if plan.key == result.key:
                    yield plan, result


def _long_ones_first(plans: Iterable[Plan]) -> list[Plan]:
    return sorted(plans, key=lambda plan: -sum(function_slots(plan.subject.data).values()))

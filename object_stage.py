"""The stage behind clang: one object's bytes in, better bytes out, and nothing lost whatever happens on the way.

`optimise_bytes` is the whole trip of DESIGN.md (reader, pipeline, writer, lint).  `optimise_in_child` makes it in a
process of its own, so that a crash of a native library, a kill or a stuck solver costs the gain and never the object.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import shutil
import signal
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from processes import STOPPING_SIGNALS, ChildFailed, in_child
from synth.record import Record, from_json
from synth.settings import VERSION, Settings

if TYPE_CHECKING:
    from llvm_bridge.object import Object
    from llvm_bridge.plugin_facts import Recorded
    from synth.cache.store import Store
    from synth.pipeline import Journal
    from verifier_model.bpf.unit import Unit


CLAIM_REMOVED = "a section of the object that claims to be our plugin's was removed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an object: `data` is what the file should hold, the input itself where nothing was gained.

    `certificate` has the files of the certificate by name, where the settings ask for one and the object can be read.
    `warnings` are sentences for the user about the source.  `is_remembered`: it comes from the cache.
    """

    data: bytes
    record: Record
    certificate: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    is_remembered: bool = False


def optimise_bytes(
    data: bytes,
    settings: Settings,
    cpu_level: int | None = None,
    second: bytes | str | None = None,
    memory: Store | None = None,
) -> Outcome:
    """Read, optimise, write and check one object; whatever cannot be placed stays as it is.

    `cpu_level` is the -mcpu level (1 to 4) that the object was compiled for, None to take it from the code.  `second`
    is the object that this run compiled from the same source with the pass plugin, or why there is none.  `memory`
    has what earlier runs found for functions.
    """
    # Imported here because the wrapper's own process must stay quick: z3 takes longer to load than clang to run.
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object, without_claims
    from synth.attributes import honoured
    from synth.pipeline import optimise

    recorded, why = _recorded(data, second)
    source = read_object(data, cpu_level, recorded.accesses)
    if isinstance(source, Untouched):
        return _untouched(data, without_claims(data), settings, source.reason)
    source = _with_types(source, settings)
    settings, warnings = honoured(source.unit, settings, recorded.annotations)
    journal: Journal = {}
    gate = _kernel_gate(source) if settings.gate == "kernel" else None
    unit, record = optimise(source.unit, settings, gate, journal, memory)
    if source.data != data:
        why = (*why, CLAIM_REMOVED)
    record = replace(record, counters={**record.counters, **dict.fromkeys(why, 1)})
    losses: Counter[str] = Counter()
    new, kept = _write(source, unit, losses)
    record = _with_work(record, source.unit, unit)
    for name, reason in kept.items():
        record = record.with_function_kept(name, reason)
        journal.pop(name, None)
    record = replace(record, counters={**record.counters, **losses})
    files = _certificate(data, source, new, journal, settings) if settings.certificate else {}
    return Outcome(new, record, files, warnings)


def _with_work(record: Record, before: Unit, after: Unit) -> Record:
    """The record with what the model of the verifier processes to accept each function, before and after."""
    from verifier_model.checker import check

    def work(unit: Unit, name: str) -> int:
        function = unit.function(name)
        report = check(unit, function) if not function.untouchable else None
        return report.processed if report is not None and report.accepted else 0

    functions = []
    for entry in record.functions:
        first = work(before, entry.name)
        last = work(after, entry.name) if entry.rewrites else first
        functions.append(replace(entry, work_before=first, work_after=last))
    return replace(record, functions=tuple(functions))


def _with_types(source: Object, settings: Settings) -> Object:
    """The object with the program types that the user gives to sections whose names say none."""
    given = {
        function.name: settings.program_type(function.section)
        for function in source.unit.functions
        if not function.is_subprogram and (function.program_type is None or function.also_types)
    }
    functions = tuple(
        replace(function, program_type=name, also_types=()) if (name := given.get(function.name)) else function
        for function in source.unit.functions
    )
    return replace(source, unit=replace(source.unit, functions=functions))


def _certificate(data: bytes, source: Object, new: bytes, journal: Journal, settings: Settings) -> dict[str, bytes]:
    """The files of the certificate; raises CertificateError, and then the rewrites may not stand."""
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object
    from synth.certificate import CertificateError, Images, certificate

    written = read_object(new, source.unit.cpu_level)
    if isinstance(written, Untouched):
        raise CertificateError(f"the written object cannot be read: {written.reason}")
    images = Images(data, new, source.code_bytes(), written.code_bytes())
    return certificate(source.unit, journal, images, settings, certificate_tools())


def certificate_tools() -> dict[str, str]:
    """The versions that a certificate names."""
    import z3

    return {"k2-clang": VERSION, "solver": f"z3 {z3.get_version_string()}"}


def _recorded(data: bytes, second: bytes | str | None) -> tuple[Recorded, tuple[str, ...]]:
    """What the plugin recorded, by function, and the reasons to count where it recorded nothing of use."""
    from llvm_bridge.plugin_facts import NoFacts, Recorded, recorded

    nothing = Recorded({}, {})
    if not isinstance(second, bytes):
        return nothing, () if second is None else (f"no facts from the plugin: {second}",)
    try:
        return recorded(data, second), ()
    except NoFacts as reason:
        return nothing, (f"no facts from the plugin: {reason}",)


def _write(source: Object, unit: Unit, losses: Counter[str] | None = None) -> tuple[bytes, dict[str, str]]:
    """The unit written into the object, and the functions that had to stay as they were, with the reasons.

    Where the object as a whole cannot be written, its own bytes, and every function that was to change.  `losses`
    counts why debug sections had to go.
    """
    from llvm_bridge.object import Untouched
    from llvm_bridge.writer import write_object

    kept: dict[str, str] = {}
    while isinstance(written := write_object(source, unit, losses), Untouched):
        if written.function is None or written.function in kept:
            changed = [old.name for old, new in zip(source.unit.functions, unit.functions, strict=True) if old != new]
            return source.data, {**kept, **dict.fromkeys(changed, written.reason)}
        for name in sorted(_joined_by_calls(source.unit, written.function)):
            kept[name] = written.reason
            unit = unit.with_function(source.unit.function(name))
    return written, kept


def _joined_by_calls(unit: Unit, name: str) -> set[str]:
    """The function and all that calls join to it, however indirectly.

    Facts cross calls of static functions: what was proved of one may rest on how another had been rewritten, so they
    stay or go together.
    """
    from verifier_model.checker.callgraph import callees

    calls = [{function.name, *(callee.name for callee in callees(unit, function))} for function in unit.functions]
    joined = {name}
    while more := [group for group in calls if group & joined and not group <= joined]:
        joined.update(*more)
    return joined


def _kernel_gate(source: Object) -> Callable[[Unit], str | None]:
    """Asks the running kernel: what it accepts of the compiler's own object must be accepted, with no more work.

    Raises PermissionError where bpf(2) is not permitted, LibbpfMissingError without libbpf.
    """
    from verifier_model.kernel.gate import ask_kernel

    programs = tuple(function.name for function in source.unit.functions if not function.is_subprogram)
    before = {word.program: word for word in ask_kernel(source.data, programs) if word.accepted}

    def gate(unit: Unit) -> str | None:
        if programs and not before:
            return "it accepts no program of the compiler's own object"
        for word in ask_kernel(_write(source, unit)[0], tuple(before)):
            if not word.accepted:
                return f"{word.program}: {word.reason}"
            if word.verified_insns > before[word.program].verified_insns:
                return f"{word.program}: the verifier's work grows to {word.verified_insns} instructions"
        return None

    return gate


def _untouched(data: bytes, unclaimed: bytes, settings: Settings, reason: str) -> Outcome:
    """The object as it is but for a section that claims to be our plugin's."""
    reasons = (reason,) if unclaimed == data else (reason, CLAIM_REMOVED)
    return Outcome(unclaimed, Record(functions=(), settings=settings.digest, counters=dict.fromkeys(reasons, 1)))


def optimise_in_child(
    data: bytes, settings: Settings, cpu_level: int | None = None, second: bytes | str | None = None
) -> Outcome:
    """`optimise_bytes` in a child process, bounded by `settings.timeout` seconds (0: unbounded).

    An object that an earlier run had, under the same settings and by the same tool, comes from the cache as it was.
    Raises ChildFailed with a sentence when it came to nothing, Stopped when a stopping signal arrived.
    """
    from synth import progress
    from synth.cache.keys import object_key
    from synth.cache.store import Store

    memory = Store(settings.cache)
    is_kept = memory.folder != "" and settings.gate == "none" and not settings.certificate
    key = object_key(data, settings, cpu_level, second) if is_kept else b""
    known = memory.get(key) if is_kept else None
    if known is not None and (outcome := _outcome(known)) is not None:
        return replace(outcome, is_remembered=True)

    screen = progress.terminal()

    def work() -> bytes:
        if screen is not None:
            progress.show_on(screen)
        memories = (memory,) if memory.folder else ()
        outcome = optimise_bytes(data, settings, cpu_level, second, *memories)
        return marshal.dumps((outcome.data, outcome.record.to_json(), dict(outcome.certificate), outcome.warnings))

    try:
        message = in_child(work, settings.timeout)
    finally:
        if screen is not None:
            progress.leave(screen)
    if is_kept:
        memory.put(key, message)
    found = _outcome(message)
    if found is None:
        raise ChildFailed("the optimiser sent no result")
    return found


def _outcome(message: bytes) -> Outcome | None:
    """What the child's message, sent now or kept since then, says; None when it is none."""
    try:
        new, record, certificate, warnings = marshal.loads(message)
        return Outcome(new, from_json(record), certificate, warnings)
    except (ValueError, EOFError, TypeError, KeyError):
        return None


def write_certificate(folder: str, output: str, outcome: Outcome) -> str:
    """Put the certificate of `output` into a folder of its own below `folder`, in one step; returns the new folder.

    It is named after the file and the digest of what it holds now, so objects of one name do not collide.  An object
    that could not be read has none: then "".  Raises OSError.
    """
    if not outcome.certificate:
        return ""
    name = f"{os.path.basename(output)}-{hashlib.sha256(outcome.data).hexdigest()[:12]}"  # noqa: PTH119
    target, temporary = f"{folder}/{name}", f"{folder}/.{name}.k2-{os.getpid()}"
    os.makedirs(temporary)  # noqa: PTH103
    try:
        for file, data in outcome.certificate.items():
            with open(f"{temporary}/{file}", "wb") as stream:  # noqa: PTH123
                stream.write(data)
        if os.path.isdir(target):  # noqa: PTH112
            shutil.rmtree(target)
        os.rename(temporary, target)  # noqa: PTH104
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def read_output(path: str) -> bytes | None:
    """The bytes of what clang wrote, None unless it is a regular file (no device, FIFO or symbolic link)."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as file:  # noqa: PTH123  pathlib is slow to import
            return file.read()
    except OSError:
        return None


def replace_output(path: str, data: bytes) -> None:
    """Put `data` in the file's place in one step, with its mode; no stopping signal can leave half of the work.

    Raises OSError when the folder does not let us; the old file then stays and no temporary file with it.
    """
    name = path.rpartition("/")[2]
    temporary = f"{path.removesuffix(name)}.{name}.k2-{os.getpid()}"
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                os.fchmod(fd, mode)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)

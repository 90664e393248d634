"""k2-clang and k2-llc: the real compiler with the very same arguments, and behind it the optimiser.

The compiler's verdict is the verdict: exit code, messages and side files are its own.  Only an object for BPF that it
has just written is touched, and whatever goes wrong with that leaves the compiler's bytes on disk.
Modules are imported where they are used: configure scripts run a compiler hundreds of times to ask it something.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` takes as long to import as all else here
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from llvm_bridge.invocation import Job
    from object_stage import Outcome
    from synth.settings import Settings
    from synth.settings_file import Effective


def main(behind: tuple[str, ...] = ()) -> int:
    """Entry point of every personality; the name by which we were called says whether the compiler is clang or llc.

    `behind` is the compiler that an entry point of `k2 toolchain` was made for; K2_CLANG goes before it.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from llvm_bridge.toolchain import BEHIND, CompilerMissing, find_compiler

    is_inside = BEHIND in os.environ
    try:
        command, arguments = find_compiler(sys.argv, os.environ, behind)
        if is_inside:
            _become(command + arguments)
        return _compile(command, arguments)
    except (CompilerMissing, OSError) as error:
        complain(str(error))
        return 127


def _compile(command: list[str], arguments: list[str]) -> int:
    from llvm_bridge.arguments import may_write_object

    is_version = "--version" in arguments
    if not (is_version or may_write_object(arguments)) or _is_on("K2_DISABLE"):
        _become(command + arguments)
    from processes import end_as, run

    if is_version:
        return _show_version(command + arguments)
    said: tuple[str, ...] = ()
    if any(name.startswith("K2_") and name != "K2_CLANG" for name in os.environ):
        from synth.settings_file import effective

        # What is wrong with the variables is said for every object; a k2.toml matters for those of ours.
        told = effective({**os.environ, "K2_CONFIG": "none"}, "")
        if _is_fatal(told, ()):
            return 1
        said = told.problems
    status = run(command + arguments)
    if status == 0:
        status = _improve_outputs(command, arguments, said)
    return end_as(status)


def _is_on(variable: str) -> bool:
    """Is that flag set?  Asked before the settings are read, which takes longer; a wrong value counts as set."""
    return os.environ.get(variable, "") not in ("", "0", "no", "false", "off")


def _become(command: list[str]) -> NoReturn:
    """Become the compiler, with the signals as a shell would have left them; raises OSError when there is none."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # ignored by Python
        _signal.signal(number, _signal.SIG_DFL)
    os.execvp(command[0], command)


def complain(text: str) -> None:
    """One line on stderr; nothing where that is closed."""
    if sys.stderr is not None:
        print(f"k2-clang: {text}", file=sys.stderr, flush=True)


def _is_fatal(found: Effective, said: Sequence[str]) -> bool:
    """Say what is wrong with the settings and was not said yet; does the user want that to fail the compilation?"""
    for line in found.problems:
        if line not in said:
            complain(line)
    return bool(found.problems) and found.settings.strict


def _show_version(command: list[str]) -> int:
    """Our line behind the compiler's own; compiler caches hash it, so it carries what shapes our output here."""
    from contextlib import suppress

    from processes import end_as, run
    from synth.settings import VERSION
    from synth.settings_file import effective

    told = effective(os.environ, "x.o")
    if _is_fatal(told, ()):
        return 1
    status = run(command)
    if status == 0:
        with suppress(OSError):  # `--version | head -n 1` has read what it wanted
            os.write(1, f"k2-clang {VERSION}, settings {told.settings.digest}\n".encode())
    return end_as(status)


def _improve_outputs(command: list[str], arguments: list[str], said: Sequence[str]) -> int:
    """Optimise what the compiler has written; the status to end with, 0 unless we were stopped or are to be strict.

    Each output has settings of its own, since a k2.toml is found upwards from it; the problems `said` are known.
    """
    from llvm_bridge.invocation import jobs
    from processes import Stopped

    status, settings = 0, None
    try:
        for job in jobs(command, arguments):
            from synth.settings_file import effective

            found = effective(os.environ, job.output)
            settings = found.settings
            if _is_fatal(found, said):
                os.unlink(job.output)  # noqa: PTH108  a failing compilation leaves no object
                status = 1
            elif not settings.disable:
                status = status or _improve(job, settings)
    except Stopped as stopped:
        return -int(stopped.args[0])
    except Exception as error:
        complain(f"{type(error).__name__}: {error}; the compiler's object was kept")
        is_strict = settings.strict if settings is not None else _is_on("K2_STRICT")
        status = 1 if is_strict else 0
    return status


def _improve(job: Job, settings: Settings) -> int:
    """Optimise one object in place; 1 when there was a problem and the user wants those to fail the compilation."""
    from object_stage import optimise_in_child, read_output, replace_output, write_certificate
    from processes import ChildFailed

    data = read_output(job.output)
    if data is None or settings.skips_file(job.output) or (not _has_work(data) and not settings.report):
        return 0
    try:
        outcome = optimise_in_child(data, settings, job.cpu_level, _compiled_again(job, settings))
        if settings.certificate:  # first: no rewrite without its proof
            write_certificate(settings.certificate, job.output, outcome)
        if read_output(job.output) != data:
            return 0  # another make has compiled into it meanwhile: that is the newer object
        if outcome.data != data:
            replace_output(job.output, outcome.data)
    except (ChildFailed, OSError) as error:
        complain(f"{job.output}: {error}; the compiler's object was kept")
        if settings.strict:
            os.unlink(job.output)  # noqa: PTH108  a failing compilation leaves no object
            return 1
        return 0
    warnings = outcome.warnings + _lost_tags(job, data)
    for warning in warnings:
        complain(f"{job.output}: {warning}")
    if warnings and settings.strict:
        os.unlink(job.output)  # noqa: PTH108
        return 1
    _tell(job.output, outcome, settings)
    return 0


def _has_work(data: bytes) -> bool:
    """Could our stage change anything?  It takes longer to start than clang to compile nothing."""
    from llvm_bridge.glance import has_code

    return has_code(data) or b".k2.facts" in data


def _lost_tags(job: Job, data: bytes) -> tuple[str, ...]:
    if b".BTF\0" in data:
        return ()
    from llvm_bridge.source_tags import lost_tags

    return ('btf_decl_tag("k2:...") needs -g and was not honoured',) if lost_tags(job, data) else ()


def _compiled_again(job: Job, settings: Settings) -> bytes | str | None:
    """The object of the same job with our pass plugin, or why there is none; None when the user asked for no plugin."""
    if settings.plugin == "off":
        return None
    from llvm_bridge.plugin_facts import NoFacts, second_object

    try:
        return second_object(job, settings.timeout)
    except NoFacts as reason:
        return str(reason)


def _tell(output: str, outcome: Outcome, settings: Settings) -> None:
    """What K2_REPORT and K2_VERBOSE ask for."""
    record = outcome.record
    if settings.report:
        import json

        line = f'{{"object":{json.dumps(output)},"record":{record.to_json()}}}\n'
        try:
            with open(settings.report, "ab", buffering=0) as file:  # noqa: PTH123
                file.write(line.encode())  # one write: the lines of parallel compilations must not mix
        except OSError as error:
            complain(f"K2_REPORT={settings.report}: {error.strerror}")
    if settings.verbose:
        complain(f"{output}: {record.slots_before} -> {record.slots_after} slots")
        for function in record.functions:
            kept = f", {function.kept_reason}" if function.kept_reason else ""
            counted = f"{function.slots_before} -> {function.slots_after} slots, {len(function.rewrites)} rewrites"
            complain(f"{output}:{function.section} ({function.name}): {counted}{kept}")
        for reason, count in record.counters.items():
            complain(f"{output}: left alone {count} times: {reason}")


if __name__ == "__main__":
    sys.exit(main())

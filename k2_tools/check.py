"""`k2 check x.o`: would these kernels load the object's programs, by the model's word, and by their own if asked?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from verifier_model.bpf.unit import Unit
    from verifier_model.checker.check import Report
    from verifier_model.contracts.kernels import Profile
    from verifier_model.kernel.questions import Answer

BAD_INPUT = 2
MARK = "*"
LEGEND = (
    "yes N: accepted, N instructions processed (the model counts as 6.18 does).  "
    f"{MARK} unverified: no real kernel stands behind the model here."
)


@click.command()
@click.argument("object_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--kernels", "kernel_set", default="", help="such as 6.1, 6.1.36 or 5.10..6.18; default: all that fit")
@click.option("--oracle", "asks", is_flag=True, help="also ask the running kernel and those in the emulator")
def check(object_file: Path, kernel_set: str, asks: bool) -> None:
    """Check every program of OBJECT_FILE against the model of each kernel; status 1 when one is refused.

    With --oracle the real kernels are asked as well, where there is one: the running one, and Debian's in the emulator.
    """
    from k2_tools.tables import console

    data = object_file.read_bytes()
    unit = _unit(object_file, data)
    profiles = _profiles(kernel_set, unit)
    programs = [function.name for function in unit.functions if not function.is_subprogram]
    if not programs:
        _give_up(f"{object_file}: no program is in it")
    words = {name: _ask(name, data, programs) for name in _oracles(profiles)} if asks else {}
    reports = {name: _reports(unit, name, profiles, words) for name in programs}
    console().print(_table(unit, profiles, reports, words, programs))
    click.echo(LEGEND)
    lines = _refusals(profiles, reports) + _kernel_refusals(words, programs)
    for line in lines:
        click.echo(line)
    sys.exit(1 if lines else 0)


def _give_up(reason: str) -> None:
    click.echo(f"k2 check: {reason}", err=True)
    sys.exit(BAD_INPUT)


def _unit(path: Path, data: bytes) -> Unit:
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object

    source = read_object(data)
    if isinstance(source, Untouched):
        _give_up(f"{path}: {source.reason}")
        raise AssertionError
    return source.unit


def _profiles(text: str, unit: Unit) -> tuple[Profile, ...]:
    from verifier_model.contracts.kernels import KernelSetError, kernels, knowing

    try:
        return kernels(text) if text else knowing(unit.cpu_level)
    except KernelSetError as error:
        raise click.BadParameter(str(error), param_hint="--kernels") from None


def _oracles(profiles: Sequence[Profile]) -> list[str]:
    """Names of the real kernels to ask: those that answer for a profile, and the running one."""
    from verifier_model.kernel.oracle import RUNNING

    return [RUNNING, *dict.fromkeys(profile.oracle for profile in profiles if profile.oracle is not None)]


def _ask(name: str, data: bytes, programs: Sequence[str]) -> tuple[str, dict[str, Answer]]:
    """The kernel's release and its answers; ("", {}) when it cannot be asked, which is said on stderr."""
    from verifier_model.kernel.loader_binary import OracleMissingError
    from verifier_model.kernel.oracle import oracle
    from verifier_model.kernel.questions import ObjectProgram

    try:
        kernel = oracle(name)
        answers = kernel.verdicts([ObjectProgram(data, program) for program in programs])
    except (OracleMissingError, RuntimeError) as error:
        click.echo(f"k2 check: {name}: {error}", err=True)
        return "", {}
    return kernel.release, dict(zip(programs, answers, strict=True))


Words = dict[str, tuple[str, dict[str, "Answer"]]]


def _reports(unit: Unit, name: str, profiles: Sequence[Profile], words: Words) -> dict[Profile, Report]:
    """The model's word for each kernel; for one that is asked, on the object as its loader relocates it."""
    from verifier_model.checker.per_kernel import check_kernels
    from verifier_model.contracts.relocation import for_kernel
    from verifier_model.kernel.types import image_types

    plain = [profile for profile in profiles if not words.get(profile.oracle or "", ("", {}))[1]]
    found = check_kernels(unit, unit.function(name), plain)
    for profile in profiles:
        if profile not in found and profile.oracle is not None:
            types = image_types(profile.oracle)
            loaded = unit if types is None else for_kernel(unit, types)
            found |= check_kernels(loaded, loaded.function(name), [profile])
    return {profile: found[profile] for profile in profiles}


def _table(
    unit: Unit,
    profiles: Sequence[Profile],
    reports: dict[str, dict[Profile, Report]],
    words: Words,
    programs: Sequence[str],
) -> Table:
    from rich.table import Table

    from verifier_model.kernel.oracle import RUNNING

    table = Table(box=None, pad_edge=False)
    table.add_column("program")
    table.add_column("type")
    for profile in profiles:
        table.add_column(f"model\n{profile.name}{'' if profile.is_verified else MARK}")
        if profile.oracle in words:
            table.add_column(f"kernel\n{words[profile.oracle][0] or 'not asked'}")
    if RUNNING in words:
        table.add_column(f"running\n{words[RUNNING][0] or 'not asked'}")
    for name in programs:
        cells = [name, unit.function(name).program_type or "unknown"]
        for profile in profiles:
            report = reports[name][profile]
            cells.append(f"yes {report.processed}" if report.accepted else "no")
            if profile.oracle in words:
                cells.append(_word(words[profile.oracle][1].get(name)))
        if RUNNING in words:
            cells.append(_word(words[RUNNING][1].get(name)))
        table.add_row(*cells)
    return table


def _word(answer: Answer | None) -> str:
    from verifier_model.kernel.questions import Outcome

    if answer is None or answer.outcome is Outcome.UNASKED:
        return "-"
    if answer.refused:
        return "no"
    return f"yes {answer.processed}" if answer.processed else "yes"


def _refusals(profiles: Sequence[Profile], reports: dict[str, dict[Profile, Report]]) -> list[str]:
    """One line for each way in which the model refuses a program, with the kernels that it is said of."""
    lines: dict[str, list[str]] = {}
    for by_profile in reports.values():
        for profile in profiles:
            rejection = by_profile[profile].rejection
            if rejection is not None:
                lines.setdefault(str(rejection), []).append(profile.name)
    everywhere = [profile.name for profile in profiles]
    return [line if names == everywhere else f"{line} ({', '.join(names)})" for line, names in lines.items()]


def _kernel_refusals(words: Words, programs: Sequence[str]) -> list[str]:
    """What the real kernels say against a program, and what kept them from judging it."""
    lines = []
    for release, answers in words.values():
        for name in programs:
            answer = answers.get(name)
            if answer is not None and not answer.accepted:
                reason = answer.reason or f"error {answer.error}"
                lines.append(f"{name}: Linux {release}: {'' if answer.refused else 'no verdict: '}{reason}")
    return lines

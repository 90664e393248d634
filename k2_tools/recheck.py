"""`k2 recheck DIR`: certificates checked again, with another solver."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from verifier_model.prover.second_solver import SOLVERS, Bounds, SolverMissingError, version

ALL_CONFIRMED, CONTRADICTED, SOME_UNKNOWN = 0, 1, 3


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--solver", type=click.Choice(list(SOLVERS)), default="bitwuzla", show_default=True)
@click.option(
    "--object", "object_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="must be it"
)
@click.option("--steps", type=float, default=1.0, show_default=True, help="multiple of the usual bound on the work")
@click.option("--seconds", type=int, default=60, show_default=True, help="safety net for one question")
@click.option("-q", "--quiet", is_flag=True, help="only what is not confirmed, and the counts")
def recheck(folder: Path, solver: str, object_file: Path | None, steps: float, seconds: int, quiet: bool) -> None:
    """Check the certificates in FOLDER again: facts, composition, and every proof with another solver.

    Status 0: everything is confirmed. 1: something is contradicted. 3: nothing is, but something stays unknown.
    """
    try:
        name = version(solver)
    except SolverMissingError as error:
        raise click.ClickException(str(error)) from None
    counts: Counter[str] = Counter()
    for line, word in _lines(folder, solver, Bounds(steps, seconds), object_file):
        counts[word] += 1
        if not quiet or word != "confirmed":
            click.echo(line)
    if not counts:
        click.echo("there is no rewrite to confirm")
    words = ", ".join(f"{counts[word]} {word}" for word in ("confirmed", "contradicted", "unknown"))
    click.echo(f"{words} by {name}")
    sys.exit(CONTRADICTED if counts["contradicted"] else SOME_UNKNOWN if counts["unknown"] else ALL_CONFIRMED)


def _lines(folder: Path, solver: str, bounds: Bounds, object_file: Path | None) -> Iterator[tuple[str, str]]:
    """Each finding as a line, and its word."""
    from k2_tools.certificate_folder import NoCertificateError, folders_below, read_folder
    from k2_tools.rechecking import recheck
    from synth.certificate import OUTPUT

    wanted = None if object_file is None else object_file.read_bytes()
    places = folders_below(folder)
    if not places:
        raise click.ClickException(f"{folder}: there is no certificate in it")
    for place in places:
        try:
            certificate = read_folder(place)
        except NoCertificateError as error:
            yield f"{place.name}: contradicted: {error}", "contradicted"
            continue
        if wanted == certificate.files.get(OUTPUT):
            wanted = None
        try:
            for finding in recheck(certificate, solver, bounds):
                number = f"{finding.number:4} " if finding.number else ""
                yield f"{place.name}: {number}{finding.where}: {finding.word}: {finding.reason}", finding.word
        except Exception as error:  # no certificate of ours would bring it about
            yield f"{place.name}: contradicted: {type(error).__name__}: {error}", "contradicted"
    if wanted is not None:
        yield f"{object_file}: contradicted: no certificate here is about these bytes", "contradicted"

"""`k2 prove a.o b.o`: may the second object stand for the first, whoever made them?"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from k2_tools.validation import Pair
    from llvm_bridge.object import Object

OBJECT = click.Path(exists=True, dir_okay=False, path_type=Path)
ALL_PROVED, REFUTED, SOME_UNKNOWN = 0, 1, 3


@click.command()
@click.argument("first", type=OBJECT)
@click.argument("second", type=OBJECT)
@click.option("--steps", type=float, default=1.0, show_default=True, help="multiple of the prover's usual bound")
@click.option("--certificate", type=click.Path(file_okay=False, path_type=Path), help="folder for the certificate")
def prove(first: Path, second: Path, steps: float, certificate: Path | None) -> None:
    """Prove, function by function, that SECOND does what FIRST does; compare maps and data.

    Status 0: everything is proved. 1: something is refuted. 3: nothing is, but something stays unknown.
    """
    from k2_tools.side_by_side import side_by_side
    from k2_tools.validation import validate
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object
    from verifier_model.prover import DEFAULT
    from verifier_model.verdict import Status

    objects: list[Object] = []
    for path in (first, second):
        parsed = read_object(path.read_bytes())
        if isinstance(parsed, Untouched):
            raise click.ClickException(f"{path}: {parsed.reason}")
        objects.append(parsed)
    counts: Counter[Status] = Counter()
    pairs = []
    limits = replace(DEFAULT, solver_steps=round(steps * DEFAULT.solver_steps))
    for pair in validate(objects[0], objects[1], limits):
        pairs.append(pair)
        counts[pair.verdict.status] += 1
        what = f"{pair.section} ({pair.name})" if pair.name else "the objects"
        verdict = pair.verdict
        found = verdict.counterexample
        detail = verdict.method or verdict.reason or (found.difference if found is not None else "")
        click.echo(f"{what}: {verdict.status.value}: {detail}")
        for line in side_by_side(found) if found is not None else ():
            click.echo(f"    {line}")
    told = f"{counts[Status.PROVED]} proved, {counts[Status.REFUTED]} refuted, {counts[Status.UNKNOWN]} unknown"
    click.echo(told)
    if certificate is not None:
        if counts[Status.PROVED] == counts.total():
            written = _write_certificate(certificate, second, objects, pairs)
            click.echo(f"certificate: {written}")
        else:
            click.echo("no certificate: not everything is proved")
    sys.exit(REFUTED if counts[Status.REFUTED] else SOME_UNKNOWN if counts[Status.UNKNOWN] else ALL_PROVED)


def _write_certificate(folder: Path, output: Path, objects: list[Object], pairs: list[Pair]) -> str:
    from object_stage import Outcome, certificate_tools, write_certificate
    from synth.certificate import CertificateError, Images, certificate
    from synth.record import Record
    from synth.settings import Settings

    first, second = objects
    journal = {pair.name: pair.evidence.steps for pair in pairs if pair.evidence.steps}
    wholes = {pair.name: pair.evidence.whole for pair in pairs if pair.evidence.whole is not None}
    images = Images(first.data, second.data, first.code_bytes(), second.code_bytes())
    try:
        files = certificate(first.unit, journal, images, Settings(), certificate_tools(), wholes)
        return write_certificate(str(folder), str(output), Outcome(second.data, Record(()), files))
    except (CertificateError, OSError) as error:
        raise click.ClickException(f"no certificate: {error}") from None

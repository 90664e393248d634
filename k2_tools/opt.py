"""`k2 opt in.o -o out.o`: optimise an object that exists already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from k2_tools.options import settings_of, with_settings


@click.command()
@click.argument("object_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="where to write")
@click.option("--certificate", type=click.Path(file_okay=False, path_type=Path), help="folder for the certificate")
@with_settings
def opt(object_file: Path, output: Path, certificate: Path | None, **options: Any) -> None:
    """Optimise OBJECT_FILE; what cannot be improved and proved stays as it is."""
    from k2_tools.subject import optimised
    from k2_tools.tables import console, summary
    from object_stage import write_certificate

    settings = settings_of(options, output)
    if certificate is not None:
        settings = replace(settings, certificate=str(certificate))
    outcome, subject = optimised(object_file, settings)
    if settings.certificate:
        write_certificate(settings.certificate, str(output), outcome)
    output.write_bytes(outcome.data)
    console().print(summary([subject]))

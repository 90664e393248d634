"""`k2 opt in.o -o out.o`: optimise an object that exists already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from k2_tools.options import settings_of, with_settings


@click.command()
@click.argument("object_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="where to write")
@with_settings
def opt(object_file: Path, output: Path, **options: Any) -> None:
    """Optimise OBJECT_FILE; what cannot be improved and proved stays as it is."""
    from k2_tools.subject import optimised
    from k2_tools.tables import console, summary

    outcome, subject = optimised(object_file, settings_of(options))
    output.write_bytes(outcome.data)
    console().print(summary([subject]))

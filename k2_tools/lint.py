"""`k2 lint x.o`: is everything in an object consistent?"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("object_files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def lint(object_files: tuple[Path, ...]) -> None:
    """Check the tables of OBJECT_FILES against their code; status 1 when something is wrong."""
    from llvm_bridge.lint import lint as findings_of

    count = 0
    for path in object_files:
        for finding in findings_of(path.read_bytes()):
            click.echo(f"{path}: {finding}")
            count += 1
    sys.exit(1 if count else 0)

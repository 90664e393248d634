"""`k2 config [OUTPUT]`: what is in effect for an output file, and where each value came from."""

from __future__ import annotations

import os
import sys

import click

from k2_tools.settings_table import shown
from synth.settings import ROWS
from synth.settings_file import effective


@click.command()
@click.argument("output", default="x.o", metavar="[OUTPUT]")
def config(output: str) -> None:
    """Print every setting for the file OUTPUT (default: one in this folder) with its origin, and what is wrong.

    The status is 1 when something is wrong and the settings are strict.
    """
    found = effective(os.environ, output)
    values = [(row.name, shown(getattr(found.settings, row.name)), found.origins[row.name]) for row in ROWS]
    wide = max(len(value) for _, value, _ in values)
    for name, value, origin in values:
        click.echo(f"{name:14} {value:{wide}}  {origin}".rstrip())
    click.echo(f"{'digest':14} {found.settings.digest:{wide}}  (of what can change an output)")
    for problem in found.problems:
        click.echo(f"k2: {problem}", err=True)
    if found.problems and found.settings.strict:
        sys.exit(1)

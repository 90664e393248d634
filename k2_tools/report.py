"""`k2 report in.o`: what would be done to an object, and how each rewrite was proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from k2_tools.options import settings_of, with_settings


@click.command()
@click.argument("object_files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="write a page with the code side by side")
@click.option("--json", "as_json", is_flag=True, help="print one line of JSON for each object and nothing else")
@with_settings
def report(object_files: tuple[Path, ...], html: Path | None, as_json: bool, **options: Any) -> None:
    """Say what optimising each of OBJECT_FILES does, without writing it."""
    from k2_tools.page import render
    from k2_tools.subject import optimised
    from k2_tools.tables import console, reasons, rewrites, summary

    subjects = [optimised(path, settings_of(options, path))[1] for path in object_files]
    if html is not None:
        html.write_text(render(subjects), encoding="utf-8")
    if as_json:
        for subject in subjects:
            click.echo(subject.record.to_json())
        return
    out = console()
    out.print(summary(subjects))
    for subject in subjects:
        for function in subject.record.functions:
            if function.rewrites:
                out.print("", rewrites(function))
        out.print("", reasons(subject.record))

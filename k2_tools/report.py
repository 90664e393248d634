"""`k2 report in.o`: what would be done to an object, and how each rewrite was proved; `--compare` for two reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from k2_tools.comparison import ReportError, compare, parse_gate, read_report, violations
from k2_tools.options import settings_of, with_settings


@click.command()
@click.argument("object_files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="write a page with the code side by side")
@click.option("--json", "as_json", is_flag=True, help="print one line of JSON for each object and nothing else")
@click.option(
    "--compare",
    "reports",
    nargs=2,
    metavar="OLD NEW",
    type=click.Path(dir_okay=False, path_type=Path),
    help="say how two files of K2_REPORT differ, function by function",
)
@click.option(
    "--fail-on",
    "gates",
    multiple=True,
    metavar="METRIC:+N",
    help="with --compare: status 1 when size, latency or work of a function, or total-..., grows by more than N or N%",
)
@with_settings
def report(
    object_files: tuple[Path, ...],
    html: Path | None,
    as_json: bool,
    reports: tuple[Path, Path] | None,
    gates: tuple[str, ...],
    **options: Any,
) -> None:
    """Say what optimising each of OBJECT_FILES does, without writing it."""
    if reports is not None:
        if object_files:
            raise click.UsageError("--compare takes two reports and no object")
        _compare(*reports, gates)
        return
    if not object_files:
        raise click.UsageError("Missing argument 'OBJECT_FILES...'.")
    if gates:
        raise click.UsageError("--fail-on needs --compare")
    _show(object_files, html, as_json, options)


def _compare(old: Path, new: Path, gates: tuple[str, ...]) -> None:
    from k2_tools.tables import comparison_table, console

    try:
        wanted = [parse_gate(gate) for gate in gates]
        found = compare(read_report(old), read_report(new))
    except ReportError as error:
        raise click.ClickException(str(error)) from None
    console().print(comparison_table(found))
    failed = list(violations(found, wanted))
    for line in failed:
        click.echo(f"k2: {line}", err=True)
    if failed:
        sys.exit(1)


def _show(object_files: tuple[Path, ...], html: Path | None, as_json: bool, options: dict[str, Any]) -> None:
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

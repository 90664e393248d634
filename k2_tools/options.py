"""Settings on the command line: an option for each row that can change an output byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from synth.settings import ROWS, Row, Settings, SettingsError, parse
from synth.settings_file import effective

# The plugin takes part in a compilation, and these commands start from an object that exists.
COMPILE_ONLY = frozenset({"plugin"})
OPTION_ROWS = tuple(row for row in ROWS if row.shapes_output and row.name not in COMPILE_ONLY)


def _callback(row: Row) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        if text is None:
            return None
        try:
            return row.parse(text)
        except ValueError as error:
            raise click.BadParameter(f"expected {error}") from None

    return read


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of the rows; `settings_of` turns their values into settings."""
    for row in reversed(OPTION_ROWS):
        name = "--" + row.name.replace("_", "-")
        command = click.option(name, row.name, callback=_callback(row), metavar="VALUE", help=row.doc)(command)
    return command


def settings_of(options: dict[str, Any], output: Path | None = None) -> Settings:
    """The settings of the environment, and of the k2.toml upwards from `output`, with the given options over them.

    What is wrong with them is said on stderr; a wrong value in the environment ends the command.
    """
    try:
        parse(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    found = effective({**os.environ, "K2_CONFIG": "none"} if output is None else os.environ, str(output))
    for line in found.problems:
        click.echo(f"k2: {line}", err=True)
    settings = found.settings
    given = {row.name: options[row.name] for row in OPTION_ROWS if options.get(row.name) is not None}
    return replace(settings, **given)

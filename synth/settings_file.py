"""`k2.toml`: settings that travel with the sources, found upwards from the file that is written.

Its names are those of the rows in small letters (`goal = "size"`, `skip_funcs = ["probe_*"]`); a variable of the
environment goes before it.  What names a program, a file to write, or loads code stays with the environment alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from synth.settings import ROWS, Settings, SettingsError, parse, unknown_variables

NAME: Final = "k2.toml"
NONE: Final = "none"  # K2_CONFIG=none


@dataclass(frozen=True, slots=True)
class Effective:
    """What is in effect for one output file.

    `origins` names where each setting came from, by its row: "default", its variable, or the path of the file.
    `problems` are sentences about names and values that are wrong; a wrong value switches us off.
    """

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def effective(environment: Mapping[str, str], output: str) -> Effective:
    """The settings for the file `output`: the environment's, then its k2.toml's, then the defaults."""
    problems = list(unknown_variables(environment))
    path = environment.get("K2_CONFIG", "") or find(output)
    told: dict[str, str] = {}
    if path and path != NONE:
        told, wrong = read(path)
        problems += wrong
    given = {row.variable: environment[row.variable] for row in ROWS if environment.get(row.variable)}
    origins = {row.name: _origin(row.variable, given, told, path) for row in ROWS}
    settings = Settings(disable=True)
    try:
        settings = parse({**told, **given})
    except SettingsError as error:
        source = f"{path}: " if any(name in str(error) for name in told if name not in given) else ""
        problems.append(f"{source}{error}; nothing is optimised")
        settings = Settings(disable=True, strict={**told, **given}.get("K2_STRICT", "0") not in ("", "0", "false"))
    return Effective(settings, origins, tuple(problems))


def _origin(variable: str, given: Mapping[str, str], told: Mapping[str, str], path: str) -> str:
    if variable in given:
        return variable
    return path if variable in told else "default"


def find(output: str) -> str:
    """The nearest k2.toml in the folder of `output` or above it, "" without one."""
    folder = os.path.dirname(os.path.abspath(output))  # noqa: PTH100, PTH120  pathlib is slow to import
    while True:
        path = f"{folder.rstrip('/')}/{NAME}"
        if os.path.isfile(path):  # noqa: PTH113
            return path
        if folder == os.path.dirname(folder):  # noqa: PTH120
            return ""
        folder = os.path.dirname(folder)  # noqa: PTH120


def read(path: str) -> tuple[dict[str, str], list[str]]:
    """The file's settings as texts by variable, and sentences about what is wrong with it."""
    import difflib
    import tomllib

    try:
        with open(path, "rb") as file:  # noqa: PTH123
            values = tomllib.load(file)
    except (OSError, ValueError) as error:
        return {"K2_DISABLE": "1"}, [f"{path}: {_one_line(error)}; nothing is optimised"]
    rows = {row.name: row for row in ROWS}
    told, problems = {}, []
    for name, value in values.items():
        text = _text(value)
        if name not in rows:
            near = difflib.get_close_matches(name, rows, n=1)
            problems.append(f"{path}: unknown setting {name}" + (f", did you mean {near[0]}?" if near else ""))
        elif not rows[name].is_for_files:
            problems.append(f"{path}: {name} is taken from the environment alone ({rows[name].variable})")
        elif text is None:
            problems.append(
                f"{path}: {name} is neither text, number, true or false, nor a list of texts without spaces"
            )
        else:
            told[rows[name].variable] = text
    return told, problems


def _text(value: Any) -> str | None:
    """A TOML value as a variable would say it, None for one that no variable can say."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) and item and not set(item) & set(" ,") for item in value):
        return " ".join(value)
    return None


def _one_line(error: Exception) -> str:
    return " ".join((error.strerror or "" if isinstance(error, OSError) else str(error)).split())

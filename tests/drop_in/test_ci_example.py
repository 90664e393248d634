"""The GitHub Actions example calls commands and options that exist, and names documents that do."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from k2_tools.cli import main
from synth.settings import ROWS
from tests.wrapper.harness import ROOT

EXAMPLE = (ROOT / "examples" / "ci" / "github-actions.yml").read_text()
COMMANDS = re.findall(r"^ *(?:run: |- )?(k2 .*)$", EXAMPLE, re.M)


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 2 and any("--fail-on" in command for command in COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line)
    command = main.commands[words[1]]
    options = {option for part in command.params if isinstance(part, click.Option) for option in part.opts}
    assert {word for word in words[2:] if word.startswith("--")} <= options


def test_gates_of_the_example_are_gates() -> None:
    from k2_tools.comparison import parse_gate

    for gate in re.findall(r"--fail-on (\S+)", EXAMPLE):
        parse_gate(gate)


def test_variables_are_settings() -> None:
    named = set(re.findall(r"^ *(K2_[A-Z_]+):", EXAMPLE, re.M)) - {"K2_SOURCE"}
    assert named and named <= {row.variable for row in ROWS}


def test_documents_exist() -> None:
    assert all((ROOT / path).exists() for path in re.findall(r"docs/[\w.-]+", EXAMPLE))

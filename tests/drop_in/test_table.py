"""docs/drop-in.md names every row of the specification, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.drop_in.rows import OPTIMISED, PASSED
from tests.wrapper.harness import ROOT

PAGE = (ROOT / "docs" / "drop-in.md").read_text()
SECTIONS = {"Invocations": 40, "The acceptance list": 22, "Build points": 7}


def lines(section: str) -> dict[int, list[str]]:
    """Number -> cells of the section's table."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    return {int(cells[0]): cells for cells in rows}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_row_is_there_with_a_word(section: str) -> None:
    found = lines(section)
    assert sorted(found) == list(range(1, SECTIONS[section] + 1))
    assert {cells[2] for cells in found.values()} <= {"yes", "part", "no"}


def test_every_named_test_exists() -> None:
    named = re.findall(r"`((?:tests/\w+/)?test_\w+\.py)(?:::(\w+))?", PAGE)
    assert len(named) > 20
    for file, function in named:
        path = ROOT / file if file.startswith("tests/") else Path(__file__).parent / file
        assert path.exists(), file
        assert f"def {function}" in path.read_text(), (file, function)


def test_rows_that_are_said_to_be_run_are_run() -> None:
    run = {row.number for row in (*PASSED, *OPTIMISED)}
    said = {
        number for number, cells in lines("Invocations").items() if cells[2] != "no" and re.match(r"rows\b", cells[3])
    }
    assert said - {35} <= run

"""K2_REPORT's shape is documented to the field, and gates compare two of them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from k2_tools.cli import main
from k2_tools.comparison import ReportError, compare, parse_gate, read_report, violations
from synth.record import SCHEMA, FunctionRecord, Record, RewriteRecord
from tests.drop_in.compilers import fast_launcher
from tests.wrapper.harness import ROOT, fill, observe

FUNCTION = FunctionRecord("f", "xdp", 20, 16, 9000, 8000, work_before=50, work_after=40)
RECORD = Record((FUNCTION, replace(FUNCTION, name="g", slots_after=10)))


def written(folder: Path, name: str, **objects: Record) -> Path:
    path = folder / name
    path.write_text("".join(f'{{"object":"{key}","record":{value.to_json()}}}\n' for key, value in objects.items()))
    return path


def changed(**figures: Any) -> Record:
    return replace(RECORD, functions=(replace(FUNCTION, **figures), *RECORD.functions[1:]))


@pytest.mark.parametrize(
    ("gate", "figures", "is_passed"),
    [
        ("size:+0", {}, True),
        ("size:+0", {"slots_after": 17}, False),
        ("size:+0", {"slots_after": 15}, True),
        ("size:+1", {"slots_after": 17}, True),
        ("size:+1", {"slots_after": 18}, False),
        ("size:+6%", {"slots_after": 17}, False),
        ("size:+6.25%", {"slots_after": 17}, True),
        ("latency:+0", {"slots_after": 17}, True),
        ("latency:+0", {"latency_after": 8001}, False),
        ("work:+0", {"work_after": 41}, False),
        ("work:+0", {"work_after": 0}, False),
        ("work:+2%", {"work_after": 40}, True),
        ("total-size:+0", {"slots_after": 17}, False),
    ],
)
def test_gate(gate: str, figures: dict[str, int], is_passed: bool) -> None:
    found = compare({"x.o": RECORD}, {"x.o": changed(**figures)})
    assert (list(violations(found, [parse_gate(gate)])) == []) == is_passed


def test_total_lets_one_function_pay_for_another() -> None:
    grown = replace(RECORD, functions=(replace(FUNCTION, slots_after=17), replace(RECORD.functions[1], slots_after=9)))
    found = compare({"x.o": RECORD}, {"x.o": grown})
    assert list(violations(found, [parse_gate("total-size:+0")])) == []
    assert len(list(violations(found, [parse_gate("size:+0")]))) == 1


@pytest.mark.parametrize("gate", ["size", "size:0", "size:-1", "speed:+1", "size:+", "size:+1%%", "total-:+1", ""])
def test_what_is_no_gate_is_refused(gate: str) -> None:
    with pytest.raises(ReportError, match="is no gate"):
        parse_gate(gate)


def test_command_fails_on_the_gate_alone(tmp_path: Path) -> None:
    old = written(tmp_path, "old", **{"x.o": changed(slots_after=1), "gone.o": RECORD})
    old.write_text(old.read_text() + f'{{"object":"x.o","record":{RECORD.to_json()}}}\n')
    new = written(tmp_path, "new", **{"x.o": changed(slots_after=17), "added.o": RECORD})
    runner = CliRunner()
    words = ["report", "--compare", str(old), str(new)]
    plain = runner.invoke(main, words)
    assert plain.exit_code == 0 and "16 → 17 (+6.2 %)" in plain.stdout and " g " not in plain.stdout
    assert "only in the old report: gone.o: f" in plain.stdout and "only in the new report: added.o: g" in plain.stdout
    failing = runner.invoke(main, [*words, "--fail-on", "size:+0"])
    assert failing.exit_code == 1
    assert failing.stderr == "k2: x.o: f: size 16 -> 17 slots (size:+0 is allowed)\n"
    assert runner.invoke(main, [*words, "--fail-on", "size:+1", "--fail-on", "work:+0"]).exit_code == 0
    assert runner.invoke(main, [*words, "--fail-on", "size"]).exit_code == 1
    for wrong in (["report"], ["report", "--fail-on", "size:+0"], [*words, str(old)]):
        assert runner.invoke(main, wrong).exit_code == 2


@pytest.mark.parametrize(
    "line", ["{}", "[]", "x", '{"object":"x","record":{}}', '{"object":"x","record":{"schema":99}}']
)
def test_what_is_no_report_is_said_with_its_line(line: str, tmp_path: Path) -> None:
    path = written(tmp_path, "report", **{"x.o": RECORD})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ReportError, match=re.escape(f"{path}:2: not a line of K2_REPORT")):
        read_report(path)
    with pytest.raises(ReportError, match="No such file"):
        read_report(tmp_path / "absent")


def test_documentation_has_every_field_and_the_number() -> None:
    page = (ROOT / "docs" / "report.md").read_text()
    assert f'"schema": {SCHEMA},' in page and f"| `schema` | {SCHEMA} |" in page
    tables = page.split("## Gates")[0].split("| field of ")
    for table, kind in zip(tables[1:], (Record, FunctionRecord, RewriteRecord), strict=True):
        named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
        assert named - {"schema", "record"} == {field.name for field in fields(kind)}


@pytest.mark.needs("clang-19")
def test_compilation_writes_what_the_page_says(tmp_path: Path) -> None:
    wrapper = fast_launcher(tmp_path / "bin")
    words = [str(wrapper), *shlex.split("--target=bpf -mcpu=v3 -O2 -g -c prog.c second.c")]
    settings = {"K2_CLANG": "clang-19", "K2_REPORT": "report", "K2_TIERS": "passes"}
    seen = observe(words, fill(tmp_path / "work"), b"", **settings)
    lines = [json.loads(line) for line in seen.files["report"][1].splitlines()]
    assert [line["object"] for line in lines] == ["prog.o", "second.o"]
    assert all(set(line) == {"object", "record"} and line["record"]["schema"] == SCHEMA for line in lines)
    function = lines[0]["record"]["functions"][0]
    assert function["slots_after"] < function["slots_before"] and 0 < function["work_after"] < function["work_before"]
    assert sum(rewrite["slots_saved"] for rewrite in function["rewrites"]) > 0

"""The `k2` command on small objects."""

from __future__ import annotations

import json
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from k2_tools.alignment import Line, align
from k2_tools.cli import main
from synth.record import SCHEMA, Record, from_json
from synth.settings import ROWS
from tests.wrapper.harness import SOURCES

pytestmark = pytest.mark.needs("clang-19")

SPILLS = """
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
__attribute__((section("xdp"), used)) int drop(struct xdp_md *context)
{
    volatile char buffer[8];
    buffer[0] = 0; buffer[1] = 0; buffer[2] = 0; buffer[3] = 0;
    return 1 + (context->data != 0);
}
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    for name, text in (("prog", SOURCES["prog.c"]), ("spills", SPILLS)):
        (folder / f"{name}.c").write_text(text)
        command = shlex.split(f"clang-19 -O2 -g --target=bpf -mcpu=v3 -c {name}.c -o {name}.o")
        subprocess.run(command, cwd=folder, check=True)
    return folder


def k2(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_opt_writes_an_object_that_the_lint_likes(objects: Path) -> None:
    done = k2("opt", objects / "spills.o", "-o", objects / "better.o")
    assert done.exit_code == 0, done.output
    assert "drop" in done.output
    assert k2("lint", objects / "better.o").exit_code == 0
    record = from_json(k2("report", "--json", objects / "spills.o").output)
    assert record.slots_after < record.slots_before, "the dead stores go"


def test_opt_of_our_own_output_changes_nothing(objects: Path) -> None:
    once, twice = objects / "once.o", objects / "twice.o"
    assert k2("opt", objects / "spills.o", "-o", once).exit_code == 0
    assert k2("opt", once, "-o", twice).exit_code == 0
    assert once.read_bytes() == twice.read_bytes()


def test_opt_without_tiers_gives_the_input_back(objects: Path) -> None:
    assert k2("opt", objects / "spills.o", "-o", objects / "same.o", "--tiers", "none").exit_code == 0
    assert (objects / "same.o").read_bytes() == (objects / "spills.o").read_bytes()


def test_skipped_function_stays(objects: Path) -> None:
    record = from_json(k2("report", "--json", "--skip-funcs", "dr*", objects / "spills.o").output)
    assert record.slots_after == record.slots_before
    assert record.functions[0].kept_reason == "skipped by the user"


def test_report_on_what_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "text.o").write_text("no ELF")
    record: Record = from_json(k2("report", "--json", tmp_path / "text.o").output)
    assert record.functions == () and len(record.counters) == 1
    assert k2("lint", tmp_path / "text.o").exit_code == 1


class _Tags(HTMLParser):
    """Collects what the page refers to, and checks that tags are closed in the order in which they were opened."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_needs_no_network(objects: Path) -> None:
    page = objects / "page.html"
    assert k2("report", "--html", page, objects / "spills.o", objects / "prog.o").exit_code == 0
    text = page.read_text()
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert {link.removeprefix("#") for link in tags.links} == set(tags.ids), "every link leads into the page"
    assert "http" not in text and "prefers-color-scheme: dark" in text
    assert "*(u32 *)" in text or "*(u8 *)" in text


def test_report_explains_itself(objects: Path) -> None:
    done = k2("report", objects / "spills.o")
    assert done.exit_code == 0
    record = from_json(k2("report", "--json", objects / "spills.o").output)
    for rewrite in record.functions[0].rewrites:
        assert rewrite.proposer in " ".join(done.output.split())


def test_report_is_the_same_twice(objects: Path) -> None:
    assert k2("report", "--json", objects / "spills.o").output == k2("report", "--json", objects / "spills.o").output


def test_diff_shows_functions_that_differ_and_no_others(objects: Path) -> None:
    k2("opt", objects / "spills.o", "-o", objects / "better.o")
    done = k2("diff", objects / "spills.o", objects / "better.o")
    assert done.exit_code == 0 and "drop:" in done.output and "→" in done.output
    assert "drop:" not in k2("diff", objects / "spills.o", objects / "spills.o").output
    assert "drop:" in k2("diff", "--all", objects / "spills.o", objects / "spills.o").output


def test_wrong_option_is_refused_with_what_is_allowed(objects: Path) -> None:
    done = k2("opt", objects / "prog.o", "-o", objects / "x.o", "--goal", "speed")
    assert done.exit_code == 2 and "balanced, latency, size" in done.output


def test_options_are_the_rows_that_shape_the_output() -> None:
    text = k2("opt", "--help").output
    for row in ROWS:
        is_option = (row.shapes_output or row.name == "certificate") and row.name != "plugin"  # nothing is compiled
        assert (f"--{row.name.replace('_', '-')} " in text) == is_option


def test_json_is_one_line_for_each_object(objects: Path) -> None:
    lines = k2("report", "--json", objects / "spills.o", objects / "prog.o").output.splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["schema"] == SCHEMA for line in lines)


def test_alignment_ignores_the_names_of_labels() -> None:
    assert list(align("a\ngoto L1\nb", "goto L7\nc")) == [
        Line("a", "", True),
        Line("goto L1", "goto L7", False),
        Line("b", "c", True),
    ]


def test_reasons_of_unknown_are_counted_and_shown() -> None:
    from k2_tools.page import render
    from k2_tools.subject import Subject
    from k2_tools.tables import console, reasons
    from synth.record import FunctionRecord

    function = FunctionRecord("f", "xdp", 9, 9, 1, 1, verdicts={"UNKNOWN": 3}, unknowns={"too <hard>": 2, "gave up": 1})
    record = Record((function,))
    assert from_json(record.to_json()).functions[0].unknowns == {"gave up": 1, "too <hard>": 2}
    out = console()
    with out.capture() as captured:
        out.print(reasons(record))
    assert "2 times unknown: too <hard>" in captured.get() and "1 times unknown: gave up" in captured.get()
    assert "unknown: too &lt;hard&gt;" in render([Subject("x.o", record, 1.0)])

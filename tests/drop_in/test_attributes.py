"""`k2:skip` and `k2:goal=...` in C source: from BTF under -g, else from the plugin's record, never silently lost."""

from __future__ import annotations

import functools
import json
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from synth.attributes import honoured
from synth.settings import Settings
from tests.drop_in.compilers import fast_launcher
from tests.wrapper.harness import Seen, fill, observe

CLANGS = [pytest.param(n, marks=pytest.mark.needs(f"clang-{n}")) for n in (14, 16, 19)]
PLUGINS = [pytest.param(n, marks=pytest.mark.needs(f"clang-{n}", f"plugin-{n}")) for n in (14, 16, 19)]
HEADER = '#define WISH(x) __attribute__((KIND(x)))\n#define SKIP WISH("k2:skip")\n'
SOURCE = """
#include "k2.h"
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
#define BODY { \\
    unsigned char *data = (void *)(long)context->data, *end = (void *)(long)context->data_end; \\
    if (data + 14 > end) \\
        return 1; \\
    data[0] = data[1] = data[2] = data[3] = 0; \\
    return 2; }
FIRST SEC("xdp") int first(struct xdp_md *context) BODY
SECOND SEC("xdp/two") int second(struct xdp_md *context) BODY
char _license[] SEC("license") = "GPL";
"""


def compiled(tmp_path: Path, major: int, words: str, first: str = "SKIP", second: str = "", **settings: str) -> Seen:
    """k2-clang with the passes alone; the report is in `report`."""
    wrapper = fast_launcher(tmp_path / "bin")
    command = [str(wrapper), *shlex.split(words), f"-DFIRST={first}", f"-DSECOND={second}"]
    work = fill(tmp_path / "work", {"tags.c": SOURCE, "k2.h": HEADER})
    variables = {"K2_CLANG": f"clang-{major}", "K2_TIERS": "passes", "K2_REPORT": "report", **settings}
    return observe([*command, "--target=bpf", "-mcpu=v3", "-O2", "-c", "tags.c"], work, b"", **variables)


def rewrites(seen: Seen) -> dict[str, int]:
    functions = json.loads(seen.files["report"][1])["record"]["functions"]
    return {function["name"]: len(function["rewrites"]) for function in functions}


@pytest.mark.parametrize("major", CLANGS)
def test_tag_in_btf_leaves_its_function_alone_and_no_other(major: int, tmp_path: Path) -> None:
    seen = compiled(tmp_path, major, "-g -DKIND=btf_decl_tag")
    assert rewrites(seen)["first"] == 0 and rewrites(seen)["second"] > 0
    assert seen.code == 0 and seen.stderr == b""


@pytest.mark.parametrize("major", PLUGINS)
@pytest.mark.parametrize("debug", ["", "-g"])
def test_annotation_counts_where_the_plugin_ran(major: int, debug: str, tmp_path: Path) -> None:
    words = f"{debug} -DKIND=annotate"
    seen = compiled(tmp_path, major, words, K2_PLUGIN="auto")
    assert rewrites(seen)["first"] == 0 and rewrites(seen)["second"] > 0
    if debug:
        assert min(rewrites(compiled(tmp_path, major, words)).values()) > 0, "the twin without the plugin"


@pytest.mark.needs("clang-19")
def test_without_debug_information_there_is_one_warning(tmp_path: Path) -> None:
    seen = compiled(tmp_path, 19, "-DKIND=btf_decl_tag")
    assert min(rewrites(seen).values()) > 0
    assert seen.stderr == b'k2-clang: tags.o: btf_decl_tag("k2:...") needs -g and was not honoured\n'
    strict = compiled(tmp_path, 19, "-DKIND=btf_decl_tag", K2_STRICT="1")
    assert strict.code == 1 and "tags.o" not in strict.files
    other = compiled(tmp_path, 19, "-DKIND=btf_decl_tag", first="", K2_STRICT="1")
    assert other.code == 0 and other.stderr == b"", "a macro that nobody uses is no tag"


@pytest.mark.needs("clang-19")
def test_tag_that_is_not_understood_is_said_with_the_nearest(tmp_path: Path) -> None:
    seen = compiled(tmp_path, 19, "-g -DKIND=btf_decl_tag", first='WISH("k2:skipp")', second='WISH("other:skip")')
    assert min(rewrites(seen).values()) > 0
    assert seen.stderr == b"k2-clang: tags.o: first: unknown attribute 'k2:skipp', did you mean 'k2:skip'?\n"


@functools.cache
def unit_object(first: str, second: str) -> Object:
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name) / "work", {"tags.c": SOURCE, "k2.h": HEADER})
        words = ["-DKIND=btf_decl_tag", f"-DFIRST={first}", f"-DSECOND={second}"]
        command = ["clang-19", "--target=bpf", "-mcpu=v3", "-O2", "-g", *words, "-c", "tags.c"]
        subprocess.run(command, cwd=folder, check=True)
        found = read_object((folder / "tags.o").read_bytes(), 3)
    assert isinstance(found, Object)
    return found


@pytest.mark.needs("clang-19")
def test_goals_are_the_functions_own_and_the_users_patterns_go_before_them() -> None:
    unit = unit_object('WISH("k2:goal=size")', "SKIP").unit
    settings, problems = honoured(unit, Settings(goal="latency"))
    assert problems == () and settings.for_function("first").goal == "size"
    assert settings.for_function("second").goal == "latency"
    assert settings.skips_function("second", "xdp/two") and not settings.skips_function("first", "xdp")
    mine, _ = honoured(unit, Settings(goal_funcs=("f*=balanced",)))
    assert mine.for_function("first").goal == "balanced"
    assert honoured(unit, Settings())[0].digest != Settings().digest
    untagged = Settings(seed=3)
    assert honoured(unit_object("", "").unit, untagged) == (untagged, ())


@pytest.mark.needs("clang-19")
def test_annotations_are_told_by_name_and_escaped() -> None:
    unit = unit_object("", "").unit
    settings, problems = honoured(unit, Settings(), {"sec*": ("k2:skip", "other"), "first": ("k2:goal=fast",)})
    assert not settings.skips_function("second", "xdp/two"), "a name is no pattern"
    assert len(problems) == 1 and problems[0].startswith("first: unknown attribute 'k2:goal=fast', did you mean 'k2:")

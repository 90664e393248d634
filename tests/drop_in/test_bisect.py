"""`k2 bisect`: the one rewrite that makes a command fail, whatever its object and number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from k2_tools.bisect import BisectError, Trial, search
from synth.record import FunctionRecord, Record, RewriteRecord
from tests.drop_in.compilers import fast_launcher
from tests.wrapper.harness import ROOT, environment, fill

COUNTS = {"a b.o": 1, "sub/b.o": 9, "[c].o": 0, "d.o": 4}
Culprit = tuple[str, int]


def record(count: int) -> Record:
    rewrites = tuple(RewriteRecord(n, f"pass:{n}", "", f"before {n}", "", 1, 0, "test") for n in range(1, count + 1))
    return Record((FunctionRecord("f", "xdp", 20, 20 - count, 0, 0, rewrites),))


class Project:
    """A build of four objects that fails when all of the culprits are in it; it counts how often it is built."""

    def __init__(self, *culprits: Culprit, is_broken: bool = False) -> None:
        self.culprits, self.is_broken, self.runs = culprits, is_broken, 0

    def trial(self, variables: Mapping[str, str]) -> Trial:
        self.runs += 1
        last = int(variables.get("K2_LAST", "99"))
        patterns = variables.get("K2_SKIP_FILES", "").split()
        done = {name: min(count, last) for name, count in COUNTS.items()}
        if variables.get("K2_TIERS") == "none":
            done = dict.fromkeys(COUNTS, 0)
        done = {name: 0 if any(fnmatchcase(name, one) for one in patterns) else n for name, n in done.items()}
        is_bad = self.is_broken or (bool(self.culprits) and all(done[name] >= number for name, number in self.culprits))
        return Trial(not is_bad, {name: record(count) for name, count in done.items()})


@pytest.mark.parametrize("culprit", [(name, number) for name in COUNTS for number in range(1, COUNTS[name] + 1)])
def test_every_rewrite_is_found_in_few_runs(culprit: Culprit) -> None:
    project = Project(culprit)
    found = search(project.trial, lambda line: None)
    assert (found.output, found.number, found.function) == (*culprit, "f")
    assert [rewrite.number for rewrite in found.rewrites] == [culprit[1]]
    assert project.runs <= 12


@pytest.mark.parametrize(
    ("project", "words"),
    [
        (Project(), "does not fail"),
        (Project(is_broken=True), "fails without any rewrite too"),
        (Project(("a b.o", 1), ("d.o", 2)), "d.o is the object with which it begins to fail, but alone it does not"),
    ],
)
def test_what_cannot_be_found_is_said(project: Project, words: str) -> None:
    with pytest.raises(BisectError, match=words):
        search(project.trial, lambda line: None)


def test_command_that_compiles_nothing_is_said() -> None:
    trials = iter([Trial(True, {}), Trial(False, {})])
    with pytest.raises(BisectError, match="must compile anew"):
        search(lambda variables: next(trials), lambda line: None)


# Three rewrites that do not depend on one another: stores that are merged into wider ones.
STORES = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned data, data_end; };
#define START unsigned char *data = (void *)(long)context->data, *end = (void *)(long)context->data_end; \\
    if (data + 64 > end) return 1;
SEC("xdp") int one(struct xdp_md *context) { START data[0] = data[1] = 0; return 2; }
SEC("xdp") int two(struct xdp_md *context) { START data[8] = data[9] = data[10] = data[11] = 7; return 2; }
SEC("xdp") int three(struct xdp_md *context) { START data[16] = data[17] = 9; return 2; }
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.needs("clang-19", "llvm-objdump-19")
def test_the_command_finds_it_in_a_real_build(tmp_path: Path) -> None:
    """The command fails when the second function has a store of 32 bits."""
    wrapper = fast_launcher(tmp_path / "bin")
    folder = fill(tmp_path / "work", {"stores.c": STORES})
    build = f"{wrapper} --target=bpf -mcpu=v3 -O2 -g -c stores.c -o stores.o"
    store = r"(u32 \*)(r1 [-+] 0x[0-9a-f]*) ="
    script = f"{build} && ! llvm-objdump-19 -d --disassemble-symbols=two stores.o | grep -q '{store}'"
    done = subprocess.run(
        [sys.executable, "-c", "from k2_tools.cli import main; main()", "bisect", "--", "sh", "-c", script],
        cwd=folder,
        env=environment(K2_CLANG="clang-19", K2_EFFORT="0", PYTHONPATH=os.fspath(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stores.o: two: rewrite ") and done.stdout.endswith("K2_SKIP_FUNCS=two\n")
    assert "-" in done.stdout and "+" in done.stdout

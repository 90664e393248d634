"""K2_PLUGIN=auto beside K2_PLUGIN=off: the user's compilation does not notice, and no failure costs more than facts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.wrapper.harness import Seen, fill, launcher, observe

pytestmark = pytest.mark.needs("clang-19", "plugin-19")
ARGUMENTS = shlex.split("--target=bpf -O2 -g -mcpu=v3 -Wall -MD -MP -c prog.c second.c warns.c")
TELLING = """
import synth.pipeline
optimise = synth.pipeline.optimise
def telling(unit, *others):
    with open("seen.txt", "a") as file:
        for function in unit.functions:
            print(function.name, function.accesses, file=file)
    return optimise(unit, *others)
synth.pipeline.optimise = telling
"""
VOLATILE = "int volatile_load(volatile int *p) { return *p; }\nint load(int *p) { return *p; }\n"


def run(tmp_path: Path, plugin: str, arguments: list[str], fault: str = "", **sources: str) -> Seen:
    """k2-clang in a fresh folder, over a clang that writes down its arguments in `log`; reports to `report`."""
    clang = tmp_path / "bin" / "clang"
    wrapper = launcher(tmp_path / "bin", fault=fault)
    clang.write_text('#!/bin/sh\nprintf "<%s> " "$@" >> log\necho >> log\nexec clang-19 "$@"\n')
    clang.chmod(0o755)
    folder = fill(tmp_path / "work")
    for name, text in sources.items():
        (folder / f"{name}.c").write_text(text)
    settings = {"K2_CLANG": str(clang), "K2_PLUGIN": plugin, "K2_EFFORT": "0", "K2_REPORT": "report"}
    return observe([str(wrapper), *arguments], folder, b"", **settings)


def counters(seen: Seen) -> list[str]:
    lines = seen.files["report"][1].decode().splitlines()
    return [reason for line in lines for reason in json.loads(line)["record"]["counters"] if "plugin" in reason]


def test_second_compilation_is_silent_and_leaves_the_first_alone(tmp_path: Path) -> None:
    off, auto = (run(tmp_path, plugin, ARGUMENTS) for plugin in ("off", "auto"))
    assert auto.code == off.code == 0 and auto.stdout == off.stdout and auto.stderr == off.stderr
    assert off.stderr.count(b"unused variable") == 1
    assert auto.without("report") == off.without("report")
    assert {"prog.o", "prog.d", "second.o", "second.d", "log"} < set(auto.files)
    assert auto.files["log"][1].decode().splitlines()[0] == " ".join(f"<{word}>" for word in ARGUMENTS) + " "
    assert counters(auto) == counters(off) == []


@pytest.mark.parametrize("plugin", ["auto", "off"])
def test_facts_of_the_second_compilation_reach_the_unit(tmp_path: Path, plugin: str) -> None:
    arguments = shlex.split("--target=bpf -O2 -mcpu=v3 -c own.c")
    seen = run(tmp_path, plugin, arguments, TELLING, own=VOLATILE).files["seen.txt"][1].decode()
    kinds = "AccessFacts(has_volatile={}, has_atomic=False, has_barrier=False)"
    volatile, plain = (kinds.format(True), kinds.format(False)) if plugin == "auto" else ("None", "None")
    assert seen.splitlines() == [f"volatile_load {volatile}", f"load {plain}"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("llvm_bridge.toolchain.find_plugin = lambda *_: '/dev/null'", "the compilation with the plugin failed"),
        ("llvm_bridge.toolchain.find_plugin = lambda *_: None", "no plugin for LLVM 19"),
    ],
)
def test_failing_second_compilation_costs_the_facts_alone(tmp_path: Path, fault: str, reason: str) -> None:
    arguments = shlex.split("--target=bpf -O2 -g -mcpu=v3 -c prog.c")
    off = run(tmp_path, "off", arguments)
    seen = run(tmp_path, "auto", arguments, f"import llvm_bridge.toolchain\n{fault}")
    assert seen.without("report") == off.without("report")
    assert counters(seen) == [f"no facts from the plugin: {reason}"]


@pytest.mark.parametrize("plugin", ["auto", "off"])
def test_forged_record_is_neither_believed_nor_kept(tmp_path: Path, plugin: str) -> None:
    forged = 'const char r[] __attribute__((section(".k2.facts"), used)) = "k2 facts 2\\n0volatile_load\\0000load";\n'
    arguments = shlex.split("--target=bpf -O2 -mcpu=v3 -c own.c")
    seen = run(tmp_path, plugin, arguments, TELLING, own=VOLATILE + forged)
    assert seen.files["seen.txt"][1] == b"volatile_load None\nload None\n"
    assert b"k2 facts 2" not in seen.files["own.o"][1] and seen.code == 0
    source = [] if plugin == "off" else ["no facts from the plugin: the source has a section .k2.facts of its own"]
    assert sorted(counters(seen)) == sorted(
        [*source, "a section of the object that claims to be our plugin's was removed"]
    )

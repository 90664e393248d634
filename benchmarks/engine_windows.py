"""Windows of real compiled programs in text form, for measuring the engine: `benchmarks/engine_windows.json`.

    python -m benchmarks.engine_windows NAME OBJECT FUNCTION LABEL START STOP SOURCE

adds one: the instructions [START, STOP) of a block of a function of an object, with the facts and the demand there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from synth.rewrite import Window
from synth.window import SearchWindow, search_window
from verifier_model.bpf.asm import parse_insns, print_insn
from verifier_model.bpf.insn import Insn
from verifier_model.facts import analyse
from verifier_model.prover.certificate_values import (
    demand_of,
    demand_value,
    facts_value,
    register_of,
    register_value,
    state_of,
)

STORED: Final = Path(__file__).with_suffix(".json")


def window_value(window: SearchWindow, source: str) -> dict[str, Any]:
    """The window as JSON; `source` says what it was taken from."""
    return {
        "source": source,
        "code": [print_insn(insn) for insn in window.insns],
        "facts": facts_value(window.entry),
        "loaded": {str(at): register_value(fact) for at, fact in enumerate(window.results) if fact is not None},
        "demand": demand_value(window.demand),
        "scratch": list(window.scratch),
        "level": window.level,
        "order": window.byte_order,
    }


def window_of(value: Mapping[str, Any]) -> SearchWindow:
    """The window of `window_value`; raises ValueError or KeyError for anything else."""
    insns: list[Insn] = []
    for line in value["code"]:
        insns += parse_insns(line)
    loaded = value["loaded"]
    results = tuple(register_of(loaded[str(at)]) if str(at) in loaded else None for at in range(len(insns)))
    entry, demand = state_of(value["facts"]), demand_of(value["demand"])
    window = SearchWindow(tuple(insns), entry, results, demand, tuple(value["scratch"]), value["level"], value["order"])
    if window_value(window, value["source"]) != value:
        raise ValueError("a window is not in the form in which it is written")
    return window


def stored_windows() -> dict[str, SearchWindow]:
    """The committed windows by name, in the order of the file."""
    return {name: window_of(value) for name, value in json.loads(STORED.read_text()).items()}


@click.command(help=__doc__)
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("function")
@click.argument("label")
@click.argument("start", type=int)
@click.argument("stop", type=int)
@click.argument("source")
def main(name: str, path: Path, function: str, label: str, start: int, stop: int, source: str) -> None:
    from llvm_bridge.object import Untouched
    from llvm_bridge.reader import read_object

    read = read_object(path.read_bytes(), None)
    if isinstance(read, Untouched):
        raise click.ClickException(read.reason)
    program = read.unit.function(function)
    window = search_window(program, analyse(read.unit, program), read.unit, Window(label, start, stop))
    if window is None:
        raise click.ClickException("a fact that the search needs is missing there")
    known = json.loads(STORED.read_text()) if STORED.exists() else {}
    known[name] = window_value(window, source)
    STORED.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()

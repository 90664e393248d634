"""Whole functions in text form for the tables of the prover's tests; ";" and newlines separate instructions."""

from __future__ import annotations

from typing import Any

from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.unit import Function, MapDef, Unit
from verifier_model.prover import prove_functions
from verifier_model.verdict import Verdict

MAPS = {name: MapDef(name, 2, 4, 8, 16) for name in ("hits", "flows")}


def function(text: str, **fields: Any) -> Function:
    """A function named f; a word followed by ":" begins a block."""
    lines = [line.strip() for line in text.replace(";", "\n").replace(": ", ":\n").splitlines()]
    known = {"name": "f", "section": "xdp", "program_type": "xdp", **fields}
    return parse_function("\n".join(line for line in lines if line) + "\n", **known)


def unit_of(before: Function, *others: Function, order: str = "little") -> Unit:
    return Unit((before, *others), MAPS, byte_order="big" if order == "big" else "little", cpu_level=4)


def compared(before: str, after: str, *others: Function, order: str = "little", **fields: Any) -> Verdict:
    """The verdict on two functions, with guessed cut points."""
    old, new = function(before, **fields), function(after, **fields)
    return prove_functions(old, new, unit_of(old, *others, order=order))

"""What instructions cost: slots, and estimated latency in picoseconds from a named table (DESIGN.md, Goals and cost).

Outside the trust wall. All arithmetic is on integers, so that no machine's rounding can decide the output.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import ROWS, Row

DEFAULT_TABLE = "x86_64"


@dataclass(frozen=True, slots=True)
class CostTable:
    """Picoseconds per row name; `source` says where the numbers come from."""

    name: str
    source: str
    picoseconds: dict[str, int]

    def of(self, row: Row) -> int:
        """Cost of one execution: by row name, else `kind.op`, else kind.  Raises KeyError for an unpriced kind."""
        for key in (row.name, f"{row.kind.value}.{row.op}", row.kind.value):
            if key in self.picoseconds:
                return self.picoseconds[key]
        raise KeyError(f"cost table {self.name} has no price for {row.name}")


class CostError(ValueError):
    """A cost table cannot be read; the text is one sentence."""


_chosen = DEFAULT_TABLE


def choose(name: str) -> None:
    """Let `table` give this table from now on, in this process: a shipped one's name, or the path of a file."""
    global _chosen
    _chosen = name or DEFAULT_TABLE


def table(name: str = "") -> CostTable:
    """The shipped table of that name, or that of a file ("/" in the name); by default the chosen one.

    Raises CostError.
    """
    return _read(name or _chosen)


@cache
def _read(name: str) -> CostTable:
    try:
        text = (Path(name) if "/" in name else files("synth").joinpath("costs", f"{name}.toml")).read_text()
        data = tomllib.loads(text)
        prices = {key: int(value) for key, value in data["picoseconds"].items()}
        found = CostTable(name, data["source"], prices)
        for row in ROWS:
            found.of(row)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CostError(f"no cost table in {name}: {error}") from None
    if min(prices.values()) < 0:
        raise CostError(f"no cost table in {name}: a cost below zero")
    return found


def slots(insns: Iterable[Insn]) -> int:
    return sum(insn.slots for insn in insns)


def latency(insns: Iterable[Insn], prices: CostTable | None = None) -> int:
    """Picoseconds of one pass over a straight line of instructions."""
    prices = prices or table()
    return sum(prices.of(insn.row) for insn in insns)

"""What instructions cost: slots, and estimated latency in picoseconds from a named table (DESIGN.md, Goals and cost).

Outside the trust wall. All arithmetic is on integers, so that no machine's rounding can decide the output.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import Row

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


@cache
def table(name: str = DEFAULT_TABLE) -> CostTable:
    """The shipped table of that name; raises FileNotFoundError when there is none."""
    with files("synth").joinpath("costs", f"{name}.toml").open("rb") as stream:
        data = tomllib.load(stream)
    return CostTable(name, data["source"], {key: int(value) for key, value in data["picoseconds"].items()})


def slots(insns: Iterable[Insn]) -> int:
    return sum(insn.slots for insn in insns)


def latency(insns: Iterable[Insn], prices: CostTable | None = None) -> int:
    """Picoseconds of one pass over a straight line of instructions."""
    prices = prices or table()
    return sum(prices.of(insn.row) for insn in insns)

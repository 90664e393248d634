"""What is measured: the committed list of samples, and what K2 makes of those that it was measured on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from verifier_model.bpf.sections import program_type

HERE: Final = Path(__file__).parent
NETWORK: Final = "xdp, tc and socket filter"
TRACING: Final = "tracing"
OTHER: Final = "other"
COMMON: Final = "xdp_sample.bpf.c"
_GROUPS: Final = {
    **dict.fromkeys(("xdp", "sched_cls", "sched_act", "socket_filter"), NETWORK),
    **dict.fromkeys(("kprobe", "tracepoint", "raw_tracepoint", "perf_event", "tracing"), TRACING),
}


@dataclass(frozen=True, slots=True)
class Prior:
    """K2's figures for one function: slots before and after as published, and as measured by us.

    `same`: is it the same C program?  Where not, the samples of Linux 6.1 replaced it by one that does more.
    """

    name: str
    paper: tuple[int, int]
    measured: tuple[int, int] | None
    same: bool

    @property
    def best_cut(self) -> float:
        """The larger of the two cuts, in percent of before."""
        both = [self.paper] if self.measured is None else [self.paper, self.measured]
        return max(100 * (before - after) / before for before, after in both)


@cache
def samples() -> Mapping[str, Mapping[str, str]]:
    """File -> program type by section, for the sections whose names tell libbpf nothing."""
    found: Mapping[str, Mapping[str, str]] = tomllib.loads((HERE / "programs.toml").read_text())["files"]
    return found


@cache
def linked() -> frozenset[str]:
    """Files whose objects the samples' Makefile joins with that of `COMMON` before anything loads them."""
    return frozenset(tomllib.loads((HERE / "programs.toml").read_text())["linked"])


@cache
def priors() -> Mapping[tuple[str, str], Prior]:
    """(file, function) -> what K2 makes of it."""
    rows = tomllib.loads((HERE / "prior.toml").read_text())["row"]
    return {
        (row["file"], row["function"]): Prior(
            row["k2"], tuple(row["paper"]), tuple(row["measured"]) if "measured" in row else None, row["same"]
        )
        for row in rows
    }


def type_of(section: str, types: Mapping[str, str]) -> str | None:
    """The program type of a section: libbpf's word, else the list's."""
    return program_type(section) or types.get(section)


def group_of(kind: str | None) -> str:
    """Which part of the table a program type belongs to."""
    return _GROUPS.get(kind or "", OTHER)

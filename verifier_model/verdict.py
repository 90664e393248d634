"""The prover's question and its three answers.  `UNKNOWN` is never success (DESIGN.md, promise 2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Function, Unit
from verifier_model.domains.state import State


@dataclass(frozen=True, slots=True)
class Obligation:
    """Does `after` refine `before` in every initial state that satisfies `entry`, as far as `demand` can see?

    Both are straight-line runs inside one block; a branch or exit may only come last, and then in both.
    `unit` and `function` give maps, byte order and program type.
    """

    before: tuple[Insn, ...]
    after: tuple[Insn, ...]
    entry: State
    demand: Demand
    unit: Unit
    function: Function


class Status(Enum):
    PROVED = "PROVED"
    REFUTED = "REFUTED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Counterexample:
    """An initial state on which the two differ, in the concrete form that test inputs have.

    `registers[i]` is the 64-bit start value of ri; `memory` maps addresses to byte values, in the same address space;
    `call_results` lists the r0 values that successive calls returned.  `difference` names the first observable that
    differs, with both programs' values.
    """

    registers: tuple[int, ...]
    memory: tuple[tuple[int, int], ...]
    call_results: tuple[int, ...]
    difference: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is set for UNKNOWN, `counterexample` for REFUTED; `method` says how PROVED was reached."""

    status: Status
    reason: str = ""
    counterexample: Counterexample | None = None
    method: str = ""

    @property
    def is_proved(self) -> bool:
        return self.status is Status.PROVED

"""The prover's questions and its three answers.  `UNKNOWN` is never success (DESIGN.md, promise 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.bpf.insn import Insn, Ref
from verifier_model.bpf.unit import Block, Function, Unit
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


@dataclass(frozen=True, slots=True)
class RegionObligation:
    """Does one acyclic piece of a function refine another, from every state that satisfies `entry`?

    `before` and `after` are blocks in layout order; each region is entered at its first block, and its last block falls
    through to `next_label` ("" when it cannot).  A branch to a label outside of the region's own blocks is an exit of
    the region; `demands` says for each exit what is looked at behind it (a missing one demands everything).
    """

    before: tuple[Block, ...]
    after: tuple[Block, ...]
    next_label: str
    entry: State
    demands: Mapping[str, Demand]
    unit: Unit
    function: Function


@dataclass(frozen=True, slots=True)
class InRegister:
    """The bits of register `number` (0 to 9) that `bits` masks."""

    number: int
    bits: int = ALL_BITS


@dataclass(frozen=True, slots=True)
class OnStack:
    """Eight bytes of the function's own frame; `off` from r10 in bytes, negative, a multiple of 8."""

    off: int


@dataclass(frozen=True, slots=True)
class Equality:
    """What `after` holds in one place equals what `before` holds in another, or a number, or a symbol's address.

    In a register `after`, only the bits of its mask; a mask in `before` is not looked at.  A symbol means what a wide
    load of it gives.
    """

    after: InRegister | OnStack
    before: InRegister | OnStack | int | Ref


@dataclass(frozen=True, slots=True)
class CutPoint:
    """What a proposer believes whenever `before` stands at the start of one block and `after` at that of another.

    `equalities` relate what the two hold there.  Bytes of the frame (negative offsets from r10) are the same in both,
    except where `unlike` or an equality says otherwise.  Nothing is said of any other register.
    """

    before: str
    after: str
    equalities: tuple[Equality, ...]
    unlike: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class FunctionObligation:
    """Does the whole function `after` refine `before`?  Both start in one and the same state.

    `cuts` pairs program points; each cycle of either program that the prover cannot run to its end must pass one.  A
    label may be in several pairs.  The prover believes none of it: from each pair every way leads to a pair where what
    is believed holds again, or to an exit.  `unit` holds `before`; calls of equal names count as equal callees, which
    must be proved in their turn.
    """

    before: Function
    after: Function
    unit: Unit
    cuts: tuple[CutPoint, ...] = ()


Shown = tuple[str, int | None]  # an instruction, and the number that it set or stored; 1 for a branch that is taken


class Status(Enum):
    PROVED = "PROVED"
    REFUTED = "REFUTED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Counterexample:
    """An initial state on which the two differ, in the concrete form that test inputs have.

    `registers[i]` is the 64-bit start value of ri; `memory` maps addresses to byte values, in the same address space;
    `call_results` lists the r0 values that successive calls returned.  `difference` names the first observable that
    differs, with both programs' values.  `steps`: what either program ran, where that is known.
    """

    registers: tuple[int, ...]
    memory: tuple[tuple[int, int], ...]
    call_results: tuple[int, ...]
    difference: str
    steps: tuple[tuple[Shown, ...], tuple[Shown, ...]] = ((), ())


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

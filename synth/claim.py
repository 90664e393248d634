"""One rewrite of a certificate: what is claimed, at which point of which program, and the question that decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth.rewrite import Rewrite, Window
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.unit import Function, Unit
from verifier_model.domains.state import State
from verifier_model.prover.certificate_values import (
    demand_of,
    demand_value,
    fact_text,
    facts_value,
    insn_of,
    insn_value,
    state_of,
)
from verifier_model.prover.refinement import scripts
from verifier_model.prover.smtlib_text import comment
from verifier_model.verdict import Obligation


@dataclass(frozen=True, slots=True)
class Claim:
    """`rewrite` refines the program that `applied` rewrites of its function have made of the input.

    `number` counts from 1 over the object, in the order of application.  The facts of `entry` and the demand were
    derived on the program that the first `basis` rewrites of the function made; `derived` says where each fact comes
    from, by its place.  `method` says how our own prover decided.
    """

    number: int
    function: str
    rewrite: Rewrite
    applied: int
    basis: int
    entry: State
    demand: Demand
    method: str
    derived: Mapping[str, Sequence[str]]

    @property
    def file(self) -> str:
        """The name of the file with the query."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "-" for c in self.function)
        return f"{self.number:04}-{plain[:80]}.smt2"

    @property
    def companion(self) -> str:
        """The name of the file that asks whether the assumptions can be met at all."""
        return self.file.removesuffix(".smt2") + ".sat.smt2"

    def obligation(self, unit: Unit, function: Function) -> Obligation:
        """The question; `unit` and `function` are the program of `basis`."""
        strip = [tuple(insn if insn.origin.core else insn.without_origin() for insn in insns) for insns in self.code]
        return Obligation(strip[0], strip[1], self.entry, self.demand, unit, function)

    @property
    def code(self) -> tuple[Any, Any]:
        return self.rewrite.before, self.rewrite.after

    def texts(self, unit: Unit, function: Function) -> tuple[str, str]:
        """The contents of `file` and of `companion`.

        Where the prover has no event-by-event query for these programs, both say why, and prove nothing.
        """
        try:
            query, companion = scripts(self.obligation(unit, function))
        except ValueError as error:
            query = companion = comment(f"no query: {error}")
        head = comment(self._heading())
        unsat = comment("Expected answer: unsat. No state that satisfies the facts tells the two apart.")
        sat = comment("Expected answer: sat. Some state satisfies the facts, so the proof is not an empty one.")
        return head + unsat + query, head + sat + companion

    def _heading(self) -> str:
        window = self.rewrite.window
        lines = [
            f"k2-clang certificate: rewrite {self.number}",
            f"function: {self.function}, after {self.applied} rewrites",
            f"point: {window.label}:{window.start} to {window.label}:{window.stop}",
            f"proposer: {self.rewrite.proposer}",
            "before:",
            *(f"    {print_insn(insn)}" for insn in self.rewrite.before),
            "after:",
            *(f"    {print_insn(insn)}" for insn in self.rewrite.after),
            f"facts at {window.label}:{window.start}, after {self.basis} rewrites:",
        ]
        for place, fact in facts_value(self.entry).items():
            lines.append(f"    {place}: {fact_text(fact)}")
            lines += [f"        {line}" for line in self.derived.get(place, ())]
        lines.append(f"demanded at {window.label}:{window.stop}:")
        wanted = demand_value(self.demand)
        lines += [f"    {register}: bits {bits}" for register, bits in wanted["regs"].items()]
        lines += [f"    bytes r10{low} to r10{high}" for low, high in wanted["stack"]]
        return "\n".join([*lines, f"our verdict: PROVED ({self.method})"])

    # ---- as JSON ----

    def value(self, order: ByteOrder) -> dict[str, Any]:
        """Everything but the files' digests, ready for JSON."""
        window = self.rewrite.window
        return {
            "number": self.number,
            "function": self.function,
            "point": {"label": window.label, "start": window.start, "stop": window.stop},
            "proposer": self.rewrite.proposer,
            "why": self.rewrite.why,
            "applied": self.applied,
            "basis": self.basis,
            "before": [insn_value(insn, order) for insn in self.rewrite.before],
            "after": [insn_value(insn, order) for insn in self.rewrite.after],
            "facts": facts_value(self.entry),
            "derived": {place: list(lines) for place, lines in self.derived.items()},
            "demand": demand_value(self.demand),
            "method": self.method,
        }


def claim_of(value: Mapping[str, Any], order: ByteOrder) -> Claim:
    """The claim whose `value` this is; raises ValueError for anything else."""
    try:
        point = value["point"]
        claim = Claim(
            value["number"],
            value["function"],
            Rewrite(
                Window(point["label"], point["start"], point["stop"]),
                tuple(insn_of(insn, order) for insn in value["before"]),
                tuple(insn_of(insn, order) for insn in value["after"]),
                value["proposer"],
                value["why"],
            ),
            value["applied"],
            value["basis"],
            state_of(value["facts"]),
            demand_of(value["demand"]),
            value["method"],
            value["derived"],
        )
        if claim.value(order) != value:
            raise ValueError("there is more in it than belongs there")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"no claim: {type(error).__name__}: {error}") from error
    return claim

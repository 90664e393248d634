"""A whole function for another, with the relation between the two at cut points: one claim, many questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from verifier_model.bpf.asm import print_function
from verifier_model.bpf.insn import ByteOrder
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.checker.callgraph import roots_of
from verifier_model.prover.certificate_values import cut_of, cut_value, insn_of, insn_value
from verifier_model.prover.cuts import describe
from verifier_model.prover.queries import function_companions, function_queries
from verifier_model.prover.smtlib_text import comment
from verifier_model.verdict import CutPoint, FunctionObligation

UNSAT, SAT = "unsat", "sat"
ENDING: Final = {UNSAT: ".smt2", SAT: ".sat.smt2"}


@dataclass(frozen=True, slots=True)
class Whole:
    """The function `name`, after `applied` changes of its own, is refined by one of the same interface with `after`.

    `context`: the program type whose context it is handed.  `cuts` are obligations: the questions are what is to be
    shown from each of them to the next, whatever the proposer believed.
    """

    name: str
    applied: int
    context: str | None
    after: tuple[Block, ...]
    cuts: tuple[CutPoint, ...]
    method: str

    def obligation(self, unit: Unit, program: Function) -> FunctionObligation:
        """The question; `program` is the function after its rewrites, in `unit`."""
        before = replace(program, program_type=self.context)
        return FunctionObligation(before, replace(before, blocks=self.after), unit.with_function(before), self.cuts)

    def texts(self, unit: Unit, program: Function) -> dict[str, tuple[str, str]]:
        """The expected answer and the text of each file, by the file's name; raises ValueError without any."""
        obligation = self.obligation(unit, program)
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "-" for c in self.name)
        files = {}
        for answer, questions in ((UNSAT, function_queries(obligation)), (SAT, function_companions(obligation))):
            for number, (what, text) in enumerate(questions, 1):
                head = comment(f"{self._heading(program)}\n{what}\nExpected answer: {answer}.")
                files[f"whole-{plain[:80]}-{self.applied:04}-{number:04}{ENDING[answer]}"] = (answer, head + text)
        return files

    def _heading(self, program: Function) -> str:
        lines = [f"k2-clang certificate: the whole function {self.name}, after {self.applied} rewrites", "before:"]
        lines += [f"    {line}" for line in print_function(program).splitlines()]
        lines.append("after:")
        lines += [f"    {line}" for line in print_function(replace(program, blocks=self.after)).splitlines()]
        for cut in self.cuts:
            lines.append(f"at {cut.before} before and {cut.after} after, what after holds (left) is what before holds:")
            lines += [f"    {describe(equal.after)} = {describe(equal.before)}" for equal in cut.equalities]
        return "\n".join([*lines, f"our verdict: PROVED ({self.method})"])

    # ---- as JSON ----

    def value(self, order: ByteOrder) -> dict[str, Any]:
        """Everything but the files' digests, ready for JSON."""
        return {
            "function": self.name,
            "applied": self.applied,
            "context": self.context,
            "after": [[block.label, [insn_value(insn, order) for insn in block.insns]] for block in self.after],
            "cuts": [cut_value(cut) for cut in self.cuts],
            "method": self.method,
        }


def context_of(unit: Unit, function: Function) -> str | None:
    """The program type whose context a subprogram is handed: that of all programs from which it is called."""
    types = {root.program_type for root in roots_of(unit, function)}
    return types.pop() if function.is_subprogram and len(types) == 1 else function.program_type


def whole_of(value: Mapping[str, Any], order: ByteOrder) -> Whole:
    """The claim whose `value` this is; raises ValueError for anything else."""
    try:
        whole = Whole(
            value["function"],
            value["applied"],
            value["context"],
            tuple(Block(label, tuple(insn_of(insn, order) for insn in insns)) for label, insns in value["after"]),
            tuple(cut_of(cut) for cut in value["cuts"]),
            value["method"],
        )
        if whole.value(order) != value:
            raise ValueError("there is more in it than belongs there")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"no claim about a whole function: {type(error).__name__}: {error}") from error
    return whole

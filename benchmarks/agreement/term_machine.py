"""A machine over any algebra: straight code on terms, with memory by the byte at addresses that are known numbers.

It runs beside a concrete machine that knows where each access goes, so addresses need not be solved for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verifier_model.bpf import evaluate
from verifier_model.bpf.insn import ByteOrder, Insn
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind, Operand
from verifier_model.prover.terms import Term, Terms

Fresh = Callable[[int], Term]


class TermMachine:
    """r0 to r10 and memory as terms.  `fresh(address)` names the byte that lies at an address before anybody wrote."""

    def __init__(self, terms: Terms, registers: list[Term], order: ByteOrder, fresh: Fresh) -> None:
        self.terms = terms
        self.registers = registers
        self.order = order
        self.memory: dict[int, Term] = {}
        self._fresh = fresh

    def operand(self, insn: Insn) -> Term:
        if insn.row.operand is Operand.REG:
            return self.registers[insn.src]
        return self.terms.const(64, insn.imm)

    def taken(self, insn: Insn) -> Term:
        """The condition of a branch, a term of one bit."""
        condition: Term = evaluate.branch_taken(self.terms, insn.row, self.registers[insn.dst], self.operand(insn))
        return condition

    def step(self, insn: Insn, address: int, wide: int = 0) -> None:
        """One instruction that is no branch; `address` is where it accesses memory, `wide` what a symbol stands for."""
        registers, row, terms = self.registers, insn.row, self.terms
        if insn.kind is Kind.ALU:
            registers[insn.dst] = evaluate.alu_result(terms, row, registers[insn.dst], self.operand(insn))
        elif insn.kind is Kind.ENDIAN:
            registers[insn.dst] = evaluate.endian_result(terms, row, registers[insn.dst], self.order)
        elif insn.kind is Kind.LOAD_WIDE:
            registers[insn.dst] = terms.const(64, insn.imm if insn.ref is None else wide)
        elif insn.kind in LOAD_KINDS:
            registers[insn.dst] = evaluate.loaded(terms, row, self.load(address, row.size))
        elif insn.kind in STORE_KINDS:
            self.store(address, row.size, evaluate.stored(terms, row, self.operand(insn)))
        elif insn.kind is Kind.ATOMIC:
            self._atomic(insn, address)
        else:
            raise NotImplementedError(row.name)

    def _atomic(self, insn: Insn, address: int) -> None:
        old = self.load(address, insn.row.size)
        new = evaluate.atomic_memory(self.terms, insn.row, old, self.registers[insn.src], self.registers[0])
        self.store(address, insn.row.size, new)
        destination = evaluate.atomic_destination(insn.row, insn.src)
        if destination is not None:
            self.registers[destination] = self.terms.zext(64, old)

    def load(self, address: int, size: int) -> Term:
        places = range(address, address + size)
        parts = [self.byte(place) for place in (places if self.order == "little" else reversed(places))]
        return self.terms.concat(parts)

    def byte(self, address: int) -> Term:
        if address not in self.memory:
            self.memory[address] = self._fresh(address)
        return self.memory[address]

    def store(self, address: int, size: int, value: Any) -> None:
        for index in range(size):
            low = 8 * (index if self.order == "little" else size - 1 - index)
            self.memory[address + index] = self.terms.slice(value, low, 8)

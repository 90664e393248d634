"""What each register holds, as a name that two instruction runs from one entry state share: equal names, equal values.

Addresses are split into a root and a constant distance, so that accesses of both runs can be compared byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, Insn, RefKind
from verifier_model.bpf.isa import LOAD_KINDS, STORE_KINDS, Kind, Operand

Term = tuple[object, ...]
_LIMIT: Final = 1 << 32


class Address(NamedTuple):
    """`off` bytes from the value named `root`."""

    root: Term
    off: int


class Access(NamedTuple):
    """One access to memory; `version` names what memory held before it."""

    address: Address
    size: int
    is_store: bool
    version: int


@dataclass(slots=True)
class Names:
    """Numbers for memory versions, shared by the runs that are compared."""

    versions: dict[tuple[object, ...], int] = field(default_factory=dict)

    def number(self, key: tuple[object, ...]) -> int:
        return self.versions.setdefault(key, len(self.versions) + 1)


class Run:
    """Names of all registers while a run of instructions is read; `step` advances by one instruction."""

    __slots__ = ("_names", "calls", "regs", "version")

    def __init__(self, names: Names) -> None:
        self.regs: list[Address] = [Address(("in", reg), 0) for reg in range(REGISTER_COUNT)]
        self.version = 0
        self.calls = 0
        self._names = names

    def shape(self, insn: Insn) -> Term:
        """The instruction with names for the registers that it reads: equal shapes do equal things.

        What it reads of memory is told by the version, so a load behind a different store has a different shape.
        """
        row = insn.row
        if insn.kind is Kind.CALL:
            operands: Term = tuple(self.regs[1:6])
        elif insn.kind is Kind.EXIT:
            operands = (self.regs[0],)
        elif insn.kind is Kind.LEGACY_LOAD:
            # The number is added to the register before the kernel looks at either (net/core/filter.c, bpf_gen_ld_abs).
            root, off = self.regs[insn.src] if "src" in row.uses else (None, 0)
            return row.name, (self.regs[6], root, off + insn.imm), insn.origin.core, self.version
        else:
            reads_src = "src" in row.uses
            reads_dst = "dst" in row.uses and insn.kind not in LOAD_KINDS and row.op != "mov"
            operands = (self.regs[insn.dst] if reads_dst else None, self.regs[insn.src] if reads_src else None)
            if row.op == "cmpxchg":
                operands = (*operands, self.regs[0])
        reads_memory = row.is_memory_access or insn.kind in (Kind.CALL, Kind.LEGACY_LOAD)
        version = self.version if reads_memory and insn.kind not in STORE_KINDS else 0
        return row.name, operands, insn.off, insn.imm, insn.ref, insn.origin.core, version

    def access(self, insn: Insn) -> Access | None:
        """The memory access that the instruction makes by itself."""
        if not insn.row.is_memory_access:
            return None
        is_load = insn.kind in LOAD_KINDS
        root, off = self.regs[insn.src if is_load else insn.dst]
        return Access(Address(root, off + insn.off), insn.row.size, not is_load, self.version)

    def step(self, insn: Insn) -> None:
        shape = self.shape(insn)
        kind = insn.kind
        if kind in (Kind.CALL, Kind.LEGACY_LOAD):
            self.calls += 1
            self.regs[0:6] = [Address(("call", self.calls, reg), 0) for reg in range(6)]
            self.version = self._names.number((self.version, shape))
        elif kind in STORE_KINDS or kind is Kind.ATOMIC:
            self.version = self._names.number((self.version, shape))
            if kind is Kind.ATOMIC and insn.row.fetch:
                self.regs[0 if insn.row.op == "cmpxchg" else insn.src] = Address(("old", self.version), 0)
        elif "dst" in insn.row.uses and kind is not Kind.BRANCH:
            self.regs[insn.dst] = self._result(insn, shape)

    def _result(self, insn: Insn, shape: Term) -> Address:
        row = insn.row
        if not insn.origin.core and insn.ref is not None and insn.ref.kind is RefKind.DATA:
            # Two places of one section are a known distance apart, wherever the loader puts it.
            return Address((row.name, insn.ref.name), insn.ref.addend + insn.imm)
        if insn.origin.core or insn.ref is not None or row.width != 64:
            return Address(shape, 0)
        if row.name == "mov64_reg":
            return self.regs[insn.src]
        if row.op in ("add", "sub") and row.operand is Operand.IMM and insn.dst != FRAME_POINTER:
            root, off = self.regs[insn.dst]
            moved = off + (insn.imm if row.op == "add" else -insn.imm)
            if abs(moved) < _LIMIT:
                return Address(root, moved)
        return Address(shape, 0)

"""The concrete machine, one instruction at a time through branches and static calls, for whoever runs beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from verifier_model.bpf.concrete import FRAME_BYTES, POISON, Machine, Stop, run_insns
from verifier_model.bpf.insn import FRAME_POINTER, Insn, RefKind
from verifier_model.bpf.unit import Function, Point, Unit


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction that is about to run; the machine is in the state before it."""

    function: str
    point: Point
    insn: Insn


@dataclass
class Stepper:
    """A run of one function; `stop` and `reason` tell how it ended once the steps are over."""

    unit: Unit
    name: str
    machine: Machine
    stop: Stop = Stop.STEPS
    reason: str = ""

    def steps(self, most: int = 100_000) -> Iterator[Step]:
        """Yields before each instruction, then runs it."""
        function, at, index = self.unit.function(self.name), 0, 0
        saved: list[tuple[Function, int, int, list[int]]] = []
        for _ in range(most):
            while at < len(function.blocks) and index == len(function.blocks[at].insns):
                at, index = at + 1, 0
            if at == len(function.blocks):
                self.stop = Stop.END
                return
            insn = function.blocks[at].insns[index]
            yield Step(function.name, Point(function.blocks[at].label, index), insn)
            index += 1
            callee = self._callee(insn)
            if callee is not None:
                saved.append((function, at, index, self.machine.registers[6:]))
                frame = self.machine.registers[FRAME_POINTER] - FRAME_BYTES
                self.machine.registers[0], self.machine.registers[6:] = POISON, [POISON] * 4 + [frame]
                function, at, index = callee, 0, 0
                continue
            outcome = run_insns((insn,), self.machine)
            if outcome.stop is Stop.EXIT and saved:
                function, at, index, kept = saved.pop()
                self.machine.registers[1:] = [POISON] * 5 + kept
            elif outcome.stop is Stop.JUMP:
                at, index = _index(function, outcome.label), 0
            elif outcome.stop is not Stop.END:
                self.stop, self.reason = outcome.stop, outcome.reason
                return

    def _callee(self, insn: Insn) -> Function | None:
        if insn.row.name != "call_local" or insn.ref is None or insn.ref.kind is not RefKind.FUNCTION:
            return None
        return self.unit.function(insn.ref.name)


def _index(function: Function, label: str) -> int:
    return next(at for at, block in enumerate(function.blocks) if block.label == label)

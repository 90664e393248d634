"""What a step of abstract execution needs besides the state: the object, the function and a source of fresh ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from verifier_model.bpf.btf import Kind
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.knowledge import Knowledge
from verifier_model.contracts.attach import ContextArgument, context_arguments
from verifier_model.contracts.global_functions import Parameter, Passed, parameters
from verifier_model.contracts.programs import ProgramType, program_of
from verifier_model.domains.registers import ObjectType, Region, Register, Trust
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State

ZERO: Final = Scalar.const(0)
# The start of the packet, of its metadata and the packet's end are one object each; `id` names "no variable part".
PACKET_START: Final = Register(Region.PACKET, ZERO, id=1, base=1)
META_START: Final = Register(Region.PACKET_META, ZERO, id=2, base=2)
PACKET_END: Final = Register(Region.PACKET_END, ZERO, id=3, base=3)
CONTEXT: Final = Register(Region.CTX, ZERO, id=4, base=4)
FRAME: Final = Register(Region.STACK, ZERO)
UNINIT: Final = Register.uninit()
UNKNOWN: Final = Register.unknown()
# Of this state nothing may be concluded: any register may be uninitialised.
NOTHING_KNOWN: Final = State((*[UNINIT] * 10, FRAME))
FIRST_FREE_ID: Final = 16
MAX_PACKET_OFF: Final = 0xFFFF
MAX_VAR_OFF: Final = 1 << 29


class Environment:
    """One analysis.  `root` is the function that the kernel verifies; `function` the one that runs now: `root` itself
    or a static subprogram called from it.

    `knows`: derive only what this kernel derives too, for the acceptance check; None for facts, which need no modesty.
    Ids count up, so that equal analyses give equal ids.  `absences`: why helpers may not be used, once that was asked.
    `pointer_slots`: stack slots, by the frame's function and offset, that some path stores a pointer to; `plain_slots`:
    those that were read as if none ever did (`check` begins anew when one does).  `touched`: what the conditions of an
    instruction looked at of the stack: frame, first byte, end, and whether anything depends on what is there.
    """

    __slots__ = (
        "_arguments",
        "absences",
        "function",
        "knows",
        "next_id",
        "plain_slots",
        "pointer_slots",
        "program",
        "root",
        "symbols",
        "touched",
        "unit",
    )

    def __init__(
        self, unit: Unit, root: Function, knows: Knowledge | None = None, first_id: int = FIRST_FREE_ID
    ) -> None:
        self.unit = unit
        self.root = root
        self.function = root
        self.knows = knows
        self.next_id = first_id
        self.symbols = {name: -1 - at for at, name in enumerate((*unit.maps, *unit.data))}
        self.program: ProgramType | None = program_of(root)
        self.absences: dict[int, str | None] = {}
        self.pointer_slots: set[tuple[str, int]] = set()
        self.plain_slots: set[tuple[str, int]] = set()
        self.touched: list[tuple[int, int, int, bool]] = []
        self._arguments: tuple[ContextArgument, ...] | str | None = None

    @property
    def modest(self) -> bool:
        """Does a kernel's own ignorance count (the acceptance check), or do facts follow from semantics alone?"""
        return self.knows is not None

    @property
    def arguments(self) -> tuple[ContextArgument, ...] | str:
        """The arguments in the root's context, or why they are not known."""
        if self._arguments is None:
            self._arguments = context_arguments(self.root, self.unit.kernel_types)
        return self._arguments

    def fresh(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def symbol_id(self, name: str) -> int:
        """One id per map or data section, the same in every analysis of the object; negative, apart from all others."""
        return self.symbols[name]

    def entry(self) -> State:
        """The state at the root's first instruction: programs get their context, global functions unknown arguments."""
        regs = [UNINIT] * 10 + [FRAME]
        passed = parameters(self.unit, self.root, self.root.program_type) if self.root.is_subprogram else ()
        if self.modest and self.root.is_global and not isinstance(passed, str) and self.root.is_subprogram:
            for reg, parameter in enumerate(passed, 1):
                regs[reg] = self._passed(parameter)
        elif self.root.is_subprogram:
            count = self.root.argument_count
            for reg in range(1, (5 if count is None else count) + 1):
                regs[reg] = UNKNOWN
        else:
            regs[1] = CONTEXT
        return State(tuple(regs))

    def _passed(self, parameter: Parameter) -> Register:
        """What a global function may know of an argument."""
        if parameter.passed is Passed.NUMBER:
            return Register.scalar(Scalar.top())
        if parameter.passed is Passed.CONTEXT:
            return CONTEXT
        fresh = Register(Region.MEMORY, ZERO, id=self.fresh(), base=self.fresh(), nullable=parameter.nullable)
        if parameter.passed is Passed.MEMORY:
            return replace(fresh, size=parameter.size)
        types = self.unit.kernel_types or self.unit.types
        type_id = types.named(parameter.name, Kind.STRUCT) if types is not None else 0
        return replace(fresh, region=Region.OBJECT, object=ObjectType(parameter.name, type_id, Trust.TRUSTED))


def with_reg(state: State, reg: int, new: Register) -> State:
    regs = state.regs
    return State((*regs[:reg], new, *regs[reg + 1 :]), state.stack, state.callers, state.references)


def each_register(state: State, change: Callable[[Register], Register]) -> State:
    """The state with `change` applied to every register and spilled register of every frame."""
    return State(
        tuple(map(change, state.regs)),
        _each_spill(state.stack, change),
        tuple(
            replace(frame, regs=tuple(map(change, frame.regs)), stack=_each_spill(frame.stack, change))
            for frame in state.callers
        ),
        state.references,
    )


def _each_spill(stack: Mapping[int, StackSlot], change: Callable[[Register], Register]) -> Mapping[int, StackSlot]:
    changed = dict(stack)
    for off, slot in stack.items():
        if slot.spill is not None:
            new = change(slot.spill)
            if new is not slot.spill:
                changed[off] = StackSlot(slot.marks, new)
    return changed

"""One BPF function to one LLVM function: `i64 (state block, r1..r5, r10)`, registers in allocas, a block for a block.

What an instruction computes comes from its row through `bpf.evaluate`; this file only says where operands come from
and where results go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llvmlite import ir

from llvm_bridge.native.algebra import IrAlgebra
from llvm_bridge.native.layout import FRAME_BYTES, POISON, Stop, Word
from llvm_bridge.native.runtime import I64, POINTER, Runtime, State, word
from verifier_model.bpf import evaluate
from verifier_model.bpf.insn import FRAME_POINTER, REGISTER_COUNT, ByteOrder, Insn, Ref, RefKind
from verifier_model.bpf.isa import Kind, Operand
from verifier_model.bpf.unit import Function, Point

FUNCTION_TYPE: Final = ir.FunctionType(I64, [POINTER] + [I64] * 6)
_CALLBACK_TYPE: Final = ir.FunctionType(I64, [I64])
_ARGUMENTS: Final = (1, 2, 3, 4, 5, FRAME_POINTER)


@dataclass
class Module:
    """A module under construction: the runtime, and the numbers of all instructions in it."""

    order: ByteOrder
    is_traced: bool
    address: Callable[[Ref], int]
    llvm: Any = field(default_factory=lambda: ir.Module("bpf"))
    places: list[tuple[str, Point]] = field(default_factory=list)
    functions: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runtime = Runtime(self.llvm, self.order)

    def declare(self, names: Mapping[str, str]) -> None:
        """Declare BPF functions by name under the symbols that they get."""
        for name, symbol in names.items():
            self.functions[name] = ir.Function(self.llvm, FUNCTION_TYPE, symbol)

    def define(self, name: str, function: Function) -> None:
        _Translation(self, name, function).run()


class _Translation:
    def __init__(self, module: Module, name: str, function: Function) -> None:
        self.module, self.name, self.source = module, name, function
        self.function = module.functions[name]
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.alg = IrAlgebra(self.builder)
        self.state = State(self.builder, self.function.args[0])
        self.registers = [self.builder.alloca(I64) for _ in range(REGISTER_COUNT)]
        self.blocks = [self.function.append_basic_block(f"b{at}") for at in range(len(function.blocks))]
        self.by_label = {block.label: self.blocks[at] for at, block in enumerate(function.blocks)}
        self.leave = self.function.append_basic_block("leave")
        self.place = word(len(module.places))
        self.is_unsettled = False

    def run(self) -> None:
        given = dict(zip(_ARGUMENTS, self.function.args[1:], strict=True))
        for number in range(REGISTER_COUNT):
            self.put(number, given.get(number, word(POISON)))
        fell_off = self.function.append_basic_block("end")
        following = [*self.blocks, fell_off]
        self.builder.branch(following[0])
        for at, block in enumerate(self.source.blocks):
            self.builder.position_at_end(self.blocks[at])
            self.place = word(len(self.module.places))
            self._spend(len(block.insns))
            for index, insn in enumerate(block.insns):
                self._insn(insn, Point(block.label, index), following[at + 1])
            if not self.builder.block.is_terminated:
                self._settle()
                self.builder.branch(following[at + 1])
        self.builder.position_at_end(fell_off)
        self.state.stop(Stop.END, word(0))
        self.builder.branch(self.leave)
        self.builder.position_at_end(self.leave)
        for number in range(REGISTER_COUNT):
            self.state.store(Word.REGISTERS + number, self.get(number))
        self.builder.ret(self.get(0))

    def get(self, number: int) -> Any:
        return self.builder.load(self.registers[number], typ=I64)

    def put(self, number: int, value: Any) -> None:
        self.builder.store(value, self.registers[number])

    def _spend(self, steps: int) -> None:
        left = self.state.load(Word.STEPS_LEFT)
        self._stop_if(self.builder.icmp_unsigned("<", left, word(steps)), Stop.STEPS)
        self.state.store(Word.STEPS_LEFT, self.builder.sub(left, word(steps)))

    def _stop_if(self, condition: Any, reason: Stop) -> None:
        stops, goes_on = (self.function.append_basic_block() for _ in range(2))
        self.builder.cbranch(condition, stops, goes_on)
        self.builder.position_at_end(stops)
        self.state.stop(reason, self.place)
        self.builder.branch(self.leave)
        self.builder.position_at_end(goes_on)

    def _settle(self) -> None:
        """Leave if an access of this block has failed.

        Until somebody looks, accesses behind a fault do nothing, so one look at the block's end or before a call is
        enough.
        """
        if self.is_unsettled:
            self._leave_if_stopped()

    def _leave_if_stopped(self) -> None:
        self.is_unsettled = False
        goes_on = self.function.append_basic_block()
        stopped = self.builder.icmp_unsigned("!=", self.state.load(Word.STOP), word(Stop.EXIT))
        self.builder.cbranch(stopped, self.leave, goes_on)
        self.builder.position_at_end(goes_on)

    def _insn(self, insn: Insn, point: Point, following: Any) -> None:
        self.place = word(len(self.module.places))
        self.module.places.append((self.name, point))
        if self.module.is_traced:
            values = [self.get(number) for number in range(REGISTER_COUNT)]
            self.builder.call(self.module.runtime.sample, [self.state.pointer, self.place, *values])
            self.is_unsettled = True
        if insn.kind is Kind.EXIT:
            self.builder.branch(self.leave)
        elif insn.kind is Kind.BRANCH:
            self._settle()
            taken = evaluate.branch_taken(self.alg, insn.row, self.get(insn.dst), self._operand(insn))
            self.builder.cbranch(taken, self._target(insn), following)
        elif insn.kind is Kind.JUMP:
            self._settle()
            self.builder.branch(self._target(insn))
        elif insn.kind is not Kind.MAY_GOTO:  # the budget of `may_goto` outlasts the executor's
            _TRANSLATIONS.get(insn.kind, _Translation._unmodelled)(self, insn)

    def _target(self, insn: Insn) -> Any:
        assert insn.ref is not None and insn.ref.kind is RefKind.LABEL, f"{self.name}: a branch without a label"
        return self.by_label[insn.ref.name]

    def _operand(self, insn: Insn) -> Any:
        if insn.row.operand is Operand.REG:
            return self.get(insn.src)
        return evaluate.immediate(self.alg, insn.imm)

    def _alu(self, insn: Insn) -> None:
        self.put(insn.dst, evaluate.alu_result(self.alg, insn.row, self.get(insn.dst), self._operand(insn)))

    def _endian(self, insn: Insn) -> None:
        self.put(insn.dst, evaluate.endian_result(self.alg, insn.row, self.get(insn.dst), self.module.order))

    def _load_wide(self, insn: Insn) -> None:
        if insn.ref is not None:
            self.put(insn.dst, word(self.module.address(insn.ref) + insn.ref.addend))
        elif insn.row.name == "lddw_constant":
            self.put(insn.dst, word(insn.imm))
        else:
            self._unmodelled(insn)

    def _read(self, width: int, address: Any) -> Any:
        value = self.builder.call(self.module.runtime.reads[width], [self.state.pointer, address, self.place])
        self.is_unsettled = True
        return value

    def _write(self, width: int, address: Any, value: Any) -> None:
        self.builder.call(self.module.runtime.writes[width], [self.state.pointer, address, value, self.place])
        self.is_unsettled = True

    def _load(self, insn: Insn) -> None:
        value = self._read(insn.row.width, self.builder.add(self.get(insn.src), word(insn.off)))
        self.put(insn.dst, evaluate.loaded(self.alg, insn.row, value))

    def _store(self, insn: Insn) -> None:
        value = evaluate.stored(self.alg, insn.row, self._operand(insn))
        self._write(insn.row.width, self.builder.add(self.get(insn.dst), word(insn.off)), value)

    def _atomic(self, insn: Insn) -> None:
        row, address = insn.row, self.builder.add(self.get(insn.dst), word(insn.off))
        old = self._read(row.width, address)
        self._write(row.width, address, evaluate.atomic_memory(self.alg, row, old, self.get(insn.src), self.get(0)))
        destination = evaluate.atomic_destination(row, insn.src)
        if destination is not None:
            self.put(destination, self.alg.zext(64, old))

    def _call(self, insn: Insn) -> None:
        self._settle()
        callee = None
        if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION:
            callee = self.module.functions.get(insn.ref.name)
        self.put(0, self._call_callback() if callee is None else self._call_function(callee))
        for number in range(1, 6):
            self.put(number, word(POISON))
        self._leave_if_stopped()

    def _call_function(self, callee: Any) -> Any:
        frame = self.builder.sub(self.get(FRAME_POINTER), word(FRAME_BYTES))
        lowest = self.builder.sub(frame, word(FRAME_BYTES))
        self._stop_if(self.builder.icmp_signed("<", lowest, self.state.load(Word.STACK_BOTTOM)), Stop.FAULT)
        arguments = [self.get(number) for number in range(1, 6)]
        return self.builder.call(callee, [self.state.pointer, *arguments, frame])

    def _call_callback(self) -> Any:
        for number in range(REGISTER_COUNT):
            self.state.store(Word.REGISTERS + number, self.get(number))
        callback = self.builder.inttoptr(self.state.load(Word.CALLBACK), _CALLBACK_TYPE.as_pointer())
        return self.builder.call(callback, [self.place])

    def _legacy_load(self, insn: Insn) -> None:
        self._settle()
        self.put(0, self._call_callback())
        for number in range(1, 6):
            self.put(number, word(POISON))
        self._leave_if_stopped()

    def _unmodelled(self, insn: Insn) -> None:
        self._settle()
        self.state.stop(Stop.UNMODELLED, self.place)
        self._leave_if_stopped()


_TRANSLATIONS: Final[Mapping[Kind, Callable[[_Translation, Insn], None]]] = {
    Kind.ALU: _Translation._alu,
    Kind.ENDIAN: _Translation._endian,
    Kind.LOAD_WIDE: _Translation._load_wide,
    Kind.LOAD: _Translation._load,
    Kind.LOAD_ACQUIRE: _Translation._load,
    Kind.STORE: _Translation._store,
    Kind.STORE_IMM: _Translation._store,
    Kind.STORE_RELEASE: _Translation._store,
    Kind.ATOMIC: _Translation._atomic,
    Kind.CALL: _Translation._call,
    Kind.LEGACY_LOAD: _Translation._legacy_load,
}

"""The few functions that all compiled code calls, written in IR: checked memory accesses, and the trace's samples."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir

from llvm_bridge.native.layout import FRAME_BYTES, SAMPLE_WORDS, Stop, Word
from verifier_model.bpf.insn import REGISTER_COUNT

POINTER: Final = ir.PointerType()
I64: Final = ir.IntType(64)
_WIDTHS: Final = (8, 16, 32, 64)


def word(number: int) -> Any:
    return ir.Constant(I64, number & ((1 << 64) - 1))


class State:
    """The state block as seen from a piece of code: loads and stores of its words."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        self.builder = builder
        self.pointer = pointer

    def load(self, index: int) -> Any:
        return self.builder.load(self._at(index), typ=I64)

    def store(self, index: int, value: Any) -> None:
        self.builder.store(value, self._at(index))

    def host(self, base: Word, address: Any) -> Any:
        """The host's pointer to what lies at `address` behind a base word."""
        return self.builder.inttoptr(self.builder.add(self.load(base), address), POINTER)

    def stop(self, reason: Stop, place: Any) -> None:
        self.store(Word.STOP, word(reason))
        self.store(Word.PLACE, place)

    def _at(self, index: int) -> Any:
        return self.builder.gep(self.pointer, [word(index)], source_etype=I64)


class Runtime:
    """Declares and defines the functions in a module; `reads` and `writes` are by width in bits."""

    def __init__(self, module: Any, order: str) -> None:
        self.module = module
        self.swaps = order == "big"  # the executor's hosts are little-endian
        self.reads = {width: self._read(width) for width in _WIDTHS}
        self.writes = {width: self._write(width) for width in _WIDTHS}
        self.sample = self._sample()

    def _function(self, name: str, result: Any, arguments: list[Any]) -> tuple[Any, Any]:
        function = ir.Function(self.module, ir.FunctionType(result, [POINTER, *arguments]), name)
        function.linkage = "internal"
        return function, ir.IRBuilder(function.append_basic_block("entry"))

    def _guard(self, builder: Any, state: State, width: int, address: Any, right: int, place: Any) -> None:
        """Leave the function with a fault unless every byte has the right; goes on in a new block.

        Behind a fault (or once the trace is full) it does nothing at all.
        """
        function, kind = builder.function, ir.IntType(width)
        names = ("running", "inside", "allowed", "fault", "nothing")
        running, inside, allowed, fault, nothing = (function.append_basic_block(name) for name in names)
        builder.cbranch(self._is_running(builder, state), running, nothing)
        builder.position_at_end(running)
        last = builder.sub(state.load(Word.SIZE), word(width // 8))
        builder.cbranch(builder.icmp_unsigned("<=", address, last), inside, fault)
        builder.position_at_end(inside)
        rights = builder.load(state.host(Word.RIGHTS, address), typ=kind, align=1)
        wanted = ir.Constant(kind, int.from_bytes(bytes([right]) * (width // 8), "little"))
        builder.cbranch(builder.icmp_unsigned("==", builder.and_(rights, wanted), wanted), allowed, fault)
        builder.position_at_end(fault)
        state.stop(Stop.FAULT, place)
        builder.branch(nothing)
        builder.position_at_end(nothing)
        if function.function_type.return_type == ir.VoidType():
            builder.ret_void()
        else:
            builder.ret(ir.Constant(kind, 0))
        builder.position_at_end(allowed)

    def _is_running(self, builder: Any, state: State) -> Any:
        return builder.icmp_unsigned("==", state.load(Word.STOP), word(Stop.EXIT))

    def _swapped(self, builder: Any, width: int, value: Any) -> Any:
        return builder.bswap(value) if self.swaps and width > 8 else value

    def _read(self, width: int) -> Any:
        kind = ir.IntType(width)
        function, builder = self._function(f"read{width}", kind, [I64, I64])
        pointer, address, place = function.args
        state = State(builder, pointer)
        self._guard(builder, state, width, address, 1, place)
        value = builder.load(state.host(Word.BYTES, address), typ=kind, align=1)
        builder.ret(self._swapped(builder, width, value))
        return function

    def _write(self, width: int) -> Any:
        kind = ir.IntType(width)
        function, builder = self._function(f"write{width}", ir.VoidType(), [I64, kind, I64])
        pointer, address, value, place = function.args
        state = State(builder, pointer)
        self._guard(builder, state, width, address, 2, place)
        builder.store(self._swapped(builder, width, value), state.host(Word.BYTES, address), align=1)
        builder.ret_void()
        return function

    def _sample(self) -> Any:
        """Append the instruction's number, the registers and all frames in use to the trace."""
        function, builder = self._function("sample", ir.VoidType(), [I64] * (1 + REGISTER_COUNT))
        pointer, place, *registers = function.args
        state = State(builder, pointer)
        running, full, room, nothing = (
            function.append_basic_block(name) for name in ("running", "full", "room", "not")
        )
        builder.cbranch(self._is_running(builder, state), running, nothing)
        builder.position_at_end(nothing)
        builder.ret_void()
        builder.position_at_end(running)
        lowest = builder.sub(registers[-1], word(FRAME_BYTES))
        size = builder.sub(state.load(Word.STACK_TOP), lowest)
        here = state.load(Word.TRACE)
        behind = builder.add(builder.add(here, word(8 * SAMPLE_WORDS)), size)
        builder.cbranch(builder.icmp_unsigned("<=", behind, state.load(Word.TRACE_END)), room, full)
        builder.position_at_end(full)
        state.stop(Stop.TRACE_FULL, place)
        builder.ret_void()
        builder.position_at_end(room)
        for index, value in enumerate((place, *registers)):
            builder.store(value, builder.inttoptr(builder.add(here, word(8 * index)), POINTER))
        copy = self.module.declare_intrinsic("llvm.memcpy", [POINTER, POINTER, I64])
        target = builder.inttoptr(builder.add(here, word(8 * SAMPLE_WORDS)), POINTER)
        builder.call(copy, [target, state.host(Word.BYTES, lowest), size, ir.Constant(ir.IntType(1), 0)])
        state.store(Word.TRACE, behind)
        builder.ret_void()
        return function

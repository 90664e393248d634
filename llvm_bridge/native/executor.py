"""Compiled BPF functions, and runs of them in an arena.  Runs are bounded by a step budget, never by time.

The budget is taken block by block: a run stops before a block that it cannot pay for whole.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm

from llvm_bridge.native.arena import Arena
from llvm_bridge.native.layout import FRAME_BYTES, SAMPLE_WORDS, WORDS, Stop, Word
from llvm_bridge.native.translate import Module
from verifier_model.bpf.concrete import FaultError, UnmodelledError
from verifier_model.bpf.insn import REGISTER_COUNT, Insn, Ref, RefKind
from verifier_model.bpf.unit import Function, Point, Unit

_ENTRY: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, *[ctypes.c_uint64] * 6)
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
_MODULE_NUMBERS: Final = itertools.count()
_NO_TRACE: Final = b""


class LeftProgramError(Exception):
    """Raised by a callback when the whole program ends here with r0 = 0 (a legacy load outside the packet)."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call or legacy load that native code asks about: where it stands, the registers and the memory."""

    insn: Insn
    function: str
    point: Point
    registers: Sequence[int]
    arena: Arena


Callback = Callable[[Call], int]


@dataclass(frozen=True, slots=True)
class Sample:
    """The state just before an instruction: r0 to r10, and the bytes of all frames in use, the current one first.

    `stack[0]` is the byte at r10 - 512 of the running function.
    """

    function: str
    point: Point
    registers: tuple[int, ...]
    stack: bytes


@dataclass(frozen=True, slots=True)
class NativeRun:
    """`registers` are r0 to r10 at the exit; after any other stop they mean nothing.

    `function` and `point` tell where a run stopped that did not end by itself; `reason` says more where there is more.
    """

    stop: Stop
    registers: tuple[int, ...]
    function: str = ""
    point: Point | None = None
    reason: str = ""
    trace: bytes = field(default=_NO_TRACE, repr=False)

    @property
    def result(self) -> int:
        return self.registers[0]


def unanswered(call: Call) -> int:
    """The callback that answers nothing."""
    raise UnmodelledError(f"nobody answers {call.insn.row.name} {call.insn.imm}")


class Native:
    """Compiled functions.  One run at a time."""

    def __init__(self, module: Module, symbols: dict[str, str], functions: dict[str, Function], level: int) -> None:
        self._places, self._functions = module.places, functions
        self.is_traced = module.is_traced
        compiled = llvm.parse_assembly(str(module.llvm))
        machine = _target().create_target_machine(opt=level)
        if level:
            options = llvm.create_pipeline_tuning_options(speed_level=level)
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(compiled, builder)
        self._engine = llvm.create_mcjit_compiler(compiled, machine)
        self._engine.finalize_object()
        self._entries = {name: _ENTRY(self._engine.get_function_address(symbol)) for name, symbol in symbols.items()}
        self._state = (ctypes.c_uint64 * WORDS)()
        self._callback = _CALLBACK(self._answer)
        self._trace: ctypes.Array[ctypes.c_char] | None = None
        self._trace_start = 0
        self._calls: Callback = unanswered
        self._arena: Arena | None = None
        self._reason = ""
        self._broken: BaseException | None = None

    def run(
        self,
        name: str,
        arena: Arena,
        arguments: Sequence[int] = (),
        stack_top: int = 0,
        frames: int = 1,
        steps: int = 1_000_000,
        calls: Callback = unanswered,
        trace_bytes: int = 1 << 22,
    ) -> NativeRun:
        """Run a function with r1.. = `arguments` and r10 = `stack_top`, below which `frames` frames may be used.

        The frames must lie inside the arena.  A traced module records up to `trace_bytes`.
        """
        bottom = stack_top - frames * FRAME_BYTES
        if bottom < 0 or stack_top > arena.size:
            raise ValueError(f"{frames} frames below {stack_top:#x} do not lie in the arena")
        start = self._room(trace_bytes) if self.is_traced else 0
        state = self._state
        state[:] = [0] * WORDS
        state[Word.STEPS_LEFT] = steps
        state[Word.TRACE], state[Word.TRACE_END] = start, start + (trace_bytes if start else 0)
        state[Word.BYTES], state[Word.RIGHTS], state[Word.SIZE] = arena.host, arena.rights, arena.size
        state[Word.CALLBACK] = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        state[Word.STACK_TOP], state[Word.STACK_BOTTOM] = stack_top, bottom
        self._trace_start = start
        self._calls, self._arena, self._reason, self._broken = calls, arena, "", None
        given = [*arguments, *[0] * (5 - len(arguments))]
        self._entries[name](ctypes.addressof(state), *given, stack_top)
        if self._broken is not None:
            raise self._broken
        return self._outcome(ctypes.string_at(start, state[Word.TRACE] - start) if start else _NO_TRACE)

    def _room(self, size: int) -> int:
        if self._trace is None or len(self._trace) < size:
            self._trace = (ctypes.c_char * size)()
        return ctypes.addressof(self._trace)

    def samples(self, run: NativeRun, stack_top: int) -> Iterator[Sample]:
        """The trace of a run, instruction by instruction."""
        return (sample for _, sample in self.numbered_samples(run, stack_top))

    def numbered_samples(self, run: NativeRun, stack_top: int) -> Iterator[tuple[int, Sample]]:
        """The same, each with its position in the trace (see `trace_length`)."""
        at, head = 0, 8 * SAMPLE_WORDS
        while at < len(run.trace):
            place, *registers = struct.unpack_from(f"<{SAMPLE_WORDS}Q", run.trace, at)
            size = stack_top - registers[-1] + FRAME_BYTES
            function, point = self._places[place]
            yield at, Sample(function, point, tuple(registers), run.trace[at + head : at + head + size])
            at += head + size

    @property
    def trace_length(self) -> int:
        """Bytes of trace so far: a callback's moment lies before the samples from here on."""
        return self._state[Word.TRACE] - self._trace_start

    @property
    def functions(self) -> Mapping[str, Function]:
        """What was compiled, by name."""
        return self._functions

    def _outcome(self, trace: bytes) -> NativeRun:
        stop = Stop(self._state[Word.STOP])
        registers = tuple(self._state[Word.REGISTERS : Word.REGISTERS + REGISTER_COUNT])
        if stop is Stop.LEFT:
            return NativeRun(Stop.EXIT, (0, *registers[1:]), trace=trace)
        if stop in (Stop.EXIT, Stop.END):
            return NativeRun(stop, registers, trace=trace)
        function, point = self._places[self._state[Word.PLACE]]
        return NativeRun(stop, registers, function, point, self._reason, trace)

    def _answer(self, place: int) -> int:
        function, point = self._places[place]
        insn = self._functions[function].block(point.label).insns[point.at]
        registers = self._state[Word.REGISTERS : Word.REGISTERS + REGISTER_COUNT]
        assert self._arena is not None
        try:
            return self._calls(Call(insn, function, point, registers, self._arena)) & ((1 << 64) - 1)
        except FaultError as error:
            return self._stopped(Stop.FAULT, place, str(error))
        except UnmodelledError as error:
            return self._stopped(Stop.UNMODELLED, place, str(error))
        except LeftProgramError:
            return self._stopped(Stop.LEFT, place, "")
        except BaseException as error:
            # Not past native code, which would swallow it: kept until the run has returned.
            self._broken = error
            return self._stopped(Stop.UNMODELLED, place, repr(error))

    def _stopped(self, stop: Stop, place: int, reason: str) -> int:
        self._state[Word.STOP], self._state[Word.PLACE], self._reason = stop, place, reason
        return 0


@cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


def no_address(ref: Ref) -> int:
    raise UnmodelledError(f"no address is known for {ref.kind.value} {ref.name}")


def compile_functions(
    unit: Unit,
    names: Iterable[str],
    is_traced: bool = False,
    address: Callable[[Ref], int] = no_address,
    level: int = 0,
) -> Native:
    """Compile the named functions of the unit and the static functions that they call.

    `address` places symbols and is asked while compiling; raises what it raises.  `level` is LLVM's optimisation level,
    0 to 3.  The byte order is the unit's.
    """
    functions = _with_callees(unit, names)
    module = Module(unit.byte_order, is_traced, address)
    number = next(_MODULE_NUMBERS)
    symbols = {name: f"bpf{number}_{at}" for at, name in enumerate(functions)}
    module.declare(symbols)
    for name, function in functions.items():
        module.define(name, function)
    return Native(module, symbols, functions, level)


def _with_callees(unit: Unit, names: Iterable[str]) -> dict[str, Function]:
    known = {function.name: function for function in unit.functions}
    found: dict[str, Function] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = known[name]
        for _, insn in known[name].insns():
            if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION and insn.ref.name in known:
                waiting.append(insn.ref.name)
    return found

"""The native executor against the concrete machine: every instruction of random programs, and every row."""

from __future__ import annotations

import random

import pytest

from llvm_bridge.native import Arena, Call, Native, NativeRun, Stop, compile_functions
from tests.facts.concretise import CONTEXT, PACKET, STACK_TOP, VALUE_STRIDE, VALUES
from tests.facts.random_programs import MAPS, program, with_subprogram
from verifier_model.bpf.asm import parse_function, parse_insns
from verifier_model.bpf.concrete import POISON, Machine, map_frame, run_function, run_insns
from verifier_model.bpf.concrete import Stop as MachineStop
from verifier_model.bpf.insn import ByteOrder, Insn
from verifier_model.bpf.isa import ROWS, Kind, Operand, Row
from verifier_model.bpf.unit import Block, Function, Point, Unit

SEED = 9042
FRAMES = 4
STOPS = {
    MachineStop.EXIT: Stop.EXIT,
    MachineStop.END: Stop.END,
    MachineStop.FAULT: Stop.FAULT,
    MachineStop.UNMODELLED: Stop.UNMODELLED,
    MachineStop.STEPS: Stop.STEPS,
}
EDGES = (0, 1, 7, 31, 32, 63, 64, 0x80, 0x7FFFFFFF, 1 << 31, 0xFFFFFFFF, 1 << 32, 1 << 63, (1 << 63) - 1, (1 << 64) - 1)


def memory(rng: random.Random, order: ByteOrder) -> dict[int, bytes]:
    length = rng.choice((0, 1, 14, 34, 64))
    ends = PACKET.to_bytes(4, order) + (PACKET + length).to_bytes(4, order)
    return {
        CONTEXT: ends + rng.randbytes(16),
        PACKET: rng.randbytes(length),
        VALUES: rng.randbytes(16),
        VALUES + VALUE_STRIDE: rng.randbytes(16),
        STACK_TOP - FRAMES * 512: rng.randbytes(FRAMES * 512),
    }


def answers(seed: str) -> list[int]:
    rng = random.Random(seed)
    return [rng.choice((0, VALUES, VALUES + VALUE_STRIDE)) for _ in range(64)]


def on_machine(unit: Unit, content: dict[int, bytes], script: list[int]) -> tuple[Machine, MachineStop]:
    machine = Machine([0] * 11, order=unit.byte_order)
    for address, data in content.items():
        machine.map_bytes(address, data)
    machine.registers[1], machine.registers[10] = CONTEXT, STACK_TOP
    machine.address = lambda ref: 0x666000
    left = list(script)

    def call(run: Machine, insn: Insn) -> int:
        if insn.ref is None:
            return left.pop()
        kept, frame = run.registers[6:], run.registers[10] - 512
        run.registers[0], run.registers[6:] = POISON, [POISON] * 4 + [frame]
        outcome = run_function(unit.function(insn.ref.name), run, 1000)
        run.registers[6:] = kept
        stops.append(outcome.stop)
        if outcome.stop is not MachineStop.EXIT:
            raise AssertionError(outcome)
        return run.registers[0]

    stops: list[MachineStop] = []
    machine.call = call
    try:
        outcome = run_function(unit.functions[0], machine, 1000)
    except AssertionError:
        return machine, stops[-1]
    return machine, outcome.stop


def natively(native: Native, content: dict[int, bytes], script: list[int]) -> tuple[NativeRun, Arena]:
    arena, left = Arena(1 << 19), list(script)
    for address, data in content.items():
        arena.map(address, data)

    def call(asked: Call) -> int:
        assert asked.insn.imm == 1
        return left.pop()

    return native.run("f", arena, (CONTEXT,), STACK_TOP, FRAMES, 1000, call), arena


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("with_calls", [False, True])
def test_random_programs_run_alike(order: ByteOrder, with_calls: bool) -> None:
    seen = dict.fromkeys(Stop, 0)
    for at in range(16):
        seed = f"{SEED}-{order}-{with_calls}-{at}"
        rng = random.Random(seed)
        functions = with_subprogram(rng) if with_calls else (program(rng),)
        unit = Unit(functions, MAPS, byte_order=order, cpu_level=4)
        native = compile_functions(unit, ["f"], is_traced=at % 4 == 0, address=lambda ref: 0x666000, level=at % 2)
        for turn in range(3):
            content, script = memory(rng, order), answers(f"{seed}-{turn}")
            machine, stop = on_machine(unit, content, script)
            run, arena = natively(native, content, script)
            if Stop.STEPS in (run.stop, STOPS[stop]):
                continue  # the budgets are counted by block and by instruction
            assert run.stop is STOPS[stop], f"seed {seed}: {run} against {stop}"
            seen[run.stop] += 1
            if run.stop is Stop.EXIT:
                assert run.result == machine.registers[0], f"seed {seed}"
            for address, data in content.items():
                theirs = bytes(machine.memory[address + index] for index in range(len(data)))
                assert arena.read(address, len(data)) == theirs, f"seed {seed}: memory at {address:#x}"
    assert seen[Stop.EXIT] >= 3 and seen[Stop.FAULT] >= 5


def _instance(row: Row, rng: random.Random) -> Insn:
    imm = 0
    if row.operand is Operand.IMM:
        shift = row.op in ("lsh", "rsh", "arsh")
        imm = rng.randrange(row.width) if shift else rng.choice((0, 1, -1, 7, -(1 << 31), (1 << 31) - 1, 255))
    if row.is_memory_access:
        base, value = (10, rng.randrange(6)) if row.kind not in (Kind.LOAD, Kind.LOAD_ACQUIRE) else (3, 10)
        return Insn(row, base, value if row.operand is Operand.REG or value == 10 else 0, off=-8, imm=imm)
    return Insn(row, rng.randrange(6), rng.randrange(6) if row.operand is Operand.REG else 0, imm=imm)


ROW_KINDS = (Kind.ALU, Kind.ENDIAN, Kind.LOAD, Kind.LOAD_ACQUIRE, Kind.STORE, Kind.STORE_IMM, Kind.STORE_RELEASE)


@pytest.mark.parametrize("order", ["little", "big"])
def test_every_row_agrees_with_the_machine(order: ByteOrder) -> None:
    rng = random.Random(f"{SEED} {order}")
    rows = [row for row in ROWS if row.kind in (*ROW_KINDS, Kind.ATOMIC)]
    blocks = [Block(row.name, (_instance(row, rng),)) for row in rows for _ in range(3)]
    loads = tuple(parse_insns("\n".join(f"r{at} = *(u64 *)(r9 + {8 * at})" for at in range(6))))
    functions = [
        Function(f"{at}", "", (Block("b", (*parse_insns("r9 = r1"), *loads, *block.insns)),))
        for at, block in enumerate(blocks)
    ]
    native = compile_functions(Unit(tuple(functions), byte_order=order), [function.name for function in functions])
    for function in functions:
        for _ in range(5):
            values = [rng.choice((rng.choice(EDGES), rng.getrandbits(64))) for _ in range(6)]
            frame = rng.randbytes(512)
            arena, machine = Arena(1 << 16), Machine([0] * 11, order=order)
            data = b"".join(value.to_bytes(8, order) for value in values)
            arena.map(CONTEXT, data)
            arena.map(STACK_TOP - 512, frame)
            machine.map_bytes(CONTEXT, data)
            map_frame(machine, STACK_TOP, frame)
            machine.registers[1] = CONTEXT
            run = native.run(function.name, arena, (CONTEXT,), STACK_TOP)
            outcome = run_insns(function.blocks[0].insns, machine)
            assert (run.stop, outcome.stop) == (Stop.END, MachineStop.END)
            shown = f"seed {SEED}: {function.blocks[0].insns[-1]} on {values}"
            assert list(run.registers[:6]) == machine.registers[:6], shown
            ours = bytes(machine.memory[STACK_TOP - 512 + at] for at in range(512))
            assert arena.read(STACK_TOP - 512, 512) == ours, shown


TEXT = """\
  r6 = r1
  *(u64 *)(r10 -8) = r6
  r0 = 0
again:
  r0 += 3
  r6 -= 1
  if r6 != 0 goto again
  r1 = *(u64 *)(r10 -8)
  exit
"""


def _program(text: str) -> tuple[Native, Arena]:
    arena = Arena(1 << 16)
    arena.map(STACK_TOP - 512, bytes(512))
    return compile_functions(Unit((parse_function(text),)), ["f"], is_traced=True), arena


def test_the_trace_shows_every_instruction_before_it_runs() -> None:
    native, arena = _program(TEXT)
    run = native.run("f", arena, (4,), STACK_TOP)
    samples = list(native.samples(run, STACK_TOP))
    assert (run.stop, run.result) == (Stop.EXIT, 12)
    assert len(samples) == 3 + 4 * 3 + 2
    again = [sample for sample in samples if sample.point == Point("again", 0)]
    assert [sample.registers[0] for sample in again] == [0, 3, 6, 9]
    assert samples[1].stack[-8:] == bytes(8) and samples[2].stack[-8:] == (4).to_bytes(8, "little")


def test_runs_are_bounded() -> None:
    native, arena = _program(TEXT)
    assert native.run("f", arena, (1 << 60,), STACK_TOP, steps=3000).stop is Stop.STEPS
    assert native.run("f", arena, (1 << 60,), STACK_TOP, trace_bytes=100_000).stop is Stop.TRACE_FULL
    assert native.run("f", arena, (900,), STACK_TOP, steps=3000).stop is Stop.EXIT


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("r0 = *(u8 *)(r1 +4095)\nexit", Stop.EXIT),
        ("r0 = *(u8 *)(r1 +4096)\nexit", Stop.FAULT),
        ("r0 = *(u16 *)(r1 +4095)\nexit", Stop.FAULT),
        ("*(u8 *)(r1 +100) = 1\nexit", Stop.EXIT),
        ("*(u8 *)(r2 +0) = 1\nexit", Stop.FAULT),
        ("r0 = *(u8 *)(r2 +0)\nexit", Stop.EXIT),
        ("lock *(u32 *)(r2 +0) += r1\nexit", Stop.FAULT),
        ("r1 = -4\nr0 = *(u64 *)(r1 +0)\nexit", Stop.FAULT),
        ("r1 = 65535\nr0 = *(u64 *)(r1 +0)\nexit", Stop.FAULT),
        ("r0 = 1", Stop.END),
        ("call 5\nexit", Stop.UNMODELLED),
        ("r0 = addr_space_cast(r1, 0, 1)\nexit", Stop.UNMODELLED),
        ("r0 = *(u8 *)skb[20]\nexit", Stop.UNMODELLED),
    ],
)
def test_why_runs_stop(text: str, stop: Stop) -> None:
    native, arena = _program(text)
    arena.map(0x3000, bytes(4096))
    arena.map(0x5000, bytes(16), writable=False)
    assert native.run("f", arena, (0x3000, 0x5000), STACK_TOP).stop is stop


def test_calls_deeper_than_the_frames_are_refused() -> None:
    text = "r0 = 0\nif r1 == 0 goto out\nr1 -= 1\ncall fn[f]\nr0 += 1\nout:\nexit"
    arena = Arena(1 << 16)
    arena.map(STACK_TOP - 8 * 512, bytes(8 * 512))
    native = compile_functions(Unit((parse_function(text),)), ["f"])
    assert native.run("f", arena, (7,), STACK_TOP, frames=8).result == 7
    assert native.run("f", arena, (8,), STACK_TOP, frames=8).stop is Stop.FAULT


def test_a_callback_answers_with_memory_and_may_raise() -> None:
    native, arena = _program("r2 = r10\nr2 += -8\ncall 1\nr0 += r0\nexit")

    def call(asked: Call) -> int:
        assert asked.registers[2] == STACK_TOP - 8
        asked.arena.write(STACK_TOP - 8, b"\7")
        return 21

    assert native.run("f", arena, (), STACK_TOP, calls=call).result == 42
    assert arena.read(STACK_TOP - 8, 1) == b"\7"

    def broken(asked: Call) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        native.run("f", arena, (), STACK_TOP, calls=broken)

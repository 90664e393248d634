"""A slice of `make agreement`: random whole programs in every engine and in the kernel."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.agreement import programs
from benchmarks.agreement.engine_windows import window_trouble
from benchmarks.agreement.program_engines import Beside, Input, Output, on_native, random_input
from benchmarks.agreement.random_programs import random_unit
from benchmarks.agreement.world import World
from llvm_bridge.native import Arena, Native, compile_functions
from verifier_model.bpf.insn import make
from verifier_model.bpf.unit import Block, Unit
from verifier_model.kernel.loading import load_function

SEED = 77
pytestmark = pytest.mark.needs("bpf")


def test_every_engine_and_the_kernel_agree() -> None:
    tally = programs.campaign(12, SEED)
    assert tally.wrong == []
    assert tally.refused == 0, "the generator makes programs that the kernel refuses"
    assert tally.runs == 24 and tally.executed > 1000


def _altered(unit: Unit) -> Unit:
    """The same program, except that it adds one to r1 before it shows its registers."""
    main = unit.function("f")
    block = next(block for block in main.blocks if any(insn == make("stx_dw", 7, 0, 128) for insn in block.insns))
    at = block.insns.index(make("stx_dw", 7, 0, 128))
    longer = Block(block.label, (*block.insns[:at], make("add64_imm", 1, imm=1), *block.insns[at:]))
    return unit.with_function(main.with_block(longer))


@pytest.mark.parametrize("engine", ["native", "Python", "kernel"])
def test_a_wrong_engine_is_seen(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "native":
        compiled = compile_functions
        monkeypatch.setattr(
            programs, "compile_functions", lambda unit, names, address: compiled(_altered(unit), names, address=address)
        )
    elif engine == "Python":
        monkeypatch.setattr(programs, "Beside", lambda unit, given: Beside(_altered(unit), given))
    else:
        monkeypatch.setattr(programs, "load_function", lambda unit, name: load_function(_altered(unit), name))
    tally = programs.campaign(2, SEED)
    assert len(tally.wrong) == 4
    assert all("packet byte 136" in line for line in tally.wrong)


def test_a_wrong_map_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = on_native

    def broken(compiled: Native, world: World, given: Input, arena: Arena) -> Output:
        out = real(compiled, world, given, arena)
        value = out.maps["values"][bytes(4)]
        return replace(
            out, maps={**out.maps, "values": {**out.maps["values"], bytes(4): bytes([value[0] ^ 1]) + value[1:]}}
        )

    monkeypatch.setattr(programs, "on_native", broken)
    tally = programs.campaign(1, SEED)
    assert len(tally.wrong) == 2 and "map values" in tally.wrong[0]


def test_wrong_terms_are_seen() -> None:
    """One byte of memory, one register or one branch of the terms changed: each is noticed."""
    rng = random.Random(SEED)
    unit = random_unit(rng)
    beside = Beside(unit, random_input(rng))
    beside.run()
    assert beside.solved() == ""
    terms = beside.query.terms
    address = max(beside.terms.memory)
    kept = beside.terms.memory[address]
    beside.terms.memory[address] = terms.xor(kept, terms.const(8, 1))
    assert beside.solved() == f"byte at {address:#x}"
    beside.terms.memory[address] = kept
    condition, way = beside.conditions[-1]
    beside.conditions[-1] = (condition, not way)
    assert beside.solved().startswith("branch")


@pytest.mark.parametrize("part", range(4))
def test_windows_agree_in_the_search_engine(part: int) -> None:
    rng = random.Random(f"{SEED} {part}")
    assert [window_trouble(rng) for _ in range(10)] == [""] * 10

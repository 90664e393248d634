"""Functions in text form for the tests of webs; ";" separates instructions, a word with ":" begins a block."""

from __future__ import annotations

from synth.reshape import Reshape, reshape
from synth.settings import Settings
from synth.webs.improve import registers
from verifier_model.bpf.asm import parse_function, print_insn
from verifier_model.bpf.unit import Function, MapDef, Unit
from verifier_model.facts import analyse

MAPS = {name: MapDef(name, 2, 4, 8, 16) for name in ("hits", "flows")}


def function(text: str, program_type: str = "xdp") -> Function:
    lines = [line.strip() for line in text.replace(";", "\n").replace(": ", ":\n").splitlines()]
    return parse_function(
        "\n".join(line for line in lines if line) + "\n", name="f", section=program_type, program_type=program_type
    )


def unit_of(one: Function) -> Unit:
    return Unit((one,), MAPS, cpu_level=3, license="GPL")


def offers(before: Function) -> list[Reshape]:
    unit = unit_of(before)
    return list(registers(before, analyse(unit, before), unit, Settings(goal="size")))


def first(before: Function) -> Function | None:
    """The function as it is first proposed, None without a proposal."""
    found = offers(before)
    return reshape(before, found[0]) if found else None


def spelled(one: Function) -> str:
    blocks = (
        f"{block.label}: " + "; ".join(print_insn(insn) for insn in block.insns) for block in one.blocks if block.insns
    )
    return "; ".join(blocks)

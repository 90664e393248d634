"""Obligations in text form for the tables of the prover's tests.

Entry facts, separated by ";":   `r2 packet base=1 off=4`   `r3 scalar max=255`   `r4 scalar id=7`   `-8 zero`
`-16 spill r3`   (stack slots by their offset).  Demand: `r0 r1:ffff -8..-4`, registers with an optional mask and
inclusive ranges of stack bytes; nothing else is demanded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from verifier_model.bpf.asm import parse_insns
from verifier_model.bpf.demand import ALL_BITS, Demand
from verifier_model.bpf.unit import Block, Function, MapDef, Unit
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State
from verifier_model.verdict import Obligation

MAPS = {name: MapDef(name, 1, 4, 8, 16) for name in ("hits", "flows")}


def register(words: list[str]) -> Register:
    """`region key=value ...`; `max` or `range` bound the number, `umin` and the like set one bound alone."""
    region = Region(words[0])
    fields: dict[str, Any] = {}
    value = Scalar.top() if region is Region.SCALAR else Scalar.const(0)
    for word in words[1:]:
        key, _, text = word.partition("=")
        if key == "max":
            value = (
                value & Scalar.between(0, int(text, 0)) if region is Region.SCALAR else Scalar.between(0, int(text, 0))
            )
        elif key == "range":
            low, high = (int(part, 0) for part in text.split(".."))
            value = Scalar.between(low, high)
        elif key == "const":
            value = Scalar.const(int(text, 0))
        elif key in ("umin", "umax", "smin", "smax", "u32min", "u32max", "s32min", "s32max"):
            value = replace(value, **{key: int(text, 0)})
        elif key == "bits":
            bits, mask = (int(part, 0) for part in text.split("/"))
            value = Scalar(bits, mask)
        elif key == "symbol":
            fields["symbol"] = text
        elif key in ("nullable", "assumed_safe"):
            fields[key] = True
        else:
            fields[key] = int(text, 0)
    return Register(region, value, **fields)


def state(text: str) -> State:
    regs = [Register.uninit() for _ in range(11)]
    regs[10] = Register(Region.STACK, Scalar.const(0))
    stack: dict[int, StackSlot] = {}
    for fact in text.split(";"):
        words = fact.split()
        if not words:
            continue
        if words[0].startswith("r"):
            regs[int(words[0][1:])] = register(words[1:])
        elif words[1] == "zero":
            stack[int(words[0])] = StackSlot("00000000")
        else:
            assert words[1] == "spill"
            source = regs[int(words[2][1:])] if words[2].startswith("r") else register(words[2:])
            stack[int(words[0])] = StackSlot("ssssssss", source)
    return State(tuple(regs), stack)


def demand(text: str) -> Demand:
    regs = [0] * 11
    stack: set[int] = set()
    for word in text.split():
        if word.startswith("r"):
            name, _, mask = word.partition(":")
            regs[int(name[1:])] = int(mask, 16) if mask else ALL_BITS
        else:
            low, _, high = word.partition("..")
            stack |= set(range(int(low), int(high or low) + 1))
    return Demand(tuple(regs), frozenset(stack))


def obligation(
    entry: str,
    before: str,
    after: str,
    wanted: str,
    program_type: str | None = "xdp",
    order: str = "little",
    others: tuple[Function, ...] = (),
    **fields: Any,
) -> Obligation:
    """Instructions are separated by newlines or by ";"."""
    old, new = (parse_insns(text.replace(";", "\n")) for text in (before, after))
    function = Function("f", "xdp", (Block("entry", old),), program_type=program_type, **fields)
    unit = Unit((function, *others), MAPS, byte_order="big" if order == "big" else "little", cpu_level=4)
    return Obligation(old, new, state(entry), demand(wanted), unit, function)

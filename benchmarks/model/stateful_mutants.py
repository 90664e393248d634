"""Small changes to programs with callbacks, iterators, locks, timers, dynptrs and objects of their own, put to the
model and the running kernel.

    python -m benchmarks.model.stateful_mutants OBJECT... [--count N] [--seed S] [--report FILE]

Each mutant differs in one or two instructions from a program that both accept.  Whatever the model accepts, with the
kernel's types or without them, goes to the kernel; a refusal of the kernel's verifier is a false accept, printed with
its seed, and makes the command fail.  Of what the model refuses, one in ten is asked about, too, for the share that the
kernel would have taken.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from benchmarks.model.verdicts import running_knowledge
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.insn import Insn, Ref, RefKind
from verifier_model.bpf.isa import ROWS, Kind
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.checker import check
from verifier_model.checker.callgraph import followed
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused
from verifier_model.kernel.types import running_kernel_types

_NUMBERS: Final = (0, 1, -1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 255, -8, -16, 4096, 0x7FFFFFFF)
_STEPS: Final = (-16, -8, -4, -1, 1, 2, 4, 8, 16, 64)
_SHARE_OF_REFUSED: Final = 0.1
_SYMBOLS: Final = frozenset({RefKind.DATA, RefKind.MAP, RefKind.EXTERN})
_KEPT_KINDS: Final = (Kind.EXIT, Kind.LOAD_WIDE)


@dataclass(frozen=True, slots=True)
class Origin:
    """A program that both accept, with the object that it is in."""

    path: str
    read: Object
    program: str


def _other_row(rng: random.Random, insn: Insn) -> Insn:
    old = insn.row
    alike = [row for row in ROWS if row.kind is old.kind and row.uses == old.uses and row.fixed_src == old.fixed_src]
    return replace(insn, row=rng.choice([row for row in alike if row.level <= 3] or [old]))


def _other_symbol(rng: random.Random, insn: Insn, refs: list[Ref]) -> Insn:
    """The same for another kernel function, map or variable of the object, or some bytes beside it."""
    assert insn.ref is not None
    if insn.ref.kind is RefKind.DATA and rng.random() < 0.5:
        return replace(insn, ref=replace(insn.ref, addend=max(insn.ref.addend + rng.choice(_STEPS), 0)))
    alike = [ref for ref in refs if ref.kind is insn.ref.kind]
    return replace(insn, ref=rng.choice(alike)) if alike else insn


def _changed(rng: random.Random, insn: Insn, refs: list[Ref]) -> list[Insn]:
    """The instruction gone, twice, or with one field, its operation or its symbol changed."""
    if insn.ref is not None and insn.ref.kind in _SYMBOLS and rng.random() < 0.5:
        return [_other_symbol(rng, insn, refs)]
    uses = insn.row.uses
    ways = ["row"] if insn.row.is_block_end else ["gone", "gone", "twice", "row"]
    ways += [name for name in ("imm", "off", "src", "dst") if name in uses and insn.ref is None]
    if insn.kind in _KEPT_KINDS:
        ways = ["gone", "twice"] if insn.kind is Kind.LOAD_WIDE else ["same"]
    way = rng.choice(ways)
    if way in ("gone", "twice"):
        return [] if way == "gone" else [insn, insn]
    if way == "row" and insn.kind is not Kind.CALL:
        return [_other_row(rng, insn)]
    if way == "imm" and insn.kind is not Kind.CALL:
        return [replace(insn, imm=rng.choice(_NUMBERS))]
    if way == "off":
        return [replace(insn, off=insn.off + rng.choice(_STEPS))]
    if way == "src":
        return [replace(insn, src=rng.randrange(11))]
    return [replace(insn, dst=rng.randrange(10))] if way == "dst" else [insn]


def _mutant(rng: random.Random, unit: Unit, program: str) -> tuple[Unit, str]:
    """The unit with one or two instructions changed that the program reaches; what was changed."""
    told = []
    refs = [insn.ref for each in unit.functions for _, insn in each.insns() if insn.ref is not None]
    refs = sorted(set(refs), key=repr)
    for _ in range(rng.choice((1, 1, 2))):
        function: Function = rng.choice(followed(unit, unit.function(program)))
        choices = [(point, insn) for point, insn in function.insns() if not insn.origin.core]
        point, insn = rng.choice(choices)
        new = _changed(rng, insn, refs)
        block = function.block(point.label)
        changed = Block(block.label, (*block.insns[: point.at], *new, *block.insns[point.at + 1 :]))
        unit = unit.with_function(function.with_block(changed))
        told.append(f"{function.name} {point.label}+{point.at}: {print_insn(insn)} -> {list(map(print_insn, new))}")
    return unit, "; ".join(told)


def _origins(paths: tuple[str, ...]) -> list[Origin]:
    found = []
    for path in paths:
        data = Path(path).read_bytes()
        read = read_object(data)
        if not isinstance(read, Object):
            continue
        for function in read.unit.functions:
            if function.is_subprogram or function.slots > 300:
                continue
            if _is_accepted(read.unit, function.name) and _kernel_word(data, function.name) is None:
                found.append(Origin(path, read, function.name))
    return found


def _is_accepted(unit: Unit, program: str) -> bool:
    """Does the model take the program: for this kernel, or for any?"""
    types = running_kernel_types()
    units = (unit,) if types is None else (for_kernel(unit, types), unit)
    return any(check(each, each.function(program), running_knowledge()).accepted for each in units)


def _kernel_word(data: bytes, program: str) -> str | None:
    """None when the kernel takes the program, else the end of its log; "" when its verifier was not asked."""
    loaded = load_object(data, LoadOptions(only=frozenset({program})))
    if isinstance(loaded, Refused):
        return loaded.log[-600:] if "processed " in loaded.log else ""
    with loaded:
        return None if program in loaded.programs else ""


def _try(rng: random.Random, origin: Origin, tally: Counter[str]) -> str | None:
    """One mutant; what went wrong, None when nothing did."""
    unit, what = _mutant(rng, origin.read.unit, origin.program)
    tally["mutants"] += 1
    is_accepted = _is_accepted(unit, origin.program)
    tally["accepted by the model"] += is_accepted
    if not is_accepted and rng.random() >= _SHARE_OF_REFUSED:
        return None
    image = write_object(origin.read, unit)
    if isinstance(image, Untouched):
        return None
    word = _kernel_word(image, origin.program)
    if not is_accepted:
        tally["refused by the model, asked about"] += 1
        tally["of these, accepted by the kernel"] += word is None
        return None
    tally["accepted by both"] += word is None
    return f"{what}\n{word}" if word else None


@click.command()
@click.argument("objects", nargs=-1, required=True)
@click.option("--count", default=1000, help="Mutants.")
@click.option("--seed", default=1)
@click.option("--report", default="", help="A file to write the figures to.")
def main(objects: tuple[str, ...], count: int, seed: int, report: str) -> None:
    origins = _origins(objects)
    tally: Counter[str] = Counter()
    wrong = 0
    for at in range(count):
        rng = random.Random(f"{seed}-{at}")
        origin = rng.choice(origins)
        problem = _try(rng, origin, tally)
        if problem is not None:
            wrong += 1
            click.echo(f"FALSE ACCEPT seed {seed}-{at} {origin.path} {origin.program}: {problem}")
        if at % 100 == 99:
            click.echo(f"{at + 1}: {dict(tally)}, false accepts {wrong}")
    lines = [f"Seed {seed}, {len(origins)} programs of {len(objects)} objects."]
    lines += [f"* {name}: {number}" for name, number in tally.items()] + [f"* false accepts: {wrong}"]
    click.echo("\n".join(lines))
    if report:
        Path(report).write_text("\n".join(lines) + "\n")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

"""`make model-typed-mutants`: small changes to programs on kernel objects, put to the model and the running kernel.

    python -m benchmarks.model.typed_mutants [--programs N] [--each N] [--seed S]

Programs of the corpus that the kernel loads through libbpf, with CO-RE done for this kernel, are changed in one or two
instructions after that.  The kernel is asked about every mutant that the model accepts; one that it refuses is a false
accept (exit status 1).  All choices come from the seed.
"""

from __future__ import annotations

import random
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import click

from benchmarks.corpus.jobs import objects_folder
from benchmarks.model.corpus import corpus_keys, reason_class
from benchmarks.model.verdicts import KernelVerdicts, is_verifiers, running_knowledge
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.btf import Kind as BtfKind
from verifier_model.bpf.insn import SLOT_BYTES, Insn, RefKind
from verifier_model.bpf.isa import BY_NAME, MEMORY_KINDS, Kind
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.checker import check
from verifier_model.contracts.attach import attach_id
from verifier_model.contracts.places import place_of
from verifier_model.contracts.relocation import for_kernel
from verifier_model.kernel.libbpf import LoadOptions, load_object
from verifier_model.kernel.syscall import Refused
from verifier_model.kernel.types import running_kernel_types

LONGEST: Final = 400  # slots of a program
_TELLING: Final = (0, 1, -1, 2, 4, 7, 8, 16, 31, 32, 64, 255, 4095)
_WIDTHS: Final = ("b", "h", "w", "dw")


@dataclass(frozen=True, slots=True)
class Subject:
    """A program that the kernel loads; `unit` is patched for that kernel."""

    key: str
    data: bytes
    unit: Unit
    name: str


def is_typed(function: Function) -> bool:
    """Does the program reach kernel objects, kfuncs or fields by CO-RE, and nothing that needs records of functions?"""
    typed = False
    for _, insn in function.insns():
        if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION:
            return False
        is_kfunc = insn.row.name == "call_local" and insn.ref is not None and insn.ref.kind is RefKind.EXTERN
        typed = typed or bool(insn.origin.core) or is_kfunc
    return typed or function.program_type in ("tracing", "lsm", "struct_ops", "sock_ops", "cgroup_sockopt", "sk_lookup")


def subjects(rng: random.Random, limit: int) -> Iterator[Subject]:
    types = running_kernel_types()
    assert types is not None, "the running kernel shows no BTF"
    verdicts = KernelVerdicts()
    keys = corpus_keys()
    rng.shuffle(keys)
    seen: set[tuple[str, str]] = set()
    for key in keys:
        data = (objects_folder() / f"{key}.o").read_bytes()
        source = read_object(data)
        if isinstance(source, Untouched):
            continue
        names = tuple(f.name for f in source.unit.functions if not f.is_subprogram)
        fitting = [n for n in names if is_typed(source.unit.function(n)) and source.unit.function(n).slots <= LONGEST]
        fitting = [name for name in fitting if (key.rpartition("/")[2], name) not in seen]
        if not fitting:
            continue
        words = verdicts.of(data, names)
        patched = for_kernel(source.unit, types)
        for name in fitting:
            word = words.get(name)
            if word is None or not is_verifiers(word) or not word.accepted:
                continue
            seen.add((key.rpartition("/")[2], name))
            yield Subject(key, data, patched, name)
            limit -= 1
            if limit <= 0:
                return


def changed(rng: random.Random, insn: Insn) -> Insn:
    """The instruction with one small change; symbols and jumps' targets stay."""
    kinds = [_register]
    if insn.kind in MEMORY_KINDS:
        kinds += [_offset, _offset, _width]
    if insn.ref is None and "imm" in insn.row.uses and insn.kind is not Kind.CALL:
        kinds.append(_immediate)
    return rng.choice(kinds)(rng, insn)


def _register(rng: random.Random, insn: Insn) -> Insn:
    if "src" in insn.row.uses and rng.random() < 0.5:
        return replace(insn, src=rng.randrange(11))
    return replace(insn, dst=rng.randrange(11)) if "dst" in insn.row.uses else insn


def _offset(rng: random.Random, insn: Insn) -> Insn:
    step = rng.choice((-16, -8, -4, -2, -1, 1, 2, 4, 8, 16, 64, 512, 4096))
    return replace(insn, off=max(-32768, min(32767, insn.off + step)))


def _width(rng: random.Random, insn: Insn) -> Insn:
    stem, _, letter = insn.row.name.rpartition("_")
    row = BY_NAME.get(f"{stem}_{rng.choice(_WIDTHS)}") if letter in _WIDTHS else None
    return insn if row is None or row.level > insn.row.level else replace(insn, row=row)


def _immediate(rng: random.Random, insn: Insn) -> Insn:
    new = rng.choice(_TELLING) if rng.random() < 0.5 else insn.imm + rng.choice((-8, -4, -1, 1, 4, 8))
    return replace(insn, imm=max(-(1 << 31), min((1 << 31) - 1, new)))


def mutant(rng: random.Random, function: Function, changes: int) -> tuple[Function, dict[int, tuple[Insn, Insn]]]:
    """The changed function, and by slot what was changed into what."""
    places: list[tuple[Point, int]] = []
    slot = 0
    for point, insn in function.insns():
        if insn.kind is not Kind.LOAD_WIDE:
            places.append((point, slot))
        slot += insn.slots
    made: dict[int, tuple[Insn, Insn]] = {}
    for _ in range(changes):
        point, slot = rng.choice(places)
        block = function.block(point.label)
        old = block.insns[point.at]
        new = changed(rng, old)
        if new != old and slot not in made:
            made[slot] = (old, new)
            insns = (*block.insns[: point.at], new, *block.insns[point.at + 1 :])
            function = function.with_block(replace(block, insns=insns))
    return function, made


def in_bytes(code: bytes, made: dict[int, tuple[Insn, Insn]]) -> bytes:
    """The same change to the instructions that libbpf has relocated."""
    found = bytearray(code)
    for slot, (old, new) in made.items():
        at = slot * SLOT_BYTES
        _, regs, off, imm = struct.unpack_from("<BBhi", found, at)
        if "dst" in new.row.uses:
            regs = regs & 0xF0 | new.dst
        if "src" in new.row.uses:
            regs = regs & 0x0F | new.src << 4
        off = new.off if new.kind in MEMORY_KINDS else off
        imm = new.imm if new.imm != old.imm else imm
        struct.pack_into("<BBhi", found, at, new.row.code, regs, off, imm)
    return bytes(found)


def kernel_takes(subject: Subject, made: dict[int, tuple[Insn, Insn]]) -> tuple[bool, str]:
    def rewrite(name: str, code: bytes) -> bytes:
        return in_bytes(code, made) if name == subject.name else code

    function, types = subject.unit.function(subject.name), running_kernel_types()
    place = place_of(function)
    assert place is not None and types is not None
    attach = (place.attach_type, attach_id(function, types), place.flags)
    if function.operation is not None:
        owner = types.named(function.operation[0], BtfKind.STRUCT)
        names = [member.name for member in types.types[owner].members]
        attach = (names.index(function.operation[1]), owner, place.flags)
    options = LoadOptions(only=frozenset({subject.name}), rewrite=rewrite, attach={subject.name: attach})
    loaded = load_object(subject.data, options)
    if isinstance(loaded, Refused):
        return False, loaded.log
    loaded.close()
    return True, ""


@click.command()
@click.option("--programs", default=80, help="so many programs")
@click.option("--each", default=40, help="mutants of each")
@click.option("--seed", default=1)
@click.option("--refused", default=0.05, help="share of the mutants that the model refuses to ask the kernel about")
def main(programs: int, each: int, seed: int, refused: float) -> None:
    """Mutate, ask, print; exit 1 at a false accept."""
    rng, count = random.Random(seed), Counter[str]()
    wrong: list[str] = []
    knows = replace(running_knowledge(), release=None)
    for subject in subjects(rng, programs):
        function = subject.unit.function(subject.name)
        report = check(subject.unit, function, knows)
        if not report.accepted:
            reason = "" if report.rejection is None else reason_class(report.rejection.reason)
            count[f"programs that the model refuses: {reason}"] += 1
            continue
        count["programs"] += 1
        count[f"of type {function.program_type}"] += 1
        print(f"{subject.key} {subject.name}", file=sys.stderr, flush=True)
        for _ in range(each):
            new, made = mutant(rng, function, rng.choice((1, 1, 2)))
            if not made:
                continue
            count["mutants"] += 1
            accepted = check(subject.unit.with_function(new), new, knows).accepted
            count["accepted by the model"] += accepted
            if not accepted and rng.random() >= refused:
                continue
            takes, log = kernel_takes(subject, made)
            count["accepted by both"] += accepted and takes
            if not accepted:
                count["refused by the model and asked about"] += 1
                count["refused by the model alone"] += takes
            if accepted and not takes:
                what = "; ".join(f"slot {slot}: {print_insn(a)} -> {print_insn(b)}" for slot, (a, b) in made.items())
                wrong.append(f"{subject.key} {subject.name}: {what}\n{log[-300:]}")
                print(wrong[-1], file=sys.stderr, flush=True)
    print(f"seed {seed}")
    print("\n".join(f"{number:7d}  {name}" for name, number in sorted(count.items())))
    print(f"{len(wrong):7d}  false accepts")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

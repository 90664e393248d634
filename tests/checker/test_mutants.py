"""Broken variants of the examples: whatever the kernel refuses, the model must have refused."""

from __future__ import annotations

import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import ROWS, Kind
from verifier_model.bpf.unit import Block, Function
from verifier_model.checker import check
from verifier_model.checker.callgraph import is_root
from verifier_model.kernel.libbpf import load_object
from verifier_model.kernel.syscall import Refused

SEED = 90125
MUTANTS = 40
FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = ("xdp_firewall", "xdp_router", "xdp_balancer", "tc_flow_stats", "trace_open")
IMMEDIATES = (0, 1, -1, 2, 8, 13, 14, 16, 63, 64, 255, -8, -16, 4096, 0x7FFFFFFF)


def compiled(example: str, folder: Path) -> bytes:
    """The object of one of the examples at v3."""
    output = folder / "x.o"
    command = ["clang-19", "-target", "bpf", "-O2", "-g", "-mcpu=v3", f"-I{FOLDER / 'include'}", "-c"]
    subprocess.run([*command, str(FOLDER / f"{example}.bpf.c"), "-o", str(output)], check=True, timeout=60)
    return output.read_bytes()


def _other_row(rng: random.Random, insn: Insn) -> Insn:
    old = insn.row
    alike = [
        row
        for row in ROWS
        if row.kind is old.kind and row.uses == old.uses and row.fixed_src == old.fixed_src and row.level <= 3
    ]
    return replace(insn, row=rng.choice(alike))


def _changed(rng: random.Random, insn: Insn) -> list[Insn]:
    """The instruction gone, or with one field or its operation changed."""
    uses = insn.row.uses
    ways = ["row"] if insn.row.is_block_end else ["gone", "row"]
    ways += [name for name in ("imm", "off", "src", "dst") if name in uses and insn.ref is None]
    way = rng.choice(ways)
    if way == "gone" or insn.kind in (Kind.CALL, Kind.EXIT, Kind.LOAD_WIDE):
        return [] if not insn.row.is_block_end else [insn]
    if way == "row":
        return [_other_row(rng, insn)]
    if way == "imm":
        return [replace(insn, imm=rng.choice(IMMEDIATES))]
    if way == "off":
        return [replace(insn, off=insn.off + rng.choice((-8, -4, -1, 1, 2, 4, 8, 64)))]
    return [replace(insn, src=rng.randrange(11))] if way == "src" else [replace(insn, dst=rng.randrange(10))]


def mutant(rng: random.Random, function: Function) -> tuple[Function, str]:
    # An instruction that the loader patches is never changed, and what the loader writes into it is not known here.
    point, insn = rng.choice([(point, insn) for point, insn in function.insns() if not insn.origin.core])
    new = _changed(rng, insn)
    block = function.block(point.label)
    changed = Block(block.label, (*block.insns[: point.at], *new, *block.insns[point.at + 1 :]))
    return function.with_block(changed), f"{function.name} {point}: {print_insn(insn)} -> {list(map(print_insn, new))}"


@pytest.mark.needs("bpf", "clang-19", "libbpf-dev")
@pytest.mark.parametrize("example", EXAMPLES)
def test_no_mutant_that_the_kernel_refuses_is_taken(example: str, tmp_path: Path) -> None:
    read = read_object(compiled(example, tmp_path))
    assert isinstance(read, Object)
    refused = 0
    for at in range(MUTANTS):
        seed = f"{SEED}-{example}-{at}"
        rng = random.Random(seed)
        changed, what = mutant(rng, rng.choice(read.unit.functions))
        unit = read.unit.with_function(changed)
        image = write_object(read, unit)
        if isinstance(image, Untouched):
            continue
        loaded = load_object(image)
        if not isinstance(loaded, Refused):
            loaded.close()
            continue
        refused += 1
        reports = [check(unit, root) for root in unit.functions if is_root(root)]
        assert not all(report.accepted for report in reports), f"seed {seed}: {what}\n{loaded.log}"
    assert refused > MUTANTS // 10

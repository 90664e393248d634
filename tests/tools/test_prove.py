"""`k2 prove`: whoever made the second object, what is proved may stand for the first, and nothing else is proved."""

from __future__ import annotations

import functools
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from k2_tools.blockwise import paired, turned
from k2_tools.cli import main
from k2_tools.validation import differences, validate
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from object_stage import optimise_bytes
from synth.settings import Settings
from tests.end_to_end.objects import compiled
from verifier_model.bpf.asm import parse_function
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import BY_CODE, Kind
from verifier_model.bpf.unit import Block, Function, Unit
from verifier_model.verdict import Status

SEED = 5
MUTANTS = 8

pytestmark = pytest.mark.needs("clang-19")


def k2(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@functools.cache
def better(name: str) -> bytes:
    return optimise_bytes(compiled(name), Settings(tiers=("passes",)), 3).data


def parsed(data: bytes) -> Object:
    source = read_object(data)
    assert not isinstance(source, Untouched)
    return source


@pytest.mark.parametrize("name", ["tc_flow_stats", "trace_open", "xdp_balancer"])
def test_our_objects_are_proved(name: str, tmp_path: Path) -> None:
    clang, ours = tmp_path / "clang.o", tmp_path / "ours.o"
    clang.write_bytes(compiled(name))
    ours.write_bytes(better(name))
    assert clang.read_bytes() != ours.read_bytes()
    done = k2("prove", clang, ours)
    assert done.exit_code == 0, done.output
    assert "0 refuted, 0 unknown" in done.output and "identical" not in done.output.splitlines()[-2]
    same = k2("prove", clang, clang)
    assert same.exit_code == 0 and same.output.count("PROVED: identical") == len(parsed(compiled(name)).unit.functions)


def mutants(unit: Unit, rng: random.Random) -> list[tuple[str, Unit]]:
    """Objects with one bit of one instruction wrong, of which no reader can think that they do the same."""
    found: list[tuple[str, Unit]] = []
    while len(found) < MUTANTS:
        function = rng.choice(unit.functions)
        block = rng.choice(function.blocks)
        at = rng.randrange(max(len(block.insns), 1))
        if at < len(block.insns) and (changed := mutant(block.insns[at], rng)) is not None:
            insns = (*block.insns[:at], changed, *block.insns[at + 1 :])
            new = function.with_block(Block(block.label, insns))
            found.append((function.name, unit.with_function(new)))
    return found


def mutant(insn: Insn, rng: random.Random) -> Insn | None:
    """A store of another value or elsewhere, a comparison with another number: what is seen, or may well be."""
    if insn.ref is not None and insn.kind is not Kind.BRANCH:
        return None
    if insn.kind in (Kind.STORE, Kind.STORE_IMM) and insn.dst != 10:
        return replace(insn, off=insn.off ^ 1 << rng.randrange(3))
    if insn.kind is Kind.BRANCH and "imm" in insn.row.uses:
        return replace(insn, imm=insn.imm ^ 1 << rng.randrange(8))
    if insn.kind is Kind.BRANCH:
        other = [row for row in BY_CODE.get(insn.row.code ^ 0x10, ()) if row.kind is Kind.BRANCH]
        return replace(insn, row=other[0]) if other and other[0].uses == insn.row.uses else None
    return None


@pytest.mark.parametrize("name", ["trace_open"])
def test_mutants_are_never_proved(name: str) -> None:
    rng = random.Random(f"{SEED} {name}")
    print(f"seed {SEED}")
    first, second = parsed(compiled(name)), parsed(better(name))
    refuted = 0
    for function, unit in mutants(second.unit, rng):
        data = write_object(second, unit)
        if isinstance(data, Untouched):
            continue
        verdicts = {pair.name: pair.verdict for pair in validate(first, parsed(data))}
        others = [verdict for other, verdict in verdicts.items() if other != function]
        assert all(verdict.is_proved for verdict in others)
        assert not verdicts[function].is_proved, f"seed {SEED}: {function}: {verdicts[function]}"
        refuted += verdicts[function].status is Status.REFUTED
    assert refuted >= MUTANTS // 4


PAIRS = [
    # what differs, the first function, the second that does the same, a twin of it that does not
    (
        "order of branches",
        "L0:\n  r1 = *(u32 *)(r1 + 12)\n  if r1 > 4 goto L2\nL1:\n  r0 = 1\n  exit\nL2:\n  r0 = 2\n  exit\n",
        "L0:\n  r1 = *(u32 *)(r1 + 12)\n  if r1 < 5 goto L2\nL1:\n  r0 = 2\n  exit\nL2:\n  r0 = 1\n  exit\n",
        "L0:\n  r1 = *(u32 *)(r1 + 12)\n  if r1 < 4 goto L2\nL1:\n  r0 = 2\n  exit\nL2:\n  r0 = 1\n  exit\n",
    ),
    (
        "a block of which nothing is left",
        "L0:\n  r6 = *(u32 *)(r1 + 12)\n  if r6 > 4 goto L2\nL1:\n  r7 = 3\nL2:\n  r0 = r6\n  r0 += 0\n  exit\n",
        "L0:\n  r6 = *(u32 *)(r1 + 12)\n  r0 = r6\n  exit\n",
        "L0:\n  r6 = *(u32 *)(r1 + 12)\n  r0 = r6\n  r0 += 1\n  exit\n",
    ),
    (
        "registers renamed across blocks",
        "L0:\n  r6 = *(u32 *)(r1 + 12)\n  if r6 > 4 goto L2\nL1:\n  r6 += 1\nL2:\n  r0 = r6\n  exit\n",
        "L0:\n  r0 = *(u32 *)(r1 + 12)\n  if r0 > 4 goto L2\nL1:\n  r0 += 1\nL2:\n  exit\n",
        "L0:\n  r0 = *(u32 *)(r1 + 12)\n  if r0 > 4 goto L2\nL1:\n  r0 += 3\nL2:\n  exit\n",
    ),
    (
        "a loop",
        "L0:\n  r0 = 0\n  r2 = 10\nL1:\n  r0 += 3\n  r2 += -1\n  if r2 != 0 goto L1\nL2:\n  exit\n",
        "L0:\n  r0 = 0\n  w2 = 10\nL1:\n  r0 += 3\n  w2 += -1\n  if w2 != 0 goto L1\nL2:\n  exit\n",
        "L0:\n  r0 = 0\n  w2 = 11\nL1:\n  r0 += 3\n  w2 += -1\n  if w2 != 0 goto L1\nL2:\n  exit\n",
    ),
]


def function(text: str) -> Function:
    return parse_function(text, "main", section="xdp", program_type="xdp", is_global=True)


@pytest.mark.parametrize(("what", "first", "second", "twin"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_shapes(what: str, first: str, second: str, twin: str) -> None:
    from k2_tools.validation import compare

    old = function(first)
    source = replace(parsed(compiled("xdp_router")), unit=Unit((old,), cpu_level=3))
    assert compare(source, old, function(second), True).verdict.is_proved
    assert compare(source, old, function(twin), True).verdict.status is not Status.PROVED


def test_blocks_are_paired_by_shape_and_replaced_only_with_proof() -> None:
    old = function(PAIRS[2][1])
    unit = Unit((old,), cpu_level=3)
    assert paired(old, function(PAIRS[2][2])) == {"L0": "L0", "L1": "L1", "L2": "L2"}
    assert paired(old, function(PAIRS[0][1])) is None
    last = function(PAIRS[2][1].replace("r0 = r6", "r0 = r6\n  r7 = 5"))
    progress = turned(unit, old, last)
    assert progress.is_whole and len(progress.steps) == 1 and progress.function.blocks == last.blocks
    wrong = turned(unit, old, function(PAIRS[2][1].replace("r0 = r6", "r0 = r7")))
    assert not wrong.is_whole and not wrong.steps and wrong.function == old


# ---- what is no function ----


def with_section(data: bytes, name: str, at: int) -> bytes:
    """The object with one bit of a section flipped."""
    source = parsed(data)
    index = source.elf.section_index(name)
    assert index is not None
    offset = source.elf.sections[index].offset + at
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def test_data_and_licence_are_compared(tmp_path: Path) -> None:
    image = compiled("xdp_balancer")
    first = parsed(image)
    assert list(differences(first, first)) == []
    assert list(differences(first, parsed(better("xdp_balancer")))) == []
    assert list(differences(first, parsed(with_section(image, ".rodata", 0)))) == [
        "the section .rodata holds something else"
    ]
    assert "the licences differ" in list(differences(first, parsed(with_section(image, "license", 0))))
    (tmp_path / "a.o").write_bytes(image)
    (tmp_path / "b.o").write_bytes(with_section(image, ".rodata", 0))
    done = k2("prove", tmp_path / "a.o", tmp_path / "b.o")
    assert done.exit_code == 3 and "the objects: UNKNOWN: the section .rodata" in done.output


def test_maps_are_compared() -> None:
    first = parsed(compiled("xdp_router"))
    name = sorted(name for name in first.unit.maps if not name.startswith("."))[0]
    maps = dict(first.unit.maps)
    larger = replace(first, unit=replace(first.unit, maps={**maps, name: replace(maps[name], max_entries=7)}))
    assert list(differences(first, larger)) == [f"the map {name} is declared differently"]
    del maps[name]
    fewer = replace(first, unit=replace(first.unit, maps=maps))
    assert list(differences(first, fewer)) == [f"the map {name} is in one object only"]


def test_types_count_only_where_code_names_them() -> None:
    image = compiled("trace_open")
    at = parsed(image).elf.section_index(".BTF")
    assert at is not None
    header = struct.unpack_from("<HBBIIIII", parsed(image).elf.sections[at].data)
    strings = header[3] + header[6]  # the first string's place: another spelling of one name, and nothing else
    other = parsed(with_section(image, ".BTF", strings + 2))
    verdicts = {pair.name: pair.verdict for pair in validate(parsed(image), other)}
    assert verdicts["trace_open_enter"].is_proved
    assert "the objects' types differ" in verdicts["trace_open_exit"].reason, "it has a CO-RE record"


def test_functions_of_one_object_only(tmp_path: Path) -> None:
    (tmp_path / "a.o").write_bytes(compiled("trace_open"))
    (tmp_path / "b.o").write_bytes(compiled("xdp_router"))
    done = k2("prove", tmp_path / "a.o", tmp_path / "b.o")
    assert done.exit_code == 3 and "0 proved, 0 refuted" in done.output
    (tmp_path / "b.o").write_text("no object")
    assert k2("prove", tmp_path / "a.o", tmp_path / "b.o").exit_code == 1

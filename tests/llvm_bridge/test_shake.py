"""Shaking an object: instructions come and go at random places, and everything else has to follow.

No-ops (`goto` the next instruction) are put in and taken out again; the result must be what it was.  Between the two,
the object must satisfy the lint, libbpf's linker and the disassembler of LLVM, whose text, with every address
translated by the known shifts, must be the text from before.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.corpus.shake import contents, with_no_ops, without
from llvm_bridge.lint import lint
from llvm_bridge.object import Object
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from tests.llvm_bridge.objects import NAMES, VARIANTS, cases, compiled
from verifier_model.bpf.insn import Insn
from verifier_model.bpf.unit import Unit

SEED = 20260912
BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin")


def read(data: bytes) -> Object:
    found = read_object(data)
    assert isinstance(found, Object), found
    return found


def write(source: Object, unit: Unit) -> bytes:
    data = write_object(source, unit)
    assert isinstance(data, bytes), data
    return data


def shake(source: Object, chance: float, rng: random.Random) -> tuple[bytes, dict[str, tuple[int, ...]]]:
    unit, places = source.unit, {}
    for function in source.unit.functions:
        if function.untouchable is None:
            changed, places[function.name] = with_no_ops(function, chance, rng)
            unit = unit.with_function(changed)
    return write(source, unit), places


@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases())
def test_no_ops_put_in_and_taken_out_leave_no_trace(name: str, compiler: str, target: str, cpu: str) -> None:
    source = read(compiled(name, compiler, target, cpu))
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    for chance in (0.1, 0.5):
        shaken, places = shake(source, chance, rng)
        again = read(shaken)
        unit = again.unit
        for function, gone in places.items():
            unit = unit.with_function(without(unit.function(function), gone))
        assert any(places.values()) == (shaken != source.data)
        restored = write(again, unit)
        assert contents(restored) == contents(source.data)
    assert any(places.values())


@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases())
def test_a_shaken_object_satisfies_the_lint_and_reads_back_as_written(
    name: str, compiler: str, target: str, cpu: str
) -> None:
    source = read(compiled(name, compiler, target, cpu))
    shaken, places = shake(source, 0.3, random.Random(SEED + 1))
    assert set(lint(shaken)) <= set(lint(source.data))
    again = read(shaken)
    assert sum(f.slots for f in again.unit.functions) == sum(f.slots for f in source.unit.functions) + sum(
        len(gone) for gone in places.values()
    )
    assert again.unit.maps == source.unit.maps
    assert again.unit.data == source.unit.data
    for before in source.unit.functions:
        after = again.unit.function(before.name)
        if before.untouchable is None:
            after = without(after, places[before.name])
        old = [comparable(insn) for _, insn in before.insns()]
        assert [comparable(insn) for _, insn in after.insns()] == old


def comparable(insn: Insn) -> Insn:
    """Symbol numbers change when debug sections go, block labels when code moves."""
    if insn.ref is None:
        return insn
    is_label = insn.ref.kind.value == "label"
    return replace(insn, ref=replace(insn.ref, symbol=min(insn.ref.symbol, 0), name="" if is_label else insn.ref.name))


@pytest.mark.needs("bpftool")
@pytest.mark.parametrize(
    ("name", "compiler", "target", "cpu"),
    cases(
        tuple(v for v in VARIANTS if v[1] == "bpf" and v[0] != "clang-16"), tuple(n for n in NAMES if n != "assembly")
    ),
)
def test_the_linker_of_libbpf_takes_a_shaken_object(
    name: str, compiler: str, target: str, cpu: str, tmp_path: Path
) -> None:
    """Three times over the linker's own output, as the kernel's selftests do it; the last two must not differ."""
    source = read(compiled(name, compiler, target, cpu))
    files = [tmp_path / f"{number}.o" for number in range(4)]
    files[0].write_bytes(shake(source, 0.3, random.Random(SEED + 2))[0])
    assert BPFTOOL is not None
    for before, after in pairwise(files):
        subprocess.run([BPFTOOL, "gen", "object", after, before], check=True, timeout=20)
    assert files[2].read_bytes() == files[3].read_bytes()
    linked = read(files[3].read_bytes())
    assert {f.name for f in linked.unit.functions} == {f.name for f in source.unit.functions}


LINE = re.compile(r"^\s+(\d+):\t([0-9a-f ]+)\t(.*)$")
RELOCATION = re.compile(r"^\s+[0-9a-f]{16}:\s+(R_BPF_\w+)\s+(.*)$")


def disassembly(data: bytes, folder: Path) -> dict[str, list[tuple[int, str, str]]]:
    """Per section (slot, text, relocation) of every instruction, as llvm-objdump prints them."""
    path = folder / "x.o"
    path.write_bytes(data)
    command = ["llvm-objdump-19", "-d", "-r", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    found: dict[str, list[tuple[int, str, str]]] = {}
    section: list[tuple[int, str, str]] = []
    for line in done.stdout.splitlines():
        if line.startswith("Disassembly of section "):
            section = found.setdefault(line.removeprefix("Disassembly of section ").rstrip(":"), [])
        elif match := LINE.match(line):
            # It prints calls of helpers and of functions alike: the source register (1) tells them apart.
            is_local = match[2].startswith(("85 10", "85 01"))
            section.append((int(match[1]), match[3].replace("call", "call local") if is_local else match[3], ""))
        elif match := RELOCATION.match(line):
            section[-1] = (*section[-1][:2], f"{match[1]} {match[2]}")
    return found


class SlotMap:
    """Old slots to new ones, per section, and the new slots that hold no-ops."""

    def __init__(self, source: Object, places: dict[str, tuple[int, ...]]) -> None:
        self.new: dict[str, dict[int, int]] = {}
        self.added: dict[str, set[int]] = {}
        for function in source.unit.functions:
            moved, added = self.new.setdefault(function.section, {}), self.added.setdefault(function.section, set())
            old, at = self._end(source, function.section), self._end(source, function.section, new=True)
            gone, count = set(places.get(function.name, ())), 0
            for _, insn in function.insns():
                while count in gone:
                    added.add(at)
                    at, count = at + 1, count + 1
                moved[old] = at
                old, at, count = old + insn.slots, at + insn.slots, count + 1
            moved[old] = at  # the end of the function, start of the next

    def _end(self, source: Object, section: str, new: bool = False) -> int:
        moved = self.new[section]
        return (max(moved.values()) if new else max(moved)) if moved else 0

    def entry(self, section: str, old: int) -> int:
        """Where control that went to the old slot goes now: to the no-op in front of it, if there is one."""
        at = self.new[section][old]
        return at - 1 if at - 1 in self.added[section] else at


def translated(text: str, relocation: str, slot: int, slots: SlotMap, section: str) -> str:
    """The text of an instruction of the old object as it must read at its new place."""
    text = re.sub(r" <.*>$", "", text)
    at = slots.new[section][slot]
    if match := re.search(r"goto ([+-])0x([0-9a-f]+)$", text):
        distance = slots.entry(section, slot + 1 + int(match[1] + match[2], 16)) - at - 1
        return f"{text[: match.start()]}goto {'-' if distance < 0 else '+'}{abs(distance):#x}"
    if (match := re.fullmatch(r"call local (-?0x[0-9a-f]+)", text)) and not relocation:
        return f"call local {slots.entry(section, slot + 1 + int(match[1], 16)) - at - 1:#x}"
    if match and relocation == "R_BPF_64_32 .text":
        return f"call local {slots.entry('.text', int(match[1], 16) + 1) - 1:#x}"
    if relocation == "R_BPF_64_64 .text":
        return re.sub(r"(0x[0-9a-f]+) ll", lambda m: f"{8 * slots.entry('.text', int(m[1], 16) // 8):#x} ll", text)
    return text


@pytest.mark.needs("llvm-objdump-19")
@pytest.mark.parametrize(
    ("name", "compiler", "target", "cpu"), cases((VARIANTS[0], VARIANTS[3], VARIANTS[4], VARIANTS[5]))
)
def test_a_disassembler_sees_the_same_program(name: str, compiler: str, target: str, cpu: str, tmp_path: Path) -> None:
    source = read(compiled(name, compiler, target, cpu))
    shaken, places = shake(source, 0.3, random.Random(SEED + 3))
    before, after = disassembly(source.data, tmp_path), disassembly(shaken, tmp_path)
    slots = SlotMap(source, places)
    assert before.keys() == after.keys()
    for section, lines in before.items():
        if section not in slots.new:
            assert after[section] == lines
            continue
        expected = [
            (slots.new[section][slot], translated(text, relocation, slot, slots, section), relocation)
            for slot, text, relocation in lines
        ]
        got = [
            (slot, re.sub(r" <.*>$", "", text), relocation)
            for slot, text, relocation in after[section]
            if slot not in slots.added[section]
        ]
        assert got == expected

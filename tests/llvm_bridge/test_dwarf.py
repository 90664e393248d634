"""Debug information describes the new code: checked with pyelftools and llvm-dwarfdump on real objects.

Two kinds of new code: no-ops in front of random instructions, where everything must stay true and nothing may be
lost, and what the optimiser makes, where locations may go but must not be made up.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import synth.pipeline
from benchmarks.corpus.shake import with_no_ops, without
from llvm_bridge import dwarf, dwarf_moves
from llvm_bridge.elf import with_sections
from llvm_bridge.object import Object, Untouched
from llvm_bridge.reader import read_object
from llvm_bridge.writer import write_object
from object_stage import optimise_bytes
from synth.settings import Settings
from tests.llvm_bridge.dwarf_reading import Debug, debug_of
from tests.llvm_bridge.objects import INCLUDE, cases, compile_text, compiled
from tests.llvm_bridge.test_shake import BPFTOOL, SlotMap, read, shake
from verifier_model.bpf.unit import Unit

SEED = 20261123
ROOT = Path(__file__).parents[2]
LEVELS = (("clang-19", "bpf", "v3"), ("clang-14", "bpf", "v3"), ("clang-16", "bpf", "v3"), ("ziglang", "bpf", "v4"),
          ("clang-19", "bpfeb", "v3"))  # fmt: skip


def moved_slots(source: Object, places: dict[str, tuple[int, ...]]) -> dict[int, int]:
    """Old addresses of instructions to new ones, as `section << 32 | byte`."""
    slots = SlotMap(source, places)
    homes = {section.name: index for index, section in source.code.items()}
    starts = {
        homes[section]: {old: new for old, new in found.items() if old != max(found)}
        for section, found in slots.new.items()
    }
    return {home << 32 | 8 * old: home << 32 | 8 * new for home, found in starts.items() for old, new in found.items()}


def lies(before: Debug, after: Debug, moved: dict[int, int], is_lossless: bool) -> list[str]:
    """What `after` says wrongly about the instructions that `moved` maps from their old to their new places."""
    found = [
        f"line of {old:#x}: {before.lines.get(old)} became {after.lines.get(new)}"
        for old, new in moved.items()
        if before.lines.get(old) != after.lines.get(new)
    ]
    if [entry.tag for entry in before.entries] != [entry.tag for entry in after.entries]:
        return [*found, "entries were lost or changed their kind"]
    for one, other in zip(before.entries, after.entries, strict=True):
        if one.name != other.name:
            found.append(f"{one.name} became {other.name}")
        for old, new in moved.items():
            if one.is_in_scope(old) != other.is_in_scope(new):
                found.append(f"scope of {one.tag} {one.name} at {old:#x}")
            if not one.at(old) >= other.at(new):
                found.append(f"location of {one.name} at {new:#x} is made up")
            elif is_lossless and one.at(old) != other.at(new):
                found.append(f"location of {one.name} at {old:#x} is lost")
    return found


def complaints(data: bytes, folder: Path) -> Counter[str]:
    """What `llvm-dwarfdump --verify` finds, without addresses."""
    path = folder / "x.o"
    path.write_bytes(data)
    done = subprocess.run(["llvm-dwarfdump-19", "--verify", path], capture_output=True, text=True, timeout=30)
    lines = (done.stdout + done.stderr).splitlines()
    return Counter(re.sub("0x[0-9a-f]+", "", line) for line in lines if "error:" in line or "warning:" in line)


def shaken(source: Object, seed: int = SEED) -> tuple[bytes, dict[int, int]]:
    data, places = shake(source, 0.3, random.Random(seed))
    return data, moved_slots(source, places)


@pytest.mark.needs("llvm-dwarfdump-19")
@pytest.mark.parametrize(("name", "compiler", "target", "cpu"), cases(LEVELS))
def test_no_ops_change_nothing_that_is_said(name: str, compiler: str, target: str, cpu: str, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    source = read(compiled(name, compiler, target, cpu))
    data, moved = shaken(source)
    assert lies(debug_of(source.data), debug_of(data), moved, is_lossless=True) == []
    assert complaints(data, tmp_path) <= complaints(source.data, tmp_path)


@pytest.mark.needs("llvm-dwarfdump-19", "clang-19", "libbpf-dev")
@pytest.mark.parametrize(
    "options",
    [("-O1",), ("-Os",), ("-gdwarf-4",), ("-gdwarf-3",), ("-gdwarf-aranges",), ("-gpubnames",), ("-mcpu=v1", "-O1")],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["calls", "packets"])
def test_other_kinds_of_debug_information(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    source = read(compiled(name, "clang-19", "bpf", "v3", "-g", *options))
    data, moved = shaken(source)
    assert ".debug_info" in {section.name for section in read(data).elf.sections}
    assert lies(debug_of(source.data), debug_of(data), moved, is_lossless=True) == []
    assert complaints(data, tmp_path) <= complaints(source.data, tmp_path)


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_the_check_finds_every_kind_of_wrong_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(compiled("packets"))
    right, moved = shaken(source)
    before = debug_of(source.data)
    assert lies(before, debug_of(right), moved, is_lossless=True) == []
    position = dwarf_moves.FunctionMoves.position
    surviving = dwarf_moves.FunctionMoves.surviving
    wrong: dict[str, Callable[[], None]] = {
        "line": lambda: monkeypatch.setattr(
            dwarf_moves.FunctionMoves,
            "position",
            lambda self, old: position(self, old) + 8 * (self.start < old < self.end),
        ),
        "location": lambda: monkeypatch.setattr(
            dwarf_moves.FunctionMoves,
            "surviving",
            lambda self, *where: ((low, high + 8) for low, high in surviving(self, *where)),
        ),
    }
    for kind, spoil in wrong.items():
        with monkeypatch.context():
            spoil()
            found = lies(before, debug_of(write_shaken(source)), moved, is_lossless=True)
            monkeypatch.undo()
        assert any(line.startswith(kind) for line in found), kind
    # One instruction's difference in the map that the check uses is found, too.
    some = next(iter(moved))
    assert lies(before, debug_of(right), {**moved, some: moved[some] + 64}, is_lossless=True)


def write_shaken(source: Object) -> bytes:
    return shaken(source)[0]


@pytest.mark.needs("llvm-dwarfdump-19", "clang-19")
@pytest.mark.parametrize("example", ["xdp_balancer", "tc_flow_stats"])
@pytest.mark.parametrize("options", [("-O2",), ("-O2", "-gdwarf-4")], ids=" ".join)
def test_what_is_rewritten_loses_locations_and_gains_none(
    example: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Random registers are renamed and random instructions go: nothing but the kept ones is spoken of."""
    include = ROOT / "examples" / "include"
    text = (ROOT / "examples" / f"{example}.bpf.c").read_text()
    source = read(compile_text(text, "clang-19", "bpf", "v3", "-g", *options, f"-I{include}", f"-I{include.parent}"))
    rng = random.Random(SEED)
    unit: Unit = source.unit
    moved: dict[int, int] = {}
    for section in source.code.values():
        at = 0
        for placed in section.functions:
            function = source.unit.function(placed.name)
            plain = [n for n, (_, insn) in enumerate(function.insns()) if insn.kind.value in ("alu", "load", "store")]
            gone = set(rng.sample(plain, len(plain) // 6))
            unit = unit.with_function(without(function, gone))
            old = placed.start
            for number, (_, insn) in enumerate(function.insns()):
                if number not in gone:
                    moved[section.index << 32 | old] = section.index << 32 | at
                    at += 8 * insn.slots
                old += 8 * insn.slots
    losses: Counter[str] = Counter()
    data = write_object(source, unit, losses)
    assert isinstance(data, bytes)
    assert not losses
    before, after = debug_of(source.data), debug_of(data)
    found = lies(before, after, moved, is_lossless=False)
    assert found == []
    assert complaints(data, tmp_path) <= complaints(source.data, tmp_path)
    kept = [
        sum(len(entry.at(where)) for entry in debug.entries for where in addresses)
        for debug, addresses in ((before, moved.keys()), (after, moved.values()))
    ]
    assert kept[0] > kept[1] > kept[0] // 20


@pytest.mark.needs("llvm-strip-19", "llvm-objcopy-19", "bpftool", "clang-19", "libbpf-dev")
def test_other_tools_take_the_object(tmp_path: Path) -> None:
    data, _ = shaken(read(compiled("calls")))
    first, second = str(tmp_path / "a.o"), str(tmp_path / "b.o")
    assert BPFTOOL is not None
    for command in (
        ["llvm-strip-19", "-g", first, "-o", second],
        ["llvm-objcopy-19", "--strip-debug", first, second],
        [BPFTOOL, "gen", "object", second, first],
    ):
        Path(first).write_bytes(data)
        subprocess.run(command, check=True, timeout=30)
        left = read(Path(second).read_bytes())
        assert not any(section.name.startswith(".debug_") for section in left.elf.sections)
        assert {f.name for f in left.unit.functions} == {f.name for f in read(data).unit.functions}


@pytest.mark.needs("clang-19", "libbpf-dev")
@pytest.mark.parametrize(
    ("options", "reason"), [(("-gdwarf64",), "64-bit DWARF"), (("-gz",), "compressed debug sections")]
)
def test_what_cannot_be_made_true_goes_with_its_reason(options: tuple[str, ...], reason: str) -> None:
    source = read(compiled("calls", "clang-19", "bpf", "v3", "-g", *options))
    unit = source.unit
    for function in unit.functions:
        unit = unit.with_function(with_no_ops(function, 0.3, random.Random(SEED))[0])
    losses: Counter[str] = Counter()
    data = write_object(source, unit, losses)
    assert isinstance(data, bytes)
    assert losses == {f"debug sections dropped: {reason}": 1}
    assert not any("debug" in section.name for section in read(data).elf.sections)


@pytest.mark.needs("clang-19", "libbpf-dev")
@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_objects_with_their_debug_information_elsewhere_are_left_alone(version: str, tmp_path: Path) -> None:
    path = tmp_path / "x.o"
    program = Path(__file__).parent / "programs" / "calls.c"
    command = [
        "clang-19",
        "-target",
        "bpf",
        "-O2",
        INCLUDE,
        version,
        "-gsplit-dwarf",
        "-c",
        str(program),
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True, timeout=60)
    assert read_object(path.read_bytes()) == Untouched("its debug information lies in a .dwo file")
    assert isinstance(read_object(path.with_suffix(".dwo").read_bytes()), Untouched)
    assert isinstance(read_object(compiled("calls", "clang-19", "bpf", "v3", "-g", version)), Object)


@pytest.mark.needs("clang-19", "libbpf-dev")
def test_damaged_debug_sections_never_raise() -> None:
    source = read(compiled("packets"))
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    outcomes: Counter[bool] = Counter()
    indices = sorted(dwarf.debug_sections(source.elf))
    for _ in range(150):
        index = rng.choice(indices)
        damaged = bytearray(source.elf.sections[index].data)
        for _ in range(rng.randrange(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged) + 1) :]
        hurt = replace(source, elf=with_sections(source.elf, {index: bytes(damaged)}))
        unit = source.unit
        for function in unit.functions:
            unit = unit.with_function(with_no_ops(function, 0.3, rng)[0])
        losses: Counter[str] = Counter()
        written = write_object(hurt, unit, losses)
        assert isinstance(written, bytes)
        outcomes[bool(losses)] += 1
    assert outcomes[True]
    assert outcomes[False]


@pytest.mark.needs("llvm-link-19", "llvm-dwarfdump-19", "clang-19", "libbpf-dev")
@pytest.mark.parametrize("versions", [("5", "5"), ("4", "4"), ("4", "5"), ("5", "4")], ids="-".join)
def test_several_units_of_several_versions(versions: tuple[str, str], tmp_path: Path) -> None:
    files = []
    for name, version in zip(("calls", "packets"), versions, strict=True):
        text = (ROOT / "tests" / "llvm_bridge" / "programs" / f"{name}.c").read_text()
        files.append(str(tmp_path / f"{name}.bc"))
        command = ["clang-19", "-target", "bpf", "-mcpu=v3", "-O2", f"-gdwarf-{version}", INCLUDE, "-emit-llvm"]
        command += ["-x", "c", "-c", "-", "-o", files[-1]]
        subprocess.run(command, input=text.replace("LICENSE", f"LICENSE_{name}").encode(), check=True, timeout=60)
    linked, path = str(tmp_path / "linked.bc"), tmp_path / "linked.o"
    subprocess.run(["llvm-link-19", *files, "-o", linked], check=True, timeout=60)
    command = ["clang-19", "-target", "bpf", "-mcpu=v3", "-O2", "-c", linked, "-o", str(path)]
    subprocess.run(command, check=True, timeout=60)
    source = read(path.read_bytes())
    data, moved = shaken(source)
    assert lies(debug_of(source.data), debug_of(data), moved, is_lossless=True) == []
    assert complaints(data, tmp_path) <= complaints(source.data, tmp_path)


@pytest.mark.needs("llvm-dwarfdump-19", "clang-19", "libbpf-dev")
@pytest.mark.parametrize("name", ["calls", "packets"])
def test_what_the_optimiser_makes_is_described(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where blocks changed their order, calls that it describes cannot be told apart, and it goes.
    monkeypatch.setattr(synth.pipeline, "reshapers", lambda settings: ())
    source = compiled(name)
    outcome = optimise_bytes(source, Settings())
    assert outcome.data != source
    assert not any("debug sections" in reason for reason in outcome.record.counters)
    assert complaints(outcome.data, tmp_path) <= complaints(source, tmp_path)
    before, after = debug_of(source), debug_of(outcome.data)
    assert [entry.tag for entry in before.entries] == [entry.tag for entry in after.entries]
    new = read(outcome.data)
    for section in new.code.values():
        for placed in section.functions:
            low = section.index << 32 | placed.start
            (found,) = [
                e for e in after.entries if e.tag == "DW_TAG_subprogram" and (low, low + placed.size) in e.scope
            ]
            assert found.name == str(placed.name.encode())
            slots = range(low, low + placed.size, 8)
            assert all(after.lines[address] in before.lines.values() for address in slots)

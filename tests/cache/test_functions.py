"""Functions that an earlier run had: nothing is searched, everything comes out the same; and what makes a new key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from synth.cache.functions import decoded, function_key, groups
from synth.cache.store import Store
from synth.pipeline import Journal, Run, optimise
from synth.settings import Settings
from synth.workers import run_all
from verifier_model.bpf.asm import parse_function, print_function
from verifier_model.bpf.unit import Block, Function, MapDef, Unit

SETTINGS = Settings(effort=0)
MAIN = parse_function(
    "L0:\n  r6 = 5\n  r1 = 7\n  r1 += r6\n  call fn[helper]\n  r0 += 3\n  r0 += 4\n  exit\n",
    "main",
    section="xdp",
    program_type="xdp",
)
HELPER = parse_function(
    "L0:\n  r0 = r1\n  r2 = 9\n  r0 += 1\n  exit\n", "helper", section=".text", is_subprogram=True, is_global=False
)
ALONE = parse_function("L0:\n  r3 = 1\n  r0 = 2\n  r0 += 1\n  exit\n", "alone", section="xdp", program_type="xdp")
UNIT = Unit((HELPER, MAIN, ALONE), maps={"m": MapDef("m", 2, 4, 8, 1)}, cpu_level=3)


def key(unit: Unit, name: str = "main", settings: Settings = SETTINGS, numbered: int = 0) -> bytes:
    return function_key(unit, unit.function(name), settings, numbered)


def test_a_second_run_searches_nothing_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, first, second = Store(str(tmp_path / "c")), Journal(), Journal()
    unit, record = optimise(UNIT, SETTINGS, journal=first, memory=memory)
    assert record.slots_after < record.slots_before
    monkeypatch.setattr(Run, "optimise", lambda self: pytest.fail(f"{self.original.name} is searched"))
    again, record_again = optimise(UNIT, SETTINGS, journal=second, memory=memory)
    assert again == unit
    assert record_again.to_json() == record.to_json()
    assert second == first


def test_damaged_steps_are_searched_anew(tmp_path: Path) -> None:
    memory = Store(str(tmp_path / "c"))
    unit, record = optimise(UNIT, SETTINGS, memory=memory)
    for name in ("helper", "main", "alone"):
        found = UNIT if name == "helper" else UNIT.with_function(unit.function("helper"))
        data = memory.get(key(found, name))
        assert data is not None
        value = json.loads(data)
        for spoil in (_other_end, _no_window, _other_schema):
            with pytest.raises(ValueError):
                decoded(json.dumps(spoil(json.loads(data))).encode(), UNIT.function(name), "little")
        memory.put(key(found, name), json.dumps(_other_end(value)).encode())
    again, record_again = optimise(UNIT, SETTINGS, memory=memory)
    assert again == unit
    assert record_again.to_json() == record.to_json()


def _other_end(value: dict[str, object]) -> dict[str, object]:
    return {**value, "digest": "0" * 64}


def _no_window(value: dict[str, object]) -> dict[str, object]:
    return {**value, "steps": [[{"window": ["nowhere", 0, 1]}, "", 0]]}


def _other_schema(value: dict[str, object]) -> dict[str, object]:
    return {**value, "schema": 0}


def _with(function: Function, old: str, new: str) -> Function:
    text = print_function(function)
    assert old in text
    return replace(function, blocks=parse_function(text.replace(old, new), function.name).blocks)


CHANGES: list[Callable[[Unit], Unit]] = [
    lambda unit: unit.with_function(_with(MAIN, "r6 = 5", "r6 = 4")),
    lambda unit: unit.with_function(_with(HELPER, "r2 = 9", "r2 = 8")),
    lambda unit: unit.with_function(replace(HELPER, is_global=True)),
    lambda unit: replace(unit, maps={"m": MapDef("m", 2, 4, 9, 1)}),
    lambda unit: replace(unit, cpu_level=2),
    lambda unit: replace(unit, license="GPL"),
    lambda unit: unit.with_function(replace(MAIN, program_type="sched_cls")),
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_the_optimiser_may_look_at_makes_another_key(change: Callable[[Unit], Unit]) -> None:
    assert key(change(UNIT)) != key(UNIT)


def test_what_cannot_decide_anything_is_in_no_key() -> None:
    insns = tuple(replace(insn, origin=replace(insn.origin, line=(1, 2, 3))) for insn in MAIN.blocks[0].insns)
    lined = replace(MAIN, blocks=(Block("L0", insns),))
    assert key(UNIT.with_function(lined)) == key(UNIT)
    assert key(UNIT.with_function(_with(ALONE, "r3 = 1", "r3 = 2"))) == key(UNIT), "nothing joins the two"
    assert key(UNIT, numbered=3) == key(UNIT)
    assert key(UNIT, settings=replace(SETTINGS, first=2), numbered=3) != key(
        UNIT, settings=replace(SETTINGS, first=2), numbered=4
    )
    assert key(UNIT, settings=replace(SETTINGS, goal="size")) != key(UNIT)


def test_functions_that_refer_to_each_other_stay_together() -> None:
    assert groups(UNIT) == [("helper", "main"), ("alone",)]


@pytest.mark.parametrize("jobs", [2, 4])
def test_any_number_of_processes_gives_the_same(jobs: int) -> None:
    first, second = Journal(), Journal()
    unit, record = optimise(UNIT, SETTINGS, journal=first)
    split, record_split = optimise(UNIT, replace(SETTINGS, jobs=jobs), journal=second)
    assert split == unit
    assert record_split.functions == record.functions
    assert second == first


def test_a_worker_that_dies_leaves_its_tasks_to_the_caller() -> None:
    def die() -> list[bytes]:
        raise KeyError("a fault")

    def work(number: int) -> list[bytes]:
        return [bytes([number]), b"x" * 100_000]

    found = run_all([lambda: work(0), die, lambda: work(2), lambda: work(3)], 2)
    assert found[0] == work(0)
    assert found[2] == work(2)
    assert found[1] is None
    assert found[3] is None

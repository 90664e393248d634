"""`k2 calibrate`: prices from differences, tables that can be used, and tables that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_tools.calibrate import ALIKE, PROBES, calibrate, price, prices, program_text, toml
from synth import cost
from synth.settings import Settings, SettingsError, parse
from verifier_model.bpf.asm import parse_function

NANOSECONDS = {"alu.div": 3.0, "atomic": 5.0}


def fake_timer(text: str) -> float:
    """A machine on which every copied instruction takes 0.1 ns, but for two kinds."""
    total = 20.0
    for probe in PROBES:
        copies = text.count(f"{probe.text}\n") - program_text(None, 0).count(f"{probe.text}\n")
        total += copies * NANOSECONDS.get(probe.price, 0.1)
    return total


def test_every_program_of_a_probe_is_one_that_can_be_written() -> None:
    for probe in PROBES:
        short, long = (parse_function(program_text(probe, copies), "f") for copies in (1, 4))
        assert len(list(long.insns())) == len(list(short.insns())) + 3


def test_a_price_is_the_difference_of_one_copy() -> None:
    by_name = {probe.price: probe for probe in PROBES}
    assert price(by_name["alu.div"], fake_timer) == 3000
    assert price(by_name["alu"], fake_timer) == 100
    assert price(by_name["alu"], lambda text: 20.0) == 1, "no instruction is free"


def test_what_was_written_is_used_and_without_one_price_it_is_refused(tmp_path: Path) -> None:
    shipped = cost.table("x86_64")
    found = prices(fake_timer, shipped)
    assert set(found) == set(shipped.picoseconds)
    assert all(found[name] == found[like] for name, like in ALIKE.items())
    path = tmp_path / "costs.toml"
    path.write_text(toml(found, "a test"))
    settings = parse({"K2_COSTS": str(path)})
    assert settings.costs == str(path)
    assert settings.digest != Settings().digest
    try:
        cost.choose(settings.costs)
        assert cost.table().picoseconds == found
    finally:
        cost.choose("")
    assert cost.table().name == "x86_64"
    before = settings.digest
    path.write_text(toml({**found, "alu": 101}, "a test"))
    assert settings.digest != before, "the digest names what is in the file"
    for name, bad in (("a", {k: v for k, v in found.items() if k != "atomic"}), ("b", {**found, "alu": -1})):
        (tmp_path / name).write_text(toml(bad, "a test"))
        with pytest.raises(SettingsError, match="no cost table"):
            parse({"K2_COSTS": str(tmp_path / name)})


@pytest.mark.needs("bpf")
def test_on_the_running_kernel_division_costs_more_than_a_move(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("k2_tools.calibrate.ROUNDS", 3)
    monkeypatch.setattr("k2_tools.calibrate.REPEATS", 2000)
    done = CliRunner().invoke(calibrate, ["-o", str(tmp_path / "t.toml")])
    assert done.exit_code == 0, done.output
    measured = cost.table(str(tmp_path / "t.toml")).picoseconds
    assert measured["alu.div"] > measured["alu.mov"]
    assert measured["atomic"] > measured["store"]

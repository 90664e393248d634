"""How often blocks run: guesses from shapes, counts of a profile, and what a call is expected to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth import cost
from synth.frequency import ONE, TURNS, counts_by_label, expected, frequencies
from synth.settings import SettingsError, parse
from verifier_model.bpf.asm import parse_function

NULL = """
L0:
  call 1
  if r0 {} 0 goto L2
L1:
  r0 = *(u32 *)(r0 + 0)
  r0 += 1
  r0 += 1
  exit
L2:
  r0 = 0
  r0 += 1
  r0 += 1
  exit
"""
LOOP = """
L0:
  r1 = 0
L1:
  r1 += 1
  if r1 < 100 goto L1
L2:
  r0 = 0
  exit
"""
LEAVE = """
L0:
  if r1 > r2 goto L2
L1:
  r0 = 1
  r0 += 1
  r0 += 1
  exit
L2:
  r0 = 0
  exit
"""


def test_a_pointer_is_rarely_null_whichever_way_it_is_asked() -> None:
    equal, other = (frequencies(parse_function(NULL.format(op), "f")) for op in ("==", "!="))
    assert equal["L0"] == other["L0"] == ONE
    assert equal["L1"] == other["L2"] == ONE * 7 // 8
    assert equal["L2"] == other["L1"] == ONE // 8


def test_a_loop_turns_more_than_once_and_what_follows_does_not() -> None:
    found = frequencies(parse_function(LOOP, "f"))
    assert found == {"L0": ONE, "L1": ONE * TURNS, "L2": ONE}


def test_what_leaves_at_once_is_the_exception() -> None:
    found = frequencies(parse_function(LEAVE, "f"))
    assert found["L1"] == 3 * found["L2"]
    same = frequencies(parse_function(LEAVE.replace("r0 = 0\n", "r0 = 0\n  r0 += 1\n  r0 += 2\n"), "f"))
    assert same["L1"] == same["L2"], "nothing speaks for either"


def test_a_profile_goes_before_any_guess() -> None:
    function = parse_function(LEAVE, "f")
    assert frequencies(function, {"L0": 4, "L1": 1, "L2": 3}) == {"L0": ONE, "L1": ONE // 4, "L2": 3 * ONE // 4}
    assert frequencies(function, {"L1": 1}) == frequencies(function), "without the entry's count it says nothing"


def test_a_profile_is_read_by_first_slots_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"f": {"0": 4, "1": 1, "5": 3}, "g": {"0": 9}}')
    function = parse_function(LEAVE, "f")
    settings = parse({"K2_PROFILE": str(path)})
    assert counts_by_label(settings.profile, function) == {"L0": 4, "L1": 1, "L2": 3}
    assert counts_by_label("", function) == {}
    digest = settings.digest
    path.write_text('{"f": {"0": 4, "1": 2, "5": 2}}')
    assert settings.digest != digest, "the digest names what is in the file"
    for number, bad in enumerate(("[]", '{"f": {"0": -1}}', '{"f": {"zero": 1}}', "{")):
        other = tmp_path / str(number)
        other.write_text(bad)
        with pytest.raises(SettingsError, match="no profile"):
            parse({"K2_PROFILE": str(other)})


def test_a_block_that_the_profile_does_not_know_gets_what_flows_into_it() -> None:
    found = frequencies(parse_function(LEAVE, "f"), {"L0": 8, "L1": 2})
    assert found["L1"] == ONE // 4
    assert found["L2"] == ONE // 4


def test_code_on_a_rare_way_is_expected_to_cost_less() -> None:
    rare = parse_function(NULL.format("==").replace("r0 = 0\n", "r0 = 0\n  r0 *= 3\n"), "f")
    often = parse_function(NULL.format("!=").replace("r0 = 0\n", "r0 = 0\n  r0 *= 3\n"), "f")
    plain = parse_function(NULL.format("=="), "f")
    price = cost.table().picoseconds["alu.mul"]
    assert abs(expected(rare) - expected(plain) - price // 8) <= 1
    assert expected(often) > expected(rare)


def test_unreachable_blocks_have_no_frequency() -> None:
    function = parse_function("L0:\n  goto L2\nL1:\n  r0 = 9\nL2:\n  r0 = 0\n  exit\n", "f")
    assert set(frequencies(function)) == {"L0", "L2"}

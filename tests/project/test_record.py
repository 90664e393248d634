"""Records go through JSON and back unchanged."""

from __future__ import annotations

import json

import pytest

from synth.record import SCHEMA, FunctionRecord, Record, RewriteRecord, from_json

REWRITE = RewriteRecord(1, "pass:x", "because", "r0 = 1\nexit", "exit", 1, 900, "bit vectors")
FUNCTION = FunctionRecord("f", "xdp", 9, 8, 9000, 8100, (REWRITE,), "", {"PROVED": 1}, {"cost": 2}, "a\nb", "a")
RECORD = Record((FUNCTION,), "0123", "accepted", {"why": 3})


def test_round_trip() -> None:
    assert from_json(RECORD.to_json()) == RECORD
    assert "\n" not in RECORD.to_json()


def test_totals_and_methods() -> None:
    assert (RECORD.slots_before, RECORD.slots_after) == (9, 8)
    assert FUNCTION.methods == ("bit vectors",)


def test_function_kept_after_all_has_no_gain() -> None:
    kept = RECORD.with_function_kept("f", "does not fit")
    assert (kept.slots_after, kept.functions[0].rewrites) == (9, ())
    assert kept.counters == {"why": 3, "does not fit": 1}
    assert RECORD.with_function_kept("g", "does not fit").functions == RECORD.functions


def test_other_schema_is_refused() -> None:
    value = json.loads(RECORD.to_json())
    value["schema"] = SCHEMA + 1
    with pytest.raises(ValueError, match="schema"):
        from_json(json.dumps(value))

"""What was done to one object, and why: plain values for the report, the gate and machine-readable diffs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

SCHEMA: Final = 2  # of the shape that `to_value` gives; docs/report.md describes it
READABLE: Final = (1, SCHEMA)  # 1 had no figures of the verifier's work


@dataclass(frozen=True, slots=True)
class RewriteRecord:
    """One rewrite that is in the output.

    `number` counts from 1 over the object, as K2_FIRST and K2_LAST do.  `before` and `after` are the window in the
    kernel's syntax, an instruction a line.  `slots_saved` may be negative, `latency_saved` too (picoseconds).
    `method` says how PROVED was reached.
    """

    number: int
    proposer: str
    why: str
    before: str
    after: str
    slots_saved: int
    latency_saved: int
    method: str


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """One function: slots, estimated latency (picoseconds, one pass over every instruction), what changed it.

    `kept_reason` says why nothing in it may change or did, "" when it was open to rewriting.  `verdicts` counts the
    prover's answers by status, `unknowns` the UNKNOWN ones among them by reason, `refusals` the proposals turned down
    for another reason.  `text_before` and `text_after` are the whole function in the kernel's syntax.  `work_before`
    and `work_after` count the instructions that the model of the verifier processes to accept the function, 0 where
    it does not accept it.
    """

    name: str
    section: str
    slots_before: int
    slots_after: int
    latency_before: int
    latency_after: int
    rewrites: tuple[RewriteRecord, ...] = ()
    kept_reason: str = ""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    text_before: str = ""
    text_after: str = ""
    unknowns: Mapping[str, int] = field(default_factory=dict)
    work_before: int = 0
    work_after: int = 0

    @property
    def methods(self) -> tuple[str, ...]:
        """How its rewrites were proved: each method once, in the order of first use."""
        return tuple(dict.fromkeys(rewrite.method for rewrite in self.rewrites))


@dataclass(frozen=True, slots=True)
class Record:
    """One object.  `settings` is the digest of the settings; `gate` the gate's word, "" when it was not asked.

    `counters` counts what was left alone, by reason.  Nothing here depends on the clock: equal inputs, equal records.
    """

    functions: tuple[FunctionRecord, ...]
    settings: str = ""
    gate: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def slots_before(self) -> int:
        return sum(function.slots_before for function in self.functions)

    @property
    def slots_after(self) -> int:
        return sum(function.slots_after for function in self.functions)

    def with_function_kept(self, name: str, reason: str) -> Record:
        """The record when the function `name` stays as it was after all, because of `reason`."""
        kept = (
            replace(
                function,
                slots_after=function.slots_before,
                latency_after=function.latency_before,
                work_after=function.work_before,
                text_after=function.text_before,
                rewrites=(),
                kept_reason=reason,
            )
            if function.name == name
            else function
            for function in self.functions
        )
        return replace(
            self, functions=tuple(kept), counters={**self.counters, reason: self.counters.get(reason, 0) + 1}
        )

    def to_value(self) -> dict[str, Any]:
        """The record as JSON-ready dictionaries and lists, with the version of this shape under `schema`."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        """One line of JSON with sorted keys; `from_json` reads it back."""
        return json.dumps(self.to_value(), sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Record:
    """The record that `to_json` wrote; raises ValueError for another schema."""
    return from_value(json.loads(text))


def from_value(value: Any) -> Record:
    """The record that `to_value` made; raises ValueError for another schema."""
    if not isinstance(value, dict) or value.get("schema") not in READABLE:
        raise ValueError(f"not a record of schema {SCHEMA}")
    value = {name: part for name, part in value.items() if name != "schema"}
    functions = []
    for function in value.pop("functions"):
        rewrites = tuple(RewriteRecord(**rewrite) for rewrite in function["rewrites"])
        functions.append(FunctionRecord(**{**function, "rewrites": rewrites}))
    return Record(functions=tuple(functions), **value)

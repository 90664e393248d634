"""What others can see of a run, in order; and the comparison of two runs, one observable after the other."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from verifier_model.contracts.effects import CallEffects
from verifier_model.prover.entry import Value
from verifier_model.prover.limits import TooHardError
from verifier_model.prover.memory import Place, RegionMemory
from verifier_model.prover.terms import Term

PACKET = ("packet",)
RegionKey = tuple[Hashable, ...]


def stack_key(frame: int) -> RegionKey:
    """The private region of one stack frame; 0 is the current one."""
    return ("stack", frame)


class Scope(NamedTuple):
    """Private memory that an event makes visible: some places of one region, or (None) all of it.

    `region` None stands for every stack frame.
    """

    region: RegionKey | None
    places: tuple[Place, ...] | None = None


EVERYTHING = (Scope(PACKET), Scope(None))


class Operand(NamedTuple):
    name: str
    term: Term


@dataclass(frozen=True, slots=True)
class Event:
    """A shared access, a call, or an instruction kept as it is.

    Two events match when their `shape` is equal; then their operands and the memory in `scopes` must be equal as well.
    `is_kept` marks what the prover knows nothing of but that it must stay: that kind of instruction, and accesses
    through pointers of unknown origin, which may well be to private memory.  A call has its `effects` and `arguments`,
    what r0 to r5 held.
    """

    shape: tuple[Hashable, ...]
    text: str
    operands: tuple[Operand, ...]
    scopes: tuple[Scope, ...]
    memory: dict[RegionKey, RegionMemory]
    effects: CallEffects | None = None
    arguments: tuple[Value, ...] = ()
    is_kept: bool = False

    @property
    def is_of_unknown_origin(self) -> bool:
        """Is it an access that may be to private memory, which then nobody would see?"""
        return self.is_kept and any(operand.name == "address" for operand in self.operands)


class Check(NamedTuple):
    """Two terms that must be equal in every state."""

    what: str
    before: Term
    after: Term


class DifferentShapeError(Exception):
    """The two runs cannot be matched event by event; `is_kept` when an instruction that must stay is involved."""

    def __init__(self, text: str, is_kept: bool = False) -> None:
        super().__init__(text)
        self.is_kept = is_kept


@dataclass
class Comparison:
    """Collects the checks under which `after` shows what `before` showed."""

    checks: list[Check] = field(default_factory=list)

    def same(self, what: str, before: Term, after: Term) -> None:
        self.checks.append(Check(what, before, after))

    def event(self, number: int, expected: Event | None, found: Event | None, memory: Memories) -> None:
        """Event `number` of both runs; `memory` is what `after` has at it.  Raises DifferentShapeError."""
        if expected is None or found is None or expected.shape != found.shape:
            old = "nothing" if expected is None else expected.text
            new = "nothing" if found is None else found.text
            is_kept = any(event is not None and event.is_kept for event in (expected, found))
            raise DifferentShapeError(f"event {number}: {old} before, {new} after", is_kept)
        for a, b in zip(expected.operands, found.operands, strict=True):
            self.same(f"{a.name} of {expected.text}", a.term, b.term)
        for scope in expected.scopes:
            self.scope(f" at {expected.text}", scope, Memories(expected.memory, memory.fresh), memory)

    def scope(self, when: str, scope: Scope, before: Memories, after: Memories) -> None:
        if scope.region is not None:
            self.region(when, scope.region, scope.places, before, after)
            return
        for key in sorted({*before.regions, *after.regions}, key=repr):
            if key != PACKET:
                self.region(when, key, None, before, after)

    def region(
        self, when: str, key: RegionKey, places: tuple[Place, ...] | None, before: Memories, after: Memories
    ) -> None:
        """The bytes at `places`, or at all that either program wrote (elsewhere the initial bytes still stand)."""
        old, new = before.get(key), after.get(key)
        if old.initial != new.initial:
            raise TooHardError("the same event leaves different memory in the two programs")
        for place in places if places is not None else dict.fromkeys((*old.written(), *new.written())):
            self.same(f"{_name(key)} byte {_offset(place)}{when}", old.read(place), new.read(place))


class Memories(NamedTuple):
    """The private memory of one run; `fresh` makes the contents of a region that was not touched yet."""

    regions: dict[RegionKey, RegionMemory]
    fresh: object

    def get(self, key: RegionKey) -> RegionMemory:
        assert callable(self.fresh)
        found = self.regions.get(key)
        made = found if found is not None else self.fresh(key)
        assert isinstance(made, RegionMemory)
        return made


def _name(key: RegionKey) -> str:
    return "packet" if key == PACKET else "stack" if key == stack_key(0) else f"stack of caller {key[1]}"


def _offset(place: Place) -> str:
    signed = place.off - (1 << 64) if place.off >> 63 else place.off
    return f"{signed:+d}"

"""A counterexample made small: as few inputs and as few set bits as the difference needs.

A state from a solver or from a sample sets everything to something.  Numbers and bytes that do not matter become 0,
bits that do not matter are cleared, as long as the two programs still differ; addresses stay, so regions stay apart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from verifier_model.prover.counterexample import Assignment
from verifier_model.prover.entry import CONTEXT_NAME, FRAME_NAME
from verifier_model.prover.evaluate import evaluate
from verifier_model.prover.terms import Term, reachable

_ADDRESSES = frozenset({"base", "context pointer", "symbol", FRAME_NAME[0], CONTEXT_NAME[0]})
_WIDTHS = (1, 8, 16, 32)
Byte = tuple[Hashable, int]


@dataclass(frozen=True, slots=True)
class Smaller:
    """A state that differs from `base` in some variables (by term id) and initial bytes (by region and address)."""

    base: Assignment
    variables: Mapping[int, int] = field(default_factory=dict)
    bytes: Mapping[Byte, int] = field(default_factory=dict)

    def variable(self, term: Term) -> int:
        return self.variables[term.id] if term.id in self.variables else self.base.variable(term)

    def initial_byte(self, region: Hashable, address: int) -> int:
        at = (region, address)
        return self.bytes[at] if at in self.bytes else self.base.initial_byte(region, address)


def smaller(state: Assignment, roots: Iterable[Term], differs: Callable[[Assignment], bool], tests: int) -> Assignment:
    """A state no larger than `state` in which they still differ; at most `tests` states are tried.

    `roots`: the terms whose inputs count.
    """
    best = Smaller(state)
    inputs = [term for term in reachable(roots) if term.op in ("var", "init")]
    for change in _changes(inputs):
        for candidate in change(best):
            if tests == 0:
                return best
            tests -= 1
            if differs(candidate):
                best = candidate
                break
    return best


Change = Callable[[Smaller], Iterator[Smaller]]  # candidates for one step, the smallest first


def _changes(inputs: list[Term]) -> Iterator[Change]:
    """Whole inputs first, then bits."""
    numbers = [term for term in inputs if term.op == "var" and not _is_address(term)]
    places = [term for term in inputs if term.op == "init"]
    yield partial(_all_zero, numbers, places)
    yield from (partial(_shorter, term) for term in numbers)
    yield from (partial(_zero_byte, term) for term in places)
    yield from (partial(_without_bit, term, bit) for term in numbers for bit in range(term.width - 1, -1, -1))


def _is_address(term: Term) -> bool:
    return isinstance(term.data, tuple) and term.data[0] in _ADDRESSES


def _all_zero(numbers: list[Term], places: list[Term], best: Smaller) -> Iterator[Smaller]:
    zero = {_byte(best, term): 0 for term in places}
    yield replace(best, variables={term.id: 0 for term in numbers}, bytes=zero)
    yield replace(best, bytes=zero)


def _shorter(term: Term, best: Smaller) -> Iterator[Smaller]:
    value = best.variable(term)
    for width in (0, *_WIDTHS):
        short = value & ((1 << width) - 1)
        if short != value:
            yield replace(best, variables={**best.variables, term.id: short})


def _without_bit(term: Term, bit: int, best: Smaller) -> Iterator[Smaller]:
    value = best.variable(term)
    if value >> bit & 1:
        yield replace(best, variables={**best.variables, term.id: value ^ 1 << bit})


def _zero_byte(term: Term, best: Smaller) -> Iterator[Smaller]:
    place = _byte(best, term)
    if best.initial_byte(*place):
        yield replace(best, bytes={**best.bytes, place: 0})


def _byte(state: Assignment, term: Term) -> Byte:
    address = term.args[0]
    return term.data, evaluate([address], state.variable, state.initial_byte)[address.id]

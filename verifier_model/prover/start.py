"""Where two runs start in one concrete state: registers, private bytes, context words, shared reads, call results."""

from __future__ import annotations

from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.insn import Insn
from verifier_model.prover import events as ev
from verifier_model.prover.counterexample import Assignment
from verifier_model.prover.entry import WORD
from verifier_model.prover.evaluate import evaluate
from verifier_model.prover.memory import cut
from verifier_model.prover.run import Run
from verifier_model.prover.terms import Term, mask
from verifier_model.verdict import Counterexample, Shown

Runs = tuple[Run, Run]


def value_of(term: Term, state: Assignment) -> int:
    return evaluate([term], state.variable, state.initial_byte)[term.id]


def private_bytes(runs: Runs, state: Assignment) -> dict[ev.RegionKey, dict[int, int]] | None:
    """The initial bytes that the runs touch, by region; None when two regions overlap, as real ones never do."""
    contents: dict[ev.RegionKey, dict[int, int]] = {}
    owner: dict[int, ev.RegionKey] = {}
    known = runs[0].known_bytes
    places = [touched for run in runs for touched in run.touched] + [(key, place) for key, place, _ in known]
    bases = evaluate([place.base for _, place in places], state.variable, state.initial_byte)
    for key, place in places:
        address = bases[place.base.id] + place.off & mask(WORD)
        if owner.setdefault(address, key) != key:
            return None
        contents.setdefault(key, {}).setdefault(address, state.initial_byte(("initial", key, 0), address))
    values = evaluate([byte for *_, byte in known], state.variable, state.initial_byte)
    for key, place, byte in known:
        contents[key][bases[place.base.id] + place.off & mask(WORD)] = values[byte.id]
    return contents


def context_words(runs: Runs, state: Assignment) -> dict[tuple[int, int], int] | None:
    """What context loads give, by address and size in bytes; None when the context changes on the way."""
    words: dict[tuple[int, int], int] = {}
    for run in runs:
        if run.context_epoch and run.context_loads:
            return None
        for address, size, word in run.context_words:
            place, value = (value_of(address, state), size), value_of(word, state)
            if words.setdefault(place, value) != value:
                return None
    return words


def describe(runs: Runs, state: Assignment, difference: str, with_steps: bool = True) -> Counterexample:
    """The counterexample in the form of test inputs; of shared memory the first value read at each address."""
    before = runs[0]
    terms, order = before.terms, before.obligation.unit.byte_order
    memory: dict[int, int] = {}
    for content in (private_bytes(runs, state) or {}).values():
        memory |= content
    words = [(address, terms.trunc(8 * size, word)) for address, size, word in before.context_words]
    for number, event in enumerate(before.events):
        if event.shape[0] == "load":
            width = event.shape[1]
            assert isinstance(width, int)
            words.append((event.operands[0].term, terms.var(("shared", number), width)))
    for address, word in words:
        start = value_of(address, state)
        for index, byte in enumerate(cut(terms, word, order)):
            memory.setdefault(start + index & mask(WORD), value_of(byte, state))
    calls = [number for number, event in enumerate(before.events) if event.shape[0] == "call"]
    return Counterexample(
        tuple(value_of(value.term, state) for value in before.entry.registers),
        tuple(sorted(memory.items())),
        tuple(state.variable(terms.var(("result", number), WORD)) for number in calls),
        difference,
        (_steps(runs[0], state), _steps(runs[1], state)) if with_steps else ((), ()),
    )


def _steps(run: Run, state: Assignment) -> tuple[Shown, ...]:
    """Every instruction of the run with what it set, stored or decided in this state."""
    values = evaluate([term for _, term in run.history if term is not None], state.variable, state.initial_byte)
    return tuple((_text(insn), None if term is None else values[term.id]) for insn, term in run.history)


def _text(insn: Insn) -> str:
    """The instruction as one line; only its row's name if it carries a symbol that it cannot."""
    try:
        return print_insn(insn)
    except ValueError:
        return insn.row.name

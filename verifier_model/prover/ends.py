"""What two runs must agree on where they end: demanded registers and stack bytes, memory that outlives the frame."""

from __future__ import annotations

from collections.abc import Iterable

from verifier_model.bpf.demand import Demand
from verifier_model.prover import events as ev
from verifier_model.prover.entry import WORD
from verifier_model.prover.events import Comparison
from verifier_model.prover.memory import Place
from verifier_model.prover.run import Run
from verifier_model.prover.terms import mask


def compare_ends(demand: Demand, before: Run, after: Run, comparison: Comparison) -> None:
    """Everything that may be looked at behind the end."""
    terms = before.terms
    for number, (old, new) in enumerate(zip(before.registers, after.registers, strict=True)):
        bits = demand.regs[number]
        kept = terms.const(WORD, bits)
        if bits:
            comparison.same(f"r{number}", terms.and_(old.term, kept), terms.and_(new.term, kept))
    compare_outside(before, after, comparison)
    compare_frame(demand.stack, before, after, comparison)


def compare_outside(before: Run, after: Run, comparison: Comparison) -> None:
    """The packet and callers' frames, every byte."""
    comparison.region(" at the end", ev.PACKET, None, before.memories(), after.memories())
    for key in sorted({*before.memory, *after.memory}, key=repr):
        if key not in (ev.PACKET, ev.stack_key(0)):
            comparison.region(" at the end", key, None, before.memories(), after.memories())


def compare_frame(offs: Iterable[int], before: Run, after: Run, comparison: Comparison) -> list[int]:
    """Bytes of the current frame at these offsets from r10, as far as either program may have changed them.

    Returns the offsets that a check was made for, in the order of the checks.
    """
    key, top = ev.stack_key(0), before.entry.frame_pointer
    demanded = [Place(top, off & mask(WORD)) for off in sorted(offs)]
    written = dict.fromkeys((*before.region(key).written(), *after.region(key).written()))
    places = tuple(demanded)
    if all(place.base is top for place in written):
        places = tuple(place for place in demanded if place in written)
    comparison.region(" at the end", key, places, before.memories(), after.memories())
    return [place.off - (1 << WORD) for place in places]

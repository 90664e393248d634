"""Rewrites that the prover has accepted: whatever the door let in while examples and corpus objects were optimised."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import fields

from benchmarks.agreement.subjects import KINDS, corpus_objects, example_objects
from llvm_bridge.object import Untouched
from llvm_bridge.reader import read_object
from processes import ChildFailed, in_child
from synth.door import Answer, Door
from synth.pipeline import Run
from synth.proposers import proposers
from synth.settings import Settings
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import Insn, Ref
from verifier_model.bpf.unit import Block, DataSection, Function, MapDef, Unit
from verifier_model.domains.registers import Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import StackSlot, State
from verifier_model.facts import analyse
from verifier_model.kernel.packages import cache_folder
from verifier_model.verdict import Obligation

_STORED = (
    Obligation,
    State,
    Demand,
    Register,
    Scalar,
    StackSlot,
    Unit,
    Function,
    Block,
    MapDef,
    DataSection,
    Insn,
    Ref,
)
_SECONDS = 3600
_LARGEST = 400  # slots of a function, and five times that of an object; larger ones say the same for longer
_LEAST = 30
_PER_OBJECT = 60


class RecordingDoor(Door):
    """A door that remembers what it let in."""

    def __init__(self, unit: Unit, settings: Settings) -> None:
        super().__init__(unit, settings)
        self.proved: list[Obligation] = []

    def _decide(self, obligation: Obligation) -> Answer:
        answer = super()._decide(obligation)
        if answer.is_accepted and obligation.before != obligation.after:
            self.proved.append(obligation)
        return answer


def proved_in(data: bytes, settings: Settings, whole: bool = True) -> list[Obligation]:
    """What the door accepts while the programs of one object are optimised.

    Not `whole`: only what the tiers propose for the code as the compiler wrote it, without applying any of it.
    """
    source = read_object(data)
    if isinstance(source, Untouched) or sum(one.slots for one in source.unit.functions) > 5 * _LARGEST:
        return []
    found: list[Obligation] = []
    unit = source.unit
    for function in unit.functions:
        if function.slots > _LARGEST or not (function.program_type in KINDS or function.is_subprogram):
            continue
        door = RecordingDoor(unit, settings)
        if whole:
            run = Run(unit, settings, function, door, None, 0)
            run.optimise()
            unit = unit.with_function(run.current)
        elif function.untouchable is None:
            facts = analyse(unit, function)
            for proposer in proposers(settings):
                for rewrite in proposer(function, facts, unit, settings):
                    door.ask(function, facts, rewrite)
        found += door.proved
    return found


def key(obligation: Obligation) -> tuple[object, ...]:
    """Equal for rewrites that are the same question."""
    text = [print_insn(insn) for insn in (*obligation.before, *obligation.after)]
    stack = tuple(obligation.entry.stack.items())
    return (*text, len(obligation.before), obligation.entry.regs, stack, obligation.demand, obligation.unit.byte_order)


def collect(wanted: int, seed: int) -> list[Obligation]:
    """Different proved rewrites, `wanted` where there are so many; kept on disk after every object."""
    shape = repr([(kind.__name__, [field.name for field in fields(kind)]) for kind in _STORED])
    path = cache_folder() / "agreement" / f"proved-{seed}-{hashlib.sha256(shape.encode()).hexdigest()[:8]}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    found, done = pickle.loads(path.read_bytes()) if path.exists() else (list[Obligation](), 0)
    seen = {key(one) for one in found}
    for number, (data, settings, whole) in enumerate(_objects(seed)):
        if len(found) >= wanted:
            break
        if number < done:
            continue
        fresh = {name: one for one in _proved_apart(data, settings, whole) if (name := key(one)) not in seen}
        seen |= fresh.keys()
        found += list(fresh.values())[:_PER_OBJECT]
        path.write_bytes(pickle.dumps((found, number + 1)))
    return found[:wanted]


def _objects(seed: int) -> Iterator[tuple[bytes, Settings, bool]]:
    """The examples as users optimise them, at one level with a searching tier as well; then the corpus, once over."""
    passes, searching = Settings(tiers=("passes",)), Settings(tiers=("passes", "enumerate"))
    yield from ((data, passes, True) for _, data in example_objects())
    yield from ((data, searching, True) for _, data in example_objects(("v3",)))
    yield from ((data, passes, False) for _, data in corpus_objects(seed) if _has_much_code(data))


def _has_much_code(data: bytes) -> bool:
    """Is there a program on packets that does more than a handful of things?"""
    source = read_object(data)
    if isinstance(source, Untouched):
        return False
    return any(one.program_type in KINDS and one.slots >= _LEAST for one in source.unit.functions)


def _proved_apart(data: bytes, settings: Settings, whole: bool) -> list[Obligation]:
    """In a process of its own: an object may take too long, or more memory than it should."""
    try:
        proved = in_child(lambda: pickle.dumps(proved_in(data, settings, whole)), _SECONDS)
    except ChildFailed:
        return []
    found: list[Obligation] = pickle.loads(proved)
    return found

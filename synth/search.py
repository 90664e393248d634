"""A window in the engine: problem, test inputs, and candidates that pass them all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from synth import _engine
from synth.engine_link import (
    LANES,
    EngineInsn,
    Symbols,
    branch_from_engine,
    branch_to_engine,
    from_engine,
    is_symbol,
    prices,
    to_engine,
)
from synth.sampling import Infeasible, Numbers
from synth.space import domain
from synth.testcases import PACKET, STACK, Place, TestCase, case_from, compared, draw_case, place_of, symbol_fact
from synth.window import ACCESS_KINDS, SearchWindow
from verifier_model.bpf.demand import Demand
from verifier_model.bpf.insn import Insn, Ref
from verifier_model.bpf.isa import LOAD_KINDS, Kind
from verifier_model.domains.registers import SHARED, Region, Register
from verifier_model.domains.state import SLOT_SIZE, STACK_BYTES
from verifier_model.verdict import Counterexample

Type = tuple[int, bool, int]
Found = tuple[tuple[Insn, ...], tuple[int, ...]]  # a program, and where each of its branches leads
_UNINIT: Final[Type] = (-1, False, 0)
_NUMBER: Final[Type] = (-2, False, 0)
_MOST_PLACES: Final = 20

# Flags of a region, as module.cpp reads them.
_ACCESSIBLE, _SHARED, _STACK, _ADD_CONSTANT, _ADD_REGISTER, _SUBTRACT, _STORE_IMMEDIATE, _ALIGNED, _UNMODIFIED = (
    1 << bit for bit in range(9)
)
_SHARED_OBJECT: Final = _ACCESSIBLE | _SHARED | _ADD_CONSTANT | _ADD_REGISTER | _STORE_IMMEDIATE
_RULES: Final[dict[Region, int]] = {
    Region.STACK: _ACCESSIBLE | _STACK | _ADD_CONSTANT | _STORE_IMMEDIATE | _ALIGNED,
    Region.PACKET: _ACCESSIBLE | _ADD_CONSTANT | _ADD_REGISTER | _SUBTRACT | _STORE_IMMEDIATE,
    Region.PACKET_META: _SUBTRACT,
    Region.PACKET_END: _SUBTRACT,
    Region.CTX: _ACCESSIBLE | _SHARED | _UNMODIFIED,
    Region.MAP_VALUE: _SHARED_OBJECT,
    Region.DATA: _SHARED_OBJECT,
    Region.MEMORY: _SHARED_OBJECT,
    Region.OBJECT: _ACCESSIBLE | _SHARED | _ADD_CONSTANT,
}


@dataclass
class Places:
    """The memory objects of a window, numbered in the order met, with the rules that hold for pointers to them."""

    index: dict[Place, int] = field(default_factory=dict)
    rules: list[int] = field(default_factory=list)

    def type_of(self, fact: Register, where: Hashable) -> Type:
        if fact.region is Region.UNINIT:
            return _UNINIT
        if fact.is_scalar:
            return _NUMBER
        place = place_of(fact, where)
        at = self.index.setdefault(place, len(self.index))
        if at == len(self.rules):
            own_frame = fact.region is not Region.STACK or fact.frame == 0
            usable = own_frame and not fact.nullable and fact.is_pointer
            self.rules.append(_RULES.get(fact.region, 0) if usable else 0)
        constant = fact.constant_off
        off = (constant or 0) + (STACK_BYTES if place == STACK else 0)
        is_near = constant is not None and abs(off) < 1 << 28
        return at, is_near, off if is_near else 0


class NoSearch(Exception):  # noqa: N818 - a statement about the window, not a failure
    """The window is none that the engine can work on; the message says why."""


class WindowSearch:
    """Candidates for one window.  `learn` adds a test; what it refutes is not found again."""

    def __init__(self, window: SearchWindow, seed: int, lanes: str = "") -> None:
        self.window = window
        self.symbols = Symbols.of(window.insns)
        self._lanes = lanes
        self._numbers = Numbers(seed, compared(window))
        self.places = Places()
        self._original = self.translated(window.insns, window.targets)
        self._types = [self.places.type_of(fact, ("register", reg)) for reg, fact in enumerate(window.entry.regs)]
        self._spills = [
            ((STACK_BYTES + off) // SLOT_SIZE, self.places.type_of(slot.spill, ("slot", off)))
            for off, slot in sorted(window.entry.stack.items())
            if slot.spill is not None
        ]
        self._refs: list[Ref | None] = [load.ref for load in self.symbols.loads]
        self._symbol_types = [
            self.places.type_of(symbol_fact(ref), ("symbol", at)) for at, ref in enumerate(self._refs)
        ]
        self._result_types = [
            None if fact is None else self.places.type_of(fact, ("event", at)) for at, fact in enumerate(window.results)
        ]
        if len(self.places.index) > _MOST_PLACES:
            raise NoSearch("too many memory objects")
        self._events = self._find_events()
        self.domain = domain(window, self.symbols)
        self._drawn = self._draw(2 * LANES if window.targets else LANES)
        self._learnt: list[TestCase] = []
        self.is_complete = True
        self.cases: list[TestCase] = []
        self.session = self._loaded([])

    def translated(self, insns: Sequence[Insn], targets: Sequence[int] = ()) -> list[EngineInsn]:
        found = [
            branch_to_engine(insn, targets[at]) if targets and is_way(insn) else to_engine(insn, self.symbols)
            for at, insn in enumerate(insns)
        ]
        if any(insn is None for insn in found):
            raise NoSearch("an instruction that the engine does not have")
        return [insn for insn in found if insn is not None]

    def _draw(self, count: int) -> list[TestCase]:
        try:
            return [draw_case(self.window, self._refs, self._numbers, profile) for profile in range(count)]
        except Infeasible as reason:
            raise NoSearch(str(reason)) from None

    def _find_events(self) -> list[tuple[int, int]]:
        """(instruction, region) of every access to shared memory, in order, by a walk over the pointers' types."""
        types = list(self._types)
        found = []
        for at, (insn, form) in enumerate(zip(self.window.insns, self._original, strict=True)):
            _, _, from_reg, dst, src, _, _ = form
            if is_way(insn):
                continue
            if insn.kind in ACCESS_KINDS:
                region = types[src if insn.kind in LOAD_KINDS else dst][0]
                if region < 0:
                    raise NoSearch("an access through what is not known to be a pointer")
                if self.places.rules[region] & _SHARED:
                    found.append((at, region))
                if insn.kind in LOAD_KINDS:
                    types[dst] = self._result_types[at] or _NUMBER
            elif is_symbol(insn):
                types[dst] = self._symbol_types[form[6]]
            elif insn.row.name == "mov64_reg" or (from_reg and insn.row.op == "add" and types[dst] == _NUMBER):
                types[dst] = types[src]
            elif insn.row.op not in ("add", "sub") or (from_reg and types[dst][0] >= 0 and types[src][0] >= 0):
                types[dst] = _NUMBER
        return found

    def _loaded(self, learnt: list[TestCase]) -> _engine.Session:
        """A session with these tests in front of the drawn ones; raises NoSearch when the window itself cannot run."""
        cases = [*learnt, *self._drawn]
        while len(cases) % LANES:
            cases.append(self._drawn[len(cases) % len(self._drawn)])
        session = self._session(cases)
        why = session.load(self._registers(cases), self._regions(cases), self._lanes)
        if why:
            why = session.load(self._registers(cases), self._regions(cases, generous=True), self._lanes)
        if why:
            raise NoSearch(why)
        self.cases = cases
        return session

    def _session(self, cases: Sequence[TestCase]) -> _engine.Session:
        initialised = bytearray(STACK_BYTES // SLOT_SIZE)
        for off, slot in self.window.entry.stack.items():
            for index, mark in enumerate(slot.marks):
                initialised[(STACK_BYTES + off) // SLOT_SIZE] |= (mark != "?") << index
        events = []
        for at, region in self._events:
            op, width, *_ = self._original[at]
            events.append((op, width, region, self._result_types[at] or _NUMBER, self._event_column(at, cases)))
        symbols = [(kind, [case.symbols[at] for case in cases]) for at, kind in enumerate(self._symbol_types)]
        session = _engine.Session(
            self._original,
            self.places.rules,
            self._types,
            self._spills,
            bytes(initialised),
            events,
            symbols,
            list(self.window.demand.regs),
            _stack_mask(self.window.demand),
            self.window.byte_order == "big",
        )
        session.set_costs(prices())
        if self.window.targets:
            session.set_exits([(list(demand.regs), _stack_mask(demand)) for demand in self.window.exits])
        return session

    def _event_column(self, at: int, cases: Sequence[TestCase]) -> list[int]:
        row, fact = self.window.insns[at].row, self.window.results[at]
        if fact is not None and fact.is_pointer:
            return [case.loaded[at] for case in cases]
        low = (1 << row.width) - 1
        if not row.sign:
            return [case.loaded[at] & low for case in cases]
        sign = 1 << (row.width - 1)
        return [(((case.loaded[at] & low) ^ sign) - sign) & ((1 << 64) - 1) for case in cases]

    @staticmethod
    def _registers(cases: Sequence[TestCase]) -> list[list[int]]:
        return [list(column) for column in zip(*(case.registers for case in cases), strict=True)]

    def _regions(
        self, cases: Sequence[TestCase], generous: bool = False
    ) -> list[tuple[list[int], list[int], int, bytes]]:
        regions = []
        for place in self.places.index:
            bases = [case.bases.get(place, 0) for case in cases]
            if place not in (STACK, PACKET) or place not in cases[0].images:
                regions.append((bases, [0] * len(cases), 0, b""))
                continue
            size = min(len(case.images[place]) for case in cases)
            limits = [size if generous else min(size, case.limits[place]) for case in cases]
            stride = -(-max(limits) // SLOT_SIZE) * SLOT_SIZE
            contents = b"".join(case.images[place][:stride] for case in cases)
            regions.append((bases, limits, stride, contents))
        return regions

    def learn(self, counterexample: Counterexample) -> bool:
        """Adds the prover's state to the tests; False when it is no state that the engine can start from."""
        case = case_from(self.window, self._drawn[0], counterexample)
        memory = dict(counterexample.memory)
        try:
            self.session = self._loaded([*self._learnt, case])
            # A load's address may depend on what the loads before it gave: one more round for each settles them all.
            for _ in self._events:
                if not self._take_loaded(case, len(self._learnt), memory):
                    break
                self.session = self._loaded([*self._learnt, case])
        except (NoSearch, OverflowError):
            self.session = self._loaded(self._learnt)
            return False
        self._learnt.append(case)
        return True

    def _take_loaded(self, case: TestCase, lane: int, memory: Mapping[int, int]) -> bool:
        """Lets the shared loads of the test in that lane give what `memory` says; was anything changed?"""
        changed = False
        for (at, _), addresses in zip(self._events, self.session.event_addresses(), strict=True):
            fact, row = self.window.results[at], self.window.insns[at].row
            places = [addresses[lane] + index & (1 << 64) - 1 for index in range(row.size)]
            if fact is None or fact.is_pointer or any(place not in memory for place in places):
                continue
            value = int.from_bytes(bytes(memory[place] for place in places), self.window.byte_order)
            changed |= case.loaded[at] != value
            case.loaded[at] = value
        return changed

    def ways(self, settings: Sequence[_engine.ChainSettings], workers: int) -> list[Found]:
        """What several chains found, cheapest first, each with where its branches lead; for windows with branches."""
        found: dict[Found, tuple[int, int]] = {}
        for programs in self.session.chains(self.domain, list(settings), workers):
            for program, slots, picoseconds in programs:
                insns = tuple(branch_from_engine(insn) or from_engine(insn, self.symbols) for insn in program)
                targets = tuple(form[5] if is_way(insn) else 0 for insn, form in zip(insns, program, strict=True))
                found.setdefault((insns, targets), (slots, picoseconds))
        return sorted(found, key=lambda one: found[one])

    def passes(self, candidate: Sequence[Insn]) -> bool:
        """Does the candidate agree with the window on every test?"""
        return self.session.errors(self.translated(candidate)) == 0

    def enumerate(self, longest: int, budget: int, keep: int, never_slower: bool) -> list[tuple[Insn, ...]]:
        """Replacements of up to `longest` instructions that pass the tests, cheapest first, at most `keep`.

        `is_complete` then says whether the budget (instructions run on 32 tests each) sufficed for the whole space.
        """
        settings = _engine.EnumerationSettings()
        settings.longest, settings.budget, settings.keep, settings.never_slower = longest, budget, keep, never_slower
        found, _, self.is_complete = self.session.enumerate(self.domain, settings)
        return self._programs(found)

    def chain(self, settings: _engine.ChainSettings) -> list[tuple[Insn, ...]]:
        """What one Metropolis-Hastings chain found that passes the tests and is better, cheapest first."""
        found, _, _ = self.session.chain(self.domain, settings)
        return self._programs(found)

    def _programs(self, found: Sequence[tuple[list[EngineInsn], int, int]]) -> list[tuple[Insn, ...]]:
        return [tuple(from_engine(insn, self.symbols) for insn in program) for program, _, _ in found]


def is_way(insn: Insn) -> bool:
    """Is this a branch or a jump?"""
    return insn.kind in (Kind.BRANCH, Kind.JUMP)


def _stack_mask(demand: Demand) -> bytes:
    mask = bytearray(STACK_BYTES)
    for off in demand.stack:
        mask[STACK_BYTES + off] = 0xFF
    return bytes(mask)


assert Region.CTX not in SHARED  # it has a row of its own above

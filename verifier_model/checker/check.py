"""Would the kernel accept the function?  The same exploration as for facts, with every condition decided on the way.

Loops are followed turn by turn, as the kernel does it: a state is never given up against one that it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import LOAD_KINDS, MEMORY_KINDS, Kind
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.checker.alive import AliveSlots
from verifier_model.checker.allowance import insn_problem, place_problem
from verifier_model.checker.callbacks import turned
from verifier_model.checker.callgraph import callee_of, depth, followed, handed_over, roots_of, verified_with
from verifier_model.checker.conditions import Condition, conditions_of
from verifier_model.checker.environment import Environment
from verifier_model.checker.exceptions import handler_problem
from verifier_model.checker.explore import Explorer, Live, Meeting, Place, Trail
from verifier_model.checker.iterators import is_iterating, is_next_call, may_go_on
from verifier_model.checker.kernel_calls import kfunc_name
from verifier_model.checker.kernel_objects import attach_problem
from verifier_model.checker.knowledge import EVERY_KERNEL, Knowledge
from verifier_model.checker.loops import cyclic_labels
from verifier_model.checker.memory import owner_of_frame
from verifier_model.checker.obligations import call_problem, exit_problem, legacy_problem, static_call_problem
from verifier_model.checker.shape import shape_problem
from verifier_model.checker.stack_depth import combined_depth_problem
from verifier_model.checker.work import WORK_LIMIT, work
from verifier_model.contracts.contexts import VIEWS
from verifier_model.contracts.global_functions import parameters
from verifier_model.domains.lattice import includes, join
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import SLOT_SIZE, State

PROCESSED_LIMIT: Final = 100_000
DISTINCT_STATES: Final = 48
DISTINCT_KINDS: Final = 1000
JOINS_BEFORE_WIDENING: Final = 256
PATIENCE: Final = 24  # new states that a kept one may fail to cover in a row
REMEMBERED_TURNS: Final = 32  # turns of a loop that a new one is compared with
# By function, label and position: the type of pointer that an access was first followed with.
Accessed = dict[tuple[str, str, int], tuple[Region, object] | None]
_GUARDED_SINCE: Final = (6, 6, 0)
_TRANSLATED: Final = frozenset({Region.CTX, Region.OBJECT})  # accesses become others, by type (reg_type_mismatch_ok)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a function is refused: the instruction (`point` of `function`) and one line in the kernel's style."""

    function: str
    point: Point | None
    reason: str

    def __str__(self) -> str:
        at = "" if self.point is None else f" at {self.point.label}+{self.point.at}"
        return f"{self.function}{at}: {self.reason}"


_UNCOUNTED: Final = "BPF program is too large: nobody counts how many instructions are processed"


@dataclass(frozen=True, slots=True)
class Report:
    """`processed` is what the kernel's verifier would report as "processed N insns" (`checker.work`, for its profile).

    For a function that is refused, it counts the instructions that were followed until then.  `loads`: the share of
    each program, in the unit's order; a global function asked about alone has one for each type of program that reaches
    it.  `written_loads`: the same where frozen data holds what the object says, and not just anything.
    """

    accepted: bool
    rejection: Rejection | None
    processed: int
    loads: tuple[int, ...] = ()
    written_loads: tuple[int, ...] = ()


class RefusedError(Exception):
    """Carries the first rejection out of the exploration."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(str(rejection))
        self.rejection = rejection


class SlotTakenError(Exception):
    """A pointer goes into a stack slot that was read as if no path put one there: the exploration is worthless."""


class Checker(Explorer):
    """An exploration that stops at the first condition that does not hold."""

    def __init__(
        self,
        env: Environment,
        live: Live | None = None,
        limit: int = PROCESSED_LIMIT,
        accessed: Accessed | None = None,
    ) -> None:
        super().__init__(env, live, limit)
        self.handed: set[str] = set()
        self.alive = AliveSlots(env.unit, env.root)
        self.lowest: dict[str, int] = {}
        self.accessed = {} if accessed is None else accessed
        self._conditions: dict[int, tuple[Condition, ...]] = {}
        self._cycles: dict[str, frozenset[str]] = {}
        self._insns: list[Insn] = []

    def before(self, place: Place, at: int, insn: Insn, state: State) -> None:
        """Decide the instruction's conditions; raises RefusedError."""
        problem = self._problem(insn, state) or self._other_pointer(place, at, insn, state)
        if problem is not None:
            raise RefusedError(Rejection(place.function, Point(place.label, at), problem))
        if insn.kind in MEMORY_KINDS or insn.kind is Kind.CALL:
            self._note_stack(place.function, insn, state)
        if insn.kind is Kind.STORE and insn.row.size == SLOT_SIZE and not state.regs[insn.src].is_scalar:
            self._note_pointer(insn, state)
        self.alive.note(self.env, place.function, place.label, at, insn, state)
        handed = handed_over(self.env.unit, insn)
        if handed is not None:
            self.handed.add(handed.name)

    def _problem(self, insn: Insn, state: State) -> str | None:
        kind = insn.kind
        if kind is Kind.CALL:
            is_static = callee_of(self.env.unit, insn) is not None
            return (static_call_problem if is_static else call_problem)(self.env, insn, state)
        if kind is Kind.EXIT:
            return exit_problem(self.env, state)
        if kind is Kind.LEGACY_LOAD:
            return legacy_problem(self.env, insn, state)
        rules = self._conditions.get(id(insn))
        if rules is None:
            self._insns.append(insn)  # keeps the id taken
            rules = self._conditions[id(insn)] = conditions_of(insn)
        for rule in rules:
            problem = rule.problem(self.env, state)
            if problem is not None:
                return problem
        return None

    def _other_pointer(self, place: Place, at: int, insn: Insn, state: State) -> str | None:
        """An access is translated once: all paths come to it with the same type of pointer (save_aux_ptr_type)."""
        if insn.kind not in MEMORY_KINDS:
            return None
        register = state.regs[insn.src if insn.kind in LOAD_KINDS else insn.dst]
        release = None if self.env.knows is None else self.env.knows.release
        is_guarded = insn.kind is Kind.LOAD and (release or (0, 0, 0)) >= _GUARDED_SINCE
        kind = _pointer_kind(register, is_guarded) if register.region in _TRANSLATED else None
        known = self.accessed.setdefault((place.function, place.label, at), kind)
        return None if known == kind else "same insn cannot be used with different pointers"

    def _note_stack(self, function: str, insn: Insn, state: State) -> None:
        """Remember the lowest byte that each function's frame is used to."""
        is_call = insn.kind is Kind.CALL
        bases = range(1, 6) if is_call else (insn.src if "load" in insn.kind.value else insn.dst,)
        for reg in bases:
            pointer = state.regs[reg]
            if pointer.region is Region.STACK:
                owner = function if pointer.frame == 0 else state.callers[pointer.frame - 1].function
                low = pointer.off + (0 if is_call else insn.off) + pointer.value.smin
                self.lowest[owner] = min(self.lowest.get(owner, 0), low)

    def _note_pointer(self, insn: Insn, state: State) -> None:
        """Remember which slots pointers are put into; raises SlotTakenError where none was expected."""
        pointer = state.regs[insn.dst]
        at = pointer.constant_off if pointer.region is Region.STACK else None
        if at is not None:
            slot = owner_of_frame(self.env, state, pointer.frame), (at + insn.off) & -SLOT_SIZE
            self.env.pointer_slots.add(slot)
            if slot in self.env.plain_slots:
                raise SlotTakenError

    def _is_cyclic(self, place: Place, state: State) -> bool:
        names = [
            (place.function, place.label),
            *((frame.function, frame.label) for frame in state.callers if frame.function),
        ]
        return any(label in self._cycle(name) for name, label in names)

    def _cycle(self, name: str) -> frozenset[str]:
        known = self._cycles.get(name)
        if known is None:
            known = self._cycles[name] = cyclic_labels(self._layout(name).function)
        return known

    def admit(self, place: Place, state: State, meeting: Meeting, trail: Trail) -> State | None:
        if not self._is_cyclic(place, state):
            return self._admit_once(place, meeting, state, trail)
        # Whatever is not above us in the depth-first search was followed to its end.
        for old in reversed(meeting.states[-REMEMBERED_TURNS:]):
            if not _is_above(old, trail):
                if includes(self._covering(place, old, meeting, trail), state, as_kernel=True):
                    return None
            elif includes(old, state, True) and includes(state, old, True) and not _turns(state):
                reason = "infinite loop detected"
                raise RefusedError(Rejection(place.function, Point(place.label, place.at), reason))
        meeting.states.append(state)
        return state

    def turn(self, place: Place, state: State, meeting: Meeting, trail: Trail) -> State | None:
        """Another turn of a callback: over when the state is covered, also by one of the turns before it."""
        insn = self._layout(place.function).function.block(place.label).insns[place.at]
        if is_next_call(insn) and not may_go_on(self.env, kfunc_name(insn) or "", state):
            return self.admit(place, state, meeting, trail)
        previous = _latest(meeting, trail)
        if previous is not None:
            state = turned(previous, state)
        if any(includes(old, state, as_kernel=True) for old in reversed(meeting.states)):
            return None
        meeting.states.append(state)
        return state

    def _kinds(self, place: Place, state: State) -> tuple[object, ...]:
        """Of what is read from here on, as far as that is known by now: only a choice of which states to join."""
        return _kinds_of(self.alive.without_dead((place.function, place.label, place.at), state))

    def _covering(self, place: Place, old: State, meeting: Meeting, trail: Trail) -> State:
        """What of a state that was met before has to hold of another one, so that its paths cover the other's."""
        known = meeting.covers.get(id(old))
        if known is None:
            if _is_above(old, trail):
                return old
            known = self.alive.without_dead((place.function, place.label, place.at), old)
            meeting.covers[id(old)] = known
        return known

    def _admit_once(self, place: Place, meeting: Meeting, state: State, trail: Trail) -> State | None:
        useless = []
        for old in reversed(meeting.states):
            if includes(self._covering(place, old, meeting, trail), state, as_kernel=True):
                meeting.misses[id(old)] = -PATIENCE
                return None
            misses = meeting.misses[id(old)] = meeting.misses.get(id(old), 0) + 1
            if misses > PATIENCE:
                useless.append(old)
        meeting.count += 1
        if meeting.joins == 0 and meeting.count < DISTINCT_STATES:
            if useless:
                meeting.retired += useless
                meeting.states = [old for old in meeting.states if all(old is not other for other in useless)]
            meeting.states.append(state)
            return state
        # Paths that hold other kinds of values stay apart, as long as these kinds are few.
        kinds = self._kinds(place, state)
        alike = [old for old in meeting.states if self._kinds(place, old) == kinds]
        if not alike and len(meeting.states) >= DISTINCT_KINDS:
            alike = meeting.states
        joined = state
        for old in reversed(alike):
            joined = join(old, joined, self.env.fresh, widen=meeting.joins >= JOINS_BEFORE_WIDENING)
        meeting.joins += 1
        meeting.states = [*(old for old in meeting.states if all(old is not other for other in alike)), joined]
        return joined


def _kinds_of(state: State) -> tuple[object, ...]:
    """Which kinds of values registers and stack slots hold: joining others would leave nothing known of them."""
    frames = ((state.regs, state.stack), *((frame.regs, frame.stack) for frame in state.callers))
    return tuple(
        (
            tuple(map(_kind, regs)),
            tuple((off, _kind(slot.spill)) for off, slot in sorted(stack.items()) if slot.spill is not None),
        )
        for regs, stack in frames
    )


def _kind(register: Register) -> tuple[object, ...]:
    off = register.off if register.is_pointer else 0
    return register.region, register.nullable, register.packet_range, off


def _pointer_kind(register: Register, is_guarded: bool) -> tuple[Region, object]:
    """What the kernel translates an access by: structures of its own are alike, as far as it trusts them alike.

    `is_guarded`: it guards a load through any of them once it does not trust one (allow_trust_mismatch).
    """
    kind = register.object
    if kind is None or kind.name in VIEWS or not kind.type_id:
        return register.region, kind
    return register.region, None if is_guarded else (kind.trust, bool(register.owner))


def _turns(state: State) -> bool:
    """Is something under way that ends by itself?  Then coming back in the same state is no loop without an end."""
    return any(frame.callback for frame in state.callers) or is_iterating(state)


def _latest(meeting: Meeting, trail: Trail) -> State | None:
    """The last of the meeting's states on the way to here."""
    while trail is not None:
        if any(trail[1] is state for state in meeting.states):
            return trail[1]
        trail = trail[0]
    return None


def _is_above(state: State, trail: Trail) -> bool:
    while trail is not None:
        if trail[1] is state:
            return True
        trail = trail[0]
    return False


def _work_as_written(unit: Unit, part: Function, otherwise: int) -> int | None:
    """The verifier's work where frozen data holds what the object says, not just anything: kernels know it, too."""
    read = {insn.ref.name for f in followed(unit, part) for _, insn in f.insns() if insn.ref is not None}
    if not any(unit.data[name].constants for name in read & unit.data.keys()):
        return otherwise
    return work(replace(unit, has_known_constants=True), part)


def check(unit: Unit, function: Function, knows: Knowledge = EVERY_KERNEL, limit: int = PROCESSED_LIMIT) -> Report:
    """Would the kernel accept `function` in `unit`, together with everything that it calls and is called by?

    A static subprogram is checked inside each program that reaches it.  `function` may differ from the unit's function
    of the same name, which it then stands for.  `knows`: the kernel's verifier, by default what all have in common.
    What takes more than `limit` steps to follow is refused.
    """
    if function.untouchable is not None:
        return Report(False, Rejection(function.name, None, function.untouchable), 0)
    if all(known is not function for known in unit.functions):
        unit = unit.with_function(function)
    roots = roots_of(unit, function)
    if not roots:
        return Report(False, Rejection(function.name, None, "no program reaches the function"), 0)
    processed, loads, written_loads = 0, list[int](), list[int]()
    for root in roots:
        lowest: dict[str, int] = {}
        accessed: Accessed = {}
        counts, written = list[int](), list[int]()
        for part in verified_with(unit, root):
            rejection, count = _check_part(unit, part, knows, limit, accessed, lowest)
            if rejection is not None:
                return Report(False, rejection, processed + count)
            done = work(unit, part, min(limit, WORK_LIMIT))
            if done is None:
                return Report(False, Rejection(root.name, None, _UNCOUNTED), processed + count)
            processed += done
            counts.append(done)
            as_written = _work_as_written(unit, part, done)
            if as_written is None:
                return Report(False, Rejection(root.name, None, _UNCOUNTED), processed)
            written.append(as_written)
        loads += counts if root.is_subprogram else [sum(counts)]
        written_loads += written if root.is_subprogram else [sum(written)]
        problem = combined_depth_problem(unit, root, lowest, knows.release)
        if problem is not None:
            return Report(False, Rejection(root.name, None, problem), processed)
    return Report(True, None, processed, tuple(loads), tuple(written_loads))


def _check_part(
    unit: Unit, part: Function, knows: Knowledge, limit: int, accessed: Accessed, lowest: dict[str, int]
) -> tuple[Rejection | None, int]:
    """`_check_root` of the part, begun anew as long as pointers turn up in slots that were taken for free of them."""
    env = Environment(unit, part, knows)
    processed = 0
    while True:
        checker = Checker(env, limit=limit, accessed=dict(accessed))
        try:
            rejection, count = _check_root(checker, knows, lowest)
        except SlotTakenError:
            processed += checker.processed
            anew = Environment(unit, part, knows)
            anew.pointer_slots = env.pointer_slots
            env = anew
            continue
        accessed.update(checker.accessed)
        return rejection, processed + count


def _check_root(checker: Checker, knows: Knowledge, lowest: dict[str, int]) -> tuple[Rejection | None, int]:
    """The rejection of what the kernel verifies by itself; `lowest` gains the stack that its functions use."""
    unit, root = checker.env.unit, checker.env.root
    if depth(unit, root) is None:
        return Rejection(root.name, None, "the call stack of 8 frames is too deep !"), 0
    if root.untouchable is not None:
        return Rejection(root.name, None, root.untouchable), 0
    if root.is_subprogram and unit.types is not None:
        signature = parameters(unit, root, root.program_type)
        if isinstance(signature, str):
            return Rejection(root.name, None, signature), 0
    unfit = handler_problem(unit, root) or place_problem(unit, root, knows.release) or attach_problem(checker.env)
    if unfit is not None:
        return Rejection(root.name, None, unfit), 0
    for function in followed(unit, root):
        misshapen = shape_problem(function, knows, unit.types is not None) or insn_problem(function, knows.release)
        if misshapen is not None:
            return Rejection(function.name, *misshapen), 0
    try:
        trouble = checker.run()
    except RefusedError as refused:
        return refused.rejection, checker.processed
    idle = sorted(checker.handed - {place.function for place in checker.entries})
    if idle and trouble is None:
        trouble = f"{idle[0]} is handed over but never called: the kernel drops it and misses it then"
    for name, low in checker.lowest.items():
        lowest[name] = min(low, lowest.get(name, 0))
    return (None if trouble is None else Rejection(root.name, None, trouble)), checker.processed

"""Path-sensitive exploration as the kernel does it, with states that end it early.

Where paths meet, a state that an earlier one includes is not followed again; where more than a few different states
meet, they are joined (and the bounds that still move are widened), so that exploring for facts always ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from verifier_model.bpf.demand import ANY_STACK_ACCESS, EVERYTHING, Demand, StackAccess
from verifier_model.bpf.insn import FRAME_POINTER, Insn, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.liveness import Liveness, liveness
from verifier_model.bpf.unit import Function, Point
from verifier_model.checker.branches import branch
from verifier_model.checker.callbacks import (
    behind,
    callback_of,
    calling_back,
    entered,
    is_callback_call,
    is_new,
    returned,
)
from verifier_model.checker.callgraph import MAX_FRAMES, callee_of
from verifier_model.checker.environment import FRAME, NOTHING_KNOWN, UNINIT, Environment, each_register
from verifier_model.checker.exceptions import is_throw
from verifier_model.checker.iterators import drained, is_next_call, may_go_on
from verifier_model.checker.kernel_calls import kfunc_name
from verifier_model.checker.memory import move_frames
from verifier_model.checker.transfer import step
from verifier_model.contracts.calls import call_effects
from verifier_model.domains.lattice import includes, join
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.state import SLOT_SIZE, Frame, State

DISTINCT_STATES: Final = 8
JOINS_BEFORE_WIDENING: Final = 3
STEP_BUDGET: Final = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a state starts to be followed: the start of a block, or the instruction behind a static call."""

    function: str
    label: str
    at: int


@dataclass(slots=True)
class Meeting:
    """The states met at one place in one chain of calls.

    `covers`: by the number (id) of a state all of whose paths were followed, what of it these paths depend on.
    `misses`: by the same, new states that it did not cover of late.  `retired`: those that are no longer asked (kept
    here so that their numbers stay theirs).  `count`: all states that were followed from here.
    """

    states: list[State] = field(default_factory=list)
    joins: int = 0
    covers: dict[int, State] = field(default_factory=dict)
    misses: dict[int, int] = field(default_factory=dict)
    retired: list[State] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """One function's blocks for quick stepping; `meets` holds labels with several ways in."""

    function: Function
    index: Mapping[str, int]
    meets: frozenset[str]


def layout(function: Function) -> Layout:
    index = {block.label: at for at, block in enumerate(function.blocks)}
    ways: dict[str, int] = {}
    for at, block in enumerate(function.blocks):
        last = block.insns[-1] if block.insns else None
        if last is not None and last.ref is not None and last.ref.kind is RefKind.LABEL:
            ways[last.ref.name] = ways.get(last.ref.name, 0) + 1
        falls = last is None or last.kind not in (Kind.JUMP, Kind.EXIT)
        if falls and at + 1 < len(function.blocks):
            following = function.blocks[at + 1].label
            ways[following] = ways.get(following, 0) + 1
    if function.blocks:
        # The entry has one way in that no edge shows.
        first = function.blocks[0].label
        ways[first] = ways.get(first, 0) + 1
    return Layout(function, index, frozenset(label for label, count in ways.items() if count > 1))


# The states met on the way to here, innermost first.
Trail = tuple["Trail", State] | None
Live = Callable[[Function, str], Demand]


def registers_alive(env: Environment) -> Live:
    """What may be read from the start of a block on, by the instructions alone: all of the stack may."""
    known: dict[str, Liveness] = {}

    def access(function: Function, point: Point) -> StackAccess:
        insn = function.block(point.label).insns[point.at]
        if insn.kind is not Kind.CALL:
            return ANY_STACK_ACCESS
        return replace(ANY_STACK_ACCESS, arguments=call_effects(insn, NOTHING_KNOWN, env.unit, function).arguments)

    def live(function: Function, label: str) -> Demand:
        if function.name not in known:
            known[function.name] = liveness(function, lambda point: access(function, point))
        return replace(known[function.name].before(Point(label, 0)), stack=EVERYTHING.stack)

    return live


def forget_dead(state: State, demand: Demand) -> State:
    """The state without what nothing will look at: it would keep paths apart that go on alike."""
    regs = tuple(
        register if mask or at == FRAME_POINTER else UNINIT
        for at, (register, mask) in enumerate(zip(state.regs, demand.regs, strict=True))
    )
    stack = {off: slot for off, slot in state.stack.items() if not demand.stack.isdisjoint(range(off, off + SLOT_SIZE))}
    return State(regs, stack, state.callers, state.references)


class Explorer:
    """Follows every path of `env.root`, static callees included, and keeps the join of all states per place."""

    def __init__(self, env: Environment, live: Live | None = None, budget: int = STEP_BUDGET) -> None:
        self.env = env
        self.live = live or registers_alive(env)
        self.budget = budget
        self.processed = 0
        self.entries: dict[Place, State] = {}
        self._layouts: dict[str, Layout] = {}
        self._meetings: dict[tuple[object, ...], Meeting] = {}
        self._own_entries: dict[str, list[State]] = {}
        self._work: list[tuple[Place, State, Trail]] = []

    def run(self) -> str | None:
        """None when every path was followed, else why the facts are worthless."""
        root = self.env.root
        if not root.blocks:
            return "the function has no instructions"
        self._work.append((Place(root.name, root.blocks[0].label, 0), self.env.entry(), None))
        while self._work:
            trouble = self._follow(*self._work.pop())
            if trouble is not None:
                return trouble
        return None

    def _layout(self, name: str) -> Layout:
        known = self._layouts.get(name)
        if known is None:
            function = self.env.root if name == self.env.root.name else self.env.unit.function(name)
            known = self._layouts[name] = layout(function)
        return known

    def _follow(self, place: Place | None, state: State | None, trail: Trail) -> str | None:
        """Follow one path until it ends, putting the other sides of its branches on the work list."""
        while place is not None and state is not None:
            here = self._layout(place.function)
            is_turn = self._is_turn(here, place)
            if is_turn or (place.at == 0 and place.label in here.meets):
                chain = tuple((frame.function, frame.label, frame.at) for frame in state.callers)
                meeting = self._meetings.setdefault((place, chain), Meeting())
                if place.at == 0:
                    state = forget_dead(state, self.live(here.function, place.label))
                state = (self.turn if is_turn else self.admit)(place, state, meeting, trail)
                if state is None:
                    return None
                trail = (trail, state)
            if self.processed > self.budget:
                return f"BPF program is too large. Processed {self.processed} insn"
            self.note(place, state)
            self.env.function = here.function
            place, state = self._segment(here, place, state, trail)
            if state is not None and len(state.callers) >= MAX_FRAMES:
                return "the call stack of 8 frames is too deep !"
        return None

    def _is_turn(self, here: Layout, place: Place) -> bool:
        """Is this a call that is come back to as often as something calls back?"""
        insns = here.function.blocks[here.index[place.label]].insns
        return place.at < len(insns) and self._comes_back(insns[place.at])

    def _comes_back(self, insn: Insn) -> bool:
        return is_callback_call(insn, self.env.modest) or (self.env.modest and is_next_call(insn))

    def turn(self, place: Place, state: State, meeting: Meeting, trail: Trail) -> State | None:
        """As `admit`, for a call that calls back."""
        return self.admit(place, state, meeting, trail)

    def _call_back(self, place: Place, insn: Insn, state: State, trail: Trail) -> tuple[Place, State]:
        """Behind a call that calls back, after no turn at all; its turns are put on the work list."""
        function, caller = callback_of(self.env, insn, state), calling_back(insn)
        following = Place(place.function, place.label, place.at + 1)
        if function is None:
            return following, step(self.env, insn, state)
        first = entered(self.env, caller, state, (place.function, place.label, place.at))
        if first.callers[0].function or self._is_first(function.name, first):
            self._work.append((Place(function.name, function.blocks[0].label, 0), first, trail))
        return following, behind(self.env, caller, state)

    def _iterate(self, place: Place, insn: Insn, state: State, trail: Trail) -> tuple[Place, State]:
        """Behind a call for an iterator's next element, without one; with another one, it is put on the work list."""
        following, name = Place(place.function, place.label, place.at + 1), kfunc_name(insn) or ""
        if may_go_on(self.env, name, state):
            self._work.append((following, step(self.env, insn, state), trail))
        return following, drained(self.env, name, state)

    def _is_first(self, name: str, state: State) -> bool:
        """Is this a new way to enter what runs on its own?  A timer's callback may start the timer again."""
        return is_new(self._own_entries.setdefault(name, []), state)

    def note(self, place: Place, state: State) -> None:
        """Keep what holds at the start of a stretch of instructions."""
        known = self.entries.get(place)
        self.entries[place] = state if known is None else join(known, state, self.env.fresh)

    def before(self, place: Place, at: int, insn: Insn, state: State) -> None:
        """Called before each instruction is followed."""

    def _segment(self, here: Layout, place: Place, state: State, trail: Trail) -> tuple[Place | None, State | None]:
        """Run to the end of the block or into a static callee; where to go on, and with what."""
        block = here.function.blocks[here.index[place.label]]
        for at in range(place.at, len(block.insns)):
            insn = block.insns[at]
            if at > place.at and self._comes_back(insn):
                return Place(place.function, place.label, at), state
            self.processed += 1
            self.before(place, at, insn, state)
            if insn.row.is_block_end:
                return self._end(here, place, insn, state, trail)
            if insn.kind is Kind.CALL:
                callee = callee_of(self.env.unit, insn)
                if callee is not None and callee.blocks:
                    back = Place(place.function, place.label, at + 1)
                    return Place(callee.name, callee.blocks[0].label, 0), enter(state, back)
                if self._comes_back(insn):
                    return (self._call_back if is_callback_call(insn) else self._iterate)(place, insn, state, trail)
                if self.env.modest and is_throw(insn):
                    return None, None
            state = step(self.env, insn, state)
        return self._next(here, place.label), state

    def _next(self, here: Layout, label: str) -> Place | None:
        at = here.index[label] + 1
        blocks = here.function.blocks
        return Place(here.function.name, blocks[at].label, 0) if at < len(blocks) else None

    def _end(
        self, here: Layout, place: Place, insn: Insn, state: State, trail: Trail
    ) -> tuple[Place | None, State | None]:
        kind = insn.kind
        if kind is Kind.EXIT:
            return leave(state) if state.callers else (None, None)
        target = Place(place.function, insn.ref.name, 0) if insn.ref is not None else None
        if kind is Kind.JUMP:
            return target, state
        taken: State | None = state
        falls: State | None = state
        if kind is Kind.BRANCH:
            knows = self.env.knows
            taken, falls = branch(insn, state, True, knows), branch(insn, state, False, knows)
        if taken is not None and target is not None:
            self._work.append((target, taken, trail))
        return self._next(here, place.label), falls

    def admit(self, place: Place, state: State, meeting: Meeting, trail: Trail) -> State | None:
        """The state to go on with, None when everything it stands for is followed already."""
        if any(includes(old, state) for old in reversed(meeting.states)):
            return None
        if meeting.joins == 0 and len(meeting.states) < DISTINCT_STATES:
            meeting.states.append(state)
            return state
        joined = meeting.states[0]
        for old in (*meeting.states[1:], state):
            joined = join(joined, old, self.env.fresh, widen=meeting.joins >= JOINS_BEFORE_WIDENING)
        meeting.joins += 1
        meeting.states = [joined]
        return joined


def enter(state: State, back: Place) -> State:
    """The state at a static callee's first instruction."""
    frame = Frame(back.function, back.label, back.at, state.regs, state.stack)
    arguments = (move_frames(register, 1) for register in state.regs[1:6])
    regs = (UNINIT, *arguments, UNINIT, UNINIT, UNINIT, UNINIT, FRAME)
    return State(regs, {}, (frame, *state.callers), state.references)


def leave(state: State) -> tuple[Place | None, State | None]:
    """Where the caller goes on, and its state there; nowhere from what nobody called."""
    frame = state.callers[0]
    if frame.callback:
        return (Place(frame.function, frame.label, frame.at), returned(state)) if frame.function else (None, None)
    result = move_frames(state.regs[0], -1)
    regs = (result, UNINIT, UNINIT, UNINIT, UNINIT, UNINIT, *frame.regs[6:])
    after = State(regs, frame.stack, state.callers[1:], state.references)
    return Place(frame.function, frame.label, frame.at), each_register(after, _without_dead_frame)


def _without_dead_frame(register: Register) -> Register:
    return UNINIT if register.region is Region.STACK and register.frame < 0 else register

"""How much work the kernel's verifier has with a function: the number that it reports as "processed N insns".

This repeats the kernel's own walk: falls through first, keeps states where it would (is_state_visited), compares with
kept ones where it would, and traces precision back.  The profile is Linux 6.18 for a loader with CAP_PERFMON and
CAP_BPF; other kernels keep other states, and their numbers differ.  Nothing of this decides acceptance.

Not followed: numbers that differ by a constant in 32 bits, and what the loader patches in.  Values of frozen maps
(.rodata) count as unknown, since whoever loads the object may set them: both sides of their branches are walked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from verifier_model.bpf.insn import Insn
from verifier_model.bpf.isa import MEMORY_KINDS, Kind, Operand
from verifier_model.bpf.unit import Function, Unit
from verifier_model.checker.branches import branch, end_decides, end_mark, operand, packet_sides
from verifier_model.checker.callbacks import (
    ASYNCHRONOUS,
    behind,
    callback_of,
    calling_back,
    entered,
    is_callback_call,
    is_new,
    returned,
)
from verifier_model.checker.callgraph import MAX_FRAMES
from verifier_model.checker.calls import helper_of, without_packet
from verifier_model.checker.control import CALLER_SAVED, Node, control
from verifier_model.checker.environment import Environment, each_register, with_reg
from verifier_model.checker.equivalence import covers, slot_number
from verifier_model.checker.exceptions import is_throw
from verifier_model.checker.explore import Place, enter, leave
from verifier_model.checker.iterators import drained, is_next_call, may_go_on
from verifier_model.checker.kernel_calls import kfunc_name
from verifier_model.checker.linked import teach
from verifier_model.checker.precision import ALL, Kept, Step, Wanted, holders, relied_on, trace
from verifier_model.checker.reads import without_dead
from verifier_model.checker.steps import Path, Steps
from verifier_model.checker.transfer import step
from verifier_model.checker.widening import forgotten
from verifier_model.contracts.calls import call_effects, map_of
from verifier_model.contracts.helpers import ArgumentKind
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import EMPTY_SLOT, State

WORK_LIMIT: Final = 100_000
JUMPS_BETWEEN: Final = 2
INSNS_BETWEEN: Final = 8
LOOP_JUMPS: Final = 20
LOOP_INSNS: Final = 100
LONGEST_HISTORY: Final = 40
PATIENCE: Final = 3
FORCED_PATIENCE: Final = 64
_LOOKUP: Final = 1
_TAIL_CALL: Final = 12
_ANY: Final = Register.scalar(Scalar.top())
_ALL_SLOTS: Final = (1 << 64) - 1
_PRECISE: Final = [ALL] * MAX_FRAMES


def work(unit: Unit, root: Function, limit: int = WORK_LIMIT) -> int | None:
    """Instructions that the verifier processes for `root` with its static callees; None beyond `limit`.

    For a function that the model accepts; for others the number means nothing.
    """
    return Walk(unit, root, limit).run()


class Walk(Steps):
    """The walk over one root."""

    def __init__(self, unit: Unit, root: Function, limit: int = WORK_LIMIT) -> None:
        self.limit = limit
        super().__init__(Environment(unit, root), control(unit, root))
        self.kept: dict[tuple[int, tuple[int, ...]], list[Kept]] = {}
        self.is_lost = False
        self._own_entries: dict[int, list[State]] = {}
        self.processed = self.jumps = self.kept_processed = self.kept_jumps = 0

    def run(self) -> int | None:
        if not self.program.nodes:
            return 0
        self.waiting.append(Path(0, self.env.entry()))
        while self.waiting:
            path = self.waiting.pop()
            while self._advance(path):
                if self.processed > self.limit:
                    return None
            self._end(path)
        return self.processed if self.processed <= self.limit and not self.is_lost else None

    def _end(self, path: Path) -> None:
        kept = path.kept
        while kept is not None:
            kept.branches -= 1
            if kept.branches:
                return
            if kept.loop is not None and kept.parent is not None and kept.parent is not kept.loop:
                kept.parent.loop = kept.parent.loop or kept.loop
            kept = kept.parent

    def _advance(self, path: Path) -> bool:
        """One instruction; False where the path ends."""
        node = self.program.nodes[path.index]
        self.processed += 1
        if node.is_stop and self._is_known(path, node):
            return False
        if node.is_jump:
            path.entries += 1
        insn = node.insn
        kind = insn.kind
        if kind is Kind.BRANCH:
            self.jumps += 1
            return self._branch(path, node)
        if kind in (Kind.JUMP, Kind.CALL, Kind.EXIT, Kind.MAY_GOTO):
            self.jumps += 1
        if kind is Kind.EXIT:
            return self._exit(path, node)
        if kind is Kind.CALL:
            return self._follow_call(path, node)
        access = None
        self.env.function = node.function
        if kind in MEMORY_KINDS:
            access = self._memory(path, node)
        elif kind is Kind.ALU:
            self._alu(path, node)
        elif kind is Kind.ENDIAN:
            self._swap(path, node)
        elif kind is Kind.MAY_GOTO:
            return self._may_leave(path, node)
        elif kind is not Kind.JUMP:
            path.state = step(self.env, insn, path.state)
        if access is not None and not node.is_jump:
            path.entries += 1
        self._step(path, node, node.following, access)
        return path.index >= 0

    # --- kept states

    def _is_known(self, path: Path, node: Node) -> bool:
        """Is the state covered by a kept one?  If not, it may be kept."""
        is_forced = node.is_forced or path.entries > LONGEST_HISTORY
        jumps, insns = self.jumps - self.kept_jumps, self.processed - self.kept_processed
        keep = is_forced or (jumps >= JUMPS_BETWEEN and insns >= INSNS_BETWEEN)
        states = self.kept.setdefault((node.index, path.calls), [])
        self._clean(states, node.index, path.calls)
        live = [self.program.nodes[call].live & ~CALLER_SAVED for call in path.calls] + [node.live]
        comes_back = self._comes_back(path, node)
        for old in tuple(states):
            if old.branches and comes_back and covers(old.state, path.state, live, _PRECISE, _PRECISE):
                old.hits += 1
                if path.kept is not None and path.kept is not old:
                    path.kept.loop = path.kept.loop or old
                trace(relied_on(old, live), path.history, path.kept)
                return True
            if old.branches:
                if not is_forced and jumps < LOOP_JUMPS and insns < LOOP_INSNS:
                    keep = False
            elif covers(old.state, path.state, live, *self._precise(old)):
                old.hits += 1
                trace(relied_on(old, live), path.history, path.kept)
                return True
            if keep:
                old.misses += 1
            patience = FORCED_PATIENCE if node.is_forced and old.branches else PATIENCE
            if old.misses > old.hits * patience + patience:
                states.remove(old)
        if keep:
            self.kept_jumps, self.kept_processed = self.jumps, self.processed
            kept = Kept(path.state, node.index, path.calls, path.kept, path.history)
            states.insert(0, kept)
            path.kept, path.history, path.entries = kept, None, 0
        return False

    def _precise(self, old: Kept) -> tuple[list[int], list[int]]:
        """What counts as precise: everything, as long as the loop around the state is still under way."""
        is_open = old.loop is not None and old.loop.branches > 0
        return (_PRECISE, _PRECISE) if is_open else (old.regs, old.slots)

    def _clean(self, states: list[Kept], index: int, calls: tuple[int, ...]) -> None:
        """Forget stack slots that nothing reads from here on, in states that are followed to their ends."""
        for old in states:
            if not old.branches and not old.is_clean:
                old.is_clean = True
                old.state = without_dead(old.state, self.reads.alive_before(calls, index))

    # --- branches and calls

    def _branch(self, path: Path, node: Node) -> bool:
        insn, state = node.insn, path.state
        taken, falls = self._sides(insn, state)
        dst, src = state.regs[insn.dst], operand(insn, state)
        is_copy = insn.row.operand is Operand.REG
        if taken is None or falls is None:
            if dst.is_scalar:
                self._want(path, insn.dst)
            if is_copy and src.is_scalar:
                self._want(path, insn.src)
            path.state = state if taken is falls else (taken or falls or state)
            self._step(path, node, node.following if taken is None else node.target)
            return path.index >= 0
        ids = {register.id for register in (dst, src) if register.is_scalar and register.id}
        linked = holders(state, ids) if ids else ()
        if len(linked) < 2:
            linked = ()
        elif not node.is_jump:
            path.entries += 1
        if linked:
            regs = (insn.src, insn.dst) if is_copy else (insn.dst,)
            for reg in regs:
                taken, falls = teach(taken, taken.regs[reg]), teach(falls, falls.regs[reg])
        self._step(path, node, node.following, None, linked)
        self._fork(path, node.target, taken, path.history)
        path.state = falls
        return path.index >= 0

    def _sides(self, insn: Insn, state: State) -> tuple[State | None, State | None]:
        sides = packet_sides(insn, state) if insn.row.width == 64 else None
        if sides is None:
            return branch(insn, state, True), branch(insn, state, False)
        decided = end_decides(insn, state)
        if decided is not None:
            return (state, None) if decided else (None, state)
        reg, is_taken_inside, is_open = sides
        inside = branch(insn, state, is_taken_inside)
        outside = branch(insn, state, not is_taken_inside)
        if outside is not None and state.regs[reg].region is Region.PACKET:
            outside = with_reg(outside, reg, replace(outside.regs[reg], packet_range=end_mark(is_open)))
        return (inside, outside) if is_taken_inside else (outside, inside)

    def _exit(self, path: Path, node: Node) -> bool:
        if path.calls and path.state.callers[0].callback:
            return self._return_from_callback(path, node)
        if not path.calls:
            program = self.env.program
            if program is not None and program.results is not None and path.state.regs[0].is_scalar:
                self._want(path, 0)
            return False
        _, state = leave(path.state)
        back = self.program.nodes[path.calls[-1]].following
        if state is None:
            return False
        self._step(path, node, back)
        path.state, path.calls, path.turns = state, path.calls[:-1], path.turns[:-1]
        return back >= 0

    def _return_from_callback(self, path: Path, node: Node) -> bool:
        """Back to the call, which may call again; numbers that changed and that nothing relied on may be any."""
        self._want(path, 0)
        index, calls = path.calls[-1], path.calls[:-1]
        path.history = Step(path.history, node, len(path.calls), turn=True)
        state = returned(path.state)
        previous = _last_visit(path.kept, index, calls)
        path.state = state if previous is None else forgotten(previous, state)
        path.index, path.calls, path.turns = index, calls, path.turns[:-1]
        return True

    def _enter(self, path: Path, node: Node) -> bool:
        assert node.callee is not None
        self._step(path, node, self.program.entries[node.callee.name])
        path.state = enter(path.state, Place(node.function.name, node.label, node.at + 1))
        path.calls, path.turns = (*path.calls, node.index), (*path.turns, 0)
        return True

    def _follow_call(self, path: Path, node: Node) -> bool:
        if node.callee is not None:
            return self._enter(path, node)
        if is_throw(node.insn):
            self._want(path, 1)
            return False
        self.env.function = node.function
        if is_callback_call(node.insn):
            return self._call_back(path, node)
        return self._iterate(path, node) if is_next_call(node.insn) else self._call(path, node)

    def _comes_back(self, path: Path, node: Node) -> bool:
        """Is this a call that comes back to itself until nothing changes any more?"""
        if node.insn.kind is Kind.MAY_GOTO:
            return True
        if is_next_call(node.insn):
            return may_go_on(self.env, kfunc_name(node.insn) or "", path.state)
        return is_callback_call(node.insn)

    def _call_back(self, path: Path, node: Node) -> bool:
        function, caller = callback_of(self.env, node.insn, path.state), calling_back(node.insn)
        if function is None or function.name not in self.program.entries:
            self.is_lost = True
            return False
        count = path.state.regs[1]
        is_loop = caller == "loop" and count.is_scalar
        if is_loop:
            self._want(path, 1)
        into = self.program.entries[function.name]
        if caller in ASYNCHRONOUS:
            alone = entered(self.env, caller, path.state, ("", "", 0))
            if is_new(self._own_entries.setdefault(into, []), alone):
                self.waiting.append(Path(into, replace(alone, callers=())))
        elif not is_loop or path.turns[-1] < count.value.umax:
            back = (node.function.name, node.label, node.at)
            if path.kept is not None:
                path.kept.branches += 1
            history = Step(path.history, node, len(path.calls), turn=True)
            turns = (*path.turns[:-1], path.turns[-1] + 1, 0)
            inside = entered(self.env, caller, path.state, back)
            calls = (*path.calls, node.index)
            self.waiting.append(Path(into, inside, calls, path.kept, history, path.entries, turns))
        path.turns = (*path.turns[:-1], 0)
        path.state = behind(self.env, caller, path.state)
        self._step(path, node, node.following)
        return path.index >= 0

    def _iterate(self, path: Path, node: Node) -> bool:
        """Without another element first; the path with one waits."""
        name = kfunc_name(node.insn) or ""
        history = Step(path.history, node, len(path.calls))
        if may_go_on(self.env, name, path.state):
            self._fork(path, node.following, self._again(path, node, self._as_kernel(node.insn, path.state)), history)
        path.state = drained(self.env, name, path.state)
        path.history, path.index = history, node.following
        return path.index >= 0

    def _again(self, path: Path, node: Node, state: State) -> State:
        """The state for another turn, numbers forgotten that changed since the last one and that nothing relied on."""
        above = None if path.kept is None else path.kept.parent
        previous = _last_visit(above, node.index, path.calls)
        return state if previous is None else forgotten(previous, state)

    def _may_leave(self, path: Path, node: Node) -> bool:
        """Out of the loop first; the path that stays waits."""
        history = Step(path.history, node, len(path.calls))
        self._fork(path, node.following, self._again(path, node, path.state), history)
        path.history, path.index = history, node.target
        return path.index >= 0

    def _call(self, path: Path, node: Node) -> bool:
        insn, state = node.insn, path.state
        self.env.function = node.function
        helper = helper_of(insn) if not insn.origin.core else None
        self._note_call(path, node)
        is_present = False
        if helper is not None:
            for reg, argument in enumerate(helper.arguments, 1):
                if argument.kind in (ArgumentKind.SIZE, ArgumentKind.ALLOC_SIZE) and state.regs[reg].is_scalar:
                    self._want(path, reg)
            if helper.id == _TAIL_CALL and state.regs[3].is_scalar and state.regs[3].value.constant is not None:
                self._want(path, 3)
            is_present = helper.id == _LOOKUP and self._is_present(path)
        before, state = state, self._as_kernel(insn, state)
        if helper is not None and helper.id == _TAIL_CALL:
            # Where it fails, nothing was changed.
            state = State((_ANY, *state.regs[1:6], *before.regs[6:]), before.stack, before.callers, before.references)
        elif insn.row.name == "call_local" and kfunc_name(insn) is None:
            state = with_reg(state, 0, _ANY)
        elif is_present and state.regs[0].region is Region.MAP_VALUE:
            state = with_reg(state, 0, replace(state.regs[0], nullable=False))
        path.state = state
        if path.calls and helper is not None and helper.id == _TAIL_CALL:
            # It ends the subprogram where it succeeds; the path where it failed waits.
            self._fork(path, node.following, state, Step(path.history, node, len(path.calls)))
            path.state = each_register(state, without_packet)
            return self._exit(path, node)
        self._step(path, node, node.following)
        return path.index >= 0

    def _is_present(self, path: Path) -> bool:
        """Is the looked up key a constant index that the array certainly has (get_constant_map_key)?"""
        state = path.state
        definition, key = map_of(state.regs[1], self.env.unit), state.regs[2]
        if definition is None or definition.type not in (2, 6) or key.region is not Region.STACK:
            return False
        off = key.constant_off
        if off is None:
            return False
        depth = len(path.calls) - key.frame
        stack = state.stack if key.frame == 0 else state.callers[key.frame - 1].stack
        slot, within = stack.get(off & -8, EMPTY_SLOT), off & 7
        if slot.marks[within : within + 4] == "0000":
            return definition.max_entries > 0
        # What is spilled from the key on must be as long as the key; it may be the upper half of a whole register.
        is_spilled = slot.marks[0] == "s" and slot.marks[within:].rstrip("?m0") == "ssss"
        if slot.spill is None or not slot.spill.is_scalar or not is_spilled:
            return False
        index = slot.spill.value.constant
        if index is None:
            return False
        wanted = Wanted()
        wanted.slots[depth] = 1 << slot_number(off)
        trace(wanted, path.history, path.kept)
        return index < definition.max_entries

    def _note_call(self, path: Path, node: Node) -> None:
        effects = call_effects(node.insn, path.state, self.env.unit, node.function)
        depth = len(path.calls)
        if effects.reads_all and not effects.private_stack:
            # For the kernel nobody sees more of the stack than what is handed over.
            helper, listed = helper_of(node.insn), {memory.reg for memory in effects.reads}
            handed = range(1, 1 + (5 if helper is None else len(helper.arguments)))
            if any(path.state.regs[reg].region is Region.STACK and reg not in listed for reg in handed):
                self.reads.note(path.calls, node.index, depth, _ALL_SLOTS, 0)
        for memory in effects.reads:
            pointer = path.state.regs[memory.reg]
            at = pointer.constant_off if pointer.region is Region.STACK else None
            if at is not None and memory.size is not None:
                self._note(path, node, pointer.frame, at, memory.size, is_read=True)


def _last_visit(kept: Kept | None, index: int, calls: tuple[int, ...]) -> Kept | None:
    """The nearest state kept at the same instruction in the same calls on the way to here."""
    while kept is not None and (kept.index, kept.calls) != (index, calls):
        kept = kept.parent
    return kept

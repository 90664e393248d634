"""Which functions the kernel follows into, and from where a function can be reached."""

from __future__ import annotations

from dataclasses import replace

from verifier_model.bpf.insn import Insn, RefKind
from verifier_model.bpf.isa import Kind
from verifier_model.bpf.unit import Function, Unit
from verifier_model.contracts.global_functions import global_callees

MAX_FRAMES = 8  # MAX_CALL_FRAMES in include/linux/bpf_verifier.h


def callee_of(unit: Unit, insn: Insn) -> Function | None:
    """The static subprogram that a call enters, as the kernel does, with its caller's state; None: go by contract."""
    if insn.row.name != "call_local" or insn.ref is None or insn.ref.kind is not RefKind.FUNCTION or insn.ref.addend:
        return None
    callee = next((function for function in unit.functions if function.name == insn.ref.name), None)
    if callee is None or callee.is_global or callee.untouchable is not None or not callee.is_subprogram:
        return None
    return callee


def handed_over(unit: Unit, insn: Insn) -> Function | None:
    """The static subprogram whose address a wide load gives: something may call it back."""
    if insn.kind is not Kind.LOAD_WIDE or insn.ref is None or insn.ref.kind is not RefKind.FUNCTION or insn.ref.addend:
        return None
    found = next((function for function in unit.functions if function.name == insn.ref.name), None)
    is_static = found is not None and found.is_subprogram and not found.is_global and found.untouchable is None
    return found if is_static else None


def callees(unit: Unit, function: Function) -> tuple[Function, ...]:
    """Static subprograms called directly or handed over as callbacks, in order of first appearance."""
    found: dict[str, Function] = {}
    for _, insn in function.insns():
        callee = callee_of(unit, insn) or handed_over(unit, insn)
        if callee is not None:
            found.setdefault(callee.name, callee)
    return tuple(found.values())


def followed(unit: Unit, root: Function) -> tuple[Function, ...]:
    """`root` and every static subprogram that calls of them reach, each once."""
    found = {root.name: root}
    waiting = [root]
    while waiting:
        for callee in callees(unit, waiting.pop()):
            if callee.name not in found:
                found[callee.name] = callee
                waiting.append(callee)
    return tuple(found.values())


def depth(unit: Unit, function: Function, above: tuple[str, ...] = ()) -> int | None:
    """Frames on the longest chain of static calls from `function`; None when it is recursive or too deep.

    A function that hands itself over, as timers' callbacks do to start again, is not recursive by that.
    """
    if function.name in above or len(above) >= MAX_FRAMES:
        return None
    deepest = 1
    direct = {callee.name for _, insn in function.insns() for callee in (callee_of(unit, insn),) if callee is not None}
    direct |= {callee.name for callee in global_callees(unit, function)}
    for callee in (*callees(unit, function), *global_callees(unit, function)):
        if callee.name not in direct and callee.name in (*above, function.name):
            continue
        below = depth(unit, callee, (*above, function.name))
        if below is None:
            return None
        deepest = max(deepest, 1 + below)
    return deepest


def is_root(function: Function) -> bool:
    """Does the kernel start a verification here (programs and global functions)?"""
    return not function.is_subprogram or function.is_global


def roots_of(unit: Unit, function: Function) -> tuple[Function, ...]:
    """The functions from which the kernel reaches `function`, itself when it is a root."""
    if is_root(function):
        return (function,)
    return tuple(root for root in unit.functions if is_root(root) and _reaches(unit, root, function.name, set()))


def _reaches(unit: Unit, function: Function, name: str, seen: set[str]) -> bool:
    seen.add(function.name)
    for callee in callees(unit, function):
        if callee.name == name or (callee.name not in seen and _reaches(unit, callee, name, seen)):
            return True
    return False


def is_address_taken(unit: Unit, name: str) -> bool:
    """May the function also be entered as a callback, with arguments that we do not see?"""
    return any(
        insn.ref is not None and insn.ref.kind is RefKind.FUNCTION and insn.ref.name == name
        for function in unit.functions
        for _, insn in function.insns()
        if insn.row.name != "call_local"
    )


def verified_with(unit: Unit, root: Function) -> tuple[Function, ...]:
    """What the kernel verifies one by one when it loads `root`: itself, and the global functions that it reaches.

    A global function is seen as one of the program's type; asked about alone, as one of each type that reaches it.
    """
    if root.is_subprogram:
        programs = [p for p in unit.functions if not p.is_subprogram and root.name in _globals_below(unit, p)]
        kinds = {(p.program_type, p.section): p for p in reversed(programs)}
        return tuple(_as_part_of(root, p) for _, p in sorted(kinds.items(), key=lambda item: str(item[0]))) or (root,)
    return root, *(_as_part_of(found, root) for found in _globals_below(unit, root).values())


def _as_part_of(function: Function, program: Function) -> Function:
    return replace(function, program_type=program.program_type, section=program.section)


def _globals_below(unit: Unit, root: Function) -> dict[str, Function]:
    found: dict[str, Function] = {}
    seen, waiting = {root.name}, [root]
    while waiting:
        function = waiting.pop()
        for callee in (*callees(unit, function), *global_callees(unit, function)):
            if callee.is_global:
                found.setdefault(callee.name, callee)
            if callee.name not in seen:
                seen.add(callee.name)
                waiting.append(callee)
    return found

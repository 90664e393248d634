"""What a global function takes, by its BTF prototype: the kernel verifies it alone and holds callers to it
(btf_prepare_func_args in kernel/bpf/btf.c, 6.12)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from verifier_model.bpf.btf import VOID, Btf, BtfError, Kind, Type, essential_name
from verifier_model.bpf.unit import Function, Unit
from verifier_model.contracts.helpers import HELPERS
from verifier_model.contracts.kernel_types import STRUCTURES
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.contracts.subprograms import local_callee

MAX_ARGUMENTS: Final = 5
_NUMBERS: Final = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64})
_MODIFIERS: Final = frozenset({Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG})
_KNOWN_TAGS: Final = frozenset({"arg:ctx", "arg:nonnull", "arg:trusted", "arg:nullable"})
_RAW: Final = frozenset({"raw_tracepoint", "raw_tracepoint_writable"})
_REGISTERS_TYPEDEF: Final = "bpf_user_pt_regs_t"


class Passed(Enum):
    NUMBER = "number"
    CONTEXT = "context"
    MEMORY = "memory"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Parameter:
    """`size` bytes of MEMORY; `name`: the structure of an OBJECT, which is trusted."""

    passed: Passed
    size: int = 0
    nullable: bool = False
    name: str = ""


Parameters = tuple[Parameter, ...]


class _Memory:
    """Answers about the graph asked about last."""

    def __init__(self) -> None:
        self.types: Btf | None = None
        self.known: dict[tuple[int, str | None], Parameters | str] = {}
        self.tags: dict[tuple[int, int], set[str]] = {}
        self.unit: Unit | None = None
        self.movers: dict[str, bool] = {}

    def turn_to(self, types: Btf) -> None:
        if self.types is types:
            return
        self.types, self.known, self.tags = types, {}, {}
        for entry in types.types:
            if entry.kind is Kind.DECL_TAG and entry.component >= 0 and entry.name.startswith("arg:"):
                self.tags.setdefault((entry.type, entry.component), set()).add(entry.name)


_memory: Final = _Memory()


def parameters(unit: Unit, function: Function, program_type: str | None) -> Parameters | str:
    """The parameters of a global function as programs of the type pass them, or why the kernel refuses it."""
    types = unit.types
    if types is None or not function.type_id:
        return "the callee's signature is not known"
    _memory.turn_to(types)
    key = (function.type_id, program_type)
    if key not in _memory.known:
        try:
            _memory.known[key] = _parameters(types, function, program_type)
        except BtfError as error:
            _memory.known[key] = str(error)
    return _memory.known[key]


def _parameters(types: Btf, function: Function, program_type: str | None) -> Parameters | str:
    proto = types.types[types.types[function.type_id].type]
    result = types.resolve(proto.type) if proto.type != VOID else Type(Kind.VOID)
    if result.kind not in _NUMBERS:
        return f"Global function {function.name}() doesn't return scalar. Only those are supported."
    if len(proto.members) > MAX_ARGUMENTS:
        return f"Global function {function.name}() with {len(proto.members)} > {MAX_ARGUMENTS} args. Buggy compiler."
    found = []
    for at, member in enumerate(proto.members):
        tags = _memory.tags.get((function.type_id, at), set())
        parameter = _parameter(types, member.type, tags, program_type)
        if parameter is None:
            return f"Arg#{at} type in {function.name}() is not supported yet."
        found.append(parameter)
    return tuple(found)


def _parameter(types: Btf, type_id: int, tags: set[str], program_type: str | None) -> Parameter | None:
    found = types.resolve(type_id)
    if not tags <= _KNOWN_TAGS:
        return None
    if found.kind is not Kind.PTR:
        return Parameter(Passed.NUMBER) if found.kind in _NUMBERS and not tags else None
    if "arg:ctx" in tags or _is_context(types, found.type, program_type):
        return Parameter(Passed.CONTEXT) if tags <= {"arg:ctx"} else None
    target = types.resolve(found.type) if found.type != VOID else Type(Kind.VOID)
    if target.kind in STRUCTURES and target.name in ("bpf_dynptr", "bpf_dynptr_kern"):
        return None
    if "arg:trusted" in tags:
        is_named = target.kind in STRUCTURES | {Kind.FWD} and target.name
        return Parameter(Passed.OBJECT, nullable="arg:nullable" in tags, name=target.name) if is_named else None
    if "arg:nullable" in tags or target.kind is Kind.VOID:
        return None
    return Parameter(Passed.MEMORY, types.size_of(found.type), "arg:nonnull" not in tags)


def _is_context(types: Btf, type_id: int, program_type: str | None) -> bool:
    """Is it the program type's own context (btf_is_prog_ctx_type)?"""
    row = PROGRAM_TYPES.get(program_type or "")
    at = type_id
    while types.types[at].kind in _MODIFIERS:
        at = types.types[at].type
    if program_type == "kprobe" and types.types[at].kind is Kind.TYPEDEF and types.types[at].name == _REGISTERS_TYPEDEF:
        return True
    target = types.resolve(type_id) if type_id != VOID else Type(Kind.VOID)
    is_structure = target.kind in STRUCTURES and row is not None and row.fields is not None
    is_structure = is_structure or (target.kind in STRUCTURES and program_type in _RAW)
    is_registers = target.kind in STRUCTURES and program_type == "kprobe"
    return row is not None and (is_structure or is_registers) and essential_name(target.name) == row.struct


def global_callees(unit: Unit, function: Function) -> tuple[Function, ...]:
    """Global functions that are called directly."""
    return tuple(callee for callee in _called(unit, function) if callee.is_global and callee.is_subprogram)


def _called(unit: Unit, function: Function) -> Iterator[Function]:
    seen = set()
    for _, insn in function.insns():
        callee = local_callee(insn, unit)
        if callee is not None and callee.name not in seen:
            seen.add(callee.name)
            yield callee


def moves_packet(unit: Unit, function: Function) -> bool:
    """May the function or one that it calls move the packet (subprog_info.changes_pkt_data, 6.13)?"""
    if _memory.unit is not unit:
        _memory.unit, _memory.movers = unit, {}
    if function.name not in _memory.movers:
        _memory.movers[function.name] = _moves_packet(unit, function, frozenset())
    return _memory.movers[function.name]


def _moves_packet(unit: Unit, function: Function, seen: frozenset[str]) -> bool:
    for _, insn in function.insns():
        if insn.row.name == "call_helper":
            helper = HELPERS.get(insn.imm)
            if helper is None or helper.changes_packet or helper.callback:
                return True
    names = seen | {function.name}
    return any(_moves_packet(unit, callee, names) for callee in _called(unit, function) if callee.name not in names)

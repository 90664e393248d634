"""Signatures of functions of the kernel that programs may call, by BTF (check_kfunc_args, 6.12).

A signature comes from the kernel's BTF where the unit was patched for one, else from the object's own declaration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from verifier_model.bpf.btf import VOID, Btf, BtfError, Kind, Member, essential_name
from verifier_model.bpf.unit import Function, Unit
from verifier_model.contracts.kernel_types import STRUCTURES
from verifier_model.contracts.kfunc_objects import KFUNC_OBJECTS, KfuncObjects
from verifier_model.contracts.programs import program_of

_TAG: Final = "bpf_kfunc"


class Parameter(Enum):
    """What an argument of a kfunc must be, as far as its declaration alone says."""

    IGNORED = "ignored"  # filled in by the verifier
    NUMBER = "number"
    CONSTANT = "constant"  # a number known when the program is loaded
    BUFFER_SIZE = "buffer size"  # the same, and how long the memory is that comes back
    SIZE = "size"  # of the memory in the argument before
    CONSTANT_SIZE = "constant size"
    CONTEXT = "context"
    POINTER = "pointer"  # to a structure: an object of the kernel, or memory of that size
    MEMORY = "memory"  # of the type's size
    SIZED_MEMORY = "sized memory"  # as many bytes as the next argument says
    STRING = "string"
    MAP = "map"
    DYNPTR = "dynptr"
    ITERATOR = "iterator"
    CALLBACK = "callback"
    ALLOCATED = "allocated object"
    REFCOUNTED = "refcounted object"
    NODE = "node or root of a list or tree"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class KfuncArgument:
    """`name` and `type_id`: the structure behind a POINTER or ITERATOR; `size` of its memory in bytes.

    `is_plain`: the structure holds numbers alone, so that memory of the program's may stand for it.
    """

    kind: Parameter
    nullable: bool = False
    name: str = ""
    type_id: int = 0
    size: int = 0
    is_plain: bool = False
    is_uninitialised: bool = False


class Returned(Enum):
    NOTHING = "nothing"
    NUMBER = "number"
    OBJECT = "object"
    MEMORY = "memory"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Signature:
    """`name` and `type_id`: the structure that an OBJECT result is; `size` of a MEMORY result in bytes."""

    arguments: tuple[KfuncArgument, ...]
    result: Returned
    name: str = ""
    type_id: int = 0
    size: int = 0


# Kinds of arguments that are declared as pointers to structures.
_STRUCTURED: Final = frozenset(
    {
        Parameter.CONTEXT,
        Parameter.SIZED_MEMORY,
        Parameter.DYNPTR,
        Parameter.ITERATOR,
        Parameter.NODE,
        Parameter.OTHER,
        Parameter.IGNORED,
    }
)
# Their results are what their arguments say: nothing that a declaration tells.
_DYNAMIC: Final = frozenset(
    {
        "bpf_obj_new_impl",
        "bpf_percpu_obj_new_impl",
        "bpf_refcount_acquire_impl",
        "bpf_list_pop_front",
        "bpf_list_pop_back",
        "bpf_rbtree_remove",
        "bpf_rbtree_first",
        "bpf_dynptr_slice",
        "bpf_dynptr_slice_rdwr",
        "bpf_session_cookie",
    }
)
_NODES: Final = frozenset({"bpf_list_head", "bpf_list_node", "bpf_rb_root", "bpf_rb_node"})
_SUFFIXES: Final = (
    ("__ign", Parameter.IGNORED),
    ("__prog", Parameter.IGNORED),
    ("__alloc", Parameter.ALLOCATED),
    ("__refcounted_kptr", Parameter.REFCOUNTED),
    ("__str", Parameter.STRING),
    ("__map", Parameter.MAP),
)


class _Memory:
    """Signatures by the types asked about last: one exploration asks for the same few thousands of times."""

    def __init__(self) -> None:
        self.types: Btf | None = None
        self.known: dict[tuple[str, str | None], Signature | str] = {}


_memory: Final = _Memory()


def signature(unit: Unit, name: str, function: Function) -> Signature | str:
    """The signature of the kfunc as `function`'s program type sees it, or why it has none."""
    types = unit.kernel_types or unit.types
    if types is None:
        return f"nothing declares {name}"
    if _memory.types is not types:
        _memory.types, _memory.known = types, {}
    key = name, function.program_type
    if key not in _memory.known:
        _memory.known[key] = _signature(unit, types, name, function)
    return _memory.known[key]


def _signature(unit: Unit, types: Btf, name: str, function: Function) -> Signature | str:
    if unit.kernel_types is not None and not is_tagged(unit.kernel_types, essential_name(name)):
        return f"the kernel has no function {name} for programs"
    at = types.function(name if unit.kernel_types is None else essential_name(name))
    proto = types.types[types.types[at].type] if at else None
    if proto is None or proto.kind is not Kind.FUNC_PROTO or len(proto.members) > 5:
        return f"no usable declaration of {name}"
    row = program_of(function)
    try:
        arguments = tuple(
            _argument(types, proto.members, at, name, "" if row is None else row.struct)
            for at in range(len(proto.members))
        )
        found = _with_result(types, name, arguments, proto.type)
    except BtfError as error:
        return str(error)
    return found if unit.kernel_types is not None else _as_kernels(types, found, name)


def _as_kernels(types: Btf, declared: Signature, name: str) -> Signature | str:
    """An object's own declaration with the structures that every kernel has in their places."""
    known = KFUNC_OBJECTS.get(essential_name(name), KfuncObjects(()))
    arguments = []
    for at, argument in enumerate(declared.arguments):
        wanted = known.arguments[at] if at < len(known.arguments) else "-"
        if argument.kind is Parameter.POINTER and wanted != "-":
            argument = replace(argument, name=wanted, type_id=_type_of(types, argument.name, argument.type_id, wanted))
        elif argument.kind is Parameter.POINTER or (wanted != "-" and argument.kind not in _STRUCTURED):
            return f"{name} is declared with another argument {at + 1} than the kernel's"
        arguments.append(argument)
    if declared.result is not Returned.OBJECT:
        return replace(declared, arguments=tuple(arguments))
    if not known.result:
        return f"{name} is declared with another result than the kernel's"
    type_id = _type_of(types, declared.name, declared.type_id, known.result)
    return replace(declared, arguments=tuple(arguments), name=known.result, type_id=type_id)


def _type_of(types: Btf, declared: str, type_id: int, wanted: str) -> int:
    """The object's own description of the kernel's structure: what is declared where that is a flavor of it."""
    return type_id if wanted in (declared, essential_name(declared)) else types.named(wanted, Kind.STRUCT)


def is_tagged(kernel: Btf, name: str) -> bool:
    """Does the kernel offer the function to programs (the declaration tag that its build leaves)?

    A kernel built with a pahole before 1.27 has no such tags: there a function of that name is taken for offered.
    """
    at, tagged = kernel.function(name), _tagged(kernel)
    return at is not None and (at in tagged or not tagged)


_tagged_of: Final[dict[int, tuple[Btf, frozenset[int]]]] = {}


def _tagged(kernel: Btf) -> frozenset[int]:
    known = _tagged_of.get(id(kernel))
    if known is None or known[0] is not kernel:
        found = frozenset(entry.type for entry in kernel.types if entry.kind is Kind.DECL_TAG and entry.name == _TAG)
        known = _tagged_of[id(kernel)] = (kernel, found)
    return known[1]


def _argument(types: Btf, members: tuple[Member, ...], at: int, function: str, context: str) -> KfuncArgument:
    member = members[at]
    for suffix, kind in _SUFFIXES:
        if member.name.endswith(suffix):
            return KfuncArgument(kind)
    found = types.resolve(member.type)
    if found.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64):
        return KfuncArgument(_number_kind(member.name))
    if found.kind is not Kind.PTR:
        return KfuncArgument(Parameter.OTHER)
    nullable = member.name.endswith(("__nullable", "__opt"))
    following = members[at + 1].name if at + 1 < len(members) else ""
    is_sized = following.endswith(("__sz", "__szk"))
    if found.type == VOID or types.resolve(found.type).kind is Kind.VOID:
        return KfuncArgument(Parameter.SIZED_MEMORY if is_sized else Parameter.OTHER, nullable)
    return _pointer_kind(types, found.type, nullable, is_sized, context, member.name.endswith("__uninit"))


def _number_kind(name: str) -> Parameter:
    if name.endswith("__szk"):
        return Parameter.CONSTANT_SIZE
    if name.endswith("__sz"):
        return Parameter.SIZE
    if name.endswith("__k"):
        return Parameter.CONSTANT
    return Parameter.BUFFER_SIZE if name in ("rdonly_buf_size", "rdwr_buf_size") else Parameter.NUMBER


def _pointer_kind(
    types: Btf, pointee: int, nullable: bool, is_sized: bool, context: str, is_uninitialised: bool
) -> KfuncArgument:
    target = types.resolve(pointee)
    if target.kind is Kind.FUNC_PROTO:
        return KfuncArgument(Parameter.CALLBACK, nullable)
    if target.kind in STRUCTURES or target.kind is Kind.FWD:
        kind, plain = Parameter.POINTER, _is_plain(types, pointee, 0)
        if target.name == context:
            kind = Parameter.CONTEXT
        elif target.name in ("bpf_dynptr", "bpf_dynptr_kern"):
            kind = Parameter.DYNPTR
        elif target.name.startswith("bpf_iter_"):
            kind = Parameter.ITERATOR
        elif target.name in _NODES:
            kind = Parameter.NODE
        elif target.name == "bpf_wq":
            kind = Parameter.OTHER
        elif is_sized:
            kind = Parameter.SIZED_MEMORY if plain else Parameter.OTHER
        size = target.size if target.kind in STRUCTURES else 0
        return KfuncArgument(kind, nullable, target.name, _plain_id(types, pointee), size, plain, is_uninitialised)
    if is_sized:
        return KfuncArgument(Parameter.SIZED_MEMORY, nullable)
    if target.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64):
        return KfuncArgument(Parameter.MEMORY, nullable, size=target.size)
    return KfuncArgument(Parameter.OTHER, nullable)


def _plain_id(types: Btf, type_id: int) -> int:
    while types.types[type_id].kind in (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPEDEF, Kind.TYPE_TAG):
        type_id = types.types[type_id].type
    return type_id


def _is_plain(types: Btf, type_id: int, depth: int) -> bool:
    """Numbers, arrays of them and structures of both alone (__btf_type_is_scalar_struct)?"""
    found = types.resolve(type_id)
    if depth > 3 or found.kind not in STRUCTURES:
        return False
    for member in found.members:
        inner = types.resolve(member.type)
        if inner.kind in STRUCTURES:
            if not _is_plain(types, member.type, depth + 1):
                return False
            continue
        if inner.kind is Kind.ARRAY:
            inner = types.resolve(inner.type)
        if inner.kind not in (Kind.INT, Kind.ENUM, Kind.ENUM64):
            return False
    return True


def _with_result(types: Btf, name: str, arguments: tuple[KfuncArgument, ...], type_id: int) -> Signature:
    if name in _DYNAMIC:
        return Signature(arguments, Returned.OTHER)
    found = types.resolve(type_id) if type_id != VOID else None
    if found is None or found.kind is Kind.VOID:
        return Signature(arguments, Returned.NOTHING)
    if found.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64):
        return Signature(arguments, Returned.NUMBER)
    if found.kind is not Kind.PTR:
        return Signature(arguments, Returned.OTHER)
    if found.type == VOID or types.resolve(found.type).kind is Kind.VOID:
        return Signature(arguments, Returned.NUMBER)
    target = types.resolve(found.type)
    if target.kind in STRUCTURES or target.kind is Kind.FWD:
        return Signature(arguments, Returned.OBJECT, target.name, _plain_id(types, found.type))
    if any(argument.kind is Parameter.BUFFER_SIZE for argument in arguments):
        return Signature(arguments, Returned.OTHER)
    return Signature(arguments, Returned.MEMORY, size=types.size_of(found.type))

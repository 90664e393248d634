"""What one kernel gives and another does not: helpers by place of attachment and licence, instructions.

Which helpers: check_helper_call asks the program type (get_func_proto).  Which instructions: bpf_opcode_in_insntable,
asked of all instructions, reachable or not.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from verifier_model.bpf.insn import RefKind
from verifier_model.bpf.unit import Function, Point, Unit
from verifier_model.checker.kernel_objects import GPL_LICENSES
from verifier_model.contracts.attach import attach_name
from verifier_model.contracts.availability import helpers_anywhere, helpers_everywhere, helpers_of, needs_gpl
from verifier_model.contracts.helpers import Helper
from verifier_model.contracts.kernels import Release, is_known, known_since
from verifier_model.contracts.places import place_of
from verifier_model.contracts.programs import section_head

# Helpers that may not be used in programs attached to what they are made of, by how that is called
# (bpf_sk_storage_tracing_allowed in net/core/bpf_sk_storage.c).
_NOT_IN_ITSELF: Final = MappingProxyType({"sk_storage_get": "bpf_sk_storage", "sk_storage_delete": "bpf_sk_storage"})

# Helpers that a running system's settings take away (security_locked_down, capable in bpf_get_probe_write_proto).
_HAS_FUNCTION: Final = (
    "kprobe",
    "kretprobe",
    "ksyscall",
    "kretsyscall",
    "uprobe",
    "uretprobe",
    "fentry",
    "fexit",
    "fmod_ret",
)
_OPTIONS: Final = frozenset({"setsockopt", "getsockopt"})
_OPTIONS_SINCE: Final = (5, 17, 0)
_BY_SETTING: Final = frozenset({"probe_write_user"})


def helper_problem(unit: Unit, root: Function, helper: Helper, release: Release | None) -> str | None:
    """Why the kernel refuses that helper to what it verifies from `root`; no release: why every kernel does."""
    if helper.name in _BY_SETTING:
        return f"program of this type cannot use helper {helper.name}#{helper.id} where the system is locked down"
    for program in _programs(unit, root):
        if helper.name == "get_func_ip" and not program.section.removeprefix("?").startswith(_HAS_FUNCTION):
            return f"func {helper.name}#{helper.id} not supported for program type {program.program_type}"
        if helper.id not in _given(program, release) and not _is_socket_option(program, helper, release):
            return f"program of this type cannot use helper {helper.name}#{helper.id}"
        is_traced = section_head(program.section).startswith(("fentry", "fexit", "fmod_ret"))
        if helper.name in _NOT_IN_ITSELF and is_traced and attach_name(program).startswith(_NOT_IN_ITSELF[helper.name]):
            return f"helper call is not allowed in probe: {helper.name} of {attach_name(program)}"
    if helper.id in needs_gpl() and unit.license not in GPL_LICENSES:
        return "cannot call GPL-restricted function from non-GPL compatible program"
    return None


def _is_socket_option(program: Function, helper: Helper, release: Release | None) -> bool:
    """Is it a helper that only some have: operations of congestion control, but for the last one, and iterators over
    Unix sockets (bpf_tcp_ca_get_func_proto, bpf_iter_unix_get_func_proto)?"""
    structure, member = program.operation or ("", "")
    is_known = release is None or release >= _OPTIONS_SINCE
    has_them = structure == "tcp_congestion_ops" and member != "release"
    has_them = has_them or program.section.removeprefix("?") == "iter/unix"
    return is_known and has_them and helper.name in _OPTIONS


def _given(program: Function, release: Release | None) -> frozenset[int]:
    place = place_of(program)
    if place is None:
        return helpers_everywhere()
    if release is None:
        return helpers_anywhere(place)
    return helpers_of(release[:2], place) or frozenset()


def _programs(unit: Unit, root: Function) -> tuple[Function, ...]:
    """The programs with which `root` is loaded: itself, or for a global function those that reach it by any calls."""
    if not root.is_subprogram:
        return (root,)
    return tuple(main for main in unit.functions if not main.is_subprogram and root.name in _reached(unit, main))


def _reached(unit: Unit, main: Function) -> set[str]:
    by_name = {function.name: function for function in unit.functions}
    seen, waiting = {main.name}, [main]
    while waiting:
        for _, insn in waiting.pop().insns():
            if insn.ref is not None and insn.ref.kind is RefKind.FUNCTION and insn.ref.name not in seen:
                seen.add(insn.ref.name)
                if insn.ref.name in by_name:
                    waiting.append(by_name[insn.ref.name])
    return seen


# Programs at bind may answer with a flag since 5.12.
_BIND: Final = frozenset({"cgroup/bind4", "cgroup/bind6"})
_BIND_FLAGS: Final = (5, 12, 0)
# Operations that the owner of a structure leaves to the kernel's own code (unsupported_ops in net/ipv4/bpf_tcp_ca.c).
_RESERVED: Final = frozenset({("tcp_congestion_ops", "get_info")})


def place_problem(unit: Unit, root: Function, release: Release | None) -> str | None:
    """Why the kernel takes no program where this one is attached."""
    place = None if root.is_subprogram or release is None else place_of(root)
    if place is not None and release is not None and helpers_of(release[:2], place) is None:
        return f"no kernel of this series is known to load programs at {place.name}"
    return member_problem(unit, root) if root.program_type == "struct_ops" else None


def results_at(root: Function, results: tuple[int, int] | None, release: Release | None) -> tuple[int, int] | None:
    """The range of results that the kernel demands, given what newer ones demand."""
    if release is not None and release < _BIND_FLAGS and root.section.removeprefix("?") in _BIND:
        return (0, 1)
    return results


def member_problem(unit: Unit, root: Function) -> str | None:
    """Why it is not taken as an operation of one of the kernel's structures (check_struct_ops_btf_id)."""
    if root.operation is None:
        # Without a kernel's types the place is believed to be what it was when clang's code was accepted.
        return None if unit.kernel_types is None else "the operation that the program implements is not known"
    structure, member = root.operation
    return f"attach to unsupported member {member} of struct {structure}" if root.operation in _RESERVED else None


def insn_problem(function: Function, release: Release | None) -> tuple[Point, str] | None:
    """The first instruction that the kernel does not know, and since when others do."""
    if release is None:
        return None
    for point, insn in function.insns():
        if not is_known(insn.row, release):
            since = known_since(insn.row)
            return point, f"unknown opcode {insn.row.code:02x}: {insn.row.name} came with {since[0]}.{since[1]}"
    return None

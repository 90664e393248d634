"""Arguments of tracing programs: the rows and the kernel's BTF beside the running kernel's own word."""

from __future__ import annotations

import random
from functools import cache
from typing import Final

import pytest

from verifier_model.bpf.btf import Btf, Kind
from verifier_model.bpf.insn import Insn, encode, make
from verifier_model.bpf.unit import Function
from verifier_model.contracts.attach import (
    RAW_TP_NULLS,
    ContextArgument,
    Slot,
    attach_id,
    context_arguments,
)
from verifier_model.contracts.kernel_types import Step, walk
from verifier_model.contracts.places import place_of
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.programs import LoadedProgram, load_insns
from verifier_model.kernel.types import running_kernel_types

pytestmark = pytest.mark.needs("bpf")
SEED: Final = 5
TRACEPOINTS: Final = 60  # drawn at random, besides those with arguments that may be NULL
WIDTHS: Final = {1: "b", 2: "h", 4: "w", 8: "dw"}
PREFIX: Final = "btf_trace_"


@cache
def kernel() -> Btf:
    types = running_kernel_types()
    assert types is not None
    return types


def attached(section: str) -> Function:
    return Function("p", section, (), "tracing")


def log_of(function: Function, *insns: Insn) -> str | None:
    """The kernel's refusal, None when it takes the instructions."""
    place = place_of(function)
    assert place is not None
    code = b"".join(encode(insn, "little") for insn in (*insns, make("mov64_imm", 0), make("exit")))
    number, target = PROGRAM_TYPES["tracing"].number, attach_id(function, kernel())
    loaded = load_insns(code, number, expected_attach_type=place.attach_type, attach_btf_id=target)
    if isinstance(loaded, LoadedProgram):
        loaded.close()
        return None
    return loaded.log


def agrees(function: Function, at: int, argument: ContextArgument) -> str | None:
    """How the kernel differs in its view of one argument."""
    whole, half = make("ldx_dw", 3, 1, off=8 * at), make("ldx_w", 3, 1, off=8 * at)
    readable = log_of(function, whole) is None
    if readable is (argument.slot is Slot.UNREADABLE):
        return f"readable: {readable}"
    if not readable:
        return None
    if (log_of(function, half) is None) is not (argument.slot is Slot.NUMBER):
        return "narrow loads"
    byte = log_of(function, whole, make("ldx_b", 4, 3))
    if argument.slot in (Slot.NUMBER, Slot.ADDRESS):
        return None if byte is not None and "scalar" in byte else f"a number, says the row; {byte}"
    if argument.slot is Slot.BUFFER:
        return None if byte is not None and "buf_or_null" in byte else f"a buffer, says the row; {byte}"
    if argument.nullable:
        return None if byte is not None and "or_null" in byte else f"nullable, says the row; {byte}"
    assert argument.object is not None
    allowed = isinstance(walk(kernel(), argument.object.type_id, 0, 1), Step)
    is_object = byte is None if allowed else byte is not None and "invalid mem access" not in byte
    return None if is_object else f"an object, says the row; {byte}"


# The rows are stricter than this kernel, which says more (6.18): tracepoint, argument.
STRICTER: Final = frozenset(
    {
        ("sched_process_wait", 0),
        ("signal_deliver", 1),
        ("signal_generate", 1),
        ("tmigr_update_events", 2),
        ("tmigr_update_events", 3),
    }
)


def tracepoints() -> list[str]:
    names = sorted(
        t.name.removeprefix(PREFIX) for t in kernel().types if t.kind is Kind.TYPEDEF and PREFIX in t.name[:10]
    )
    drawn = random.Random(SEED).sample(names, min(TRACEPOINTS, len(names)))
    return sorted({*drawn, *(name for name in names if name in RAW_TP_NULLS)})


def test_arguments_of_tracepoints_are_what_the_kernel_takes_them_for() -> None:
    wrong, asked = [], 0
    for name in tracepoints():
        function = attached(f"tp_btf/{name}")
        arguments = context_arguments(function, kernel())
        assert not isinstance(arguments, str), arguments
        for at, argument in enumerate(arguments):
            asked += 1
            different = agrees(function, at, argument)
            if ((name, at) in STRICTER) is (different is None):
                wrong.append((name, at, argument, different))
        assert log_of(function, make("ldx_dw", 3, 1, off=8 * len(arguments))) is not None, name
    assert not wrong, f"seed {SEED}: {wrong}"
    assert asked > 100


# Structures of all shapes, and where a pointer to one is: tracepoint and argument.
WALKED: Final = (("sched_switch", 1), ("kfree_skb", 0), ("sched_process_exec", 2), ("inet_sock_set_state", 0))


@pytest.mark.parametrize("place", WALKED, ids=lambda place: f"{place[0]}-{place[1]}")
def test_walks_through_structures_end_as_the_kernels_do(place: tuple[str, int]) -> None:
    """Offsets and widths at random, the structure's end among them: refused, a number or a pointer."""
    name, at = place
    function = attached(f"tp_btf/{name}")
    arguments = context_arguments(function, kernel())
    assert not isinstance(arguments, str)
    owner = arguments[at].object
    assert owner is not None
    rng, size, wrong = random.Random(SEED), kernel().size_of(owner.type_id), []
    found = {"refused": 0, "number": 0, "pointer": 0}
    for _ in range(150):
        width = rng.choice((1, 2, 4, 8))
        off = rng.randrange(size + 16) if rng.random() < 0.3 else rng.randrange(0, size + 16, 8)
        ours = walk(kernel(), owner.type_id, off, width)
        load = (make("ldx_dw", 3, 1, off=8 * at), make(f"ldx_{WIDTHS[width]}", 4, 3, off=off))
        readable = log_of(function, *load) is None
        if readable is isinstance(ours, str):
            wrong.append((off, width, ours, log_of(function, *load)))
        elif not isinstance(ours, str):
            # A number times three is a number; of a pointer it is refused.
            product = log_of(function, *load, make("mul64_imm", 4, imm=3)) is None
            found["pointer" if ours.is_pointer else "number"] += 1
            if product is ours.is_pointer:
                wrong.append((off, width, ours, f"a number: {product}"))
        else:
            found["refused"] += 1
    assert not wrong, f"seed {SEED}: {wrong[:5]}"
    assert min(found.values()) > 5, found


ITERATORS: Final = ("task", "task_file", "task_vma", "bpf_map", "bpf_map_elem", "bpf_prog", "bpf_link", "tcp", "udp",
                    "unix", "netlink", "ksym", "cgroup", "ipv6_route", "bpf_sk_storage_map", "sockmap")  # fmt: skip


@pytest.mark.parametrize("name", ITERATORS)
def test_arguments_of_iterators_are_what_the_kernel_takes_them_for(name: str) -> None:
    function = attached(f"iter/{name}")
    arguments = context_arguments(function, kernel())
    assert not isinstance(arguments, str), arguments
    for at, argument in enumerate(arguments):
        assert agrees(function, at, argument) is None, (name, at, argument, agrees(function, at, argument))


def test_without_a_kernel_nothing_is_known_of_arguments() -> None:
    arguments = context_arguments(attached("tp_btf/sched_switch"), None)
    assert not isinstance(arguments, str) and {argument.slot for argument in arguments} == {Slot.ASSUMED}


def test_unknown_targets_have_no_arguments() -> None:
    assert isinstance(context_arguments(attached("tp_btf/no_such_tracepoint"), kernel()), str)
    assert isinstance(context_arguments(attached("fentry/no_such_function"), kernel()), str)
    # An operation may be called like a function of the kernel and is none.
    assert isinstance(context_arguments(attached("struct_ops/tcp_reno_ssthresh"), kernel()), str)
    assert not isinstance(context_arguments(attached("fentry/tcp_reno_ssthresh"), kernel()), str)

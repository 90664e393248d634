"""The rows against the running kernel: what it takes, what it demands, what it calls a moved packet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from verifier_model.bpf.insn import Insn, SlotOffset, encode, make
from verifier_model.contracts.helpers import BY_NAME, HELPERS, ArgumentKind, Helper
from verifier_model.contracts.maps import BY_NAME as MAP
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.kernel.maps import KernelMap
from verifier_model.kernel.programs import LoadedProgram, load_insns
from verifier_model.kernel.syscall import Refused

pytestmark = pytest.mark.needs("bpf")

K = ArgumentKind
STACK_BYTES = 64
# Types that the kernel loads without an attach target, tried in this order for each helper.
TYPES = ("sched_cls", "xdp", "tracepoint", "kprobe", "sk_skb", "sk_msg", "lwt_xmit", "cgroup_skb", "sock_ops", "lwt_in")
SIMPLE = {K.SCALAR, K.PEEK, K.CTX, K.MAP, K.MAP_KEY, K.MAP_VALUE, K.MAP_VALUE_OUT, K.MEM_READ, K.MEM_WRITE}
SIMPLE |= {K.MEM_READ_WRITE, K.SIZE, K.ALLOC_SIZE}
ON_STACK = {K.MAP_KEY, K.MAP_VALUE, K.MAP_VALUE_OUT, K.MEM_READ, K.MEM_WRITE, K.MEM_READ_WRITE}
PACKET_TYPES = {"sched_cls": (76, 80), "xdp": (0, 4), "lwt_xmit": (76, 80), "sk_skb": (76, 80)}


def accepted(insns: list[Insn], program_type: str) -> bool:
    code = b"".join(encode(insn, "little") for insn in insns)
    result = load_insns(code, PROGRAM_TYPES[program_type].number)
    if isinstance(result, Refused):
        return False
    result.close()
    return True


@pytest.fixture(scope="module")
def maps() -> Iterator[list[KernelMap]]:
    shapes = (
        ("hash", 4, 8, 4),
        ("array", 4, 8, 4),
        ("perf_event_array", 4, 4, 4),
        ("ringbuf", 0, 0, 4096),
        ("devmap", 4, 4, 4),
        ("stack_trace", 4, 64, 4),
        ("prog_array", 4, 4, 4),
        ("cgroup_array", 4, 4, 4),
        ("queue", 0, 8, 4),
        ("percpu_array", 4, 8, 4),
        ("sockmap", 4, 4, 4),
        ("sockhash", 4, 4, 4),
    )
    made = [KernelMap.create(MAP[name].number, key, value, most) for name, key, value, most in shapes]
    yield made
    for one in made:
        one.close()


def arguments(helper: Helper, fd: int, without: int = 0) -> list[Insn]:
    """r1.. set as the row says, from a context in r6 and zeroed stack; register `without` is left alone."""
    insns: list[Insn] = []
    for reg, argument in enumerate(helper.arguments, 1):
        if reg == without:
            continue
        if argument.kind is K.CTX:
            insns.append(make("mov64_reg", reg, 6))
        elif argument.kind is K.MAP:
            insns.append(make("lddw_map_fd", reg, imm=fd))
        elif argument.kind in ON_STACK:
            insns += [make("mov64_reg", reg, 10), make("add64_imm", reg, imm=-STACK_BYTES)]
        else:
            number = 8 if argument.kind in (K.SIZE, K.ALLOC_SIZE) else 0
            insns.append(make("mov64_imm", reg, imm=number))
    return insns


def prologue() -> list[Insn]:
    zero = [make("st_dw", 10, off=-at, imm=0) for at in range(8, STACK_BYTES + 8, 8)]
    return [make("mov64_reg", 6, 1), *zero]


def kill_arguments() -> list[Insn]:
    # r1 is the context at entry; a call leaves r1 to r5 unreadable.
    return [make("call_helper", imm=BY_NAME["get_prandom_u32"].id)]


def program(helper: Helper, fd: int, without: int = 0) -> list[Insn]:
    call = make("call_helper", imm=helper.id)
    return [*prologue(), *kill_arguments(), *arguments(helper, fd, without), call, make("mov64_imm", 0), make("exit")]


def where_callable(helper: Helper, maps: list[KernelMap]) -> tuple[str, int] | None:
    """A program type and map with which the kernel takes exactly the row's arguments."""
    if not all(argument.kind in SIMPLE for argument in helper.arguments):
        return None
    fds = [one.fd for one in maps] if helper.register_of(K.MAP) else [0]
    for program_type in TYPES:
        for fd in fds:
            if accepted(program(helper, fd), program_type):
                return program_type, fd
    return None


@pytest.fixture(scope="module")
def callable_helpers(maps: list[KernelMap]) -> dict[str, tuple[str, int]]:
    found = {helper.name: where_callable(helper, maps) for helper in HELPERS.values()}
    return {name: where for name, where in found.items() if where is not None}


def test_the_kernel_takes_no_other_arguments_than_the_rows(callable_helpers: dict[str, tuple[str, int]]) -> None:
    """Accepted with exactly these registers set, refused as soon as one of them is not."""
    assert len(callable_helpers) > 80
    extra = {(BY_NAME["trace_printk"].id, reg) for reg in (3, 4, 5)}  # read by format, not demanded by the verifier
    for name, (program_type, fd) in callable_helpers.items():
        helper = BY_NAME[name]
        for reg in range(1, len(helper.arguments) + 1):
            if (helper.id, reg) not in extra:
                assert not accepted(program(helper, fd, without=reg), program_type), (name, reg)


def packet_program(helper: Helper, fd: int, program_type: str) -> list[bytes]:
    data, end = PACKET_TYPES[program_type]
    load = [make("ldx_w", 8, 6, off=data), make("ldx_w", 2, 6, off=end), make("mov64_reg", 3, 8)]
    load.append(make("add64_imm", 3, imm=14))
    call = [*arguments(helper, fd), make("call_helper", imm=helper.id), make("mov64_imm", 0)]
    tail = [make("ldx_b", 1, 8), make("exit")]
    insns = [encode(insn, "little") for insn in [*prologue(), *load]]
    # if r3 > r2 goto the last two instructions: r0 = 0; exit
    behind = [encode(insn, "little") for insn in [*kill_arguments(), *call, *tail]]
    distance = sum(len(code) for code in behind) // 8
    insns.append(encode(make("jgt64_reg", 3, 2), "little", SlotOffset(distance)))
    return [*insns, *behind, encode(make("mov64_imm", 0), "little"), encode(make("exit"), "little")]


def test_packet_pointers_die_where_the_rows_say(callable_helpers: dict[str, tuple[str, int]]) -> None:
    """A row may be more careful than this kernel, never less."""
    survived = died = 0
    for name, (first_type, fd) in callable_helpers.items():
        helper = BY_NAME[name]
        for program_type in {first_type, "sched_cls", "xdp"} & set(PACKET_TYPES):
            if not accepted(program(helper, fd), program_type):
                continue
            code = b"".join(packet_program(helper, fd, program_type))
            result = load_insns(code, PROGRAM_TYPES[program_type].number)
            if isinstance(result, LoadedProgram):
                result.close()
                survived += 1
            else:
                assert "R8 invalid mem access" in result.log, (name, result.log)
                assert helper.changes_packet, (name, program_type)
                died += 1
    assert survived > 20 and died > 10


UNSET = 0xAA
# Helper, then its arguments when it fails: offset beyond the packet, or an address that nobody may read.
FAILING = {
    "skb_load_bytes": ("sched_cls", ("ctx", 60_000, "buffer", 16)),
    "skb_load_bytes_relative": ("sched_cls", ("ctx", 60_000, "buffer", 16, 0)),
    "probe_read_kernel": ("sched_cls", ("buffer", 16, 8)),
    "probe_read_user": ("sched_cls", ("buffer", 16, 8)),
    "xdp_load_bytes": ("xdp", ("ctx", 60_000, "buffer", 16)),
}


def bytes_left(name: str, program_type: str, values: tuple[str | int, ...]) -> int:
    """How many of 16 bytes a failing helper leaves as they were, as the program counts; 100 more if it did not fail."""
    pattern = int.from_bytes(bytes([UNSET]) * 4, "little", signed=True)
    insns = [make("mov64_reg", 6, 1), *(make("st_w", 10, off=-at, imm=pattern) for at in (4, 8, 12, 16))]
    for reg, value in enumerate(values, 1):
        if value == "ctx":
            insns.append(make("mov64_reg", reg, 6))
        elif value == "buffer":
            insns += [make("mov64_reg", reg, 10), make("add64_imm", reg, imm=-16)]
        else:
            assert isinstance(value, int)
            insns.append(make("mov64_imm", reg, imm=value))
    insns += [make("call_helper", imm=BY_NAME[name].id), make("mov64_reg", 7, 0), make("mov64_imm", 0)]
    code = b"".join(encode(insn, "little") for insn in insns)
    skip, byte = make("jne64_imm", 1, imm=UNSET), make("add64_imm", 0, imm=1)
    for at in range(1, 17):
        code += encode(make("ldx_b", 1, 10, off=-at), "little") + encode(skip, "little", SlotOffset(1))
        code += encode(byte, "little")
    code += encode(make("jne64_imm", 7), "little", SlotOffset(1)) + encode(make("add64_imm", 0, imm=100), "little")
    loaded = load_insns(code + encode(make("exit"), "little"), PROGRAM_TYPES[program_type].number)
    assert isinstance(loaded, LoadedProgram), loaded
    result = loaded.test_run(bytes(64)).result
    loaded.close()
    return result


@pytest.mark.parametrize("name", sorted(FAILING))
def test_a_failing_helper_writes_all_of_its_buffer_where_the_row_says_so(name: str) -> None:
    left = bytes_left(name, *FAILING[name])
    assert left == (0 if BY_NAME[name].fills else 16)

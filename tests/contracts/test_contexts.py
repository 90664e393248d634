"""Every offset and width of every program type's context: the rows' word beside the running kernel's."""

from __future__ import annotations

from typing import Final

import pytest

from verifier_model.bpf.insn import Insn, SlotOffset, encode, make
from verifier_model.bpf.sections import program_type
from verifier_model.bpf.unit import Function
from verifier_model.contracts.contexts import VIEWS, field_of
from verifier_model.contracts.programs import PROGRAM_TYPES, ProgramType, program_of
from verifier_model.domains.registers import Region
from verifier_model.kernel.programs import LoadedProgram, load_insns

pytestmark = pytest.mark.needs("bpf")

WIDTHS: Final = {1: "b", 2: "h", 4: "w", 8: "dw"}
BEYOND: Final = 16  # bytes behind the last field that are asked about, too
# Sections and their enum bpf_attach_type (include/uapi/linux/bpf.h).
SECTIONS: Final = {
    "socket": 0,
    "kprobe/x": 0,
    "tc": 0,
    "action": 0,
    "tp/a/b": 0,
    "xdp": 37,
    "xdp/devmap": 33,
    "perf_event": 0,
    "cgroup/skb": 0,
    "cgroup_skb/ingress": 0,
    "cgroup_skb/egress": 1,
    "cgroup/sock_create": 2,
    "cgroup/sock_release": 34,
    "cgroup/post_bind4": 12,
    "cgroup/post_bind6": 13,
    "lwt_in": 0,
    "lwt_out": 0,
    "lwt_xmit": 0,
    "lwt_seg6local": 0,
    "sockops": 3,
    "sk_skb": 0,
    "sk_msg": 7,
    "cgroup/dev": 6,
    "raw_tp/x": 0,
    "raw_tp.w/x": 0,
    "cgroup/bind4": 8,
    "cgroup/bind6": 9,
    "cgroup/connect4": 10,
    "cgroup/connect6": 11,
    "cgroup/sendmsg4": 14,
    "cgroup/sendmsg6": 15,
    "cgroup/recvmsg4": 19,
    "cgroup/recvmsg6": 20,
    "cgroup/getpeername4": 29,
    "cgroup/getsockname6": 32,
    "sk_reuseport": 39,
    "flow_dissector": 17,
    "cgroup/sysctl": 18,
    "cgroup/getsockopt": 21,
    "cgroup/setsockopt": 22,
    "sk_lookup/": 36,
    "netfilter": 45,
}
# The kernel lets more through than the rows: (section or "", field offset) and why.
SHY: Final = {
    ("raw_tp.w/x", 0): "the buffer of a writable tracepoint is not described",
}
# Not built into every kernel.
OPTIONAL: Final = frozenset({"netfilter", "lirc_mode2"})


def row_of(section: str) -> ProgramType:
    row = program_of(Function("f", section, (), program_type(section)))
    assert row is not None, section
    return row


def span(row: ProgramType) -> range:
    if row.fields is None:
        return range(200)
    return range(max(field.off + field.size for field in row.fields) + BEYOND)


def kernel_takes(section: str, access: tuple[int, int, bool], result: int) -> bool:
    off, size, is_store = access
    letter = WIDTHS[size]
    insn = make(f"stx_{letter}", 1, 2, off=off) if is_store else make(f"ldx_{letter}", 3, 1, off=off)
    insns = (make("mov64_imm", 2), insn, make("mov64_imm", 0, imm=result), make("exit"))
    code = b"".join(encode(one, "little") for one in insns)
    number = PROGRAM_TYPES[program_type(section) or ""].number
    loaded = load_insns(code, number, expected_attach_type=SECTIONS[section])
    if isinstance(loaded, LoadedProgram):
        loaded.close()
        return True
    return False


def loads_at_all(section: str, result: int) -> bool:
    code = encode(make("mov64_imm", 0, imm=result), "little") + encode(make("exit"), "little")
    number = PROGRAM_TYPES[program_type(section) or ""].number
    loaded = load_insns(code, number, expected_attach_type=SECTIONS[section])
    if isinstance(loaded, LoadedProgram):
        loaded.close()
        return True
    return False


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_the_rows_and_the_kernel_agree_on_every_offset_and_width(section: str) -> None:
    row = row_of(section)
    result = 0 if row.results is None else row.results[0]
    if not loads_at_all(section, result):
        assert section in OPTIONAL
        pytest.skip(f"the running kernel has no {section} programs")
    wrong, shy, agreed = [], [], 0
    for off in span(row):
        for size in WIDTHS:
            for is_store in (False, True):
                ours = row.field_at(off, size, is_store) is not None
                if not ours and off % size:
                    continue  # that a row never allows misaligned accesses is seen from `ours`
                kernels = kernel_takes(section, (off, size, is_store), result)
                if ours and not kernels:
                    wrong.append((off, size, is_store))
                elif kernels and not ours and (section, off) not in SHY:
                    shy.append((off, size, is_store))
                agreed += ours and kernels
    assert not wrong, f"{section}: the rows allow what the kernel refuses: {wrong}"
    assert not shy, f"{section}: the kernel allows more: {shy}"
    assert agreed


def refused(insns: tuple[Insn, ...], section: str) -> str | None:
    """The end of the kernel's log, None when it takes the instructions."""
    code = b"".join(encode(one, "little") for one in insns)
    loaded = load_insns(code, PROGRAM_TYPES[program_type(section) or ""].number, expected_attach_type=SECTIONS[section])
    if isinstance(loaded, LoadedProgram):
        loaded.close()
        return None
    return loaded.log


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_fields_are_pointers_or_numbers_as_the_rows_say(section: str) -> None:
    """The kernel multiplies numbers and no pointers."""
    row = row_of(section)
    result = 0 if row.results is None else row.results[0]
    if not loads_at_all(section, result):
        assert section in OPTIONAL
        pytest.skip(f"the running kernel has no {section} programs")
    for field in row.fields or ():
        width = max(size for size in field.reads if field.off % size == 0 and size <= field.size)
        load = make(f"ldx_{WIDTHS[width]}", 3, 1, off=field.off)
        end = (make("mov64_imm", 0, imm=result), make("exit"))
        log = refused((load, make("mul64_imm", 3, imm=3), *end), section)
        assert (log is None) is (field.region is Region.SCALAR), (field, log)
        if field.region is Region.OBJECT:
            assert log is not None and KERNEL_NAMES[field.object] + "_or_null" * field.nullable in log, (field, log)


KERNEL_NAMES: Final = {
    "bpf_sock": "sock",
    "bpf_sock_common": "sock_common",
    "bpf_flow_keys": "flow_keys",
    "nf_hook_state": "nf_hook_state",
    "sk_buff": "sk_buff",
}
SKB_SK: Final = 168
FLOW_KEYS: Final = 144
SK_FULLSOCK, TCP_SOCK = 95, 96  # helper numbers
# A view and the instructions that leave a pointer to it in r1.
REACH: Final = {
    "bpf_sock_common": ("tc", 1, ()),
    "bpf_sock": ("tc", 2, (SK_FULLSOCK,)),
    "bpf_tcp_sock": ("tc", 2, (TCP_SOCK,)),
    "bpf_flow_keys": ("flow_dissector", 0, ()),
}


def through(view: str, access: Insn) -> tuple[bytes, str]:
    """A program that makes the access through a pointer to the view, and its section."""
    section, checks, helpers = REACH[view]
    code = encode(make("mov64_imm", 0), "little") + encode(make("mov64_imm", 2), "little")
    if not checks:
        code += encode(make("ldx_dw", 1, 1, off=FLOW_KEYS), "little")
    else:
        code += encode(make("ldx_dw", 1, 1, off=SKB_SK), "little")
        code += encode(make("jne64_imm", 1), "little", SlotOffset(1)) + encode(make("exit"), "little")
        for helper in helpers:
            code += encode(make("call_helper", imm=helper), "little")
            code += encode(make("jne64_imm", 0), "little", SlotOffset(1)) + encode(make("exit"), "little")
            code += encode(make("mov64_reg", 1, 0), "little")
    code += encode(make("mov64_imm", 2), "little") + encode(access, "little")
    return code + encode(make("mov64_imm", 0), "little") + encode(make("exit"), "little"), section


@pytest.mark.parametrize("view", sorted(REACH))
def test_the_views_of_sockets_agree_with_the_kernel(view: str) -> None:
    fields = VIEWS[view]
    wrong, shy, agreed = [], [], 0
    for off in range(max(field.off + field.size for field in fields) + BEYOND):
        for size, letter in WIDTHS.items():
            for is_store in (False, True):
                ours = field_of(fields, off, size, is_store) is not None
                if off % size:
                    assert not ours
                    continue
                insn = make(f"stx_{letter}", 1, 2, off=off) if is_store else make(f"ldx_{letter}", 3, 1, off=off)
                code, section = through(view, insn)
                number = PROGRAM_TYPES[program_type(section) or ""].number
                loaded = load_insns(code, number, expected_attach_type=SECTIONS[section])
                kernels = isinstance(loaded, LoadedProgram)
                if isinstance(loaded, LoadedProgram):
                    loaded.close()
                if ours and not kernels:
                    wrong.append((off, size, is_store))
                elif kernels and not ours:
                    shy.append((off, size, is_store))
                agreed += ours and kernels
    assert not wrong and not shy and agreed, (view, wrong, shy)


def test_results_of_hooks_depend_on_the_hook() -> None:
    assert row_of("lsm/file_open").results == (-4095, 0) and row_of("lsm/file_open").half_result
    assert row_of("lsm.s/audit_rule_known").results == (0, 1)
    assert row_of("lsm_cgroup/socket_bind").results == (0, 1)
    assert row_of("lsm_cgroup/sk_free_security").results == (1, 1)
    assert row_of("tp_btf/sched_switch").results is None and row_of("fentry/do_exit").results == (0, 0)
    assert row_of("iter.s/task").results == (0, 1) and row_of("cgroup/recvmsg6").results == (1, 1)

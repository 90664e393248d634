"""Helper rows against the installed kernel header, and the effects that follow from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from verifier_model.bpf.insn import Insn, Ref, RefKind, make
from verifier_model.bpf.unit import Block, Function, MapDef, Unit
from verifier_model.contracts.calls import call_effects
from verifier_model.contracts.effects import UNKNOWN_CALL, CallEffects, MemoryArgument
from verifier_model.contracts.helpers import BY_NAME, HELPERS, ArgumentKind
from verifier_model.contracts.programs import PROGRAM_TYPES
from verifier_model.domains.registers import Region, Register
from verifier_model.domains.scalar import Scalar
from verifier_model.domains.state import State

HEADER = Path("/usr/include/linux/bpf.h")
MAPS = {"flows": MapDef("flows", 1, 16, 24, 1024)}


def constant(value: int) -> Register:
    return Register.scalar(
        Scalar(value, 0, value, value, value, value, value, value, value, value)  # small positive values only
    )


def at_most(value: int) -> Register:
    return Register.scalar(Scalar(umax=value))


def state_with(**regs: Register) -> State:
    values = [Register.uninit()] * 10 + [Register(Region.STACK)]
    for name, register in regs.items():
        values[int(name[1:])] = register
    return State(tuple(values))


CALLER = Function("f", "xdp", (Block("entry", ()),), "xdp")
STACK = Register(Region.STACK, off=-16)
CTX = Register(Region.CTX)
FLOWS = Register(Region.MAP, symbol="flows")


def effects(name: str, unit: Unit | None = None, **regs: Register) -> CallEffects:
    insn = make("call_helper", imm=BY_NAME[name].id)
    return call_effects(insn, state_with(**regs), unit or Unit((CALLER,), MAPS), CALLER)


@pytest.mark.needs("linux-libc-dev")
def test_names_and_numbers_are_those_of_the_kernel_header() -> None:
    text = HEADER.read_text()
    pairs = re.findall(r"^\s+FN\((\w+),\s*(\d+),", text, re.M)
    names = [name for name, _ in pairs] or re.findall(r"^\s+FN\((\w+)\),", text, re.M)
    numbered = {index: name for index, name in enumerate(names) if name != "unspec"}
    for number, name in numbered.items():
        if number in HELPERS:
            assert HELPERS[number].name == name
    # The header may be older than our newest rows; those are held to the kernels themselves (test_kernels.py).
    assert {number for number in HELPERS if number <= max(numbered)} <= set(numbered)


def test_rows_are_well_formed() -> None:
    for helper in HELPERS.values():
        kinds = [argument.kind for argument in helper.arguments]
        assert len(kinds) <= 5
        for index, argument in enumerate(helper.arguments):
            if argument.kind in (ArgumentKind.MEM_READ, ArgumentKind.MEM_WRITE, ArgumentKind.MEM_READ_WRITE):
                assert bool(argument.size) != (helper.size_register(index + 1) is not None), helper.name
        if ArgumentKind.MAP_KEY in kinds or helper.writes_map:
            assert ArgumentKind.MAP in kinds, helper.name
        if helper.is_pure:
            assert not (helper.changes_packet or helper.writes_map or helper.callback or helper.writes_all), helper.name


def test_a_lookup_reads_exactly_the_key() -> None:
    found = effects("map_lookup_elem", r1=FLOWS, r2=STACK)
    assert found.arguments == (1, 2)
    assert found.reads == (MemoryArgument(2, 16),)
    assert found.writes == () and not found.reads_all and not found.observes_packet
    # The twin: a map that nobody knows has a key of any length.
    assert effects("map_lookup_elem", r1=Register(Region.MAP), r2=STACK).reads == (MemoryArgument(2, None),)


def test_an_update_reads_key_and_value_and_writes_through_value_pointers() -> None:
    found = effects("map_update_elem", r1=FLOWS, r2=STACK, r3=STACK, r4=constant(0))
    assert found.reads == (MemoryArgument(2, 16), MemoryArgument(3, 24))
    assert found.writes == (MemoryArgument(1, None),)
    assert found.arguments == (1, 2, 3, 4)


def test_only_a_constant_size_makes_a_write_certain() -> None:
    exact = effects("skb_load_bytes", r1=CTX, r2=constant(0), r3=STACK, r4=constant(12))
    assert exact.writes == (MemoryArgument(3, 12),) and exact.must_write == (MemoryArgument(3, 12),)
    assert exact.observes_packet and not exact.changes_packet
    bounded = effects("skb_load_bytes", r1=CTX, r2=constant(0), r3=STACK, r4=at_most(12))
    assert bounded.writes == (MemoryArgument(3, 12),) and bounded.must_write == ()
    unbounded = effects("skb_load_bytes", r1=CTX, r2=constant(0), r3=STACK, r4=Register.scalar(Scalar.top()))
    assert unbounded.writes == (MemoryArgument(3, None),) and unbounded.must_write == ()


def test_a_string_read_does_not_fill_its_buffer() -> None:
    filled = effects("probe_read_user", r1=STACK, r2=constant(16), r3=at_most(9))
    assert filled.must_write == (MemoryArgument(1, 16),)
    assert effects("probe_read_user_str", r1=STACK, r2=constant(16), r3=at_most(9)).must_write == ()
    assert effects("get_current_comm", r1=STACK, r2=constant(16)).must_write == ()


def test_a_probe_of_own_memory_reads_it() -> None:
    own = effects("probe_read_kernel", r1=STACK, r2=constant(8), r3=STACK)
    assert own.reads == (MemoryArgument(3, 8),)
    assert effects("probe_read_kernel", r1=STACK, r2=constant(8), r3=at_most(9)).reads == ()
    printed = effects("trace_printk", r1=STACK, r2=constant(8), r3=at_most(9), r4=STACK)
    assert printed.reads == (MemoryArgument(1, 8), MemoryArgument(4, None))
    assert printed.arguments == (1, 2, 3, 4, 5)


def test_a_null_argument_has_no_memory() -> None:
    null = effects("csum_diff", r1=constant(0), r2=constant(0), r3=STACK, r4=constant(8), r5=constant(0))
    assert null.reads == (MemoryArgument(3, 8),) and null.is_pure
    assert len(effects("csum_diff", r1=STACK, r2=constant(8), r3=STACK, r4=constant(8)).reads) == 2


def test_the_packet_moves_only_where_the_kernel_says_so() -> None:
    assert effects("xdp_adjust_head", r1=CTX, r2=constant(4)).changes_packet
    assert effects("tail_call", r1=CTX, r2=FLOWS, r3=constant(0)).changes_packet
    assert not effects("xdp_load_bytes", r1=CTX, r2=constant(0), r3=STACK, r4=constant(4)).changes_packet
    assert effects("xdp_store_bytes", r1=CTX, r2=constant(0), r3=STACK, r4=constant(4)).writes_all
    assert effects("redirect_map", r1=FLOWS, r2=constant(0), r3=constant(0)).observes_packet


def test_what_has_no_row_may_do_anything() -> None:
    unit = Unit((CALLER,), MAPS)
    assert call_effects(make("call_helper", imm=9999), state_with(), unit, CALLER) == UNKNOWN_CALL
    assert call_effects(make("call_kfunc", imm=7), state_with(), unit, CALLER) == UNKNOWN_CALL
    assert effects("loop", r1=constant(1), r2=Register(Region.FUNCTION), r3=STACK, r4=constant(0)).writes_all
    with pytest.raises(ValueError, match="not a call"):
        call_effects(make("exit"), state_with(), unit, CALLER)


def local_unit(helper: str, is_global: bool = False) -> Unit:
    """A caller, and a callee that reads one byte behind r1 and calls `helper`; BTF claims two arguments."""
    insns = (make("ldx_b", 0, 1), make("call_helper", imm=BY_NAME[helper].id), make("exit"))
    callee = Function("g", ".text", (Block("entry", insns),), None, is_global, True, 2)
    return Unit((CALLER, callee), MAPS)


def test_a_local_call_is_as_its_body() -> None:
    call = make("call_local", ref=Ref(RefKind.FUNCTION, "g"))
    state = state_with(r1=CTX, r2=constant(1))
    quiet = call_effects(call, state, local_unit("ktime_get_ns"), CALLER)
    assert not quiet.changes_packet and quiet.private_stack and quiet.reads_all
    # Not what BTF claims, but what the code reads: r2 only when a helper takes it.
    assert quiet.arguments == (1,)
    assert call_effects(call, state, local_unit("xdp_adjust_head"), CALLER).arguments == (1, 2)
    assert call_effects(call, state, local_unit("ktime_get_ns", is_global=True), CALLER).arguments == (1, 2)
    assert call_effects(call, state, local_unit("xdp_adjust_head"), CALLER).changes_packet
    assert call_effects(call, state, local_unit("ktime_get_ns", is_global=True), CALLER).changes_packet
    assert not call_effects(
        call, state_with(r1=STACK, r2=constant(1)), local_unit("ktime_get_ns"), CALLER
    ).private_stack


def test_a_local_call_writes_what_its_body_may_write() -> None:
    def callee_of(*insns: Insn) -> Unit:
        body = (*insns, make("mov64_imm", 0), make("exit"))
        return Unit((CALLER, Function("g", ".text", (Block("entry", body),), None, False, True, 2)), MAPS)

    def writes(*insns: Insn) -> bool:
        call, state = make("call_local", ref=Ref(RefKind.FUNCTION, "g")), state_with(r1=STACK, r2=constant(1))
        return call_effects(call, state, callee_of(*insns), CALLER).writes_all

    assert not writes(make("ldx_w", 3, 1), make("stx_w", 10, 3, off=-4))
    assert writes(make("ldx_w", 3, 1), make("stx_w", 1, 3, off=-4))
    assert writes(make("atomic_add_dw", 1, 2))
    assert writes(make("mov64_reg", 3, 10), make("stx_w", 3, 2, off=-4)), "a copy of r10 is not followed"
    assert not writes(make("call_helper", imm=BY_NAME["map_lookup_elem"].id))
    assert writes(make("call_helper", imm=BY_NAME["map_update_elem"].id))
    assert writes(make("call_helper", imm=BY_NAME["skb_load_bytes"].id))
    assert writes(make("call_helper", imm=9999)) and writes(make("call_kfunc", imm=1))


def test_context_fields() -> None:
    xdp, tc = PROGRAM_TYPES["xdp"], PROGRAM_TYPES["sched_cls"]
    data = xdp.field_at(0, 4)
    assert data is not None and data.region is Region.PACKET
    assert xdp.field_at(0, 2) is None and xdp.field_at(0, 8) is None and xdp.field_at(12, 4, is_store=True) is None
    assert tc.field_at(9, 1) is not None and tc.field_at(8, 4, is_store=True) is not None
    assert tc.field_at(8, 2, is_store=True) is None and tc.field_at(48, 8, is_store=True) is not None
    assert tc.field_at(60, 8) is None and tc.field_at(64, 4) is not None and tc.field_at(92, 4) is None
    trace = PROGRAM_TYPES["tracepoint"]
    assert trace.field_at(16, 8) is not None and trace.field_at(0, 8) is None and trace.field_at(12, 8) is None
    assert all(
        row.fields == tuple(sorted(row.fields, key=lambda f: f.off)) for row in PROGRAM_TYPES.values() if row.fields
    )

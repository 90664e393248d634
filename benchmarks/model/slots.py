"""Programs given as raw slots (8 bytes each), as bpf(2) takes them, made into units for the model.

Without BTF the kernel checks every subprogram inside its callers; so does the model, for which all are static.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from benchmarks.model.fixed_maps import btf
from verifier_model.bpf.btf import Btf, parse
from verifier_model.bpf.flow import split_blocks
from verifier_model.bpf.insn import (
    SLOT_BYTES,
    ByteOffset,
    RawSlot,
    Ref,
    RefKind,
    branch_distance,
    decode_slot,
    label,
    read_slot,
    row_of,
)
from verifier_model.bpf.isa import Kind, Row
from verifier_model.bpf.unit import Block, DataSection, Function, MapDef, Unit, inner_name
from verifier_model.contracts.maps import BY_NAME, READ_ONLY_FOR_PROGRAMS
from verifier_model.contracts.programs import BY_NUMBER
from verifier_model.kernel.questions import MapSpec, RawProgram

MAIN: Final = "main"
_EXIT: Final = 0x95


@dataclass(frozen=True, slots=True)
class SlotProgram:
    """One program as bpf(2) takes it.

    `maps`: for the wide loads of map addresses and values, by slot: the map.  `type`, `attach`: bpf_prog_type and
    bpf_attach_type.  `flags`: BPF_F_STRICT_ALIGNMENT (1), BPF_F_ANY_ALIGNMENT (2).
    """

    name: str
    insns: bytes
    type: int
    attach: int = 0
    flags: int = 0
    maps: Mapping[int, MapDef] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.insns) // SLOT_BYTES


class UndecodableError(Exception):
    """What makes the slots no program that the model can read; the kernel refuses it, too, or the model gives up."""


# libbpf's section for what attach types change about a program (cgroup_sock_addr, devmap programs, ...).
_SECTIONS: Final[Mapping[tuple[int, int], str]] = {
    (1, 0): "socket",
    (2, 0): "kprobe",
    (3, 0): "tc",
    (4, 0): "action",
    (5, 0): "tracepoint",
    (6, 0): "xdp",
    (6, 33): "xdp/devmap",
    (6, 35): "xdp/cpumap",
    (7, 0): "perf_event",
    (8, 0): "cgroup_skb/ingress",
    (8, 1): "cgroup_skb/egress",
    (9, 2): "cgroup/sock_create",
    (9, 12): "cgroup/post_bind4",
    (9, 13): "cgroup/post_bind6",
    (9, 34): "cgroup/sock_release",
    (10, 0): "lwt_in",
    (11, 0): "lwt_out",
    (12, 0): "lwt_xmit",
    (13, 3): "sockops",
    (14, 0): "sk_skb",
    (14, 4): "sk_skb/stream_parser",
    (14, 5): "sk_skb/stream_verdict",
    (15, 6): "cgroup/dev",
    (16, 7): "sk_msg",
    (17, 0): "raw_tp",
    (18, 8): "cgroup/bind4",
    (18, 9): "cgroup/bind6",
    (18, 10): "cgroup/connect4",
    (18, 11): "cgroup/connect6",
    (18, 14): "cgroup/sendmsg4",
    (18, 15): "cgroup/sendmsg6",
    (18, 19): "cgroup/recvmsg4",
    (18, 20): "cgroup/recvmsg6",
    (18, 29): "cgroup/getpeername4",
    (18, 30): "cgroup/getpeername6",
    (18, 31): "cgroup/getsockname4",
    (18, 32): "cgroup/getsockname6",
    (19, 0): "lwt_seg6local",
    (20, 0): "lirc_mode2",
    (21, 0): "sk_reuseport",
    (22, 0): "flow_dissector",
    (23, 18): "cgroup/sysctl",
    (24, 0): "raw_tp.w",
    (25, 21): "cgroup/getsockopt",
    (25, 22): "cgroup/setsockopt",
    (30, 36): "sk_lookup",
    (31, 0): "syscall",
}


_ATTACH: Final = {section: attach for (_, attach), section in _SECTIONS.items()}


def attach_of(section: str) -> int | None:
    """The attach type that libbpf derives from a section's name; None where it takes more than the name."""
    return _ATTACH.get(section, _ATTACH.get(section.partition("/")[0]))


def section_of(type: int, attach: int) -> str:
    """The section that says the same as the two numbers; the type's name where none does."""
    kind = BY_NUMBER.get(type)
    found = _SECTIONS.get((type, attach)) or _SECTIONS.get((type, 0))
    return found or (kind.name if kind else "unknown")


def unit_of(program: SlotProgram) -> Unit:
    """The unit with `MAIN` and its subprograms; a function that cannot be read says why it is untouchable."""
    kind = BY_NUMBER.get(program.type)
    name = kind.name if kind else None
    section = section_of(program.type, program.attach)
    try:
        functions = _functions(program, name, section)
    except UndecodableError as reason:
        functions = (Function(MAIN, section, (), name, untouchable=str(reason)),)
    used = {row.name: row for row in program.maps.values()}
    data = {
        row.name: DataSection(row.name, row.value_size, not row.flags & READ_ONLY_FOR_PROGRAMS)
        for row in used.values()
        if _has_direct_values(row)
    }
    return Unit(
        functions,
        used,
        data,
        cpu_level=4,
        license="GPL",
        types=_types() if any(row.value_type for row in used.values()) else None,
    )


def _has_direct_values(row: MapDef) -> bool:
    """May a wide load address the value itself (array_map_direct_value_addr)?"""
    return row.type == BY_NAME["array"].number and row.max_entries == 1


@cache
def _types() -> Btf:
    return parse(btf(with_pointers=True), "little")


@dataclass(slots=True)
class _Slot:
    """The first slot of an instruction."""

    raw: RawSlot
    row: Row
    high: RawSlot | None = None


def _functions(program: SlotProgram, type_name: str | None, section: str) -> tuple[Function, ...]:
    slots = _decode(program.insns)
    starts = sorted({0, *(target for _, target in _calls(slots))})
    names = {start: MAIN if start == 0 else f"f{start}" for start in starts}
    _demand_calls(slots, starts, program.count)
    return tuple(
        Function(
            names[start],
            section,
            _blocks(program, slots, range(start, end), names),
            type_name if start == 0 else None,
            is_global=start == 0,
            is_subprogram=start != 0,
        )
        for start, end in zip(starts, [*starts[1:], program.count], strict=True)
    )


def _demand_calls(slots: Mapping[int, _Slot], starts: Sequence[int], count: int) -> None:
    """Raises UndecodableError for a subprogram that no other reaches: the kernel finds it unreachable."""
    ends = [*starts[1:], count]
    called = {
        start: {to for at, to in _calls(slots) if start <= at < end} for start, end in zip(starts, ends, strict=True)
    }
    reached, waiting = {0}, [0]
    while waiting:
        new = called[waiting.pop()] - reached
        reached |= new
        waiting += sorted(new)
    for start in starts:
        if start not in reached:
            raise UndecodableError(f"unreachable insn {start}")


def _decode(insns: bytes) -> dict[int, _Slot]:
    found: dict[int, _Slot] = {}
    count, at = len(insns) // SLOT_BYTES, 0
    if not count:
        raise UndecodableError("the program has no instructions")
    while at < count:
        raw = read_slot(insns, ByteOffset(at * SLOT_BYTES), "little")
        if raw.code == _EXIT:
            raw = replace(raw, off=0)  # which no kernel looks at
        row = row_of(raw)
        if isinstance(row, str):
            raise UndecodableError(f"insn {at}: {row}")
        high = None
        if row.kind is Kind.LOAD_WIDE:
            if at + 1 >= count:
                raise UndecodableError(f"insn {at}: half a wide load")
            high = read_slot(insns, ByteOffset((at + 1) * SLOT_BYTES), "little")
            if high.code or high.dst or high.src or high.off:
                raise UndecodableError(f"insn {at}: invalid bpf_ld_imm64 insn")
            if high.imm and row.name in ("lddw_map_fd", "lddw_func"):
                raise UndecodableError(f"insn {at}: unrecognized bpf_ld_imm64 insn")
        found[at] = _Slot(raw, row, high)
        at += row.slots
    return found


def _calls(slots: Mapping[int, _Slot]) -> Iterator[tuple[int, int]]:
    """Local calls and callback addresses: where, and where the function starts."""
    for at, slot in slots.items():
        if slot.row.name in ("call_local", "lddw_func"):
            target = at + 1 + slot.raw.imm
            if target not in slots:
                raise UndecodableError(f"insn {at}: invalid function address {target}")
            yield at, target


def _blocks(
    program: SlotProgram, slots: Mapping[int, _Slot], span: range, names: Mapping[int, str]
) -> tuple[Block, ...]:
    inside = [at for at in span if at in slots]
    order = {at: index for index, at in enumerate(inside)}
    labels: dict[int, list[str]] = {}
    insns = []
    for at in inside:
        slot = slots[at]
        ref = _map_ref(program.maps.get(at), slot)
        if "target" in slot.row.uses:
            target = at + 1 + branch_distance(slot.raw, slot.row)
            if target not in order:
                raise UndecodableError(f"jump out of range from insn {at} to {target}")
            ref = label(f"L{target}")
            labels.setdefault(order[target], [ref.name])
        elif slot.row.name in ("call_local", "lddw_func"):
            ref = Ref(RefKind.FUNCTION, names[at + 1 + slot.raw.imm])
        insn = decode_slot(slot.raw, slot.row, slot.high)
        insns.append(insn if ref is None else replace(insn, imm=insn.imm if "target" in slot.row.uses else 0, ref=ref))
    return split_blocks(insns, labels)


def _map_ref(row: MapDef | None, slot: _Slot) -> Ref | None:
    """What a wide load that gets a map's descriptor refers to."""
    if row is None or slot.high is None:
        return None
    if slot.row.name == "lddw_map_fd":
        return Ref(RefKind.MAP, row.name)
    if slot.row.name == "lddw_map_value" and _has_direct_values(row) and 0 <= slot.high.imm < row.value_size:
        return Ref(RefKind.DATA, row.name, slot.high.imm)
    return None


def of_raw(name: str, raw: RawProgram) -> SlotProgram:
    """The same program as assembled from a unit; a map is known by what it is made from."""
    definitions = [_definition(number, raw.maps) for number in range(len(raw.maps))]
    maps = {slot: definitions[number] for slot, number in raw.relocations}
    return SlotProgram(name, raw.insns, raw.program_type, raw.attach_type, raw.flags, maps)


def _definition(number: int, specs: Sequence[MapSpec]) -> MapDef:
    spec, name = specs[number], f"map{number}"
    inner = None if spec.inner is None else replace(_definition(spec.inner, specs), name=inner_name(name))
    return MapDef(name, spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags, inner=inner)

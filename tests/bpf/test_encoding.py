"""Bytes: every row in both byte orders, fields that must be zero, and llvm-mc as an independent reader of our bytes."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from dataclasses import replace

import pytest

from tests.bpf.random_insns import random_insn
from verifier_model.bpf.asm import print_insn
from verifier_model.bpf.insn import (
    ByteOffset,
    ByteOrder,
    Insn,
    RawSlot,
    SlotOffset,
    branch_distance,
    decode_slot,
    encode,
    make,
    read_slot,
    row_of,
    write_slot,
)
from verifier_model.bpf.isa import ROWS, Kind, Row

SEED = 2502
ORDERS: tuple[ByteOrder, ...] = ("little", "big")


def _decode(data: bytes, order: ByteOrder) -> tuple[Insn, SlotOffset]:
    slot = read_slot(data, ByteOffset(0), order)
    row = row_of(slot)
    assert isinstance(row, Row), row
    high = read_slot(data, ByteOffset(8), order) if row.slots == 2 else None
    return decode_slot(slot, row, high), branch_distance(slot, row)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_every_row_survives_encode_and_decode(row: Row, order: ByteOrder) -> None:
    rng = random.Random(f"{SEED} {row.name}")
    for _ in range(20):
        insn = random_insn(row, rng)
        distance = SlotOffset(rng.choice((0, -1, 5, -(1 << 15), (1 << 15) - 1)))
        data = encode(insn, order, distance if "target" in row.uses else None)
        assert len(data) == 8 * row.slots
        again, far = _decode(data, order)
        assert again == replace(insn, ref=None), f"seed {SEED}"
        if "target" in row.uses:
            assert far == distance
        assert encode(again, order, distance if "target" in row.uses else None) == data


def test_byte_layout_by_hand() -> None:
    insn = make("ldx_w", 1, 2, off=4)
    assert encode(insn, "little") == bytes.fromhex("61 21 0400 00000000")
    assert encode(insn, "big") == bytes.fromhex("61 12 0004 00000000")
    wide = make("lddw_constant", 3, imm=0x1122334455667788)
    assert encode(wide, "little") == bytes.fromhex("18 03 0000 88776655 00 00 0000 44332211")
    assert encode(wide, "big") == bytes.fromhex("18 30 0000 55667788 00 00 0000 11223344")
    assert encode(make("gotol"), "little", SlotOffset(70000)) == bytes.fromhex("06 00 0000 70110100")


def test_a_branch_needs_its_distance_and_fields_their_range() -> None:
    with pytest.raises(ValueError, match="ja needs the distance"):
        encode(make("ja"), "little")
    for bad in (make("ldx_w", 1, 2, off=1 << 15), make("mov64_imm", 1, imm=1 << 31)):
        with pytest.raises(struct.error):
            encode(bad, "little")


# One field that the row does not use, set; the twin with the field cleared is the row.
UNUSED = (
    (RawSlot(0x07, 1, 2, 0, 5), "opcode 0x07 with src 2, off 0, imm 5 is not in the table", "add64_imm"),
    (RawSlot(0x0F, 1, 2, 0, 1), "opcode 0x0f with src 2, off 0, imm 1 is not in the table", "add64_reg"),
    (RawSlot(0x0F, 1, 2, 2, 0), "opcode 0x0f with src 2, off 2, imm 0 is not in the table", "add64_reg"),
    (RawSlot(0x87, 1, 0, 0, 1), "opcode 0x87 with src 0, off 0, imm 1 is not in the table", "neg64"),
    (RawSlot(0xBF, 1, 2, 24, 0), "opcode 0xbf with src 2, off 24, imm 0 is not in the table", "mov64_reg"),
    (RawSlot(0xBC, 1, 2, 32, 0), "opcode 0xbc with src 2, off 32, imm 0 is not in the table", "mov32_reg"),
    (RawSlot(0xD4, 1, 0, 0, 8), "opcode 0xd4 with src 0, off 0, imm 8 is not in the table", None),
    (RawSlot(0x61, 1, 2, 4, 1), "opcode 0x61 with src 2, off 4, imm 1 is not in the table", None),
    (RawSlot(0x62, 1, 2, 4, 1), "opcode 0x62 with src 2, off 4, imm 1 is not in the table", None),
    (RawSlot(0xDB, 1, 2, 0, 2), "opcode 0xdb with src 2, off 0, imm 2 is not in the table", "atomic_add_dw"),
    (RawSlot(0xD3, 1, 2, 0, 0), "opcode 0xd3 with src 2, off 0, imm 0 is not in the table", None),
    (RawSlot(0x95, 1, 0, 0, 0), "opcode 0x95 with src 0, off 0, imm 0 is not in the table", "exit"),
    (RawSlot(0x95, 0, 0, 1, 0), "opcode 0x95 with src 0, off 1, imm 0 is not in the table", "exit"),
    (RawSlot(0x05, 0, 0, 1, 1), "opcode 0x05 with src 0, off 1, imm 1 is not in the table", "ja"),
    (RawSlot(0x06, 0, 0, 1, 1), "opcode 0x06 with src 0, off 1, imm 1 is not in the table", None),
    (RawSlot(0xE5, 0, 1, 1, 0), "opcode 0xe5 with src 1, off 1, imm 0 is not in the table", "may_goto"),
    (RawSlot(0x85, 0, 3, 0, 1), "opcode 0x85 with src 3, off 0, imm 1 is not in the table", "call_helper"),
    (RawSlot(0x85, 1, 0, 0, 1), "opcode 0x85 with src 0, off 0, imm 1 is not in the table", "call_helper"),
    (RawSlot(0x18, 1, 7, 0, 1), "opcode 0x18 with src 7, off 0, imm 1 is not in the table", "lddw_constant"),
    (RawSlot(0x18, 1, 0, 1, 1), "opcode 0x18 with src 0, off 1, imm 1 is not in the table", "lddw_constant"),
    (RawSlot(0x20, 1, 0, 0, 1), "opcode 0x20 with src 0, off 0, imm 1 is not in the table", "ld_abs_w"),
    (RawSlot(0xB7, 11, 0, 0, 1), "opcode 0xb7 with src 0, off 0, imm 1 is not in the table", None),
    (RawSlot(0xBF, 1, 11, 0, 0), "opcode 0xbf with src 11, off 0, imm 0 is not in the table", "mov64_reg"),
    (RawSlot(0x8D, 0, 0, 0, 0), "opcode 0x8d is not in the table", None),
    (RawSlot(0x00, 0, 0, 0, 0), "opcode 0x00 is not in the table", None),
    (RawSlot(0xFF, 0, 0, 0, 0), "opcode 0xff is not in the table", None),
)


@pytest.mark.parametrize(("slot", "reason", "name"), UNUSED, ids=[str(i) for i in range(len(UNUSED))])
def test_unknown_or_dirty_slots_have_a_reason(slot: RawSlot, reason: str, name: str | None) -> None:
    assert row_of(slot) == reason
    if name is not None:
        repaired = [
            row_of(slot_)
            for slot_ in (
                replace(slot, src=0),
                replace(slot, dst=0),
                replace(slot, off=0),
                replace(slot, imm=0),
            )
        ]
        assert name in {row.name for row in repaired if isinstance(row, Row)}


def test_no_row_hides_another() -> None:
    """Every slot that a row writes is read back as that row: no two rows claim one encoding."""
    claimed: dict[bytes, str] = {}
    for row in ROWS:
        insn = Insn(row)
        data = encode(insn, "little", SlotOffset(0))[:8]
        assert data not in claimed, (row.name, claimed.get(data))
        claimed[data] = row.name


# llvm-mc 19 reads no acquire/release, prints pseudo loads in another form and drops the immediate of ld_ind.
UNKNOWN_TO_LLVM = {Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE}


def _comparable(row: Row) -> bool:
    is_pseudo = row.kind is Kind.LOAD_WIDE and row.name != "lddw_constant"
    return row.kind not in UNKNOWN_TO_LLVM and row.op != "ind" and not is_pseudo


def _number(match: re.Match[str]) -> str:
    value = int(match[0], 16)
    return str(value - (1 << 32) if value >> 31 == 1 else value)


def _ours(insn: Insn) -> str:
    text = print_insn(insn).replace("pc+", "").replace("pc", "").replace("L1", "+5").replace("atomic64_", "atomic_")
    if insn.kind is Kind.LOAD_WIDE:
        return f"r{insn.dst} = {(insn.imm ^ 1 << 63) - (1 << 63)} ll"
    if insn.row.name == "call_kfunc":
        return f"call {insn.imm}"
    if insn.row.op in ("xchg", "cmpxchg"):
        text = re.sub(r"\(\(u\d+ \*\)\((r\d+ [+-]\d+)\)", r"(\1", text)
    return re.sub(r"0x[0-9a-f]+", _number, text)


def _theirs(text: str, row: Row) -> str:
    text = re.sub(r"(r\d+) ([+-]) (\d+)", r"\1 \2\3", text.strip())
    if row.is_memory_access:
        text = re.sub(r"\bw(\d+)", r"r\1", text)
    return re.sub(r"\b(cmp)?xchg(?:32)?_(?:32|64)", r"atomic_\1xchg", text)


@pytest.mark.needs("llvm-mc-19")
@pytest.mark.parametrize(("order", "triple"), [("little", "bpfel"), ("big", "bpfeb")])
def test_llvm_reads_our_bytes_as_we_print_them(order: ByteOrder, triple: str) -> None:
    rng = random.Random(SEED)
    insns = [random_insn(row, rng) for row in ROWS if _comparable(row) for _ in range(3)]
    codes = [encode(insn, order, SlotOffset(5) if "target" in insn.row.uses else None) for insn in insns]
    lines = [" ".join(f"{byte:#04x}" for byte in code) for code in codes]
    command = ["llvm-mc-19", "-disassemble", f"-triple={triple}", "-mcpu=v4", "-mattr=+alu32"]
    run = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=60, check=True)
    theirs = [line for line in run.stdout.splitlines() if line.strip() and not line.strip().startswith(".")]
    assert len(insns) > 400
    assert [_theirs(text, insn.row) for text, insn in zip(theirs, insns, strict=True)] == [_ours(i) for i in insns]


def test_slot_fields_round_trip() -> None:
    rng = random.Random(SEED)
    for order in ORDERS:
        for _ in range(200):
            data = rng.randbytes(8)
            assert write_slot(read_slot(data, ByteOffset(0), order), order) == data
